//! `ringmail bench pool` against a real server: what it reports, not how fast it was.

use crate::broker::Broker;

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
