//! A shard's state and its parts; `turn` runs it.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::wheel::Wheel;
use crate::broker::Broker;
use crate::broker::admission::addresses::Admission;
use crate::broker::admission::authenticator::Access;
use crate::broker::context::entropy::Entropy;
use crate::broker::context::pool::Pool;
use crate::broker::context::resource::Limits;
use crate::broker::context::resource::Resources;
use crate::broker::context::sample::Sampler;
use crate::broker::context::scheduler::Work;
use crate::broker::context::trace::Tracer;
use crate::broker::context::trace::Tracing;
use crate::broker::peers::connection::Connection;
use crate::broker::publish::schema::Schemas;
use crate::broker::request::call::Calls;
use crate::broker::request::call::{Job, LocalFuture};
use crate::broker::request::service::Service;
use crate::broker::session::seek::Seek;
use crate::metrics::counter::Counters;
use crate::metrics::histogram::Histograms;
use crate::ring::driver::Driver;
use crate::shard::command::{Command, Inbox, Mailbox};
use crate::shard::connection_counts::ConnectionCounts;
use crate::shard::draining::Drain;
use crate::shard::listing::Walk;
use crate::shard::stream::{Stream, Streams};
use crate::shard::tls::TlsSettings;
use crate::wire::Settings;
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a shard is made from.
pub struct Setup {
    pub id: ShardId,
    pub settings: Settings,
    pub limits: Limits,
    /// Completions handled in one turn, at most.
    pub completions_per_turn: usize,
    pub counters: Arc<Counters>,
    /// Connection counts of all shards.
    pub connection_counts: Arc<ConnectionCounts>,
    /// Hand new connections over to emptier shards.
    pub balance: bool,
    /// `None`: TLS is off.
    pub tls: Option<TlsSettings>,
    /// Both ends of this shard's mailbox.
    pub mailbox: Mailbox,
    pub inbox: Inbox,
    /// The source of initial sequence numbers.
    pub entropy: Entropy,
    /// Verifies credentials; `None`: authentication is off.
    pub access: Option<Access>,
    /// Limits which addresses may connect, and how often; `None`: no limits.
    pub admission: Option<Arc<Admission>>,
    /// Topics whose payloads have a schema; `None`: no topic has one.
    pub schemas: Option<Schemas>,
    /// The queue of the worker threads.
    pub jobs: Sender<Job>,
    /// Where collected histograms are sent.
    pub histograms: Sender<(ShardId, Box<Histograms>)>,
    /// `None`: tracing is off.
    pub tracing: Option<Tracing>,
}

/// A shard on a driver. See the module's head; `turn` runs it.
pub struct Shard<D> {
    pub(super) id: ShardId,
    pub(super) driver: D,
    pub(super) broker: Broker,
    pub(super) streams: Streams,
    pub(super) timers: Wheel,
    pub(super) settings: Arc<Settings>,
    pub(super) inbox: Inbox,
    pub(super) peers: Vec<Mailbox>,
    pub(super) connection_counts: Arc<ConnectionCounts>,
    pub(super) balance: bool,
    pub(super) completions_per_turn: usize,
    /// Connections waiting for the previous transport of the session they resume.
    pub(super) waiting: Vec<Key>,
    /// Connections that are to move, or to ask another shard, and found its mailbox full.
    pub(super) unposted: Vec<Key>,
    /// Sessions being taken over, and by which connection.
    pub(super) yielding: BTreeMap<Key, Key>,
    /// Questions of other shards whose mailboxes were too full for the answer.
    pub(super) unanswered: Vec<Seek>,
    /// Connections whose receive found no buffer.
    pub(super) starved: VecDeque<Key>,
    /// Connection listings; the oldest is in progress.
    pub(super) listings: VecDeque<Walk>,
    pub(super) buffers_released: usize,
    /// The accept is armed, or has ended without that being reported yet.
    pub(super) accepting: bool,
    /// When to accept again after a shortage of descriptors.
    pub(super) accept_again: Instant,
    /// Descriptors or memory ran short, and nothing has been accepted since.
    pub(super) accept_short: bool,
    pub(super) drain: Option<Drain>,
    pub(super) histograms_out: Sender<(ShardId, Box<Histograms>)>,
}

impl<D: Driver> Shard<D> {
    /// A shard, which accepts once it has joined the others (`Command::Join`). Services are added
    /// with [`Shard::serve`].
    pub fn new(driver: D, setup: Setup) -> Shard<D> {
        let now = driver.now();
        let Setup {
            id,
            settings,
            limits,
            counters,
            connection_counts,
            mailbox,
            jobs,
            ..
        } = setup;
        let slots = limits.slots();
        let mut entropy = setup.entropy;
        let tracer = setup.tracing.map(|tracing| {
            let seed = u64::from(entropy.u32()) << 32 | u64::from(entropy.u32());
            let asks = setup.access.is_some();
            let clock = driver.clock();
            Box::new(Tracer::new(
                id,
                tracing,
                clock,
                counters.clone(),
                asks,
                seed,
            ))
        });
        let outcomes = mailbox.slot(|(call, outcome)| Command::Finish(call, outcome));
        let findings = mailbox.slot(Command::Checked);
        let resources = Resources {
            work: Work::new(limits.pace),
            pool: Pool::new(limits.outbox_bytes_shard_max),
            calls: Calls::new(limits.calls_open_max, jobs, outcomes, now),
            limits,
            counters,
            current: Default::default(),
            histograms: Box::default(),
            sampler: Sampler::new(driver.clock()),
            tracer,
            now,
        };
        let mut broker = Broker::new(id, slots, resources, findings, entropy);
        (broker.access, broker.admission) = (setup.access, setup.admission);
        broker.schemas = setup.schemas;
        Shard {
            id,
            driver,
            broker,
            streams: Streams::new(setup.tls),
            timers: Wheel::new(now),
            settings: Arc::new(settings),
            inbox: setup.inbox,
            peers: Vec::new(),
            connection_counts,
            balance: setup.balance,
            completions_per_turn: setup.completions_per_turn,
            waiting: Vec::new(),
            unposted: Vec::new(),
            yielding: BTreeMap::new(),
            unanswered: Vec::new(),
            starved: VecDeque::new(),
            listings: VecDeque::new(),
            buffers_released: 0,
            accepting: false,
            accept_again: Instant::NEVER,
            accept_short: false,
            drain: None,
            histograms_out: setup.histograms,
        }
    }

    /// Adds a service; it replaces an earlier one of the same name.
    pub fn serve(&mut self, name: &str, service: Box<dyn Service>) {
        self.broker.services.add(name, service);
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Takes the futures that services have spawned since the last call, for the executor.
    pub fn take_spawned(&mut self) -> Vec<LocalFuture> {
        self.broker.resources.calls.take_spawned()
    }

    /// Calls whose futures need the executor to run now and then.
    pub fn calls_on_executor(&self) -> u32 {
        self.broker.resources.calls.on_shard()
    }

    /// Bytes charged to this shard's clients; zero when there are none.
    pub fn lent_bytes(&self) -> usize {
        self.broker.resources.pool.charged_bytes()
    }

    /// Units of work done so far, about 100 ns each: a simulation derives a turn's duration from
    /// it.
    pub fn work_spent(&self) -> usize {
        self.broker.resources.work.spent()
    }

    /// Open calls, wherever they are processed.
    pub fn calls_open(&self) -> u32 {
        self.broker.resources.calls.len()
    }

    /// Open requests that connections of this shard have to answer.
    pub fn forwarded_open(&self) -> u32 {
        self.broker.forwarded.len()
    }

    /// Connections that have a slot, and sessions waiting in one.
    pub fn connections(&self) -> u32 {
        self.broker.connections.len()
    }
}

// Of the 512 bytes that an idle connection may cost in total, some 60 are outside its slot.
const _: () = assert!(size_of::<Connection>() + 8 + size_of::<Stream>() <= 384);

/// Bytes of memory of one connection's slot, including its stream and timer: for the budget.
pub const fn slot_bytes() -> usize {
    size_of::<Connection>() + 8 + size_of::<Stream>() + 16
}
