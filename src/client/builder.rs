//! How a client connects: its options, the same for both clients.

use super::address::Address;
use super::credential::{Credential, Secret, Source};
use super::error::Error;
use super::reconnect::{Reconnect, Schedule};
use super::tls::Tls;
use crate::base::limits::{HEARTBEAT_MS_MIN, MESSAGE_BYTES_CEILING, MESSAGE_BYTES_FLOOR};
use crate::proto::option::{FEATURE_CHECKSUM, Options as Hello, is_client_id};
use crate::proto::session::Settings;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Silences of this many heartbeat intervals mean that the server is dead.
const HEARTBEATS_MISSED_MAX: u32 = 3;
/// The interval assumed until the server names its own.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(30);

/// Options of a connection, of a [`Client`](super::Client) or a
/// [`blocking::Client`](super::blocking::Client). `Duration::MAX` is no limit, for each time;
/// zero, where it would mean that nothing can ever happen, is refused by `connect`.
///
/// ```no_run
/// use ringmail::Client;
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), ringmail::client::Error> {
/// let client = Client::builder()
///     .connect_timeout(Duration::from_secs(2))
///     .client_id("thermostat-17")
///     .checksum(true)
///     .connect("ringmail://localhost:7411")
///     .await?;
/// println!("{} on shard {}", client.server().product, client.server().shard);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `connect`"]
pub struct Builder<C> {
    pub(super) options: Options,
    client: PhantomData<fn() -> C>,
}

/// What a builder was told.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) connect_timeout: Duration,
    pub(super) wait: Duration,
    pub(super) request_timeout: Duration,
    pub(super) client_id: Option<String>,
    pub(super) heartbeat: Option<Duration>,
    pub(super) message_bytes_max: u32,
    pub(super) checksum: bool,
    pub(super) session: bool,
    pub(super) reconnect: Option<Reconnect>,
    pub(super) inbox_bytes_max: usize,
    pub(super) source: Option<Source>,
    pub(super) tls: Option<Tls>,
}

impl<C> Clone for Builder<C> {
    fn clone(&self) -> Builder<C> {
        Builder {
            options: self.options.clone(),
            client: PhantomData,
        }
    }
}

impl<C> std::fmt::Debug for Builder<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.options.fmt(f)
    }
}

impl<C> Default for Builder<C> {
    fn default() -> Builder<C> {
        Builder {
            options: Options::default(),
            client: PhantomData,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connect_timeout: Duration::from_secs(5),
            wait: Duration::ZERO,
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

impl<C> Builder<C> {
    /// For connecting and shaking hands together; 5 s by default. Resolving a name comes
    /// before it and takes as long as the system's resolver allows.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder<C> {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long `connect` goes on trying where the server is not there yet; by default it
    /// tries once. For programs that start beside their server, or before it.
    ///
    /// Tried again is what may pass ([`Error::is_retryable`]): nobody listens, the name is not
    /// known yet, the server is full, starting, going down or silent. What the next attempt
    /// would only repeat, such as a refused credential or an untrusted certificate, is told at
    /// once. Between attempts passes a random time of up to 100 ms at first, later 1 s; the
    /// last one begins when the time is over, and has its `connect_timeout` like each. When
    /// none succeeds `connect` fails as the last one did.
    ///
    /// ```no_run
    /// use ringmail::Client;
    /// use std::time::Duration;
    ///
    /// # async fn example() -> Result<(), ringmail::client::Error> {
    /// let builder = Client::builder().wait(Duration::from_secs(30));
    /// let client = builder.connect("ringmail://localhost:7411").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(mut self, time: Duration) -> Builder<C> {
        self.options.wait = time;
        self
    }

    /// For each request and ping that does not bring its own; 10 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Builder<C> {
        self.options.request_timeout = timeout;
        self
    }

    /// The name the server knows this client by: 1 to 64 of `A–Z a–z 0–9 _ - .`
    pub fn client_id(mut self, client_id: &str) -> Builder<C> {
        self.options.client_id = Some(client_id.to_owned());
        self
    }

    /// The heartbeat interval to ask for (at least 100 ms); the server's own by default. The
    /// server has the last word: see `ServerInfo::heartbeat`.
    pub fn heartbeat(mut self, interval: Duration) -> Builder<C> {
        self.options.heartbeat = Some(interval);
        self
    }

    /// The largest message payload to accept, 1,024 bytes to 1 GiB; 16 MiB by default.
    pub fn message_bytes_max(mut self, bytes: u32) -> Builder<C> {
        self.options.message_bytes_max = bytes;
        self
    }

    /// Asks for a CRC on every message, off by default: TCP's own checksum misses about one
    /// damaged segment in 65,536.
    pub fn checksum(mut self, wanted: bool) -> Builder<C> {
        self.options.checksum = wanted;
        self
    }

    /// Asks for a session: what is delivered to this client, and what it publishes with
    /// confirmation, survives a broken connection (see [`client`](super)). Off by default.
    /// It reconnects by itself, with [`Reconnect::default`] unless told otherwise.
    ///
    /// ```no_run
    /// use ringmail::Client;
    ///
    /// # async fn example() -> Result<(), ringmail::client::Error> {
    /// let client = Client::builder().session(true).connect("localhost:7411").await?;
    /// let readings = client.subscribe("site/#").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn session(mut self, wanted: bool) -> Builder<C> {
        self.options.session = wanted;
        self
    }

    /// Connects again by itself when the connection breaks or the server drains, and then
    /// subscribes and serves again. Off by default. For the first connection see
    /// [`Builder::wait`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Builder<C> {
        self.options.reconnect = Some(reconnect);
        self
    }

    /// Bytes of messages and requests that may wait to be taken, of all subscriptions and
    /// services together; 16 MiB by default, at least 1. While they are more nothing is read
    /// from the connection, whether it stands or is being made again: answers wait behind
    /// them, and calls that wait fail with `InboxFull`.
    pub fn inbox_bytes_max(mut self, bytes: usize) -> Builder<C> {
        self.options.inbox_bytes_max = bytes;
        self
    }

    /// Says who this client is by an access token, to servers that ask. It is used as it is
    /// until it expires: see [`Builder::credential_by`] for tokens that are fetched.
    pub fn token(self, token: impl Into<Secret>) -> Builder<C> {
        self.credential(Credential::Token(token.into()))
    }

    /// Says who this client is by an API key, `id.secret`, to servers that ask. Where the
    /// server issues tokens for it, they are renewed while they last.
    pub fn api_key(self, key: impl Into<Secret>) -> Builder<C> {
        self.credential(Credential::ApiKey(key.into()))
    }

    /// Says who this client is, to servers that ask.
    pub fn credential(mut self, credential: Credential) -> Builder<C> {
        self.options.source = Some(Source::Fixed(credential));
        self
    }

    /// Fetches the credential, anew for each connection and when 80 % of its life have
    /// passed; it may block, on a thread for that, and ask the client itself. An error's text is
    /// told to the user as it is, at the first connection. Behind that it costs an attempt: it
    /// is fetched again with the next one, and calls that run out of time meanwhile say why,
    /// as for a fetch that panics or takes too long. A server waits for AUTH for its
    /// `limits.auth_timeout_ms` (5 s by default).
    ///
    /// ```no_run
    /// use ringmail::Client;
    /// use ringmail::client::{Credential, Secret};
    ///
    /// # async fn example() -> Result<(), ringmail::client::Error> {
    /// let read = || {
    ///     let token = std::fs::read_to_string("token").map_err(|error| error.to_string())?;
    ///     Ok(Credential::Token(Secret::new(token.trim())))
    /// };
    /// let client = Client::builder()
    ///     .credential_by(read)
    ///     .connect("ringmails://mail.example:7411")
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn credential_by(
        mut self,
        fetch: impl Fn() -> Result<Credential, String> + Send + Sync + 'static,
    ) -> Builder<C> {
        self.options.source = Some(Source::Fetched(Arc::new(fetch)));
        self
    }

    /// As [`Builder::credential_by`], by a future: from an identity provider, for one.
    pub fn credential_by_async<F>(
        mut self,
        fetch: impl Fn() -> F + Send + Sync + 'static,
    ) -> Builder<C>
    where
        F: Future<Output = Result<Credential, String>> + Send + 'static,
    {
        let fetch = move || Box::pin(fetch()) as _;
        self.options.source = Some(Source::FetchedAsync(Arc::new(fetch)));
        self
    }

    /// Speaks TLS to whatever address is given, in this way. Without it `ringmails://` speaks
    /// TLS as by `Tls::default()`, trusting the system's authorities.
    pub fn tls(mut self, tls: Tls) -> Builder<C> {
        self.options.tls = Some(tls);
        self
    }

    /// Trusts the certificate authorities in this PEM file, and speaks TLS.
    pub fn tls_ca(self, file: impl Into<PathBuf>) -> Builder<C> {
        let tls = self.options.tls.clone().unwrap_or_default().ca(file);
        self.tls(tls)
    }

    /// Shows this certificate, whose key is in the other PEM file, and speaks TLS.
    pub fn tls_identity(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Builder<C> {
        let tls = self.options.tls.clone().unwrap_or_default();
        self.tls(tls.identity(certificate, key))
    }
}

/// Of a time that is zero.
pub(super) fn no_time(name: &str) -> String {
    format!("{name} is 0: give it time, or Duration::MAX for no limit")
}

impl Options {
    /// How connections that break are made again, if they are.
    pub(super) fn schedule(&self, home: Address) -> Option<Schedule> {
        let policy = match &self.reconnect {
            Some(reconnect) => Some(reconnect.clone()),
            None => self.session.then(Reconnect::default),
        };
        policy.map(|policy| Schedule::new(policy, home, fastrand::u64(..)))
    }

    /// What is zero and cannot be, if anything.
    fn nothing(&self) -> Option<String> {
        if self.inbox_bytes_max == 0 {
            return Some("inbox_bytes_max is 0: nothing could ever be received".to_owned());
        }
        let delays = self.reconnect.as_ref().map(Reconnect::delays);
        let times = [
            ("connect_timeout", Some(self.connect_timeout)),
            ("request_timeout", Some(self.request_timeout)),
            ("heartbeat", self.heartbeat),
            ("delay_base", delays.map(|(base, _)| base)),
            ("delay_max", delays.map(|(_, max)| max)),
        ];
        let zero = times.iter().find(|(_, time)| *time == Some(Duration::ZERO));
        zero.map(|(name, _)| no_time(name))
    }

    /// How a link behaves.
    ///
    /// # Errors
    /// `Invalid`: an option that cannot be.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
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
        if let Some(mistake) = self.nothing() {
            return Err(Error::invalid(mistake));
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

    /// What the SYN asks for.
    pub(super) fn hello(&self) -> Hello<'_> {
        let heartbeat_ms = self.heartbeat.map(|interval| {
            let ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
            ms.max(HEARTBEAT_MS_MIN)
        });
        Hello {
            heartbeat_ms,
            message_max: Some(self.message_bytes_max),
            features: self.checksum.then_some(FEATURE_CHECKSUM),
            client_id: self.client_id.as_deref(),
            ..Hello::default()
        }
    }
}
