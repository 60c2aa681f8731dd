//! **ringmail** is a message server for data exchange between devices and services. It
//! speaks MCP, the *Message Communication Protocol* (not the Model Context Protocol): a
//! small binary protocol over TCP.
//!
//! It is a thread-per-core io_uring server: each core has its own executor, ring and
//! connections, and shares nothing with the others on a message's path. The crate contains the
//! server as a library, and its clients; the `ringmail` binary is built from both.
//!
//! | to | there is |
//! |---|---|
//! | exchange messages, in a program on tokio | [`Client`], over one connection; [`Pool`], over several |
//! | exchange messages, without a runtime | [`blocking::Client`] |
//! | run a server inside another program | [`Server`], [`Config`], [`Service`] |
//! | run a server as a service, monitor it, troubleshoot it | [`operating`] |
//! | know what it costs, and how we measured that | [`benchmarks`] |
//! | read what a server reports about itself | [`sys`] |
//! | see complete programs | [`guide`] |
//! | write a client in another language | [`protocol`] |
//! | change the server | [`architecture`] |
//!
//! # A whole program
//!
//! A server with a service, and a client that sends it a request:
//!
//! ```
//! use ringmail::blocking::Client;
//! use ringmail::{Config, Reply, Request, Server};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config = Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//!     let server = Server::builder()
//!         .config(config)
//!         .service("text/upper", |_shard| {
//!             |request: Request<'_>, reply: Reply<'_>| {
//!                 reply.send(&request.payload().to_ascii_uppercase());
//!             }
//!         })
//!         .start()?;
//!
//!     let mut client = Client::connect(&server.address().to_string())?;
//!     let answer = client.request("text/upper", "hello")?;
//!     assert_eq!(answer.payload, b"HELLO");
//!
//!     client.close()?;
//!     server.drain();
//!     server.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # A client
//!
//! [`Client`] is a handle on one connection that many tasks share; [`client`] says how it
//! handles slow readers, broken connections and credentials.
//!
//! ```
//! # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//! # let server = ringmail::Server::builder().config(config).start()?;
//! # let address = server.address().to_string();
//! use ringmail::Client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn example(address: String) -> Result<(), ringmail::client::Error> {
//! let client = Client::builder().session(true).connect(&address).await?;
//! let mut readings = client.subscribe("site/+/temperature").await?;
//! client.publish_confirmed_json("site/1/temperature", &21.5).await?;
//! if let Some(reading) = readings.next().await {
//!     assert_eq!(reading.json::<f64>()?, 21.5);
//! }
//! client.close().await?;
//! # Ok(()) }
//! # example(address)?;
//! # server.drain();
//! # server.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! A program that is only a client needs a fifth of the crate's dependencies, and does not need
//! Linux:
//!
//! ```toml
//! ringmail = { version = "0.1", default-features = false, features = ["client"] }
//! ```
//!
//! | feature | default | contains |
//! |---|---|---|
//! | `client` | through `cli` | [`client`] and its items: [`Client`], [`Pool`], [`blocking`] |
//! | `server` | yes | [`Server`], [`Running`], [`Drainer`], [`Config`], [`Service`], [`Request`], [`Reply`], [`Deferred`]; Linux only |
//! | `cli` | yes | the `ringmail` binary; implies `client` and `server` |
//! | `bench` | yes | `ringmail bench`, the load generator |
//! | `sim` | no | the simulated driver, clients and an admin address without sockets, for this crate's own tests |
//!
//! [`sys`], [`Answer`], [`Failure`], [`Codec`], [`Headers`] and [`TraceContext`] are always included.
//!
//! # Where things are
//!
//! Layers import only downwards; `tests/tidy.rs` checks that.
//!
//! | layer | module | contents |
//! |---|---|---|
//! | 6 | `cli` | one file per subcommand of the binary |
//! | 5 | [`server`](Server), [`client`] | boot, configuration, statistics; the clients and their pool |
//! | 4 | `shard` | the turn, sockets, TLS: a broker on a driver |
//! | 3 | `broker` | who gets what; services ([`Service`]) |
//! | 2 | `wire`, `ring`, `metrics`, `router`, `auth`, `codec` | the port between protocols and broker; the io_uring driver and the simulated one; counters and histograms; who gets a message; who may do what; payloads by schema |
//! | 1 | `proto` | the wire: bytes and a clock value in, messages and bytes out |
//! | 0 | `base` | limits, ids, clock, slab, timer wheel |

#![deny(unsafe_code)]
// What a peer, a file or the kernel says must not end a process. The modules that read what peers
// write hold more: see `proto`, `wire` and `auth`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used))]

#[cfg(feature = "server")]
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod base;
#[doc = include_str!("../benches/BENCHMARKS.md")]
pub mod benchmarks {}
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod broker;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod codec;
#[cfg(all(feature = "client", feature = "server"))]
pub mod guide;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod metrics;
#[doc = include_str!("../tuning/OPERATING.md")]
pub mod operating {}
#[doc(hidden)]
pub mod proto;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod ring;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod router;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod server;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod shard;

#[cfg(feature = "server")]
#[doc(hidden)]
pub mod wire;

#[doc = include_str!("proto/PROTOCOL.md")]
pub mod protocol {}

#[doc = include_str!("ARCHITECTURE.md")]
pub mod architecture {}

pub use base::id::ShardId;
#[cfg(feature = "server")]
pub use broker::{Deferred, Reply, Request, Service};
#[cfg(feature = "client")]
pub use client::{Client, Pool, blocking};
pub use proto::envelope::{Codec, Headers};
pub use proto::outcome::{Answer, Failure, Outcome};
pub use proto::sys;
pub use proto::trace::TraceContext;
#[cfg(feature = "server")]
pub use server::config::{Config, ConfigErrors};
#[cfg(feature = "server")]
pub use server::{Drainer, Error as ServerError, Running, Server};
