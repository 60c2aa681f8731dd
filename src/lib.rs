//! **ringmail** is a message server for data exchange between devices and services. It
//! speaks MCP, the *Message Communication Protocol* (not the Model Context Protocol): a
//! small binary protocol over TCP.
//!
//! It is a thread-per-core io_uring server: each core has an executor, a ring, and
//! connections of its own, and shares nothing with the others on the way of a message.
//! The crate is the server as a library, and its clients; the `ringmail` binary is made of
//! both.
//!
//! | to | there is |
//! |---|---|
//! | exchange messages, in a program on tokio | [`Client`], over one connection; [`Pool`], over several |
//! | exchange messages, without a runtime | [`blocking::Client`] |
//! | run a server inside of one's own program | [`Server`], [`Config`], [`Service`] |
//! | run a server as a service, see what it does, find what is wrong | [`operating`] |
//! | know what it costs, and how that was measured | [`benchmarks`] |
//! | read what a server tells about itself | [`sys`] |
//! | see whole programs | [`guide`] |
//! | write a client in another language | [`protocol`] |
//! | change the server | [`architecture`] |
//!
//! # A whole program
//!
//! A server with a service of its own, asked by a client:
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
//! [`Client`] is a handle on one connection that many tasks share; [`client`] says what it
//! does about slowness, broken connections and credentials.
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
//! A program that is a client and no server needs a fifth of what the crate stands on, and no
//! Linux:
//!
//! ```toml
//! ringmail = { version = "0.1", default-features = false, features = ["client"] }
//! ```
//!
//! | feature | in the default | has |
//! |---|---|---|
//! | `client` | by `cli` | [`client`] and what stands in it: [`Client`], [`Pool`], [`blocking`] |
//! | `server` | yes | [`Server`], [`Running`], [`Drainer`], [`Config`], [`Service`], [`Request`], [`Reply`], [`Deferred`]; Linux only |
//! | `cli` | yes | the `ringmail` binary; with it `client` and `server` |
//! | `bench` | no | `ringmail bench`, the load generator |
//! | `sim` | no | the simulated driver, for this crate's own tests |
//!
//! [`sys`], [`Answer`], [`Failure`], [`Codec`], [`Headers`] and [`TraceContext`] are always there.
//!
//! # Where things are
//!
//! Layers import only downwards; `tests/tidy.rs` holds them to it.
//!
//! | layer | module | holds |
//! |---|---|---|
//! | 5 | `cli` | one file per subcommand of the binary |
//! | 4 | [`server`](Server), [`client`] | boot, configuration, statistics; the clients and their pool |
//! | 3 | `shard` | the turn, connections, outboxes, services ([`Service`]) |
//! | 2 | `ring`, `metrics`, `router`, `auth`, `codec` | the io_uring driver and the simulated one; counters and histograms; who gets a message; who may do what; payloads by schema |
//! | 1 | `proto` | the wire: bytes and a clock value in, messages and bytes out |
//! | 0 | `base` | limits, ids, clock, slab, timer wheel |

#![deny(unsafe_code)]

#[cfg(feature = "server")]
#[doc(hidden)]
pub mod auth;
#[doc(hidden)]
pub mod base;
#[doc = include_str!("../benches/BENCHMARKS.md")]
pub mod benchmarks {}
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

#[doc = include_str!("proto/PROTOCOL.md")]
pub mod protocol {}

#[doc = include_str!("ARCHITECTURE.md")]
pub mod architecture {}

pub use base::id::ShardId;
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
#[cfg(feature = "server")]
pub use shard::{Deferred, Reply, Request, Service};
