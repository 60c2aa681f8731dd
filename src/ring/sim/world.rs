//! The world as the harness sees it: shards, clients, time, and queries about them.

use super::client::traffic::{Command, Record, Traffic, TrafficClient};
use super::client::{Client, ClientId, Order, Plan, Report};
use super::event_queue::Event;
use super::fault::Faults;
use super::kernel::Kernel;
use super::ring::Activity;
use crate::base::clock::Instant;
use crate::proto::session::Settings;
use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The most virtual time that a turn of a shard costs, so that a shard that spins does not stop
/// time.
const TURN_MAX: Duration = Duration::from_micros(10);

/// A client of either kind; both kinds share one sequence of ids.
enum AnyClient {
    Requests(Client),
    Traffic(Box<TrafficClient>),
}

impl AnyClient {
    fn poke(&mut self, kernel: &mut Kernel, settings: &Arc<Settings>) {
        match self {
            AnyClient::Requests(client) => client.poke(kernel, settings),
            AnyClient::Traffic(client) => client.poke(kernel, settings),
        }
    }

    fn has_ended(&self) -> bool {
        match self {
            AnyClient::Requests(client) => client.report().ended,
            AnyClient::Traffic(client) => client.record().ended,
        }
    }
}

pub(super) struct State {
    pub(super) kernel: Kernel,
    clients: Vec<AnyClient>,
    settings: Arc<Settings>,
}

/// The simulated world; clones are handles to the same world.
#[derive(Clone)]
pub struct World(Rc<RefCell<State>>);

impl World {
    pub fn new(seed: u64, faults: Faults) -> World {
        World(Rc::new(RefCell::new(State {
            kernel: Kernel::new(seed, faults),
            clients: Vec::new(),
            settings: Arc::new(client_settings()),
        })))
    }

    /// Adds a client that makes requests, starting at `start`.
    pub fn add_client(&self, start: Instant, plan: impl Into<Rc<Plan>>) -> ClientId {
        let mut state = self.state();
        let id = ClientId(state.clients.len() as u32);
        let client = Client::new(id, plan.into(), start);
        state.clients.push(AnyClient::Requests(client));
        state.kernel.event_queue.push(start, Event::Client(id));
        id
    }

    /// Adds a traffic client, starting at `start`.
    pub fn add_traffic(&self, start: Instant, plan: impl Into<Rc<Traffic>>) -> ClientId {
        let mut state = self.state();
        let id = ClientId(state.clients.len() as u32);
        let client = TrafficClient::new(id, plan.into(), start);
        state.clients.push(AnyClient::Traffic(Box::new(client)));
        state.kernel.event_queue.push(start, Event::Client(id));
        id
    }

    /// Gives an order to a client that makes requests.
    pub fn order(&self, client: ClientId, order: Order) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(AnyClient::Requests(found)) = state.clients.get_mut(client.0 as usize) {
            found.apply(order, &state.kernel);
            found.poke(&mut state.kernel, &state.settings);
        }
    }

    /// Gives a command to a traffic client.
    pub fn command(&self, client: ClientId, command: Command) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(AnyClient::Traffic(found)) = state.clients.get_mut(client.0 as usize) {
            found.apply(command, &state.kernel);
            found.poke(&mut state.kernel, &state.settings);
        }
    }

    // ---- time ----

    pub fn now(&self) -> Instant {
        self.state().kernel.now
    }

    /// Runs the world until a shard has something to do, and returns which. `None` at `until`, or
    /// if nothing will ever happen again.
    pub fn next(&self, until: Instant) -> Option<usize> {
        let mut state = self.state();
        loop {
            state.run_due();
            let kernel = &mut state.kernel;
            if kernel.now >= until {
                return None;
            }
            if let Some(shard) = kernel.any_runnable() {
                let cost = kernel.delay(TURN_MAX);
                kernel.now = kernel.now + cost;
                kernel.note("turn", &[shard as u64]);
                return Some(shard);
            }
            let next_at = kernel.next_at();
            if next_at > until || next_at == Instant::NEVER {
                if until != Instant::NEVER {
                    kernel.now = until;
                }
                return None;
            }
            kernel.now = kernel.now.max(next_at);
        }
    }

    /// Lets this much time pass without any shard running, as when the process is stopped.
    pub fn suspend(&self, time: Duration) {
        let mut state = self.state();
        state.kernel.now = state.kernel.now + time;
    }

    /// Makes a shard's last turn take this long: its next turn begins only then. Sends it has begun
    /// go out with its next `poll`, as from a ring that is entered once in a turn; all other shards
    /// go on meanwhile, each on its own core.
    pub fn keep_busy(&self, shard: usize, time: Duration) {
        let kernel = &mut self.state().kernel;
        kernel.rings[shard].busy_until = kernel.now + time;
    }

    // ---- settings that can change during a run ----

    pub fn set_faults(&self, faults: Faults) {
        self.state().kernel.faults = faults;
    }

    /// Sets how many descriptors may be open at a time.
    pub fn set_descriptors_max(&self, max: usize) {
        self.state().kernel.descriptors.set_max(max);
    }

    /// Sets how many bytes fit between a writer and its reader.
    pub fn set_pipe_bytes(&self, bytes: usize) {
        self.state().kernel.pipe_bytes = bytes.max(1);
    }

    /// Takes a shard's core away, or gives it back: it makes no turn meanwhile, whatever arrives
    /// for it.
    pub fn stall(&self, shard: usize, stalled: bool) {
        self.state().kernel.rings[shard].stalled = stalled;
    }

    // ---- observations ----

    pub fn seed(&self) -> u64 {
        self.state().kernel.seed()
    }

    /// A digest of everything that has happened.
    pub fn trace(&self) -> u64 {
        self.state().kernel.trace()
    }

    /// How many events have happened: a measure of a run's cost.
    pub fn events(&self) -> u64 {
        self.state().kernel.events()
    }

    /// How often each fault and each shortage has happened.
    pub fn coverage(&self) -> BTreeMap<&'static str, u64> {
        self.state().kernel.coverage.clone()
    }

    pub fn clients(&self) -> impl Iterator<Item = ClientId> + use<> {
        (0..self.state().clients.len() as u32).map(ClientId)
    }

    /// The report of a client that makes requests.
    ///
    /// # Panics
    /// It is one that takes part in routing.
    pub fn report(&self, client: ClientId) -> Report {
        self.with_client(client, |client| client.report().clone())
    }

    /// The plan of a client that makes requests.
    ///
    /// # Panics
    /// It is one that takes part in routing.
    pub fn plan(&self, client: ClientId) -> Plan {
        self.with_client(client, |client| client.plan().clone())
    }

    /// The record of a traffic client.
    ///
    /// # Panics
    /// It is one that makes requests.
    pub fn record(&self, client: ClientId) -> Record {
        self.with_traffic(client, |client| client.record().clone())
    }

    /// The plan of a traffic client.
    ///
    /// # Panics
    /// It is one that makes requests.
    pub fn traffic(&self, client: ClientId) -> Traffic {
        self.with_traffic(client, |client| client.plan().clone())
    }

    /// Whether a traffic client's script is finished and everything answered.
    ///
    /// # Panics
    /// It is one that makes requests.
    pub fn is_idle(&self, client: ClientId) -> bool {
        self.with_traffic(client, TrafficClient::is_idle)
    }

    fn with_client<T>(&self, client: ClientId, read: impl FnOnce(&Client) -> T) -> T {
        match &self.state().clients[client.0 as usize] {
            AnyClient::Requests(found) => read(found),
            AnyClient::Traffic(_) => panic!("{client:?} is a traffic client"),
        }
    }

    fn with_traffic<T>(&self, client: ClientId, read: impl FnOnce(&TrafficClient) -> T) -> T {
        match &self.state().clients[client.0 as usize] {
            AnyClient::Requests(_) => panic!("{client:?} makes requests"),
            AnyClient::Traffic(found) => read(found),
        }
    }

    /// Whether every client has ended.
    pub fn clients_ended(&self) -> bool {
        self.state().clients.iter().all(AnyClient::has_ended)
    }

    /// Open descriptors of the server, including those not yet handed to a shard.
    pub fn sockets_open(&self) -> usize {
        self.state().kernel.descriptors.open()
    }

    /// Connections of which at least one end is still held.
    pub fn connections(&self) -> usize {
        self.state().kernel.links.count()
    }

    /// A shard's turns so far, and how many of them found nothing to do and did not sleep.
    pub fn polls(&self, shard: usize) -> (u64, u64) {
        let ring = &self.state().kernel.rings[shard];
        (ring.polls, ring.polls_vain)
    }

    /// How many sends a shard has begun.
    pub fn sends(&self, shard: usize) -> u64 {
        self.state().kernel.rings[shard].sends
    }

    /// How many receive buffers a shard or its completion queue holds.
    pub fn buffers_lent(&self, shard: usize) -> usize {
        let ring = &self.state().kernel.rings[shard];
        usize::from(ring.size.buffers) - ring.buffers_free.len()
    }

    /// What a shard is sending: bytes of memory that it alone owns, and the number of shared
    /// chunks.
    pub fn sending(&self, shard: usize) -> (usize, usize) {
        self.state().kernel.rings[shard].sending()
    }

    /// How many slots of a shard have a receive or a send in flight.
    pub fn slots_in_flight(&self, shard: usize) -> usize {
        self.state().kernel.rings[shard].slots.len()
    }

    /// Checks at the end of a run that nothing is held, lent, open or in flight.
    ///
    /// # Panics
    /// If something is.
    pub fn check_no_leaks(&self) {
        let state = self.state();
        let kernel = &state.kernel;
        for (index, ring) in kernel.rings.iter().enumerate() {
            let shard = index as u16;
            let lent = usize::from(ring.size.buffers) - ring.buffers_free.len();
            if lent > 0 {
                kernel.fail(shard, format_args!("{lent} buffers not released"));
            }
            let mut slots: Vec<_> = ring.slots.keys().collect();
            slots.sort_unstable();
            if !slots.is_empty() {
                kernel.fail(shard, format_args!("in flight: slots {slots:?}"));
            }
        }
        let open: Vec<i32> = kernel.descriptors.numbers().collect();
        assert!(
            open.is_empty(),
            "seed {}: sockets {open:?} never closed",
            kernel.seed()
        );
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    pub(super) fn try_state(&self) -> Option<RefMut<'_, State>> {
        self.0.try_borrow_mut().ok()
    }
}

impl State {
    /// Applies all events that are due.
    fn run_due(&mut self) {
        while let Some(event) = self.kernel.event_queue.take_due(self.kernel.now) {
            if let Some(client) = self.kernel.apply(event)
                && let Some(client) = self.clients.get_mut(client.0 as usize)
            {
                client.poke(&mut self.kernel, &self.settings);
            }
        }
    }
}

impl Kernel {
    /// A random one of the shards that have something to do.
    fn any_runnable(&mut self) -> Option<usize> {
        let all = 0..self.rings.len();
        let count = all.clone().filter(|&one| self.is_runnable(one)).count();
        let pick = (count > 0).then(|| self.rng.usize(..count))?;
        all.into_iter()
            .filter(|&one| self.is_runnable(one))
            .nth(pick)
    }

    fn is_runnable(&self, shard: usize) -> bool {
        let ring = &self.rings[shard];
        match ring.activity {
            _ if ring.stalled || self.now < ring.busy_until => false,
            Activity::Gone => false,
            Activity::Awake => true,
            Activity::SleepingUntil(at) => {
                at <= self.now || ring.visible_at() <= self.now || ring.woken.load(Ordering::SeqCst)
            }
        }
    }

    pub(super) fn due(&self) -> Instant {
        match (0..self.rings.len()).any(|one| self.is_runnable(one)) {
            true => self.now,
            false => self.next_at(),
        }
    }

    /// When the next event happens or the next shard wakes, given that no shard is runnable now.
    fn next_at(&self) -> Instant {
        let mut at = self.event_queue.next_at();
        for ring in self.rings.iter().filter(|ring| !ring.stalled) {
            let due = match ring.activity {
                Activity::SleepingUntil(_) if ring.woken.load(Ordering::SeqCst) => ring.busy_until,
                Activity::SleepingUntil(until) => until.min(ring.visible_at()),
                Activity::Awake => ring.busy_until,
                Activity::Gone => continue,
            };
            at = at.min(due.max(ring.busy_until));
        }
        at
    }
}

/// The settings of clients' sessions: generous, so that the server's limits apply.
pub(super) fn client_settings() -> Settings {
    Settings {
        message_bytes_max: 1 << 24,
        handshake_timeout: Duration::from_secs(3600),
        frame_timeout: Duration::from_secs(3600),
        heartbeat_interval: Duration::from_secs(30),
        heartbeat_timeout: Duration::from_secs(90),
        auth_methods: 0,
        auth_timeout: Duration::from_secs(5),
        product: String::new(),
        shard: 0,
    }
}
