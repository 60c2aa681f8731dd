//! The pool as callers hold it, and the connections it lends.

use super::clients::Clients;
use super::lease::{Lease, Refusal, acquire};
use super::shared::Shared;
use super::status::PoolStatus;
use crate::client::error::Error;
use crate::client::handle::Client;
use std::ops::Deref;
use std::sync::Arc;

/// A pool of connections to one server: cheap to clone, all clones the same pool.
///
/// One [`Client`] carries the requests of many tasks, and most programs need no more. A pool is
/// for programs that want several connections, to use several of a server's shards at once or to
/// keep large payloads out of each other's way, and want them bounded and opened only as needed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
/// # let server = ringmail::Server::builder().config(config).start()?;
/// # let address = server.address().to_string();
/// use ringmail::Pool;
///
/// let pool = Pool::builder().connections_max(4).open(&address)?;
/// {
///     let client = pool.acquire().await?;
///     let answer = client.request("$sys/echo", "hello").await?;
///     assert_eq!(answer.payload, b"hello");
/// } // and it is back in the pool
/// assert_eq!(pool.status().idle, 1);
/// pool.close().await;
/// # server.drain();
/// # server.wait()?;
/// # Ok(()) }
/// ```
///
/// # Lending
/// In the order of the calls, `acquire` lends the idle connection that was used last, or a new
/// one while there are fewer than `connections_max`, whichever is available first. A connection
/// that has broken, or whose server is draining, is closed instead; one that has been idle for
/// [`check_after`](super::PoolBuilder::check_after) is first checked with a PING. If no answer
/// comes, the others that have been idle as long are closed too.
///
/// If a connection cannot be opened because the server is down or busy, the pool retries, with
/// growing pauses, as long as somebody waits; if the server refuses for good (a wrong
/// credential), the caller that has waited longest gets the error.
///
/// # Returning
/// A [`PooledClient`] is returned when it is dropped. Clones of the client, subscriptions and
/// services should not outlive it: if a connection is still in use when it is returned, the pool
/// closes it, for all of them. For a lasting subscription use a `Client` of its own. A will
/// stays with the connection: withdraw it first. If a request was dropped before its answer
/// arrived, the connection remains usable.
///
/// # Bounds
/// There are never more than `connections_max` connections, including those being opened or
/// closed, however many tasks compete and whatever happens to the server. When the load is over,
/// the pool shrinks to [`idle_min`](super::PoolBuilder::idle_min). After its last handle is
/// dropped, connections are closed as they are returned; when the runtime in which it was opened
/// ends, the pool is closed.
#[derive(Clone)]
pub struct Pool {
    pub(super) shared: Arc<Shared<Clients>>,
}

impl Pool {
    /// An open connection, for as long as it is held. Dropping the future gives up its place in
    /// the queue; a connection being opened for it is kept for others.
    ///
    /// # Errors
    /// `PoolTimeout` when `acquire_timeout` has passed; `PoolClosed`; and errors that refuse
    /// every connection: `Invalid`, `Tls`, `Credential`, `Refused`, `Protocol`.
    pub async fn acquire(&self) -> Result<PooledClient, Error> {
        let lease = acquire(&self.shared)
            .await
            .map_err(|refusal| match refusal {
                Refusal::TimedOut {
                    waited,
                    status,
                    cause,
                } => Error::PoolTimeout {
                    waited,
                    status,
                    cause,
                },
                Refusal::Failed(error) => error,
                Refusal::Closed => Error::PoolClosed,
            })?;
        // Every acquired lease holds one.
        let client = lease.connection().cloned().ok_or(Error::PoolClosed)?;
        Ok(PooledClient { client, lease })
    }

    /// The pool's state, and its counters so far.
    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// Closes the pool, for all its handles: waiting and later calls fail; idle connections are
    /// closed at once, others as they are returned. Waits until all are closed: use a timeout if
    /// somebody may hold one for long.
    pub async fn close(&self) {
        self.shared.close().await;
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("address", &self.shared.maker.address())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// A pool's connection, which behaves like a [`Client`]; dropping it returns it.
pub struct PooledClient {
    // In this order: the handle must be dropped before the lease is returned.
    client: Client,
    lease: Lease<Clients>,
}

impl Deref for PooledClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::fmt::Debug for PooledClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PooledClient")
            .field("client", &self.client)
            .field("pool", &self.lease.status())
            .finish()
    }
}
