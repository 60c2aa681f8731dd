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
/// One [`Client`] carries the requests of many tasks, and most programs need no more. A pool
/// is for those who want several connections, to use several of a server's shards at once or
/// to keep large payloads out of each other's way, and want them bounded, and made only as
/// they are needed.
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
/// # What is lent
/// `acquire` gives, in the order of the calls, the idle connection that was used last, or a
/// new one while there are less than `connections_max`, whichever comes first. One that has
/// broken, or whose server drains, is ended instead of lent; one that has been idle for
/// [`check_after`](super::PoolBuilder::check_after) is asked first, by a PING. If no answer comes,
/// the others that have rested as long are ended with it.
///
/// Where a connection cannot be made because the server is down or busy, it is tried again,
/// with growing pauses, for as long as anybody waits; where the server refuses for good (a
/// wrong credential), the one who has waited longest is told so.
///
/// # What comes back
/// A [`PooledClient`] goes back when it is dropped. Clones of the client, subscriptions and
/// services should not outlive it: a connection that is still used when it comes back is
/// closed, for all of them. Whoever needs a lasting subscription has a `Client` of its own.
/// A will stays with the connection: withdraw it before. Where a request was dropped before
/// its answer came, the connection stays good.
///
/// # Bounds
/// At no moment there are more than `connections_max` connections, those being made or
/// closed counted, however many tasks compete and whatever becomes of the server. When the
/// load is over the pool shrinks to [`idle_min`](super::PoolBuilder::idle_min). With its last handle
/// dropped, connections end as they come back; with the runtime it was opened in, it is closed.
#[derive(Clone)]
pub struct Pool {
    pub(super) shared: Arc<Shared<Clients>>,
}

impl Pool {
    /// A connection that stands, for as long as it is held. Dropped before, the call gives up
    /// its place; what was being made for it is kept for others.
    ///
    /// # Errors
    /// `PoolTimeout` when `acquire_timeout` has passed; `PoolClosed`; and what refuses every
    /// connection: `Invalid`, `Tls`, `Credential`, `Refused`, `Protocol`.
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
        // There is one in every lease that was acquired.
        let client = lease.connection().cloned().ok_or(Error::PoolClosed)?;
        Ok(PooledClient { client, lease })
    }

    /// What there is, and what has been done so far.
    pub fn status(&self) -> PoolStatus {
        self.shared.status()
    }

    /// Ends the pool, for all its handles: who waits is told, and so is who calls later;
    /// idle connections are closed, others as they come back. Waits until all of them are:
    /// bound it where somebody may hold one for long.
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

/// A connection of a pool's, a [`Client`] in all it does; dropped, it goes back.
pub struct PooledClient {
    // In this order: when the lease goes back, this handle must be gone.
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
