//! The server from outside: the binary with two shards, real sockets, raw bytes.
//!
//! Each test starts a server of its own on a port of its own, with timeouts short enough to
//! wait for, and ends it with SIGTERM, which must exit 0. Every connection is accounted for:
//! the close reasons counted are compared with what the test did, and descriptors must be back
//! where they were. Nothing asserts how long something took, only that it came at all.

#[path = "server/alone.rs"]
mod alone;
#[path = "server/answer.rs"]
mod answer;
#[path = "server/auth.rs"]
mod auth;
#[path = "server/balance.rs"]
mod balance;
#[path = "server/caller.rs"]
mod caller;
#[path = "server/chaos.rs"]
mod chaos;
#[path = "server/collector.rs"]
mod collector;
#[path = "server/drain.rs"]
mod drain;
#[path = "server/error.rs"]
mod error;
#[path = "server/expiry.rs"]
mod expiry;
#[path = "server/filter.rs"]
mod filter;
#[path = "server/flood.rs"]
mod flood;
#[path = "server/group.rs"]
mod group;
#[path = "server/handshake.rs"]
mod handshake;
#[path = "server/harness.rs"]
mod harness;
#[path = "server/heartbeat.rs"]
mod heartbeat;
#[path = "server/input.rs"]
mod input;
#[path = "server/issuer.rs"]
mod issuer;
#[path = "server/limit.rs"]
mod limit;
#[path = "server/memory.rs"]
mod memory;
#[path = "server/operation.rs"]
mod operation;
#[path = "server/order.rs"]
mod order;
#[path = "server/peer.rs"]
mod peer;
#[path = "server/pool.rs"]
mod pool;
#[path = "server/provider.rs"]
mod provider;
#[path = "server/publish.rs"]
mod publish;
#[path = "server/rate.rs"]
mod rate;
#[path = "server/request.rs"]
mod request;
#[path = "server/reset.rs"]
mod reset;
#[path = "server/resume.rs"]
mod resume;
#[path = "server/retain.rs"]
mod retain;
#[path = "server/schema.rs"]
mod schema;
#[path = "server/service.rs"]
mod service;
#[path = "server/session.rs"]
mod session;
#[path = "server/shortage.rs"]
mod shortage;
#[path = "server/signal.rs"]
mod signal;
#[path = "server/slow.rs"]
mod slow;
#[path = "server/soak.rs"]
mod soak;
#[path = "server/start.rs"]
mod start;
#[path = "server/state.rs"]
mod state;
#[path = "server/stream.rs"]
mod stream;
#[path = "server/subscribe.rs"]
mod subscribe;
#[path = "server/takeover.rs"]
mod takeover;
#[path = "server/tls.rs"]
mod tls;
#[path = "server/trace.rs"]
mod trace;
#[path = "server/vanish.rs"]
mod vanish;
#[path = "server/volume.rs"]
mod volume;
#[path = "server/will.rs"]
mod will;
#[path = "server/wire.rs"]
mod wire;
