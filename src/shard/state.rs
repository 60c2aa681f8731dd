//! A shard's state, and what it is made of; `turn` makes it go.

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

/// What a shard is made of.
pub struct Setup {
    pub id: ShardId,
    pub settings: Settings,
    pub limits: Limits,
    /// Completions handled in one turn at most.
    pub completions_per_turn: usize,
    pub counters: Arc<Counters>,
    /// Connections of all shards.
    pub connection_counts: Arc<ConnectionCounts>,
    /// Hand new connections to emptier shards.
    pub balance: bool,
    /// `None`: TLS is not spoken.
    pub tls: Option<TlsSettings>,
    /// This shard's mailbox, both ends.
    pub mailbox: Mailbox,
    pub inbox: Inbox,
    /// Where initial sequence numbers come from.
    pub entropy: Entropy,
    /// Who tells who someone is; none: nobody is asked.
    pub access: Option<Access>,
    /// Which addresses may come, and how often; none: all, always.
    pub admission: Option<Arc<Admission>>,
    /// Topics whose payloads have a schema; none: no topic has.
    pub schemas: Option<Schemas>,
    /// Work for the worker threads.
    pub jobs: Sender<Job>,
    /// Where histograms go when they are collected.
    pub histograms: Sender<(ShardId, Box<Histograms>)>,
    /// None: nothing is traced.
    pub tracing: Option<Tracing>,
}

/// A shard on a driver. See the module's head; `turn` makes it go.
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
    /// Connections that wait for the old transport of the session they resume.
    pub(super) waiting: Vec<Key>,
    /// Connections that would move, or ask another shard, whose mailbox was full.
    pub(super) unposted: Vec<Key>,
    /// Sessions that are being taken over, and by whom.
    pub(super) yielding: BTreeMap<Key, Key>,
    /// What other shards want to know, whose mailboxes were full.
    pub(super) unanswered: Vec<Seek>,
    /// Connections whose receive found no buffer.
    pub(super) starved: VecDeque<Key>,
    /// Listings of the connections, the oldest in progress.
    pub(super) listings: VecDeque<Walk>,
    pub(super) buffers_released: usize,
    /// The accept is armed, or its end not yet told.
    pub(super) accepting: bool,
    /// When to accept again, after descriptors ran short.
    pub(super) accept_again: Instant,
    /// Descriptors or memory ran short, and nothing has been accepted since.
    pub(super) accept_short: bool,
    pub(super) drain: Option<Drain>,
    pub(super) histograms_out: Sender<(ShardId, Box<Histograms>)>,
}

impl<D: Driver> Shard<D> {
    /// A shard that accepts once it has joined the others (`Command::Join`). Services are
    /// added with [`Shard::serve`].
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

    /// Adds a service; a later one of the same name replaces the earlier.
    pub fn serve(&mut self, name: &str, service: Box<dyn Service>) {
        self.broker.services.add(name, service);
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Futures that services have spawned since the last call, for the executor.
    pub fn take_spawned(&mut self) -> Vec<LocalFuture> {
        self.broker.resources.calls.take_spawned()
    }

    /// Calls whose futures want the executor to run now and then.
    pub fn calls_on_executor(&self) -> u32 {
        self.broker.resources.calls.on_shard()
    }

    /// Bytes charged to this shard's clients; zero when none is there.
    pub fn lent_bytes(&self) -> usize {
        self.broker.resources.pool.charged_bytes()
    }

    /// Units of work done so far, of about 100 ns each: what a simulated turn takes its time by.
    pub fn work_spent(&self) -> usize {
        self.broker.resources.work.spent()
    }

    /// Calls open, wherever they are worked on.
    pub fn calls_open(&self) -> u32 {
        self.broker.resources.calls.len()
    }

    /// Requests that connections of this shard have to answer.
    pub fn forwarded_open(&self) -> u32 {
        self.broker.forwarded.len()
    }

    /// Connections that have a slot, and sessions that wait in one.
    pub fn connections(&self) -> u32 {
        self.broker.connections.len()
    }
}

// Of the 512 bytes that an idle connection may cost in all, what is beside its slot takes
// some 60.
const _: () = assert!(size_of::<Connection>() + 8 + size_of::<Stream>() <= 384);

/// Bytes of memory one connection's slot takes, its stream and timer included: for the budget.
pub const fn slot_bytes() -> usize {
    size_of::<Connection>() + 8 + size_of::<Stream>() + 16
}
