//! A real Prometheus, a real load, and the alert.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn prometheus_fires_the_latency_alert_on_a_loaded_server() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/watch-latency");
    let output = Command::new(script)
        .args(["--timeout", "120"])
        .env("RINGMAIL", env!("CARGO_BIN_EXE_ringmail"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let alert: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(alert["labels"]["alertname"], "RingmailRequestLatencyHigh");
    assert_eq!(alert["state"], "firing");
    // The 99th percentile in seconds, above the threshold.
    let value: f64 = alert["value"].as_str().unwrap().parse().unwrap();
    assert!(value > 0.25, "{alert}");
}
