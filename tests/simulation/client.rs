//! Clients in virtual time: their calls, streams and pool as programs use them, on tokio's paused
//! clock and a network in memory, against a whole simulated server or a scripted one.

#[path = "client/cut.rs"]
mod cut;
#[path = "client/life.rs"]
mod life;
#[path = "client/network.rs"]
mod network;
#[path = "client/peer.rs"]
mod peer;
#[path = "client/random.rs"]
mod random;
#[path = "client/rule.rs"]
mod rule;
#[path = "client/stage.rs"]
mod stage;
