//! Layer 4: the clients, over the same sans-I/O session as the server. By the feature `client`,
//! with which alone there is no server and no need of Linux ([features](crate#features)).
//!
//! [`Client`] is a handle on one connection that many tasks share (on tokio);
//! [`blocking::Client`] is the same for programs without a runtime.
//!
//! | to | call | answered by |
//! |---|---|---|
//! | ask a service | [`request`](Client::request), [`request_json`](Client::request_json), [`request_proto`](Client::request_proto) | its [`Response`], or the value in it |
//! | publish | [`publish`](Client::publish), `_json`, `_proto` | nothing: it is on its way |
//! | publish what must arrive | [`publish_confirmed`](Client::publish_confirmed), `_json`, `_proto` | the server: every subscriber present has it queued |
//! | subscribe | [`subscribe`](Client::subscribe) | a [`Subscription`], a stream of [`Message`]s |
//! | answer for a service | [`serve`](Client::serve) with a handler, [`requests`](Client::requests) one by one | a [`Service`], a stream of [`OpenRequest`]s |
//! | know how the connection is | [`status`](Client::status), [`watch`](Client::watch) | [`Status`] |
//! | end | [`close`](Client::close) | the server's CLOSE |
//!
//! What is put together with more than a name and a payload ([`Request`], [`Publish`],
//! [`Subscribe`], [`Serve`]) goes to the call whose name ends in `_with`. Each call has a
//! deadline; dropped before it is done, it is not waited for any more. What fails says whose
//! fault it is and whether it may succeed later: [`Error`].
//!
//! # When the connection breaks
//! | | plain | [`Builder::reconnect`] | [`Builder::session`] |
//! |---|---|---|---|
//! | the client | has ended | connects again | connects again |
//! | subscriptions, services, will | end | are asked for again | stand |
//! | messages published meanwhile | do not come | do not come | come, within the server's `session` bounds |
//! | PUBLISHes not yet confirmed | [`Error::Io`] | [`Error::Unconfirmed`] | are repeated, and delivered once |
//! | a request that waits for its answer | [`Error::Io`] | [`Error::Io`] | [`Error::Io`] |
//! | calls made meanwhile | [`Error::Io`] | wait, up to their time | wait, up to their time |
//! | answers of handlers | are dropped | are dropped | are sent afterwards |
//! | [`Status::lapses`] | – | rises | stays |
//!
//! Connecting again happens with full jitter ([`Reconnect`]), where and when a DRAIN asked for
//! it if there was one. A session that the server does not know any more (its linger passed,
//! its buffer was too small, the server was started anew) is begun anew: `lapses` rises, what
//! was published meanwhile may be lost, and PUBLISHes that are repeated may be delivered
//! twice. With a session a message counts as received when its stream is asked for the next
//! one, a request when it was answered; since the server counts all of a connection's in one
//! row, one that is held for long keeps those behind it in the server's session buffer.
//!
//! # Memory, and a subscription that nobody takes from
//! What has come and was not taken waits in one inbox, of at most
//! [`inbox_bytes_max`](Builder::inbox_bytes_max) bytes and what one read brings. Below that a
//! slow stream is nobody else's concern. At the bound nothing more is read until some is
//! taken: answers wait behind it (a call that runs out of time says [`Error::InboxFull`]), the
//! server queues, and then does what the subscription's [`SlowPolicy`] says. The
//! connection is kept alive meanwhile. That holds as well for one that is being made again: it
//! stands once what it brings has been taken. What must not wait for each other has
//! connections of its own. Out go at most 256 KiB of unsent bytes and one message, and 16,384 unconfirmed
//! PUBLISHes or 8 MiB of them: beyond that calls wait. A client that publishes without
//! confirmation to its own subscription, faster than it takes, is a slow consumer.
//!
//! # What the server refuses
//! A server that has refused ten operations within a second ends the connection with the next
//! one, for all who share it. The client does not let it come to that: of what could be
//! refused, a topic's first PUBLISHes and whatever is subscribed to or served, it sends only as
//! much at once as may fail, and holds the rest until it knows more. Who does what is refused
//! all the time waits, up to its time; requests, and PUBLISHes on topics that were accepted
//! before, pass. Payloads that do not fit their topic's schema do not count.
//!
//! # Who it is
//! A server may ask ([`ServerInfo::auth`]): the builder's credential is shown after each
//! handshake, and again when 80 % of its life have passed, by the refresh token the server
//! gave with it, or by fetching it anew ([`Builder::credential_by`],
//! [`Builder::credential_by_async`]).
//!
//! # Inside
//! - `handle`: what tasks hold; `blocking`: what threads hold.
//! - `driver`: the task that owns a connection's socket, and what it shares with the handles.
//! - `pool`: several connections, lent one by one.
//! - `conversation`: what any client does over its connections, however it waits: `link` (one
//!   connection), `ledger` (what outlives it), `inbox`, `flight`, `registry`, `withdrawal`,
//!   `budget`, `wildcard`, `reconnect`.
//! - `credential`, `access`, `tls`: who a client is, when it says so, and over what.
//! - `address`, `builder`, `request`, `publish`, `subscribe`, `incoming`, `payload`, `status`,
//!   `error`: what callers give and get.

mod access;
mod address;
mod block;
pub mod blocking;
mod budget;
mod builder;
mod conversation;
mod credential;
mod driver;
mod error;
mod flight;
mod handle;
mod inbox;
mod incoming;
mod ledger;
mod link;
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
