//! How connections are spread over shards.

use crate::harness::{Server, stats_over};
use crate::wire::Wire;
use ringmail::proto::option::Options;

const CONNECTIONS: usize = 40;

fn greet_all(server: &Server) -> (Vec<Wire>, [u64; 2]) {
    let mut by_shard = [0; 2];
    let wires = (0..CONNECTIONS)
        .map(|_| {
            let (wire, options) = Wire::greet_with(server.address, &Options::default());
            let shard = Options::parse(&options).unwrap().shard.unwrap();
            by_shard[usize::from(shard)] += 1;
            wire
        })
        .collect();
    (wires, by_shard)
}

#[test]
fn shards_end_up_with_the_same_number_of_connections() {
    let mut server = Server::start(&[]);
    let (mut wires, by_shard) = greet_all(&server);
    assert!(by_shard[0].abs_diff(by_shard[1]) <= 2, "{by_shard:?}");
    let stats = stats_over(&mut wires[0]);
    for (shard, counted) in by_shard.iter().zip(&stats.shards) {
        assert_eq!(*shard, counted["connections_opened"]);
    }
    // Whoever was handed over is served like anybody else.
    for wire in &mut wires {
        wire.echoes();
    }
    // When one shard's connections end, newcomers go there.
    let mut kept = Vec::new();
    let mut left = 0;
    for mut wire in wires {
        let info = wire.request("$sys/info", b"").unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
        if info["shard"] == 0 {
            wire.close();
            left += 1;
        } else {
            kept.push(wire);
        }
    }
    server.wait_for("freed", |stats| stats.connections == kept.len() as u64 + 1);
    let newcomers: Vec<_> = (0..left)
        .map(|_| {
            let (wire, options) = Wire::greet_with(server.address, &Options::default());
            (wire, Options::parse(&options).unwrap().shard.unwrap())
        })
        .collect();
    let to_emptier = newcomers.iter().filter(|(_, shard)| *shard == 0).count();
    assert!(to_emptier + 2 >= left, "{to_emptier} of {left}");
    drop((newcomers, kept));
    let all = CONNECTIONS as u64;
    let left = left as u64;
    server.settle(&[("peer_close", left), ("peer_eof", all)]);
    server.end();
}

#[test]
fn the_kernels_own_spread_serves_everybody_too() {
    let mut server = Server::start(&["accept.balance=reuseport"]);
    let (mut wires, by_shard) = greet_all(&server);
    assert_eq!(by_shard.iter().sum::<u64>(), CONNECTIONS as u64);
    for wire in &mut wires {
        wire.echoes();
    }
    for wire in wires {
        wire.close();
    }
    let stats = server.settle(&[("peer_close", CONNECTIONS as u64)]);
    assert_eq!(stats.total["connections_handed_over"], 0);
    server.end();
}
