//! The stats thread: once a second it collects the shards' histograms, merges them and
//! puts them on the board; once a minute it logs a line.
//!
//! Besides the timings since the start it keeps recent ones, in windows of ten seconds: the one
//! being filled and the one before it are shown.
//!
//! A shard that has done nothing in the meantime is not woken.

use crate::base::id::ShardId;
use crate::metrics::counter::{Counter, Counters};
use crate::metrics::histogram::{Histograms, Timing};
use crate::shard::sys::{Board, Span, Timings};
use crate::shard::{Command, Mailbox};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(1);
/// Intervals between two lines in the log.
const LOG_EVERY: u64 = 60;
/// Intervals in one window of the recent timings.
const WINDOW: u64 = 10;

pub(super) struct Collector {
    board: Arc<Board>,
    shards: Vec<Mailbox>,
    collected: Receiver<(ShardId, Box<Histograms>)>,
    /// Empty sets to hand out, boxed because the boxes travel between threads.
    #[expect(clippy::vec_box)]
    empty: Vec<Box<Histograms>>,
    /// What each shard had done when it was last asked.
    seen: Vec<u64>,
    /// The timings of all shards, and of each.
    all: History,
    histories: Vec<History>,
    logged: Logged,
}

/// The timings of one shard, or of all.
#[derive(Default)]
struct History {
    total: Arc<Histograms>,
    filling: Histograms,
    before: Histograms,
}

impl History {
    fn add(&mut self, timed: &Histograms) {
        Arc::make_mut(&mut self.total).merge(timed);
        self.filling.merge(timed);
    }

    /// The current window is full, and the one before it no longer recent.
    fn begin_window(&mut self) {
        std::mem::swap(&mut self.before, &mut self.filling);
        self.filling.clear();
    }

    fn span(&self) -> Span {
        let mut recent = self.before.clone();
        recent.merge(&self.filling);
        Span {
            total: self.total.clone(),
            recent: Arc::new(recent),
        }
    }
}

/// Totals as of the last line in the log.
#[derive(Clone, Copy, Default)]
struct Logged {
    opened: u64,
    messages: u64,
}

impl Collector {
    pub(super) fn new(
        board: Arc<Board>,
        shards: Vec<Mailbox>,
        collected: Receiver<(ShardId, Box<Histograms>)>,
    ) -> Collector {
        Collector {
            seen: vec![0; shards.len()],
            all: History::default(),
            histories: shards.iter().map(|_| History::default()).collect(),
            board,
            shards,
            collected,
            empty: Vec::new(),
            logged: Logged::default(),
        }
    }

    /// Runs until `stop` is dropped.
    pub(super) fn run(mut self, stop: &Receiver<()>) {
        let mut ticks = 0;
        while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            self.merge_collected(ticks);
            self.ask();
            ticks += 1;
            if ticks % LOG_EVERY == 0 {
                self.log();
            }
        }
    }

    /// Asks the shards that have done something for their histograms.
    fn ask(&mut self) {
        for (index, shard) in self.shards.iter().enumerate() {
            let done = work_done(&self.board.counters()[index]);
            if done == self.seen[index] {
                continue;
            }
            let empty = self.empty.pop().unwrap_or_default();
            match shard.post(Command::Collect(empty)) {
                Ok(()) => self.seen[index] = done,
                Err(Command::Collect(empty)) => self.empty.push(empty),
                Err(_) => {}
            }
        }
    }

    fn merge_collected(&mut self, ticks: u64) {
        let mut changed = false;
        if ticks.is_multiple_of(WINDOW) {
            self.all.begin_window();
            self.histories.iter_mut().for_each(History::begin_window);
            changed = true;
        }
        for (ShardId(shard), mut full) in self.collected.try_iter() {
            self.all.add(&full);
            self.histories[usize::from(shard)].add(&full);
            full.clear();
            self.empty.push(full);
            changed = true;
        }
        if changed {
            self.board.put_timings(Timings {
                all: self.all.span(),
                shards: self.histories.iter().map(History::span).collect(),
            });
        }
    }

    fn log(&mut self) {
        let sum = |counter| {
            self.board
                .counters()
                .iter()
                .map(|one| one.read(counter))
                .sum::<u64>()
        };
        let now = Logged {
            opened: sum(Counter::Opened),
            messages: sum(Counter::MessagesReceived),
        };
        if now.messages == self.logged.messages && now.opened == self.logged.opened {
            return;
        }
        tracing::info!(
            connections = now.opened - sum(Counter::Closed),
            opened = now.opened - self.logged.opened,
            messages = now.messages - self.logged.messages,
            turn_p99_us = self.all.total.of(Timing::Turn).value_at_quantile(0.99) / 1000,
            "the last minute"
        );
        self.logged = now;
    }
}

/// A number that changes when a shard does something worth collecting. Turns alone do not count,
/// since asking causes one.
fn work_done(counters: &Counters) -> u64 {
    let worth = Counter::ALL
        .iter()
        .filter(|&&counter| counter != Counter::Turns);
    worth
        .map(|&counter| counters.read(counter))
        .fold(0, u64::wrapping_add)
}

/// The channel on which shards send their histograms: one set of each may wait, and one more.
pub(super) fn channel(shards: usize) -> (Sender<(ShardId, Box<Histograms>)>, CollectedOut) {
    crossbeam_channel::bounded(shards + 1)
}

type CollectedOut = Receiver<(ShardId, Box<Histograms>)>;
