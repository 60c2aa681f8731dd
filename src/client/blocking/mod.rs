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
//! Publishing and subscribing, with a server in the same program:
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
//! # What runs between calls
//! It is the async [`Client`](super::Client) on a thread of its own, which answers the server's
//! PINGs, receives messages and reconnects, whether a call waits or not. Messages wait for
//! `receive`, up to [`Builder::inbox_bytes_max`](super::Builder::inbox_bytes_max): beyond that
//! the client reads nothing, and calls that wait for an answer fail with `InboxFull`, since
//! nobody takes messages meanwhile. A program that subscribes must call `receive` often enough
//! not to be a slow consumer.
//!
//! # When the connection breaks
//! [`client`](super) describes it for both clients. In addition, `receive` returns
//! [`Reconnected`](super::Incoming::Reconnected) in its place among the messages. A message
//! counts as received when `receive` is called for the next one. A call that needs a connection
//! waits for it, up to its own timeout.
//!
//! A forked child process does not have that thread: every call that would wait fails there, and
//! the connection stays with the parent.

mod engine;
mod publish;
mod subscribe;

use super::credential::Login;
use super::error::Error;
use super::inbox::{BoxId, Takes};
use super::link::{Drain, ServerInfo};
use super::request::{Request, Response};
use crate::base::limits::PING_BYTES_MAX;
use engine::Engine;
use std::net::SocketAddr;
use std::time::Duration;

/// Options of a connection.
pub type Builder = super::Builder<Client>;

/// How long a dropped client waits for its CLOSE to be sent.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Builder {
    /// Connects to `host:port`, `ringmail://host:port` or, with TLS, `ringmails://host:port`,
    /// performs the handshake and authenticates if the server requires it; of several addresses
    /// of one name it uses the first that accepts. Tries once, or for as long as `wait` says.
    ///
    /// # Errors
    /// `Invalid` for an invalid address or option; `Connect` if nobody, or no ringmail server,
    /// answers at the address; `Tls`; `Credential` if the server requires one and none is set;
    /// `Refused`, `Protocol` and `Timeout` from the handshake.
    pub fn connect(&self, address: &str) -> Result<Client, Error> {
        let (engine, client) = Engine::start(&self.options, address)?;
        let all = {
            let mut core = client.shared().lock();
            core.is_alone = true;
            core.conversation.ledger.inbox.open(Takes::Everything)
        };
        Ok(Client {
            client,
            engine,
            all,
            taken_count: 0,
            ping_id: 0,
        })
    }
}

/// A connection to a server. Dropping it sends CLOSE without waiting for the answer.
pub struct Client {
    client: super::Client,
    engine: Engine,
    /// The one mailbox.
    all: BoxId,
    taken_count: u32,
    ping_id: u64,
}

impl Client {
    /// Connects with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// As `connect` of the [`Builder`].
    pub fn connect(address: &str) -> Result<Client, Error> {
        Client::builder().connect(address)
    }

    /// Timeouts, name, credential, TLS, heartbeat, sizes, checksum.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What the server reported about itself.
    pub fn server(&self) -> ServerInfo {
        self.client.server()
    }

    /// The principal that the server sees, and the tokens it issued; `None` if it did not
    /// authenticate this client.
    pub fn login(&self) -> Option<Login> {
        self.client.login()
    }

    /// The address connected to, after resolution.
    pub fn peer(&self) -> SocketAddr {
        self.client.peer()
    }

    /// Set once the server has announced that it is shutting down: finish, and reconnect as it
    /// asks. A client that reconnects by itself does so, and sends nothing new until then.
    pub fn drain(&self) -> Option<Drain> {
        self.client.drain()
    }

    /// Whether the connection is open, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.client.shared().lock().conversation.can_answer()
    }

    // ---- calls ----

    /// Sends a request to `service` and waits for the answer, up to the builder's
    /// `request_timeout`.
    ///
    /// # Errors
    /// `Failed` if the answer is a failure, `Timeout`, and any error that ends the connection.
    pub fn request(&mut self, service: &str, payload: impl AsRef<[u8]>) -> Result<Response, Error> {
        self.request_with(&Request::new(service).payload(payload.as_ref()))
    }

    /// Sends a request with its own codec, headers or timeout.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn request_with(&mut self, request: &Request<'_>) -> Result<Response, Error> {
        self.engine.check()?;
        self.engine.wait(self.client.request_with(request))
    }

    /// One round trip of a PING with 8 bytes, on this side's clock.
    ///
    /// # Errors
    /// `Timeout`, and any error that ends the connection.
    pub fn ping(&mut self) -> Result<Duration, Error> {
        self.ping_with(8, self.client.shared().options.request_timeout)
    }

    /// One round trip of a PING with `bytes` bytes (0 to 64), waiting for `timeout`.
    ///
    /// With fewer than 8 bytes, a late answer cannot always be told from the answer to the next
    /// PING.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn ping_with(&mut self, bytes: usize, timeout: Duration) -> Result<Duration, Error> {
        if bytes > PING_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a PING carries at most {PING_BYTES_MAX} bytes, not {bytes}"
            )));
        }
        self.engine.check()?;
        self.ping_id += 1;
        let mut payload = [0; PING_BYTES_MAX];
        // Little-endian: what changes from PING to PING comes first, however few bytes go.
        payload[..8].copy_from_slice(&self.ping_id.to_le_bytes());
        let ping = self.client.ping_with(&payload[..bytes], timeout);
        self.engine.wait(ping)
    }

    /// Returns how the connection ended, if it did: for programs that make no other call for
    /// long. The connection is kept alive whether this is called or not.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn keep_alive(&mut self) -> Result<(), Error> {
        self.engine.check()?;
        self.client.ending().map_or(Ok(()), Err)
    }

    /// Sends CLOSE and waits for the server's, at most 5 s. Buffered messages are sent first,
    /// but their confirmations are not waited for: call [`Client::wait_confirmed`] before if
    /// that matters. The session ends too.
    ///
    /// # Errors
    /// `Timeout` if the server does not answer, and what had ended the connection before.
    pub fn close(mut self) -> Result<(), Error> {
        self.keep_alive()?;
        self.clear();
        self.engine.wait(self.client.say_close())
    }
}

impl Client {
    /// Nobody will take what waits.
    fn clear(&self) {
        let mut core = self.client.shared().lock();
        core.conversation.ledger.inbox.clear();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.engine.check().is_err() {
            return; // it is the parent's to close
        }
        self.clear();
        let shared = self.client.shared();
        shared.close();
        let said = shared.when(|core| core.conversation.unsent().is_empty().then_some(()));
        let said = shared.within("the close", DROP_TIMEOUT, said);
        let _ = self.engine.wait(said);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer())
            .field("server", &self.server())
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}
