//! What a pool does beside its callers: dial, close, and look after what is idle.
//!
//! None of these tasks keeps the pool: when its last handle and lease are gone, a dial that
//! still comes through is closed again.

use super::lease::Shared;
use super::maker::Maker;
use super::status::Reason;
use super::stock::Kept;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Attempts of one dial wait a random part of this, doubled from one to the next.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long nobody dials in advance after an attempt that the next one would repeat.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// A connection's lifetime is this part of `lifetime_max` at least: those that were made
/// together do not end together.
const LIFETIME_PART_MIN: f64 = 0.8;

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

    /// Fills the room; gives the connection back if there is no pool any more.
    fn fill(mut self, connection: M::Connection) -> Option<M::Connection> {
        let Some(shared) = self.shared.upgrade() else {
            return Some(connection);
        };
        self.is_open = false;
        let now = Instant::now();
        let part = LIFETIME_PART_MIN + (1.0 - LIFETIME_PART_MIN) * fastrand::f64();
        // Without end, where it is longer than any clock runs.
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
                false => stock.put(kept, &shared),
            }
        });
        None
    }

    /// Gives the room back.
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
    /// A dial that was cut short: it panicked, or its runtime has ended. Where nothing can be
    /// made any more the pool is closed, or who waits would have the next dial begun, which
    /// would end here at once.
    fn drop(&mut self) {
        if self.is_open
            && let Some(shared) = self.shared.upgrade()
        {
            let waiting = shared.change(|stock| {
                stock.abandon_dial();
                (!std::thread::panicking()).then(|| stock.close())
            });
            drop(waiting);
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

/// A connection that ends; dropped, it has.
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

/// Ends what has been idle or has lived too long, and keeps `idle_min` ready.
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
