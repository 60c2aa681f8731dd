//! How a blocking client connects: its options, the attempt, and what a failure of it means.

use super::stream::Stream;
use super::{Client, RECEIVE_BYTES};
use crate::base::clock::Instant;
use crate::base::limits::{HEARTBEAT_MS_MIN, MESSAGE_BYTES_CEILING, MESSAGE_BYTES_FLOOR};
use crate::client::address::Address;
use crate::client::conversation::Conversation;
use crate::client::credential::{Credential, Secret, Source};
use crate::client::error::Error;
use crate::client::link::Link;
use crate::client::reconnect::{Reconnect, Schedule};
use crate::client::tls::Tls;
use crate::proto::option::{FEATURE_CHECKSUM, Options, is_client_id};
use crate::proto::session::Settings;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Silences of this many heartbeat intervals mean that the server is dead.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// The interval assumed until the server names its own.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(30);

/// Options of a connection.
///
/// ```no_run
/// use ringmail::blocking::Client;
/// use std::time::Duration;
///
/// let client = Client::builder()
///     .connect_timeout(Duration::from_secs(2))
///     .client_id("thermostat-17")
///     .checksum(true)
///     .connect("ringmail://localhost:7411")?;
/// println!("{} on shard {}", client.server().product, client.server().shard);
/// # Ok::<(), ringmail::client::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `connect`"]
pub struct Builder {
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    client_id: Option<String>,
    heartbeat: Option<Duration>,
    message_bytes_max: u32,
    checksum: bool,
    session: bool,
    reconnect: Option<Reconnect>,
    inbox_bytes_max: usize,
    source: Option<Source>,
    tls: Option<Tls>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            client_id: None,
            heartbeat: None,
            message_bytes_max: 16 << 20,
            checksum: false,
            session: false,
            reconnect: None,
            inbox_bytes_max: 16 << 20,
            source: None,
            tls: None,
        }
    }
}

impl Builder {
    /// For connecting and shaking hands together; 5 s by default. Resolving a name comes
    /// before it and takes as long as the system's resolver allows.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.connect_timeout = timeout;
        self
    }

    /// For each request and ping that does not bring its own; 10 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Builder {
        self.request_timeout = timeout;
        self
    }

    /// The name the server knows this client by: 1 to 64 of `A–Z a–z 0–9 _ - .`
    pub fn client_id(mut self, client_id: &str) -> Builder {
        self.client_id = Some(client_id.to_owned());
        self
    }

    /// The heartbeat interval to ask for (at least 100 ms); the server's own by default. The
    /// server has the last word: see `ServerInfo::heartbeat`.
    pub fn heartbeat(mut self, interval: Duration) -> Builder {
        self.heartbeat = Some(interval);
        self
    }

    /// The largest message payload to accept, 1,024 bytes to 1 GiB; 16 MiB by default.
    pub fn message_bytes_max(mut self, bytes: u32) -> Builder {
        self.message_bytes_max = bytes;
        self
    }

    /// Asks for a CRC on every message, off by default: TCP's own checksum misses about one
    /// damaged segment in 65,536.
    pub fn checksum(mut self, wanted: bool) -> Builder {
        self.checksum = wanted;
        self
    }

    /// Asks for a session: what is delivered to this client, and what it publishes with
    /// confirmation, survives a broken connection (see [`Client`]'s module). Off by default.
    /// It reconnects by itself, with [`Reconnect::default`] unless told otherwise.
    ///
    /// ```no_run
    /// use ringmail::blocking::Client;
    ///
    /// let mut client = Client::builder().session(true).connect("localhost:7411")?;
    /// client.subscribe("site/#")?;
    /// # Ok::<(), ringmail::client::Error>(())
    /// ```
    pub fn session(mut self, wanted: bool) -> Builder {
        self.session = wanted;
        self
    }

    /// Connects again by itself when the connection breaks or the server drains, and then
    /// subscribes and serves again. Off by default. The first connection is never retried.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Builder {
        self.reconnect = Some(reconnect);
        self
    }

    /// Bytes of messages and requests that may wait for `receive` while another call waits
    /// for its answer; 16 MiB by default. Beyond it such calls fail with `InboxFull`.
    pub fn inbox_bytes_max(mut self, bytes: usize) -> Builder {
        self.inbox_bytes_max = bytes;
        self
    }

    /// Says who this client is by an access token, to servers that ask. It is used as it is
    /// until it expires: see [`Builder::credential_by`] for tokens that are fetched.
    pub fn token(self, token: impl Into<Secret>) -> Builder {
        self.credential(Credential::Token(token.into()))
    }

    /// Says who this client is by an API key, `id.secret`, to servers that ask. Where the
    /// server issues tokens for it, they are renewed while they last.
    pub fn api_key(self, key: impl Into<Secret>) -> Builder {
        self.credential(Credential::ApiKey(key.into()))
    }

    /// Says who this client is, to servers that ask.
    pub fn credential(mut self, credential: Credential) -> Builder {
        self.source = Some(Source::Fixed(credential));
        self
    }

    /// Fetches the credential, anew for each connection and when two thirds of its life have
    /// passed. An error's text is told to the user as it is, at the first connection.
    ///
    /// ```no_run
    /// use ringmail::blocking::Client;
    /// use ringmail::client::{Credential, Secret};
    ///
    /// let read = || {
    ///     let token = std::fs::read_to_string("token").map_err(|error| error.to_string())?;
    ///     Ok(Credential::Token(Secret::new(token.trim())))
    /// };
    /// let client = Client::builder()
    ///     .credential_by(read)
    ///     .connect("ringmails://mail.example:7411")?;
    /// # let _ = client;
    /// # Ok::<(), ringmail::client::Error>(())
    /// ```
    pub fn credential_by(
        mut self,
        fetch: impl Fn() -> Result<Credential, String> + Send + Sync + 'static,
    ) -> Builder {
        self.source = Some(Source::Fetched(Arc::new(fetch)));
        self
    }

    /// Speaks TLS to whatever address is given, in this way. Without it `ringmails://` speaks
    /// TLS as by `Tls::default()`, trusting the system's authorities.
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.tls = Some(tls);
        self
    }

    /// Trusts the certificate authorities in this PEM file, and speaks TLS.
    pub fn tls_ca(self, file: impl Into<PathBuf>) -> Builder {
        let tls = self.tls.clone().unwrap_or_default().ca(file);
        self.tls(tls)
    }

    /// Shows this certificate, whose key is in the other PEM file, and speaks TLS.
    pub fn tls_identity(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Builder {
        let tls = self.tls.clone().unwrap_or_default();
        self.tls(tls.identity(certificate, key))
    }

    /// Connects to `host:port`, `ringmail://host:port` or, by TLS, `ringmails://host:port`,
    /// shakes hands and says who this is, if the server asks; of several
    /// addresses of one name the first that accepts is taken.
    ///
    /// # Errors
    /// `Invalid` for an address or option that cannot be; `Connect` where nobody, or nobody
    /// who speaks, is at the address; `Tls`; `Credential` if the server asks for one and
    /// there is none; `Refused`, `Protocol` and `Timeout` by the handshake.
    pub fn connect(&self, address: &str) -> Result<Client, Error> {
        let mut address = Address::parse(address)?;
        address.secure |= self.tls.is_some();
        let (stream, peer, link) = self.open(&address)?;
        let open_timeout = self.connect_timeout.saturating_mul(2);
        let mut client = Client {
            stream: Some(stream),
            peer,
            conversation: Conversation::new(
                link,
                self.session,
                self.inbox_bytes_max,
                open_timeout,
                self.source.clone(),
            ),
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            builder: self.clone(),
            dial_failure: None,
            taken_count: 0,
            ping_id: 0,
        };
        client.stand_first().map_err(|error| match error {
            // Whoever ends the stream here is no server, or one behind a proxy.
            Error::Io { source, .. } => Error::Connect {
                address: address.to_string(),
                source,
            },
            error => error,
        })?;
        let reconnect = match (&self.reconnect, self.session) {
            (Some(reconnect), _) => Some(reconnect.clone()),
            (None, session) => session.then(Reconnect::default),
        };
        let schedule = reconnect.map(|policy| Schedule::new(policy, address, fastrand::u64(..)));
        client.conversation.reconnect_by(schedule);
        Ok(client)
    }

    /// Connects and writes the SYN.
    pub(super) fn open(&self, address: &Address) -> Result<(Stream, SocketAddr, Link), Error> {
        let settings = Arc::new(self.settings()?);
        let unreachable = |source| Error::Connect {
            address: address.to_string(),
            source,
        };
        let seq = getrandom::u32().map_err(|error| unreachable(io::Error::other(error)))?;
        let tls = match address.secure {
            true => Some(self.tls.clone().unwrap_or_default().config()?),
            false => None,
        };
        let deadline = Instant::now() + self.connect_timeout;
        let (stream, peer) = dial(address, deadline).map_err(unreachable)?;
        let stream = match tls {
            None => Stream::plain(stream),
            Some(config) => Stream::secure(stream, config, &address.host).map_err(unreachable)?,
        };
        let link = Link::new(settings, &self.hello(), seq, Instant::now());
        Ok((stream, peer, link))
    }

    fn settings(&self) -> Result<Settings, Error> {
        if let Some(id) = self.client_id.as_deref().filter(|id| !is_client_id(id)) {
            return Err(Error::invalid(format!(
                "client id {id:?}: 1 to 64 of A-Z a-z 0-9 _ - . are allowed"
            )));
        }
        let sizes = MESSAGE_BYTES_FLOOR..=MESSAGE_BYTES_CEILING;
        if !sizes.contains(&self.message_bytes_max) {
            return Err(Error::invalid(format!(
                "message_bytes_max {}: {} to {} are allowed",
                self.message_bytes_max,
                sizes.start(),
                sizes.end()
            )));
        }
        let interval = self.heartbeat.unwrap_or(HEARTBEAT_DEFAULT);
        let interval = interval.max(Duration::from_millis(u64::from(HEARTBEAT_MS_MIN)));
        let dead_after = interval.saturating_mul(HEARTBEATS_MISSED_MAX);
        Ok(Settings {
            message_bytes_max: self.message_bytes_max,
            // The deadline of `connect` comes first, and has the better words.
            handshake_timeout: self.connect_timeout.saturating_mul(2),
            frame_timeout: dead_after,
            heartbeat_interval: interval,
            heartbeat_timeout: dead_after,
            auth_methods: 0,
            auth_timeout: Duration::ZERO,
            product: String::new(),
            shard: 0,
        })
    }

    fn hello(&self) -> Options<'_> {
        let heartbeat_ms = self.heartbeat.map(|interval| {
            let ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
            ms.max(HEARTBEAT_MS_MIN)
        });
        Options {
            heartbeat_ms,
            message_max: Some(self.message_bytes_max),
            features: self.checksum.then_some(FEATURE_CHECKSUM),
            client_id: self.client_id.as_deref(),
            ..Options::default()
        }
    }
}

/// Connects to the first of the name's addresses that accepts, or tells the last failure.
fn dial(address: &Address, deadline: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for peer in (address.host.as_str(), address.port).to_socket_addrs()? {
        let rest = deadline - Instant::now();
        if rest.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&peer, rest) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok((stream, peer));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
