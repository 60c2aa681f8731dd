//! Layer 4: the clients, on the same sans-I/O session as the server. The feature `client` alone
//! builds them without the server, and on systems other than Linux ([features](crate#features)).
//!
//! [`Client`] is a handle on one connection that many tasks share (on tokio);
//! [`blocking::Client`] is the same for programs without a runtime.
//!
//! | to | call | answer |
//! |---|---|---|
//! | send a request | [`request`](Client::request), [`request_json`](Client::request_json), [`request_proto`](Client::request_proto) | its [`Response`], or the value in it |
//! | publish | [`publish`](Client::publish), `_json`, `_proto` | none: it is on its way |
//! | publish what must arrive | [`publish_confirmed`](Client::publish_confirmed), `_json`, `_proto` | the server's OK: it is queued for every subscriber present |
//! | subscribe | [`subscribe`](Client::subscribe) | a [`Subscription`], a stream of [`Message`]s |
//! | serve a service | [`serve`](Client::serve) with a handler, [`requests`](Client::requests) one by one | a [`Service`], a stream of [`OpenRequest`]s |
//! | observe the connection | [`status`](Client::status), [`watch`](Client::watch) | [`Status`] |
//! | end | [`close`](Client::close) | the server's CLOSE |
//!
//! Operations with more than a name and a payload ([`Request`], [`Publish`], [`Subscribe`],
//! [`Serve`]) go to the call whose name ends in `_with`. Each call has a deadline; dropping its
//! future stops waiting for it. A failure says whose fault it is and whether the call may
//! succeed later: [`Error`].
//!
//! # When the connection breaks
//! | | plain | [`Builder::reconnect`] | [`Builder::session`] |
//! |---|---|---|---|
//! | the client | has ended | reconnects | reconnects |
//! | subscriptions, services, will | end | are restored | persist |
//! | messages published meanwhile | are lost | are lost | are delivered, within the server's `session` bounds |
//! | PUBLISHes not yet confirmed | [`Error::Io`] | [`Error::Unconfirmed`] | are repeated, and delivered once |
//! | a request waiting for its answer | [`Error::Io`] | [`Error::Io`] | [`Error::Io`] |
//! | calls made meanwhile | [`Error::Io`] | wait, up to their timeout | wait, up to their timeout |
//! | answers of handlers | are dropped | are dropped | are sent afterwards |
//! | [`Status::lapses`] | – | rises | stays |
//!
//! The client reconnects with full jitter ([`Reconnect`]), or, after a DRAIN, where and when
//! that asked for. If the server no longer knows the session (its linger passed, its buffer was
//! too small, the server was restarted), the client starts a new one: `lapses` rises, messages
//! published in the meantime may be lost, and repeated PUBLISHes may be delivered twice. With a
//! session, a message counts as received when its stream is asked for the next one, a request
//! when it has been answered. The server counts all messages of a connection in one sequence, so
//! a message that is held for long keeps those behind it in the server's session buffer.
//!
//! # Memory, and a subscription that nobody reads
//! Messages that have arrived and have not been taken wait in one inbox, of at most
//! [`inbox_bytes_max`](Builder::inbox_bytes_max) bytes plus the result of one read. Below that,
//! a slow stream affects nobody else. When the inbox is full, the client reads nothing more
//! until some messages are taken: answers wait behind them (a call that times out meanwhile
//! fails with [`Error::InboxFull`]), the server queues, and then applies the subscription's
//! [`SlowPolicy`]. The connection is kept alive meanwhile. The same holds for a connection that
//! is being re-established: it is up once the messages it delivers have been taken. A `subscribe`
//! or `serve` whose own messages fill the inbox before its OK fails at once. Operations that
//! must not wait for each other need separate connections. In the other direction, a client
//! holds at most 256 KiB of unsent bytes plus one message, and at most 16,384 unconfirmed
//! PUBLISHes or 8 MiB of them: beyond that, calls wait. A client that publishes to its own
//! subscription without confirmation, faster than it takes the messages, is a slow consumer.
//!
//! # What the server refuses
//! If a server has refused ten operations within a second, the next refusal ends the connection,
//! for everyone who shares it. The client prevents that: of operations that could be refused (a
//! topic's first PUBLISHes, and every SUBSCRIBE or SERVE), it sends only as many at once as may
//! fail, and holds the rest until it knows more. A caller whose operations keep being refused
//! therefore waits, up to its timeout; requests, and PUBLISHes on topics that were accepted
//! before, pass. Payloads that do not match their topic's schema do not count.
//!
//! # Authentication
//! A server may require authentication ([`ServerInfo::auth`]): the client then presents the
//! builder's credential after each handshake, and again once 80 % of its lifetime has passed,
//! either with the refresh token that the server issued along with it, or by fetching the
//! credential again ([`Builder::credential_by`], [`Builder::credential_by_async`]).
//!
//! # Inside
//! - `handle`: what tasks hold; `blocking`: what threads hold.
//! - `driver`: the task that owns a connection's socket, and what it shares with the handles.
//! - `pool`: several connections, lent one by one.
//! - `conversation`: what every client does over its connections, whichever way it waits: `link`
//!   (one connection), `ledger` (what outlives it), `inbox`, `flight`, `registry`, `withdrawal`,
//!   `budget`, `wildcard`, `reconnect`.
//! - `credential`, `access`, `tls`: how a client authenticates, and when, and over what.
//! - `harness`: a conversation without a socket, for this crate's tests.
//! - `clock`: what time it is, by tokio; `network`: wires in place of sockets, `glance`: what a client
//!   holds, for tests.
//! - `address`, `builder`, `request`, `publish`, `subscribe`, `incoming`, `payload`, `status`,
//!   `error`: what callers give and get.

mod access;
mod address;
mod block;
pub mod blocking;
mod budget;
mod builder;
mod clock;
mod conversation;
mod credential;
mod driver;
mod error;
mod flight;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod glance;
mod handle;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod harness;
mod inbox;
mod incoming;
mod ledger;
mod link;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod network;
mod payload;
mod pool;
mod publish;
mod reconnect;
mod registry;
mod request;
mod status;
mod subscribe;
mod tls;
mod typed;
mod wildcard;
mod withdrawal;

pub use crate::base::limits::{MESSAGE_BYTES_CEILING, PING_BYTES_MAX};
pub use crate::proto::envelope::{Codec, Headers, SlowPolicy, header};
pub use crate::proto::error::{Code, Refusal};
pub use address::Address;
pub use builder::Builder;
pub use credential::{Credential, Login, Secret};
pub use error::{Error, Fault};
pub use handle::{Client, OpenRequest, Requests, Service, Subscription};
pub use incoming::{Incoming, IncomingRequest, Message};
pub use link::{Drain, ServerInfo};
pub use pool::{Closed, Pool, PoolBuilder, PoolStatus, PooledClient};
pub use publish::Publish;
pub use reconnect::Reconnect;
pub use request::{Request, Response};
pub use status::{Phase, Status};
pub use subscribe::{Serve, Subscribe};
pub use tls::Tls;
