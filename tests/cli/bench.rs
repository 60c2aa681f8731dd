//! `ringmail bench pool` against a real server: what it reports, not how fast it was.

use crate::broker::{Broker, Tool};

#[test]
fn a_pool_is_compared_with_a_connection_for_each_request() {
    let broker = Broker::start();
    let args = [
        &["bench", "pool", "--address", &broker.address][..],
        &["--tasks", "4", "--connections", "2", "--rounds", "2"],
        &["--duration", "100ms", "--quiet"],
    ];
    let args = args.concat();
    let (code, out, errors) = broker.run(&[&args[..], &["--output", "json"]].concat());
    assert_eq!((code, errors.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["connections_max"], 2);
    for kind in ["pooled", "each"] {
        let kind = &report[kind];
        assert!(kind["requests"].as_u64().is_some_and(|count| count > 0));
        let [rate, mean, p99] = ["requests_per_s", "mean_us", "p99_us"]
            .map(|field| kind[field].as_f64().unwrap_or(0.0));
        assert!(rate > 0.0 && mean > 0.0 && p99 >= kind["p50_us"].as_f64().unwrap());
        // No process was named.
        assert!(kind["server_cpu_us_per_request"].is_null());
    }
    assert!(
        report["requests_per_s_ratio"]
            .as_f64()
            .is_some_and(|ratio| ratio > 0.0)
    );

    let (code, out, _) = broker.run(&args);
    assert_eq!(code, 0);
    assert!(
        out.contains("| pool |") && out.contains("| connection for each |"),
        "{out}"
    );
}

#[test]
fn a_server_that_is_not_there_ends_it_with_69() {
    let broker = Broker::start();
    let args = [
        "bench",
        "pool",
        "--address",
        "127.0.0.1:1",
        "--duration",
        "100ms",
    ];
    let (code, out, errors) = broker.run(&[&args[..], &["--timeout", "300ms"]].concat());
    assert_eq!((code, out.as_str()), (69, ""), "{errors}");
    assert!(errors.contains("127.0.0.1:1"), "{errors}");
}

/// Sends SIGINT once the server has heard more than the handshakes of the load.
fn interrupt_under_load(broker: &Broker, args: &[&str]) -> (i32, String, String) {
    let heard = || {
        let (code, stats, errors) = broker.run(&["req", "$sys/stats", "--codec", "json"]);
        assert_eq!(code, 0, "{errors}");
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        stats["total"]["messages_received"]
            .as_u64()
            .expect("a counter")
    };
    let before = heard();
    let tool = broker.tool(args);
    while heard() < before + 5_000 {}
    tool.interrupt();
    tool.end()
}

#[test]
fn an_interrupted_load_reports_what_it_has_measured() {
    let broker = Broker::start();
    for load in [
        &["echo"][..],
        &["echo", "--rate", "2000"],
        &["pubsub"],
        &["request"],
    ] {
        let long = ["--duration", "1h", "--warm-up", "0s", "-o", "json"];
        let args = [&["bench"], load, &long].concat();
        let (code, out, errors) = interrupt_under_load(&broker, &args);
        let report: serde_json::Value = serde_json::from_str(&out).expect(&errors);
        // On a busy machine an open loop may be void, which it says.
        let void = report["void"] == true;
        assert_eq!(code, i32::from(void), "{load:?}: {errors}");
        assert_eq!(report["interrupted"], true, "{load:?}");
        assert!(report["messages"].as_u64() > Some(0), "{load:?}: {out}");
        assert!(report["seconds"].as_f64() < Some(3600.0), "{load:?}: {out}");
    }
}

#[test]
fn the_server_is_named_as_for_all_other_commands() {
    let broker = Broker::start();
    let short = ["bench", "echo", "--duration", "10ms", "-o", "json"];
    let reached = |told: (i32, String, String)| {
        let (code, out, errors) = told;
        assert_eq!(code, 0, "{errors}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        report["address"].as_str().unwrap().to_owned()
    };
    // By the variable, which the tools of a broker have; by the flag; and a server of its own
    // though the variable is set.
    assert_eq!(reached(broker.run(&short)), broker.address);
    let flag = [&short[..], &["-a", &broker.address]].concat();
    assert_eq!(
        reached(Tool::start("127.0.0.1:1", &flag).end()),
        broker.address
    );
    let own = [&short[..], &["--spawn"]].concat();
    assert_ne!(reached(broker.run(&own)), broker.address);
}
