//! A whole server in one thread: shards on simulated drivers, with mailboxes, connection counts,
//! services that answer at once, later, from workers, or never.
//!
//! It does what `server::boot` and the executor do around a shard, and checks what must be true of
//! a server at rest.

use crossbeam_channel::Receiver;
use ringmail::auth::Authority;
use ringmail::base::clock::Instant;
use ringmail::base::id::{Key, ShardId};
use ringmail::base::reason::Reason;
use ringmail::broker::{
    Access, Admission, Answer, Completion, Deferred, Entropy, Failure, Job, Limits, LinkSize, Pace,
    Rates, Reply, ReplyTo, Request, Schemas, Tracing, connect_shards, mailbox,
};
use ringmail::metrics::counter::{Counter, Counters};
use ringmail::metrics::span::{SpanSource, channel};
use ringmail::proto::envelope::SlowPolicy;
use ringmail::proto::session::Settings;
use ringmail::ring::driver::Driver;
use ringmail::ring::sim::client::{Expect, RequestKind};
use ringmail::ring::sim::{RingSize, SimDriver, World};
use ringmail::shard::sys::{self, Board};
use ringmail::shard::tls::TlsSettings;
use ringmail::shard::{
    Command, ConnectionCounts, Listing, Mailbox, Query, Seen, Setup, Shard, Turn,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any deadline of a shard: only work wakes it.
const SLEEP: Duration = Duration::from_secs(36_000);
/// The longest sleep while the shard has open calls, as in the executor.
const SLEEP_WITH_CALLS: Duration = Duration::from_millis(1);
const COMPLETIONS_PER_TURN: usize = 64;
/// The virtual time that one unit of a shard's work takes.
const UNIT: Duration = Duration::from_nanos(100);
/// The most units of one turn: what all lanes have together, and some steps that exceed their
/// lane's share.
const TURN_UNITS_MAX: usize = 60_000;

pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The settings of a server with the default configuration.
pub fn settings() -> Settings {
    Settings {
        message_bytes_max: 1 << 20,
        handshake_timeout: ms(2000),
        frame_timeout: ms(10_000),
        heartbeat_interval: ms(30_000),
        heartbeat_timeout: ms(90_000),
        auth_methods: 0,
        auth_timeout: ms(5000),
        product: "ringmail simulated".to_owned(),
        shard: 0,
    }
}

pub fn limits() -> Limits {
    Limits {
        connections_max: 65_536,
        outbox_bytes_max: 1 << 20,
        outbox_bytes_shard_max: 1 << 28,
        requests_open_max: 1024,
        calls_open_max: 4096,
        request_timeout: ms(10_000),
        request_timeout_max: ms(600_000),
        sessions_waiting_max: 65_536,
        subscriptions_max: 1024,
        slow_policy: SlowPolicy::Disconnect,
        rates: Rates::NONE,
        session_linger: ms(60_000),
        session_buffer_bytes_max: 1 << 20,
        pace: Pace::default(),
    }
}

/// Kinds of requests to the services of the server under test.
pub fn request_kinds() -> Vec<RequestKind> {
    let ask = |service: &str, expect| RequestKind {
        service: service.to_owned(),
        expect,
    };
    use ringmail::proto::error::Code;
    vec![
        RequestKind::echo(),
        ask("later", Expect::Echo),
        ask("worker", Expect::Echo),
        ask("$sys/time", Expect::Success),
        ask("$sys/stats", Expect::Success),
        ask("nobody", Expect::Failure(Code::NoService)),
        ask("no/#", Expect::Failure(Code::BadName)),
        ask("forgets", Expect::Failure(Code::Internal)),
        ask("fails", Expect::Failure(Code::Internal)),
    ]
}

/// Calls that a service has deferred, with their later answers.
type Aside = Rc<RefCell<Vec<(Deferred, Vec<u8>)>>>;

/// Optional parts of a server: TLS, access control, admission, tracing, schemas.
#[derive(Clone, Default)]
pub struct Guards {
    pub tls: Option<TlsSettings>,
    pub access: Option<Access>,
    pub admission: Option<Arc<Admission>>,
    /// The sample ratio, and the number of spans that a shard buffers.
    pub trace: Option<(f64, usize)>,
    /// Makes a shard's schemas.
    pub schemas: Option<Arc<dyn Fn() -> Schemas>>,
    pub link: LinkSize,
    pub completions_per_turn: Option<usize>,
}

pub struct Server {
    pub world: World,
    shards: Vec<Option<Shard<SimDriver>>>,
    pub counters: Vec<Arc<Counters>>,
    mailboxes: Vec<Mailbox>,
    jobs: crossbeam_channel::Receiver<Job>,
    aside: Vec<Aside>,
    rng: fastrand::Rng,
    /// The most bytes that one shard had lent after a turn, and the most that it may lend.
    lent_bytes_most: usize,
    lent_bytes_max: usize,
    /// What each shard has recorded, if they trace.
    pub spans: Vec<SpanSource>,
}

impl Server {
    pub fn start(world: &World, shards: usize, size: RingSize) -> Server {
        Server::with(world, shards, size, &settings(), &limits())
    }

    pub fn with(
        world: &World,
        count: usize,
        size: RingSize,
        settings: &Settings,
        limits: &Limits,
    ) -> Server {
        Server::guarded(world, count, size, settings, limits, Guards::default())
    }

    /// The same, with TLS.
    pub fn secured(
        world: &World,
        count: usize,
        size: RingSize,
        settings: &Settings,
        limits: &Limits,
        tls: Option<&TlsSettings>,
    ) -> Server {
        let guards = Guards {
            tls: tls.cloned(),
            ..Guards::default()
        };
        Server::guarded(world, count, size, settings, limits, guards)
    }

    /// The same, with all optional parts.
    pub fn guarded(
        world: &World,
        count: usize,
        size: RingSize,
        settings: &Settings,
        limits: &Limits,
        guards: Guards,
    ) -> Server {
        let connection_counts = Arc::new(ConnectionCounts::new(count));
        let cores: Vec<u32> = (0..count as u32).collect();
        let (product, digest) = ("simulated".to_owned(), "0".to_owned());
        let board = Arc::new(Board::new(product, digest, &cores, world.now()));
        let counters = board.counters().to_vec();
        let (jobs_in, jobs) = crossbeam_channel::unbounded();
        let (histograms, _) = crossbeam_channel::bounded(count);
        let mut spans = Vec::new();
        let (mut shards, mut mailboxes, mut aside) = (Vec::new(), Vec::new(), Vec::new());
        for (index, own) in counters.iter().enumerate() {
            let id = ShardId(index as u16);
            let driver = world.add_shard(size);
            let (mailbox, inbox) = mailbox(driver.waker());
            mailboxes.push(mailbox.clone());
            let mut settings = settings.clone();
            settings.shard = id.0;
            let setup = Setup {
                id,
                settings,
                limits: limits.clone(),
                completions_per_turn: guards.completions_per_turn.unwrap_or(COMPLETIONS_PER_TURN),
                counters: own.clone(),
                connection_counts: connection_counts.clone(),
                balance: true,
                tls: guards.tls.clone(),
                mailbox,
                inbox,
                entropy: Entropy::seeded(world.seed().wrapping_add(index as u64)),
                access: guards.access.clone(),
                admission: guards.admission.clone(),
                schemas: guards.schemas.as_ref().map(|make| make()),
                jobs: jobs_in.clone(),
                histograms: histograms.clone(),
                tracing: guards.trace.map(|(sample_ratio, spans_max)| {
                    let (sink, source) = channel(spans_max);
                    spans.push(source);
                    Tracing {
                        sample_ratio,
                        spans: sink,
                    }
                }),
            };
            let mut shard = Shard::new(driver, setup);
            sys::install(&mut shard, board.clone());
            let put_aside = Aside::default();
            serve(&mut shard, &put_aside);
            aside.push(put_aside);
            shards.push(Some(shard));
        }
        let wakers: Vec<_> = mailboxes.iter().map(Mailbox::waker).cloned().collect();
        for (mailbox, mesh) in mailboxes.iter().zip(connect_shards(&wakers, guards.link)) {
            let join = Command::Join(mailboxes.clone(), mesh);
            assert!(mailbox.post(join).is_ok());
        }
        Server {
            world: world.clone(),
            shards,
            counters,
            mailboxes,
            jobs,
            aside,
            lent_bytes_most: 0,
            lent_bytes_max: limits.outbox_bytes_shard_max,
            spans,
            rng: fastrand::Rng::with_seed(world.seed()),
        }
    }

    /// Runs the world up to `until`.
    pub fn run(&mut self, until: Instant) {
        loop {
            // A worker takes a while, not until the next timer.
            let soon = match self.jobs.is_empty() {
                true => until,
                false => until.min(self.world.now() + ms(1)),
            };
            match self.world.next(soon) {
                Some(index) => self.turn(index),
                None if !self.jobs.is_empty() => self.work(),
                None if soon < until => {}
                None => return,
            }
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        self.run(self.world.now() + time);
    }

    /// Lets the shards make this many turns, however long that takes.
    pub fn run_turns(&mut self, turns: usize) {
        for _ in 0..turns {
            match self.world.next(Instant::NEVER) {
                Some(index) => self.turn(index),
                None => return,
            }
        }
    }

    /// One turn of a shard, and what its executor and the workers do around it.
    fn turn(&mut self, index: usize) {
        let Some(shard) = &mut self.shards[index] else {
            return;
        };
        let calls = shard.calls_on_executor() > 0;
        let sleep = if calls { SLEEP_WITH_CALLS } else { SLEEP };
        let before = shard.work_spent();
        let turn = shard.turn(sleep).expect("a simulated ring does not break");
        let units = shard.work_spent().wrapping_sub(before);
        let seed = self.world.seed();
        assert!(
            units <= TURN_UNITS_MAX,
            "seed {seed}: a turn of {units} units"
        );
        self.world.keep_busy(index, UNIT * units as u32);
        self.lent_bytes_most = self.lent_bytes_most.max(shard.lent_bytes());
        if turn == Turn::Ended {
            self.shards[index] = None;
            return;
        }
        self.finish_some(index);
        while self.rng.u8(..4) > 0 && !self.jobs.is_empty() {
            self.work();
        }
    }

    /// Runs one job, as a worker would.
    fn work(&self) {
        if let Ok(job) = self.jobs.try_recv() {
            job();
        }
    }

    /// Answers some of the deferred calls, in random order.
    fn finish_some(&mut self, index: usize) {
        let mut aside = self.aside[index].borrow_mut();
        while !aside.is_empty() && self.rng.u8(..4) == 0 {
            let pick = self.rng.usize(..aside.len());
            let (deferred, payload) = aside.swap_remove(pick);
            deferred.finish(Ok(Answer::from(payload)));
        }
    }

    /// Tells every shard to end by `deadline`.
    pub fn drain(&self, deadline: Instant) {
        for mailbox in &self.mailboxes {
            assert!(mailbox.post(Command::Drain(deadline)).is_ok());
        }
    }

    /// Tells one shard to end by `deadline`.
    pub fn drain_shard(&self, shard: ShardId, deadline: Instant) {
        let mailbox = &self.mailboxes[shard.index()];
        assert!(mailbox.post(Command::Drain(deadline)).is_ok());
    }

    /// Fills a shard's mailbox with commands for a connection that does not exist.
    pub fn fill_mailbox(&self, shard: ShardId) {
        let (slot, generation) = (u32::MAX, 0);
        let nobody = || Command::Kick(Key { slot, generation }, ReplyTo::new(drop));
        while self.mailboxes[shard.index()].post(nobody()).is_ok() {}
    }

    /// Has every shard check credentials against this authority, and end what it revokes.
    pub fn put_authority(&self, authority: &Arc<Authority>) {
        for mailbox in &self.mailboxes {
            let command = Command::Authority(authority.clone(), Completion::nobody());
            assert!(mailbox.post(command).is_ok());
        }
    }

    /// Asks every shard to list its connections. The channel yields each shard's index and answer.
    pub fn list(&self, query: &Query) -> Receiver<(usize, Seen)> {
        let (reply_in, replies) = crossbeam_channel::unbounded();
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            let reply_in = reply_in.clone();
            let reply = ReplyTo::new(move |seen| reply_in.send((index, seen)).unwrap());
            let listing = Listing::Connections(Box::new(query.clone()), reply);
            assert!(mailbox.post(Command::Listing(listing)).is_ok());
        }
        replies
    }

    /// Ends a connection for an operator.
    pub fn kick(&self, shard: ShardId, key: Key) -> Receiver<bool> {
        let (reply_in, replies) = crossbeam_channel::bounded(1);
        // The caller may have dropped the receiver.
        let reply = ReplyTo::new(move |done| {
            let _ = reply_in.send(done);
        });
        let kick = Command::Kick(key, reply);
        assert!(self.mailboxes[shard.index()].post(kick).is_ok());
        replies
    }

    pub fn has_ended(&self) -> bool {
        self.shards.iter().all(Option::is_none)
    }

    // ---- counts and checks ----

    pub fn count(&self, counter: Counter) -> u64 {
        self.counters.iter().map(|one| one.read(counter)).sum()
    }

    pub fn closed(&self, reason: Reason) -> u64 {
        self.counters
            .iter()
            .map(|one| one.read_closed(reason))
            .sum()
    }

    pub fn open(&self) -> u64 {
        self.counters.iter().map(|one| one.open()).sum()
    }

    /// Bytes that all shards have lent to connections.
    pub fn lent_bytes(&self) -> usize {
        self.shards.iter().flatten().map(Shard::lent_bytes).sum()
    }

    /// Units of work that all shards have done.
    pub fn work_spent(&self) -> usize {
        let shards = self.shards.iter().flatten();
        shards.map(Shard::work_spent).sum()
    }

    /// What is charged to each shard is what its clients hold.
    pub fn check_ledgers(&self) {
        for (index, shard) in self.shards.iter().enumerate() {
            let Some(shard) = shard else { continue };
            let agrees = shard.audit(self.world.sending(index));
            let seed = self.world.seed();
            agrees.unwrap_or_else(|wrong| panic!("seed {seed}: shard {index}: {wrong}"));
        }
    }

    /// Open calls on all shards, and requests their connections have to answer.
    pub fn calls(&self) -> (u32, u32) {
        let shards = self.shards.iter().flatten();
        shards.fold((0, 0), |sum, one| {
            (sum.0 + one.calls_open(), sum.1 + one.forwarded_open())
        })
    }

    /// Subscriptions in force on all shards.
    pub fn subscriptions(&self) -> u64 {
        self.count(Counter::Subscribed) - self.count(Counter::Unsubscribed)
    }

    /// Turns of all shards, and how many of them found nothing to do.
    pub fn turns(&self) -> (u64, u64) {
        let polls = (0..self.shards.len()).map(|shard| self.world.polls(shard));
        polls.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Sessions, with a connection or without.
    pub fn sessions(&self) -> u64 {
        self.count(Counter::SessionsBegun) - self.count(Counter::SessionsEnded)
    }

    /// Each connection that was opened, is not open and is not moving between shards has exactly
    /// one close reason; each slot belongs to a connection, or to a session that waits for one.
    pub fn check_reasons(&self) {
        let closed: u64 = Reason::ALL.iter().map(|&reason| self.closed(reason)).sum();
        let (seed, opened) = (self.world.seed(), self.count(Counter::Opened));
        let moving = self.count(Counter::MovedOut) - self.count(Counter::MovedIn);
        assert_eq!(
            closed + moving,
            opened - self.open(),
            "seed {seed}: reasons"
        );
        let shards = self.shards.iter().flatten();
        let held: u64 = shards.map(|shard| u64::from(shard.connections())).sum();
        let open = self.open();
        assert!(
            (open..=open + self.sessions()).contains(&held),
            "seed {seed}: {held} slots held, {open} connections counted"
        );
    }

    /// No shard has ever lent more than twice its limit: a turn that starts just below the limit
    /// still lends what it produces, which may exceed a small limit.
    pub fn check_memory(&self) {
        const ONE_TURN_BYTES: usize = 512 << 10;
        let (seed, most) = (self.world.seed(), self.lent_bytes_most);
        let max = self.lent_bytes_max + self.lent_bytes_max.max(ONE_TURN_BYTES);
        assert!(most <= max, "seed {seed}: {most} bytes lent, {max} may be");
    }

    /// Everything is as before the first connection, and the server sleeps.
    pub fn check_at_rest(&mut self) {
        let seed = self.world.seed();
        self.check_reasons();
        self.check_memory();
        assert_eq!(self.sessions(), 0, "seed {seed}: sessions");
        assert_eq!(self.subscriptions(), 0, "seed {seed}: subscriptions");
        for (index, shard) in self.shards.iter().enumerate() {
            let Some(shard) = shard else { continue };
            let (calls, forwarded) = (shard.calls_open(), shard.forwarded_open());
            let held = (shard.connections(), shard.lent_bytes(), calls, forwarded);
            assert_eq!(
                held,
                (0, 0, 0, 0),
                "seed {seed}: shard {index}: slots, bytes, calls, forwarded"
            );
            assert_eq!(
                self.world.buffers_lent(index),
                0,
                "seed {seed}: shard {index}"
            );
            assert_eq!(
                self.world.slots_in_flight(index),
                0,
                "seed {seed}: shard {index}"
            );
        }
        assert_eq!(self.world.sockets_open(), 0, "seed {seed}: sockets open");
        let before = self.turns().0;
        self.run_for(Duration::from_secs(3600));
        let turns = self.turns().0 - before;
        assert!(
            turns <= 4 * self.shards.len() as u64,
            "seed {seed}: {turns} turns at rest"
        );
    }

    /// Ends the server at rest and checks that nothing is left behind.
    pub fn end(mut self) {
        self.check_at_rest();
        self.drain(self.world.now() + ms(1000));
        self.run_for(ms(2000));
        assert!(
            self.has_ended(),
            "seed {}: it does not end",
            self.world.seed()
        );
        self.world.check_no_leaks();
    }
}

fn serve(shard: &mut Shard<SimDriver>, aside: &Aside) {
    let aside = aside.clone();
    let later = move |request: Request<'_>, reply: Reply<'_>| {
        let payload = request.payload().to_vec();
        if let Some(deferred) = reply.defer() {
            aside.borrow_mut().push((deferred, payload));
        }
    };
    shard.serve("later", Box::new(later));
    let worker = |request: Request<'_>, reply: Reply<'_>| {
        let payload = request.payload().to_vec();
        reply.offload(move || Ok::<Answer, Failure>(payload.into()));
    };
    shard.serve("worker", Box::new(worker));
    shard.serve("forgets", Box::new(|_: Request<'_>, _: Reply<'_>| {}));
    let fails = |_: Request<'_>, reply: Reply<'_>| {
        reply.offload(|| Err(Failure::new(0x0500, "it failed")));
    };
    shard.serve("fails", Box::new(fails));
}
