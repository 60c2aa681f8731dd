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

/// Options of a connection, for a [`Client`](super::Client) or a
/// [`blocking::Client`](super::blocking::Client). For each timeout, `Duration::MAX` means no
/// limit; `connect` refuses zero wherever it would mean that nothing can ever happen.
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

/// The options set so far.
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
    #[cfg(feature = "sim")]
    pub(super) network: Option<super::network::Dialer>,
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
            #[cfg(feature = "sim")]
            network: None,
        }
    }
}

impl<C> Builder<C> {
    /// Dials on this network.
    #[cfg(feature = "sim")]
    #[doc(hidden)]
    pub fn network(mut self, network: std::sync::Arc<dyn super::network::Network>) -> Builder<C> {
        self.options.network = Some(super::network::Dialer(network));
        self
    }

    /// The time for connecting and the handshake together; 5 s by default. Name resolution comes
    /// before it and takes as long as the system's resolver allows.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder<C> {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long `connect` keeps trying if the server is not up yet; by default it tries once.
    /// For programs that start along with their server, or before it.
    ///
    /// It retries failures that may pass ([`Error::is_retryable`]): nobody listens, the name is
    /// not known yet, the server is full, starting, shutting down or silent. Failures that would
    /// only repeat, such as a refused credential or an untrusted certificate, are returned at
    /// once. Between attempts it waits a random time of up to 100 ms at first, later 1 s; the
    /// last attempt begins when the time is over, and like every other has its
    /// `connect_timeout`. If no attempt succeeds, `connect` fails as the last one did.
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

    /// The timeout of each request and ping without one of its own; 10 s by default.
    pub fn request_timeout(mut self, timeout: Duration) -> Builder<C> {
        self.options.request_timeout = timeout;
        self
    }

    /// The client id, the server's name for this client: 1 to 64 of `A–Z a–z 0–9 _ - .`
    pub fn client_id(mut self, client_id: &str) -> Builder<C> {
        self.options.client_id = Some(client_id.to_owned());
        self
    }

    /// The heartbeat interval to request (at least 100 ms); by default the server's own. The
    /// server decides: see `ServerInfo::heartbeat`.
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

    /// Reconnects by itself when the connection breaks or the server drains, and then subscribes
    /// and serves again. Off by default. For the first connection see [`Builder::wait`].
    pub fn reconnect(mut self, reconnect: Reconnect) -> Builder<C> {
        self.options.reconnect = Some(reconnect);
        self
    }

    /// Bytes of messages and requests that may wait to be taken, for all subscriptions and
    /// services together; 16 MiB by default, at least 1. While there are more, the client reads
    /// nothing from the connection, even while it is being re-established: answers wait behind
    /// them, and calls that wait fail with `InboxFull`.
    pub fn inbox_bytes_max(mut self, bytes: usize) -> Builder<C> {
        self.options.inbox_bytes_max = bytes;
        self
    }

    /// Authenticates with an access token, at servers that require it. The token is used
    /// unchanged until it expires: see [`Builder::credential_by`] for tokens that are fetched.
    pub fn token(self, token: impl Into<Secret>) -> Builder<C> {
        self.credential(Credential::Token(token.into()))
    }

    /// Authenticates with an API key, `id.secret`, at servers that require it. If the server
    /// issues tokens for it, the client renews them before they expire.
    pub fn api_key(self, key: impl Into<Secret>) -> Builder<C> {
        self.credential(Credential::ApiKey(key.into()))
    }

    /// Authenticates with this credential, at servers that require it.
    pub fn credential(mut self, credential: Credential) -> Builder<C> {
        self.options.source = Some(Source::Fixed(credential));
        self
    }

    /// Fetches the credential, again for each connection and once 80 % of its lifetime has
    /// passed. The function may block, since it runs on a thread of its own, and may use the
    /// client itself. If it fails at the first connection, `connect` returns its text unchanged.
    /// Later, a failure costs one attempt: the credential is fetched again with the next one,
    /// and calls that time out meanwhile report the cause, as they do for a fetch that panics or
    /// takes too long. A server waits for AUTH for its `limits.auth_timeout_ms` (5 s by
    /// default).
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

    /// As [`Builder::credential_by`], with a future: for example, to ask an identity provider.
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

    /// Uses TLS with these options, whatever the address. Without it, `ringmails://` uses TLS
    /// with `Tls::default()`, which trusts the system's authorities.
    pub fn tls(mut self, tls: Tls) -> Builder<C> {
        self.options.tls = Some(tls);
        self
    }

    /// Trusts the certificate authorities in this PEM file, and uses TLS.
    pub fn tls_ca(self, file: impl Into<PathBuf>) -> Builder<C> {
        let tls = self.options.tls.clone().unwrap_or_default().ca(file);
        self.tls(tls)
    }

    /// Presents this certificate, whose key is in the other PEM file, and uses TLS.
    pub fn tls_identity(
        self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Builder<C> {
        let tls = self.options.tls.clone().unwrap_or_default();
        self.tls(tls.identity(certificate, key))
    }
}

/// The error for a time that is zero.
pub(super) fn no_time(name: &str) -> String {
    format!("{name} is 0: give it time, or Duration::MAX for no limit")
}

impl Options {
    /// How broken connections are re-established, if at all.
    pub(super) fn schedule(&self, home: Address) -> Option<Schedule> {
        let policy = match &self.reconnect {
            Some(reconnect) => Some(reconnect.clone()),
            None => self.session.then(Reconnect::default),
        };
        policy.map(|policy| Schedule::new(policy, home, fastrand::u64(..)))
    }

    /// The name of an option that is zero and must not be, if any.
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

    /// The settings of a link.
    ///
    /// # Errors
    /// `Invalid`: an option is out of range.
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
            // The deadline of `connect` comes first, with the better error text.
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

    /// The options of the SYN.
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
