//! The books under their lock, and the tasks that carry out what a change of them requires:
//! dialing, closing, upkeep of idle connections.
//!
//! None of these tasks keeps the pool alive: once its last handle and lease are dropped, a
//! connection that a dial still opens is closed again.

use super::maker::Maker;
use super::settings::Settings;
use super::status::{PoolStatus, Reason};
use super::stock::{Kept, Stock};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Attempts of one dial wait a random part of this, doubled from one to the next.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long the pool does not dial in advance after a failure that would only repeat.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A connection's lifetime is at least this part of `lifetime_max`, so that those made together do
/// not end together.
const LIFETIME_PART_MIN: f64 = 0.8;

/// What the handles and tasks of one pool share.
pub(super) struct Shared<M: Maker> {
    stock: Mutex<Stock<M>>,
    pub maker: Arc<M>,
    pub settings: Settings,
    runtime: Handle,
    /// Notified when nothing is open.
    emptied: Notify,
    upkeep: OnceLock<AbortHandle>,
}

impl<M: Maker> Drop for Shared<M> {
    fn drop(&mut self) {
        if let Some(upkeep) = self.upkeep.get() {
            upkeep.abort();
        }
    }
}

impl<M: Maker> Shared<M> {
    /// An empty pool, whose upkeep runs on this runtime.
    pub fn open(maker: M, settings: Settings, runtime: &Handle) -> Arc<Shared<M>> {
        let shared = Arc::new(Shared {
            stock: Mutex::new(Stock::new(settings, Instant::now())),
            maker: Arc::new(maker),
            settings,
            runtime: runtime.clone(),
            emptied: Notify::new(),
            upkeep: OnceLock::new(),
        });
        let upkeep = upkeep(Arc::downgrade(&shared), settings.upkeep_interval());
        let _ = shared.upkeep.set(runtime.spawn(upkeep).abort_handle());
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Stock<M>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the books, and carries out what follows from that: dials, closes.
    ///
    /// Tasks are spawned after the lock is released: a runtime that has ended drops them at once,
    /// and their drop changes the books.
    pub fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut Stock<M>) -> R) -> R {
        let (result, dials, leaving) = {
            let mut stock = self.lock();
            let result = change(&mut stock);
            let dials = stock.begin_dials(Instant::now());
            let leaving = std::mem::take(&mut stock.leaving);
            stock.check_invariants();
            if stock.status().open == 0 {
                self.emptied.notify_waiters();
            }
            (result, dials, leaving)
        };
        for _ in 0..dials {
            let slot = Slot::new(self);
            self.runtime.spawn(dial(slot, self.maker.clone()));
        }
        for connection in leaving {
            let closing = Closing::new(self);
            let maker = self.maker.clone();
            self.runtime.spawn(close(closing, maker, connection));
        }
        result
    }

    pub fn status(&self) -> PoolStatus {
        self.lock().status()
    }

    /// Closes the pool: see `Pool::close`.
    pub async fn close(self: &Arc<Self>) {
        self.change(Stock::close);
        loop {
            let emptied = self.emptied.notified();
            if self.status().open == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// Room for one connection, while it is being made.
pub(super) struct Slot<M: Maker> {
    shared: Weak<Shared<M>>,
    is_open: bool,
}

impl<M: Maker> Slot<M> {
    pub fn new(shared: &Arc<Shared<M>>) -> Slot<M> {
        Slot {
            shared: Arc::downgrade(shared),
            is_open: true,
        }
    }

    fn is_wanted(&self) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.change(|stock| stock.wants_dial(Instant::now())))
    }

    /// Fills the room with a connection; returns it if the pool no longer exists.
    fn fill(mut self, connection: M::Connection) -> Option<M::Connection> {
        let Some(shared) = self.shared.upgrade() else {
            return Some(connection);
        };
        self.is_open = false;
        let now = Instant::now();
        let part = LIFETIME_PART_MIN + (1.0 - LIFETIME_PART_MIN) * fastrand::f64();
        // Without end, if it is beyond the clock's range.
        let lifetime = shared.settings.lifetime_max;
        let kept = Kept {
            connection,
            expires_at: lifetime.and_then(|lifetime| {
                let lifetime = Duration::try_from_secs_f64(lifetime.as_secs_f64() * part);
                now.checked_add(lifetime.ok()?)
            }),
            idle_since: now,
        };
        shared.change(|stock| {
            stock.finish_dial();
            match stock.is_closed {
                true => stock.retire(kept.connection, Reason::Pool),
                false => stock.put(kept),
            }
        });
        None
    }

    /// Releases the room.
    fn abandon(mut self) {
        self.is_open = false;
        if let Some(shared) = self.shared.upgrade() {
            shared.change(|stock| stock.abandon_dial());
        }
    }

    /// Whether to try again.
    fn fail(&self, error: M::Error) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return false;
        };
        let may_pass = shared.maker.may_pass(&error);
        shared.change(|stock| match may_pass {
            true => stock.note_failure(error),
            false => stock.note_refusal(error, Instant::now() + REFUSED_PAUSE),
        });
        may_pass
    }
}

impl<M: Maker> Drop for Slot<M> {
    /// A dial was cut short: it panicked, or its runtime has ended. If no connection can be made
    /// any more, the pool is closed; otherwise a waiting caller would start the next dial, which
    /// would end here at once.
    fn drop(&mut self) {
        if self.is_open
            && let Some(shared) = self.shared.upgrade()
        {
            shared.change(|stock| {
                stock.abandon_dial();
                if !std::thread::panicking() {
                    stock.close();
                }
            });
        }
    }
}

/// Makes one connection, for as long as one is wanted.
pub(super) async fn dial<M: Maker>(slot: Slot<M>, maker: Arc<M>) {
    let mut pause_max = RETRY_FIRST;
    loop {
        match maker.connect().await {
            Ok(connection) => {
                if let Some(connection) = slot.fill(connection) {
                    maker.close(connection).await;
                }
                return;
            }
            Err(error) => {
                if !slot.fail(error) {
                    return slot.abandon();
                }
            }
        }
        sleep(pause_max.mul_f64(fastrand::f64())).await;
        pause_max = RETRY_MAX.min(pause_max * 2);
        if !slot.is_wanted() {
            return slot.abandon();
        }
    }
}

/// A connection being closed; dropping this records that it is closed.
pub(super) struct Closing<M: Maker>(Weak<Shared<M>>);

impl<M: Maker> Closing<M> {
    pub fn new(shared: &Arc<Shared<M>>) -> Closing<M> {
        Closing(Arc::downgrade(shared))
    }
}

impl<M: Maker> Drop for Closing<M> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.change(|stock| stock.finish_closing());
        }
    }
}

pub(super) async fn close<M: Maker>(closing: Closing<M>, maker: Arc<M>, connection: M::Connection) {
    maker.close(connection).await;
    drop(closing);
}

/// Ends connections that have been idle or have lived too long, and keeps `idle_min` ready.
pub(super) async fn upkeep<M: Maker>(shared: Weak<Shared<M>>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let maker = shared.maker.clone();
        shared.change(|stock| stock.reap(&maker, Instant::now()));
    }
}
