//! Layer 3: a shard. One core, one executor, one ring, its own connections.
//!
//! | file | idea |
//! |---|---|
//! | `turn` | the turn: what happens in which order |
//! | `accept` | new connections, refusals, handing over to an emptier shard |
//! | `door`, `access`, `guest`, `rate` | who may come, who it is, what it may do, how much it may send |
//! | `connection` | one connection: bytes in, stages to its end |
//! | `exchange`, `dispatch` | received bytes become messages, a message goes to whom it is for |
//! | `publish`, `deliver`, `parcel` | PUBLISH: from one connection to many |
//! | `fanout` | a publication to many, in slices |
//! | `member`, `trail` | a group's message: to which member, and whether that has got it |
//! | `legacy` | wills, and what a gone member had not got |
//! | `retain`, `home`, `replay` | each topic's last message; one order of them; much of that to one, in slices |
//! | `subscribe`, `station` | what a connection wants of the exchange, and has there |
//! | `schema`, `check` | payloads by schema: refused, translated; long ones by a worker |
//! | `forward`, `errand` | REQUESTs that connections answer |
//! | `durable`, `log`, `resume` | sessions: lasting, moving, taken over |
//! | `mesh`, `neighbour`, `confirm` | what shards say to each other; answers that wait for all of them |
//! | `slow` | what is told of slow consumers |
//! | `settle` | the driver's operations brought in line with what a connection wants |
//! | `tls` | records opened and sealed: a byte transform, nothing else |
//! | `line`, `outbox`, `pool` | what goes out, and the memory for it |
//! | `shelf` | what waits for a slow subscriber, and what is dropped then |
//! | `log` | what a session's client has not acknowledged |
//! | `receipt` | which of a session's PUBLISHes were taken |
//! | `service`, `call`, `sys` | who answers requests, now or later |
//! | `sample`, `gauge` | where a message's time goes; what is held at a moment |
//! | `trace`, `arrival` | what is sampled; spans of it |
//! | `drain`, `accord` | ending in order, all shards together |
//! | `command` | what other threads say to a shard |
//! | `survey` | which connections there are, told some a turn; ending one |
//! | `executor`, `worker` | the threads: glommio's executors, and workers for long work |
//!
//! A shard is generic over its `Driver`, synchronous, and reads no clock: the same code
//! serves on io_uring and runs under the simulation.

mod accept;
mod access;
mod accord;
mod arrival;
mod call;
mod check;
mod command;
mod confirm;
mod connection;
mod deliver;
mod dispatch;
mod door;
mod drain;
mod durable;
mod errand;
mod exchange;
pub mod executor;
mod fanout;
mod forward;
mod gauge;
mod guest;
mod home;
mod legacy;
mod line;
mod log;
mod mailbox;
mod member;
pub mod mesh;
mod neighbour;
mod outbox;
mod parcel;
mod pool;
mod publication;
mod publish;
mod rate;
mod receipt;
mod replay;
mod resource;
mod resume;
mod retain;
mod sample;
mod schema;
mod seek;
mod service;
mod settle;
mod shelf;
mod slow;
mod station;
mod subscribe;
mod survey;
pub mod sys;
pub mod tls;
mod trace;
mod trail;
mod turn;
pub mod worker;

pub use accept::{Census, Entropy};
pub use access::{Access, Wall};
pub use call::{Deferred, Job, LocalFuture};
pub use command::{Command, Inbox, Mailbox};
pub use door::Door;
pub use mailbox::{Tell, Told, mailbox};
pub use mesh::{Mesh, weave};
pub use resource::{Limits, Rates};
pub use resume::Moved;
pub use schema::{Demand, Schemas};
pub use service::{Answer, Failure, Outcome, Reply, Request, Service};
pub use survey::{Query, Row, Seen, Sort, State, Survey};
pub use trace::Tracing;
pub use turn::Turn;

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::wheel::Wheel;
use crate::metrics::counter::Counters;
use crate::metrics::histogram::Histograms;
use crate::proto::session::Settings;
use crate::ring::driver::Driver;
use call::Calls;
use connection::Connection;
use crossbeam_channel::Sender;
use drain::Drain;
use exchange::Exchange;
use pool::Pool;
use resource::Resources;
use sample::Sampler;
use seek::Seek;
use std::collections::VecDeque;
use std::sync::Arc;
use survey::Walk;
use tls::TlsSettings;
use trace::Tracer;

/// What a shard is made of.
pub struct Setup {
    pub id: ShardId,
    pub settings: Settings,
    pub limits: Limits,
    /// Completions handled in one turn at most.
    pub completions_per_turn: usize,
    pub counters: Arc<Counters>,
    /// Connections of all shards.
    pub census: Arc<Census>,
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
    pub door: Option<Arc<Door>>,
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
    id: ShardId,
    driver: D,
    exchange: Exchange,
    timers: Wheel,
    settings: Arc<Settings>,
    inbox: Inbox,
    peers: Vec<Mailbox>,
    census: Arc<Census>,
    balance: bool,
    completions_per_turn: usize,
    /// Connections that wait for the old transport of the session they resume.
    waiting: Vec<Key>,
    /// Connections that would move, or ask another shard, whose mailbox was full.
    unposted: Vec<Key>,
    /// Sessions that are being taken over.
    yielding: Vec<Key>,
    /// What other shards want to know, whose mailboxes were full.
    unanswered: Vec<Seek>,
    /// Connections whose receive found no buffer.
    starved: VecDeque<Key>,
    /// Surveys of the connections, the oldest in progress.
    surveys: VecDeque<Walk>,
    buffers_released: usize,
    /// The accept is armed, or its end not yet told.
    accepting: bool,
    /// When to accept again, after descriptors ran short.
    accept_again: Instant,
    /// Descriptors or memory ran short, and nothing has been accepted since.
    accept_short: bool,
    drain: Option<Drain>,
    histograms_out: Sender<(ShardId, Box<Histograms>)>,
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
            census,
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
            deliveries_left: 0,
            deliveries_made: 0,
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
        let mut exchange = Exchange::new(id, slots, resources, findings, entropy);
        (exchange.access, exchange.door) = (setup.access, setup.door);
        (exchange.tls, exchange.schemas) = (setup.tls, setup.schemas);
        Shard {
            id,
            driver,
            exchange,
            timers: Wheel::new(now),
            settings: Arc::new(settings),
            inbox: setup.inbox,
            peers: Vec::new(),
            census,
            balance: setup.balance,
            completions_per_turn: setup.completions_per_turn,
            waiting: Vec::new(),
            unposted: Vec::new(),
            yielding: Vec::new(),
            unanswered: Vec::new(),
            starved: VecDeque::new(),
            surveys: VecDeque::new(),
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
        self.exchange.services.add(name, service);
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Futures that services have spawned since the last call, for the executor.
    pub fn take_spawned(&mut self) -> Vec<LocalFuture> {
        self.exchange.resources.calls.take_spawned()
    }

    /// Calls whose futures want the executor to run now and then.
    pub fn calls_on_executor(&self) -> u32 {
        self.exchange.resources.calls.on_shard()
    }

    /// Bytes of chunks lent to connections; zero when nothing is queued anywhere.
    pub fn lent_bytes(&self) -> usize {
        self.exchange.resources.pool.lent_bytes()
    }

    /// Calls open, wherever they are worked on.
    pub fn calls_open(&self) -> u32 {
        self.exchange.resources.calls.len()
    }

    /// Requests that connections of this shard have to answer.
    pub fn errands_open(&self) -> u32 {
        self.exchange.errands.len()
    }

    /// Connections that have a slot, and sessions that wait in one.
    pub fn connections(&self) -> u32 {
        self.exchange.connections.len()
    }
}

// Of the 512 bytes that an idle connection may cost in all, what is beside its slot takes
// some 60. A page of 256 such entries of a slab is 96 KiB, one of jemalloc's sizes.
const _: () = assert!(size_of::<Connection>() + 8 <= 384);

/// Bytes of memory one connection's slot takes, its timer included: for the budget.
pub const fn slot_bytes() -> usize {
    size_of::<Connection>() + 8 + 16
}
