//! `GET /status`: what clients did is what it tells.

use super::{configuration, get};
use ringmail::Server;
use ringmail::blocking::Client;
use std::time::Instant;

#[test]
fn what_clients_did_is_told_by_shard_and_in_all() {
    let running = Server::builder().config(configuration()).start().unwrap();
    let admin = running.admin_address().unwrap();
    let mut client = Client::connect(&running.address().to_string()).unwrap();
    for _ in 0..100 {
        client.request("$sys/echo", "x").unwrap();
    }
    client.subscribe("a/#").unwrap();
    // Once a second the shards are asked what they have timed and what they hold.
    let began = Instant::now();
    let (status, shard) = loop {
        let status = get(admin, "/status").json();
        let timed = status["timings_us"]["parse"]["count"].as_u64().unwrap();
        let shards = status["shards"].as_array().unwrap();
        let busy = shards.iter().position(|shard| shard["connections"] == 1);
        let busy = busy.unwrap_or_else(|| panic!("no shard has it: {status}"));
        let buffers = shards[busy]["gauges"]["buffers"].as_u64().unwrap();
        if timed > 0 && buffers > 0 {
            break (status.clone(), status["shards"][busy].clone());
        }
        assert!(began.elapsed() < super::PATIENCE, "{status}");
        client.request("$sys/echo", "y").unwrap();
    };
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["protocol"], 1);
    assert_eq!(status["connections"], 1);
    assert_eq!(status["draining"], false);
    assert_eq!(status["config_digest"].as_str().unwrap().len(), 16);
    assert_eq!(shard["connections"], 1);
    assert_eq!(shard["received"]["SUBSCRIBE"], 1);
    assert!(shard["received"]["REQUEST"].as_u64().unwrap() >= 100);
    assert_eq!(shard["received"]["PUBLISH"], serde_json::Value::Null);
    assert!(shard["gauges"]["buffers_free"].as_u64().unwrap() > 0);
    assert!(shard["gauges"]["memory_max_bytes"].as_u64().unwrap() > 0);
    for stage in ["receive", "parse", "route", "queue", "send"] {
        for span in ["timings_us", "recent_us"] {
            let of_all = status[span][stage]["count"].as_u64().unwrap();
            assert!(of_all > 0, "{span} {stage}: {status}");
            assert_eq!(shard[span][stage]["count"], of_all, "{span} {stage}");
        }
    }
    client.close().unwrap();
    running.drain();
    running.wait().unwrap();
}
