//! A client for one thread: every call waits for its answer.
//!
//! ```no_run
//! use ringmail::blocking::Client;
//!
//! let mut client = Client::connect("127.0.0.1:7411")?;
//! let response = client.request("$sys/echo", "hello")?;
//! assert_eq!(response.payload, b"hello");
//! println!("round trip {:?}", client.ping()?);
//! client.close()?;
//! # Ok::<(), ringmail::client::Error>(())
//! ```
//!
//! Publishing and subscribing, over a server of one's own:
//!
//! ```
//! use ringmail::blocking::Client;
//! use ringmail::client::Incoming;
//! # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
//! # let server = ringmail::Server::builder().config(config).start()?;
//! # let address = server.address().to_string();
//!
//! let mut display = Client::connect(&address)?;
//! display.subscribe("site/+/temperature")?;
//!
//! let mut sensor = Client::connect(&address)?;
//! sensor.publish_confirmed("site/1/temperature", "21.5")?;
//!
//! match display.receive()? {
//!     Incoming::Message(message) => {
//!         assert_eq!(message.topic, "site/1/temperature");
//!         assert_eq!(message.payload, b"21.5");
//!     }
//!     other => panic!("nobody asked for {other:?}"),
//! }
//! # display.close()?;
//! # sensor.close()?;
//! # server.drain();
//! # server.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Nothing runs between calls
//! There is no thread behind the client. While a call waits, it answers the server's PINGs
//! and watches the connection's own deadlines; between calls nobody does, and a server ends
//! a connection it has not heard from for its `heartbeat.timeout_ms` (90 s by default).
//! Whoever keeps an idle client calls [`Client::receive`] or [`Client::keep_alive`] at least
//! once per [`ServerInfo::heartbeat`]; and whoever subscribes calls `receive` often enough
//! not to be a slow consumer. Messages that come while another call waits are kept for
//! `receive`, up to [`Builder::inbox_bytes_max`].
//!
//! # When the connection breaks
//! | | plain | [`Builder::reconnect`] | [`Builder::session`] |
//! |---|---|---|---|
//! | the client | fails every call from then on | connects again | connects again |
//! | subscriptions, services, will | are gone | are asked for again | stand |
//! | messages published meanwhile | do not come | do not come | come, within the server's `session` bounds |
//! | PUBLISHes not yet confirmed | unknown | [`Error::Unconfirmed`] | are repeated, and delivered once |
//! | a request that waits for its answer | fails with `Io` | fails with `Io` | fails with `Io` |
//! | `receive` tells | the error | `Reconnected { resumed: false }` | `Reconnected { resumed: true }` |
//!
//! A session that the server does not know any more (its linger passed, its buffer was too
//! small, the server was started anew) is begun anew, and `receive` says so by
//! `Reconnected { resumed: false }`: what was published meanwhile may be lost, and
//! PUBLISHes that are repeated may be delivered twice. A message counts as received when
//! `receive` is called for the next one.
//!
//! Connecting again happens inside the calls too: each waits for it up to its own timeout
//! (longer by `connect_timeout` where the network swallows packets).
//!
//! # Who it is
//! A server may ask ([`ServerInfo::auth`]): the builder's credential is shown after each
//! handshake, and again when two thirds of its life have passed, by the refresh token the
//! server gave with it, or by fetching it anew ([`Builder::credential_by`]). Renewing happens
//! inside the calls too: who calls nothing for a third of that life is sent away.
//!
//! # How it waits
//! The socket does not block; waiting is one `poll` for whatever comes first of bytes, room
//! to send and the nearest deadline, so that a server that writes while this side writes
//! cannot lock both up. At most one request is open at a time; PUBLISHes may be many.

mod builder;
mod publish;
mod stream;
mod subscribe;
mod turn;

pub use builder::Builder;

use super::conversation::Conversation;
use super::credential::Login;
use super::error::Error;
use super::link::{Drain, ServerInfo};
use super::registry::Change;
use super::request::{Request, Response};
use crate::base::clock::Instant;
use crate::base::limits::PING_BYTES_MAX;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use std::net::SocketAddr;
use std::time::Duration;
use stream::Stream;
use turn::Deadline;

/// Bytes taken from the socket at once.
const RECEIVE_BYTES: usize = 64 * 1024;
/// How long [`Client::close`] waits for the server's CLOSE at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a server. Dropped, it says CLOSE without waiting for the answer.
pub struct Client {
    /// None while there is no connection.
    stream: Option<Stream>,
    peer: SocketAddr,
    conversation: Conversation,
    buffer: Box<[u8]>,
    builder: Builder,
    /// Why the last attempt to connect again failed.
    dial_failure: Option<Error>,
    taken_count: u32,
    ping_id: u64,
}

impl Client {
    /// Connects with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub fn connect(address: &str) -> Result<Client, Error> {
        Client::builder().connect(address)
    }

    /// Timeouts, name, credential, TLS, heartbeat, sizes, checksum.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What the server told about itself.
    pub fn server(&self) -> &ServerInfo {
        self.conversation.link().server()
    }

    /// Who the server says this client is, and the tokens it issued; `None` where it did not
    /// ask.
    pub fn login(&self) -> Option<&Login> {
        self.conversation.login()
    }

    /// The address connected to, after resolution.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Set once the server has said that it goes down: finish, and connect again as it asks.
    /// A client that reconnects by itself does so, and sends nothing new until it has.
    pub fn drain(&self) -> Option<&Drain> {
        self.conversation.link().drain()
    }

    /// Whether the connection stands, as far as the last call could tell.
    pub fn is_connected(&self) -> bool {
        self.conversation.can_answer()
    }

    // ---- calls ----

    /// Asks `service` and waits for its answer, for the builder's `request_timeout`.
    ///
    /// # Errors
    /// `Failed` if the answer is a failure, `Timeout`, and what ends the connection.
    pub fn request(&mut self, service: &str, payload: impl AsRef<[u8]>) -> Result<Response, Error> {
        self.request_with(&Request::new(service).payload(payload.as_ref()))
    }

    /// Asks with a codec, headers or a timeout of the request's own.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn request_with(&mut self, request: &Request<'_>) -> Result<Response, Error> {
        let block = request.block()?;
        let envelope = Envelope {
            codec: request.codec,
            name: request.service,
            headers: block.check()?,
            payload: request.payload,
            ..Envelope::default()
        };
        let what = "the request";
        let timeout = request.timeout.unwrap_or(self.builder.request_timeout);
        let deadline = Deadline::within(timeout);
        self.begin()?;
        self.stand(what, &deadline)?;
        self.ask(
            what,
            &deadline,
            MessageType::Request,
            envelope,
            Change::None,
        )
    }

    /// One round trip of a PING with 8 bytes, on this side's clock.
    ///
    /// # Errors
    /// `Timeout`, and what ends the connection.
    pub fn ping(&mut self) -> Result<Duration, Error> {
        self.ping_with(8, self.builder.request_timeout)
    }

    /// One round trip of a PING with `bytes` bytes (0 to 64), waiting for `timeout`.
    ///
    /// With fewer than 8 bytes an answer that comes after its timeout cannot always be told
    /// from the next one's.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn ping_with(&mut self, bytes: usize, timeout: Duration) -> Result<Duration, Error> {
        if bytes > PING_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a PING carries at most {PING_BYTES_MAX} bytes, not {bytes}"
            )));
        }
        self.ping_id += 1;
        let mut payload = [0; PING_BYTES_MAX];
        // Little-endian: what changes from PING to PING comes first, however few bytes go.
        payload[..8].copy_from_slice(&self.ping_id.to_le_bytes());
        let payload = &payload[..bytes];
        let (what, deadline) = ("the ping", Deadline::within(timeout));
        self.begin()?;
        self.stand(what, &deadline)?;
        let started = Instant::now();
        self.conversation.ping(payload);
        self.wait(what, &deadline, |conversation| {
            match conversation.ledger.take_pong()? {
                Ok(bytes) if bytes != payload => None,
                Ok(_) => Some(Ok(Instant::now() - started)),
                Err(error) => Some(Err(error)),
            }
        })?
    }

    /// Takes what the server has sent, answers its PINGs, and sends one if it is due;
    /// connects again if that is due. Does not wait for anything else.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn keep_alive(&mut self) -> Result<(), Error> {
        self.begin()?;
        let now = Deadline::within(Duration::ZERO);
        match self.wait("keeping alive", &now, |_| None::<()>) {
            Err(Error::Timeout { .. } | Error::InboxFull { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Says CLOSE and waits for the server's, 5 s at most. What is buffered is sent before,
    /// but not waited for: call [`Client::wait_confirmed`] first where that matters. A
    /// session ends with it.
    ///
    /// # Errors
    /// `Timeout` if the server does not answer, and what had ended the connection before.
    pub fn close(mut self) -> Result<(), Error> {
        self.begin()?;
        self.conversation.close();
        self.conversation.ledger.inbox.clear();
        let deadline = Deadline::within(CLOSE_TIMEOUT.min(self.builder.request_timeout));
        match self.wait("the close", &deadline, |_| None::<()>) {
            Err(_) if self.conversation.link().is_closed() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.conversation.link().is_ended() {
            self.conversation.close();
            let _ = self.write_out();
            self.hang_up();
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer)
            .field("server", self.server())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
