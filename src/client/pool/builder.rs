//! How a pool is opened: its bounds and times, and how its connections are made.

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

    /// Bounds, times, and how connections are made.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::default()
    }
}

/// Options of a [`Pool`]. `Duration::MAX` is no limit, for each time; zero is refused by
/// [`PoolBuilder::open`], but for `check_after`.
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
    /// How each connection is made. `session`, `reconnect` and `wait` mean nothing here: the
    /// pool makes a new connection for one that breaks, and `acquire` waits for one that
    /// cannot be made yet.
    pub fn client(mut self, client: Builder<Client>) -> PoolBuilder {
        self.client = client;
        self
    }

    /// How many connections there may be at once, at least 1; 16 by default.
    pub fn connections_max(mut self, count: usize) -> PoolBuilder {
        self.settings.connections_max = count;
        self
    }

    /// How many connections are kept ready while nobody needs them, at most
    /// `connections_max`; 0 by default. They are made up for within a second, and within
    /// `connections_max`.
    pub fn idle_min(mut self, count: usize) -> PoolBuilder {
        self.settings.idle_min = count;
        self
    }

    /// How long a connection beyond `idle_min` is kept while nobody needs it; 60 s by
    /// default. Looked at every quarter of it, at least once a second.
    pub fn idle_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.settings.idle_timeout = timeout;
        self
    }

    /// How old a connection gets at most, so that load finds its way to servers and shards
    /// that came later; each ends at 80 to 100 % of it, by chance, and not while it is lent.
    /// 30 min by default; `None`: any age.
    pub fn lifetime_max(mut self, lifetime: impl Into<Option<Duration>>) -> PoolBuilder {
        self.settings.lifetime_max = lifetime.into();
        self
    }

    /// How long `acquire` waits at most, making a connection included; 5 s by default.
    pub fn acquire_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.settings.acquire_timeout = timeout;
        self
    }

    /// After how long a connection of which nothing was heard is asked whether it still answers,
    /// by a PING, before it is lent; 1 s by default, zero: each time. One on which a call waited
    /// for its answer in vain is always asked. That the server or the kernel has ended it is
    /// seen at once, without asking; that a peer has vanished without a word is not.
    pub fn check_after(mut self, idle: Duration) -> PoolBuilder {
        self.settings.check_after = idle;
        self
    }

    /// How long the answer to that PING may take; 1 s by default.
    pub fn check_timeout(mut self, timeout: Duration) -> PoolBuilder {
        self.settings.check_timeout = timeout;
        self
    }

    /// Opens the pool. Connections are made on the tokio runtime this is called in, the first
    /// ones for `idle_min`, the others when they are acquired: that there is no server shows
    /// only then.
    ///
    /// # Errors
    /// `Invalid` for an address, a bound or a client's option that cannot be, and outside of
    /// a tokio runtime.
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
