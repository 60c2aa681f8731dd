//! A peer that vanishes without a FIN: a cable pulled, between two network namespaces.
//!
//! Needs root and iproute2; where these are missing the test says so and passes.

use crate::harness::{Server, command_at, stats_over};
use crate::wire::{PATIENCE, Wire};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Two namespaces with one cable between them; gone when dropped.
struct Cable {
    here: String,
    there: String,
}

impl Cable {
    const HERE: &str = "10.241.7.1";

    fn lay() -> Result<Cable, String> {
        let id = std::process::id();
        let cable = Cable {
            here: format!("ringmail-{id}-a"),
            there: format!("ringmail-{id}-b"),
        };
        let (here, there) = (cable.here.as_str(), cable.there.as_str());
        ip(&["netns", "add", here])?;
        ip(&["netns", "add", there])?;
        ip(&[
            "-n", here, "link", "add", "near", "type", "veth", "peer", "far", "netns", there,
        ])?;
        ip(&["-n", here, "address", "add", "10.241.7.1/30", "dev", "near"])?;
        ip(&["-n", there, "address", "add", "10.241.7.2/30", "dev", "far"])?;
        ip(&["-n", here, "link", "set", "lo", "up"])?;
        ip(&["-n", here, "link", "set", "near", "up"])?;
        ip(&["-n", there, "link", "set", "far", "up"])?;
        Ok(cable)
    }

    fn pull(&self) {
        ip(&["-n", &self.there, "link", "set", "far", "down"]).unwrap();
    }

    /// A connection made from inside a namespace; it may be used from anywhere.
    fn greet_from(&self, namespace: &str, address: SocketAddr) -> Wire {
        let path = format!("/run/netns/{namespace}");
        let connect = move || {
            let namespace = File::open(path).unwrap();
            rustix::thread::move_into_link_name_space(namespace.as_fd(), None).unwrap();
            Wire::greet(address)
        };
        std::thread::spawn(connect).join().unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.here, &self.there] {
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

#[test]
fn a_peer_whose_link_goes_down_is_found_by_the_heartbeat() {
    let cable = match Cable::lay() {
        Ok(cable) => cable,
        Err(reason) => return eprintln!("skipped, it needs root and iproute2: {reason}"),
    };
    let bin = env!("CARGO_BIN_EXE_ringmail");
    let settings = [
        "heartbeat.interval_ms=300",
        "heartbeat.timeout_ms=1500",
        // No host but these two namespaces can reach it.
        "auth.mode=none",
    ];
    let listen = format!("{}:0", Cable::HERE);
    let args = ["netns", "exec", &cable.here, bin];
    let mut server = Server::spawn(&mut command_at(&listen, "ip", &args, &settings));
    let mut lost = cable.greet_from(&cable.there, server.address);
    lost.echoes();
    let mut observer = cable.greet_from(&cable.here, server.address);
    cable.pull();
    let end = Instant::now() + PATIENCE;
    let stats = loop {
        let stats = stats_over(&mut observer);
        if stats.connections == 1 {
            break stats;
        }
        assert!(Instant::now() < end, "never found: {stats:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(stats.closed["heartbeat_timeout"], 1, "{stats:?}");
    assert_eq!(stats.closed.values().sum::<u64>(), 1, "{stats:?}");
    drop(lost);
    observer.close();
    server.terminate();
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}
