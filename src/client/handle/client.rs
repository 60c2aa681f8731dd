//! The handle itself: connecting, requests, closing.

use crate::base::clock::Instant;
use crate::client::address::Address;
use crate::client::builder::{Builder, Options};
use crate::client::clock;
use crate::client::credential::Login;
use crate::client::driver::{self, Core, Shared};
use crate::client::error::Error;
use crate::client::link::{Drain, ServerInfo};
use crate::client::reconnect::Patience;
use crate::client::registry::Change;
use crate::client::request::{Request, Response};
use crate::client::status::{Phase, Status};
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long `close` waits at most for published messages, and again for the server's CLOSE.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle on a connection to a server: cheap to clone, for any number of tasks.
///
/// Requests, PUBLISHes, subscriptions and services share the connection; each answer goes to its
/// requester, in whatever order answers arrive. The connection lives until [`Client::close`], or
/// until the last handle is dropped: clones, [`Subscription`](crate::client::Subscription)s,
/// [`Service`](crate::client::Service)s and [`Requests`](crate::client::Requests) are all
/// handles.
///
/// Dropping it does not wait: as long as the runtime runs, its task sends what was published,
/// then CLOSE. If the runtime ends at once, as when `main` returns, only what the kernel has
/// room for at that moment is sent and the rest is lost: [`Client::close`] waits. Once the
/// runtime in which it was connected has ended, every call on a client fails.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
/// # let server = ringmail::Server::builder().config(config).start()?;
/// # let address = server.address().to_string();
/// use ringmail::Client;
///
/// let client = Client::connect(&address).await?;
/// let mut readings = client.subscribe("site/+/temperature").await?;
/// client.publish_confirmed("site/1/temperature", "21.5").await?;
/// let reading = readings.next().await.ok_or("the connection has ended")?;
/// assert_eq!(reading.payload, b"21.5");
///
/// let (a, b) = tokio::join!(client.request("$sys/echo", "a"), client.request("$sys/echo", "b"));
/// assert_eq!((a?.payload, b?.payload), (b"a".to_vec(), b"b".to_vec()));
/// client.close().await?;
/// # server.drain();
/// # server.wait()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

/// Held by all handles: dropping the last ends the connection.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Builder<Client> {
    /// For connections that broke and are not re-established, or were never established.
    pub(in crate::client) fn without_return(mut self) -> Self {
        (self.options.session, self.options.reconnect) = (false, None);
        self.options.wait = Duration::ZERO;
        self
    }

    /// Connects to `host:port`, `ringmail://host:port` or, with TLS, `ringmails://host:port`,
    /// performs the handshake and authenticates if the server requires it; of several addresses
    /// of one name it uses the first that accepts. Tries once, or for as long as
    /// [`Builder::wait`] says.
    ///
    /// # Errors
    /// `Invalid` for an invalid address or option; `Connect` if nobody, or no ringmail server,
    /// answers at the address; `Tls`; `Credential` if the server requires one and none is set;
    /// `Refused`, `Protocol` and `Timeout` from the handshake.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn connect(&self, address: &str) -> Result<Client, Error> {
        connect(&self.options, address, None).await
    }
}

/// Connects, for as long as the options say. The task behind the client holds `alive` for as
/// long as it lives.
pub(in crate::client) async fn connect(
    options: &Options,
    address: &str,
    alive: Option<mpsc::Sender<()>>,
) -> Result<Client, Error> {
    let mut address = Address::parse(address)?;
    address.secure |= options.tls.is_some();
    let mut patience = Patience::new(options.wait, clock::now(), fastrand::u64(..));
    loop {
        let error = match attempt(options, &address, alive.clone()).await {
            Err(error) if error.is_retryable() => error,
            done => return done,
        };
        let Some(next) = patience.fail(clock::now()) else {
            return Err(error);
        };
        tokio::time::sleep(next - clock::now()).await;
    }
}

/// Connects once.
async fn attempt(
    options: &Options,
    address: &Address,
    alive: Option<mpsc::Sender<()>>,
) -> Result<Client, Error> {
    let shared = driver::start(options, address, alive).await?;
    let client = Client {
        handle: Arc::new(Handle { shared }),
    };
    // It may have ended again: the next call will report that.
    let stands = client
        .shared()
        .when(|core| core.conversation.ledger.has_stood.then_some(()));
    let what = "the handshake";
    let stood = client
        .shared()
        .within(what, options.connect_timeout, stands);
    stood.await.map_err(|error| match error {
        // A peer that ends the stream here is not a server, or one behind a proxy.
        Error::Io { source, .. } => Error::Connect {
            address: address.to_string(),
            source,
        },
        error => error,
    })?;
    Ok(client)
}

impl Client {
    /// Connects with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    ///
    /// # Panics
    /// As [`Builder::connect`].
    pub async fn connect(address: &str) -> Result<Client, Error> {
        Client::builder().connect(address).await
    }

    /// Timeouts, name, credential, TLS, session, reconnecting, sizes.
    pub fn builder() -> Builder<Client> {
        Builder::default()
    }

    pub(in crate::client) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Whether other handles hold the connection too: clones, subscriptions, services.
    pub(in crate::client) fn has_others(&self) -> bool {
        Arc::strong_count(&self.handle) > 1
    }

    /// Whether to check with a PING that the server is alive before relying on it: it has been
    /// silent for this long, or has not answered a call in time.
    pub(in crate::client) fn is_in_doubt(&self, after: Duration) -> bool {
        self.shared().lock().is_in_doubt(after)
    }

    // ---- state ----

    /// What the server reported about itself.
    pub fn server(&self) -> ServerInfo {
        self.shared().lock().conversation.link().server().clone()
    }

    /// The principal that the server sees, and the tokens it issued; `None` if it did not
    /// authenticate this client.
    pub fn login(&self) -> Option<Login> {
        self.shared().lock().conversation.login().cloned()
    }

    /// The address connected to, after resolution.
    pub fn peer(&self) -> SocketAddr {
        self.shared().lock().peer
    }

    /// Set once the server has announced that it is shutting down. A client that reconnects by
    /// itself does so as the server asks, and sends nothing new until then; any other should
    /// finish its work and reconnect.
    pub fn drain(&self) -> Option<Drain> {
        self.shared().lock().conversation.link().drain().cloned()
    }

    /// Whether operations can be sent at this moment.
    pub fn is_connected(&self) -> bool {
        self.status().phase == Phase::Open
    }

    /// The state of the connection.
    pub fn status(&self) -> Status {
        // Not what was published last: who learns of the end by itself finds it here.
        self.shared().lock().status()
    }

    /// The state of the connection, and each change of it.
    ///
    /// ```no_run
    /// # async fn example(client: ringmail::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use ringmail::client::Phase;
    ///
    /// let mut status = client.watch();
    /// let mut lapses = 0;
    /// loop {
    ///     status.changed().await?;
    ///     let now = *status.borrow_and_update();
    ///     println!("the connection is {}", now.phase);
    ///     if now.lapses > lapses {
    ///         println!("something may have been missed");
    ///         lapses = now.lapses;
    ///     }
    ///     if now.phase == Phase::Ended {
    ///         break;
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.shared().status().subscribe()
    }

    /// Why the connection ended, if it has ended for good.
    pub fn ending(&self) -> Option<Error> {
        self.shared().lock().ending()
    }

    /// The oldest failure that no call could return, or `None`: an unconfirmed PUBLISH that the
    /// server refused, or a subscription that it did not restore. The last 256 are kept.
    pub fn take_failure(&self) -> Option<Error> {
        self.shared().lock().conversation.ledger.take_complaint()
    }

    // ---- requests ----

    /// Sends a request to `service` and waits for the answer, up to the builder's
    /// `request_timeout`. Dropping the future stops waiting; the service may still carry the
    /// request out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
    /// # let server = ringmail::Server::builder().config(config).start()?;
    /// # let client = ringmail::Client::connect(&server.address().to_string()).await?;
    /// let response = client.request("$sys/echo", "hello").await?;
    /// assert_eq!(response.payload, b"hello");
    /// # client.close().await?;
    /// # server.drain();
    /// # server.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Failed` if the answer is a failure, `Timeout`, `InboxFull`, and any error that ends the
    /// connection.
    pub async fn request(
        &self,
        service: &str,
        payload: impl AsRef<[u8]>,
    ) -> Result<Response, Error> {
        self.request_with(&Request::new(service).payload(payload.as_ref()))
            .await
    }

    /// Sends a request with its own codec, headers or timeout.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_with(&self, request: &Request<'_>) -> Result<Response, Error> {
        let block = request.block()?;
        let envelope = Envelope {
            codec: request.codec,
            name: request.service,
            headers: block.check(MessageType::Request)?,
            payload: request.payload,
            ..Envelope::default()
        };
        let shared = self.shared();
        let timeout = request.timeout.unwrap_or(shared.options.request_timeout);
        let call = shared.call(|core| {
            let kind = MessageType::Request;
            let ask = |core: &mut Core| core.conversation.ask(kind, envelope, Change::None);
            core.is_ready().then(|| ask(core))
        });
        shared.within("the request", timeout, call).await
    }

    /// One round trip of a PING with 8 bytes, on this side's clock.
    ///
    /// # Errors
    /// `Timeout`, and any error that ends the connection.
    pub async fn ping(&self) -> Result<Duration, Error> {
        let mut bytes = [0; 8];
        fastrand::fill(&mut bytes);
        self.ping_with(&bytes, self.shared().options.request_timeout)
            .await
    }

    /// One round trip of a PING with these bytes, at most 64.
    pub(in crate::client) async fn ping_with(
        &self,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Duration, Error> {
        let mut started = Instant::NEVER;
        let call = self.shared().call(|core| {
            let is_ready = core.is_ready();
            is_ready.then(|| {
                started = clock::now();
                Ok(core.conversation.ping(payload))
            })
        });
        self.shared().within("the ping", timeout, call).await?;
        Ok(clock::now() - started)
    }

    // ---- operations ----

    /// Sends an operation and waits for its OK; sends it once more if the connection broke before.
    pub(in crate::client) async fn operate(
        &self,
        what: &'static str,
        kind: MessageType,
        envelope: Envelope<'_>,
        change: &Change,
    ) -> Result<(), Error> {
        let shared = self.shared();
        let is_sent = AtomicBool::new(false);
        let operation = async {
            let mut is_repeated = false;
            loop {
                let ask = |core: &mut Core| {
                    let asked = core.conversation.ask(kind, envelope, change.clone());
                    is_sent.fetch_or(asked.is_ok(), Relaxed);
                    asked
                };
                let call = shared.call(|core| core.admits_operation().then(|| ask(core)));
                let answer = call.await;
                match answer {
                    Ok(_) => return Ok(()),
                    Err(Error::Io { .. }) if shared.lock().ending().is_none() => {
                        is_repeated = true;
                    }
                    // Already done the first time; its OK was lost.
                    Err(Error::Failed {
                        code: Code::NotSubscribed,
                        ..
                    }) if is_repeated => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        let timeout = shared.options.request_timeout;
        shared.within_of(what, timeout, &is_sent, operation).await
    }

    // ---- the end ----

    /// Ends the connection, for all handles: waits until published messages have been sent and,
    /// where requested, confirmed; then sends CLOSE and waits for the server's. Each step takes
    /// at most 5 s, or `request_timeout` if that is less. The session ends too. Pending requests
    /// fail; streams end after what has arrived. Closing twice is harmless. If there is no
    /// connection, and nothing left that would need one, it returns at once.
    ///
    /// # Errors
    /// `Unconfirmed` if PUBLISHes were not confirmed in time, `Timeout` if the server does
    /// not answer, and any error that had ended the connection before.
    pub async fn close(&self) -> Result<(), Error> {
        let shared = self.shared();
        let after = CLOSE_TIMEOUT.min(shared.options.request_timeout);
        let flushed = shared.when(|core| {
            let conversation = &core.conversation;
            // Without a connection, waits only for what the next one has to deliver.
            let is_sent = match conversation.can_answer() {
                true => conversation.unsent().is_empty(),
                false => conversation.ledger.responses.is_empty(),
            };
            (is_sent && conversation.ledger.flight.len() == 0).then_some(())
        });
        let _ = tokio::time::timeout(after, flushed).await;
        let unconfirmed = {
            let mut core = shared.lock();
            let over = core.conversation.is_over();
            let flight = &mut core.conversation.ledger.flight;
            (!over).then(|| flight.complaint()).flatten()
        };
        let closed = self.say_close().await;
        unconfirmed.map_or(closed, Err)
    }

    /// Sends CLOSE, whatever waits, and waits for the server's.
    pub(in crate::client) async fn say_close(&self) -> Result<(), Error> {
        let shared = self.shared();
        shared.close();
        let after = CLOSE_TIMEOUT.min(shared.options.request_timeout);
        let over = shared.when(|_| None::<()>);
        let over = shared.within("the close", after, over).await;
        match shared.lock().conversation.link().is_closed() {
            true => Ok(()),
            false => over,
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
