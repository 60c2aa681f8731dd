//! How a pool is opened: its bounds and times, and how its connections are opened.

use super::clients::Clients;
use super::handle::Pool;
use super::settings::Settings;
use super::shared::Shared;
use crate::client::address::Address;
use crate::client::builder::Builder;
use crate::client::error::Error;
use crate::client::handle::Client;
use std::time::Duration;
use tokio::runtime::Handle;

impl Pool {
    /// A pool with the defaults of [`Pool::builder`].
    ///
    /// # Errors
    /// As [`PoolBuilder::open`].
    pub fn open(address: &str) -> Result<Pool, Error> {
        Pool::builder().open(address)
    }

    /// Bounds, times, and how connections are opened.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }
}

/// Options of a [`Pool`]. For each timeout, `Duration::MAX` means no limit;
/// [`PoolBuilder::open`] refuses zero, except for `check_after`.
///
/// ```no_run
/// use ringmail::{Client, Pool};
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), ringmail::client::Error> {
/// let pool = Pool::builder()
///     .client(Client::builder().api_key("gateway.secret"))
///     .connections_max(32)
///     .idle_min(2)
///     .acquire_timeout(Duration::from_millis(500))
///     .open("ringmails://mail.example:7411")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing happens before `open`"]
pub struct PoolBuilder {
    client: Builder<Client>,
    settings: Settings,
}

impl PoolBuilder {
    /// How each connection is opened. `session`, `reconnect` and `wait` have no effect here: the
    /// pool replaces broken connections, and `acquire` waits while none can be opened.
    pub fn client(mut self, client: Builder<Client>) -> PoolBuilder {
        self.client = client;
        self
    }

    /// How many connections there may be at once, at least 1; 16 by default.
    pub fn connections_max(mut self, count: usize) -> PoolBuilder {
        self.settings.connections_max = count;
        self
    }

    /// How many idle connections to keep ready, at most `connections_max`; 0 by default. Missing
    /// ones are replaced within a second, within `connections_max`.
    pub fn idle_min(mut self, count: usize) -> PoolBuilder {
        self.settings.idle_min = count;
        self
    }

    /// How long an idle connection beyond `idle_min` is kept; 60 s by default. Checked every
    /// quarter of it, at least once a second.
    pub fn idle_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.settings.idle_timeout = timeout;
        self
    }

    /// The largest age of a connection, so that load moves to servers and shards added later;
    /// each ends at a random 80 to 100 % of it, and never while it is lent. 30 min by default;
    /// `None`: any age.
    pub fn lifetime_max(mut self, lifetime: impl Into<Option<Duration>>) -> PoolBuilder {
        self.settings.lifetime_max = lifetime.into();
        self
    }

    /// How long `acquire` waits at most, including the time to open a connection; 5 s by
    /// default.
    pub fn acquire_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.settings.acquire_timeout = timeout;
        self
    }

    /// After how long a silent connection is checked with a PING before it is lent; 1 s by
    /// default, zero: each time. A connection on which a call timed out is always checked. If
    /// the server or the kernel has closed it, the pool notices at once, without a PING; a peer
    /// that vanished silently it does not.
    pub fn check_after(mut self, idle: Duration) -> PoolBuilder {
        self.settings.check_after = idle;
        self
    }

    /// How long to wait for the answer to that PING; 1 s by default.
    pub fn check_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.settings.check_timeout = timeout;
        self
    }

    /// Opens the pool. Its connections are opened on the tokio runtime in which this is called:
    /// those of `idle_min` at once, the others when they are acquired. If there is no server,
    /// that shows only then.
    ///
    /// # Errors
    /// `Invalid` for an invalid address, bound or client option, and outside of a tokio runtime.
    pub fn open(self, address: &str) -> Result<Pool, Error> {
        if let Some(mistake) = self.settings.mistake() {
            return Err(Error::invalid(mistake));
        }
        Address::parse(address)?;
        self.client.options.settings()?;
        let runtime = Handle::try_current()
            .map_err(|error| Error::invalid(format!("a pool needs a tokio runtime: {error}")))?;
        let clients = Clients::new(self.client, address);
        Ok(Pool {
            shared: Shared::open(clients, self.settings, &runtime),
        })
    }
}
