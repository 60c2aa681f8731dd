//! The world the harness holds: shards, clients, time, and what it asks of them.

use super::agenda::Event;
use super::client::traffic::{Command, Party, Record, Traffic};
use super::client::{Client, ClientId, Order, Plan, Report};
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

/// What a turn of a shard costs in virtual time, at most, so that a spin gets nowhere.
const TURN_MAX: Duration = Duration::from_micros(10);

/// A client of either kind; their ids are drawn from one row.
enum Role {
    Asks(Client),
    Routes(Box<Party>),
}

impl Role {
    fn poke(&mut self, kernel: &mut Kernel, settings: &Arc<Settings>) {
        match self {
            Role::Asks(client) => client.poke(kernel, settings),
            Role::Routes(party) => party.poke(kernel, settings),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Role::Asks(client) => client.report().over,
            Role::Routes(party) => party.record().over,
        }
    }
}

pub(super) struct State {
    pub(super) kernel: Kernel,
    clients: Vec<Role>,
    settings: Arc<Settings>,
}

/// The simulated world; clones are handles to the same one.
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

    /// A client that begins at `start`.
    pub fn add_client(&self, start: Instant, plan: impl Into<Rc<Plan>>) -> ClientId {
        let mut state = self.state();
        let id = ClientId(state.clients.len() as u32);
        let client = Client::new(id, plan.into(), start);
        state.clients.push(Role::Asks(client));
        state.kernel.agenda.enter(start, Event::Client(id));
        id
    }

    /// A client that takes part in routing, and begins at `start`.
    pub fn add_traffic(&self, start: Instant, plan: impl Into<Rc<Traffic>>) -> ClientId {
        let mut state = self.state();
        let id = ClientId(state.clients.len() as u32);
        let party = Party::new(id, plan.into(), start);
        state.clients.push(Role::Routes(Box::new(party)));
        state.kernel.agenda.enter(start, Event::Client(id));
        id
    }

    /// Tells a client that makes requests.
    pub fn tell(&self, client: ClientId, order: Order) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(Role::Asks(found)) = state.clients.get_mut(client.0 as usize) {
            found.obey(order, &state.kernel);
            found.poke(&mut state.kernel, &state.settings);
        }
    }

    /// Tells a client that takes part in routing.
    pub fn command(&self, client: ClientId, command: Command) {
        let mut state = self.state();
        let state = &mut *state;
        if let Some(Role::Routes(found)) = state.clients.get_mut(client.0 as usize) {
            found.obey(command, &state.kernel);
            found.poke(&mut state.kernel, &state.settings);
        }
    }

    // ---- time ----

    pub fn now(&self) -> Instant {
        self.state().kernel.now
    }

    /// Lets the world go on until a shard has something to do, and says which. `None` at
    /// `until`, or when nothing will ever happen again.
    pub fn next(&self, until: Instant) -> Option<usize> {
        let mut state = self.state();
        loop {
            state.settle();
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

    /// So much time passes in which no shard runs, as when the process is stopped.
    pub fn stand_still(&self, time: Duration) {
        let mut state = self.state();
        state.kernel.now = state.kernel.now + time;
    }

    /// The turn that a shard has just made took so long: it makes no other before. What it
    /// has begun to send goes out with its next `poll`, as from a ring that is entered once
    /// in a turn; all others go on meanwhile, each on a core of its own.
    pub fn keep_busy(&self, shard: usize, time: Duration) {
        let kernel = &mut self.state().kernel;
        kernel.rings[shard].busy_until = kernel.now + time;
    }

    // ---- what may be changed on the way ----

    pub fn set_faults(&self, faults: Faults) {
        self.state().kernel.faults = faults;
    }

    /// Descriptors that may be open at once.
    pub fn set_descriptors_max(&self, max: usize) {
        self.state().kernel.descriptors.set_max(max);
    }

    /// Bytes that fit between a writer and its reader.
    pub fn set_pipe_bytes(&self, bytes: usize) {
        self.state().kernel.pipe_bytes = bytes.max(1);
    }

    /// Takes a shard's core away, or gives it back: it makes no turn meanwhile, whatever
    /// comes for it.
    pub fn hold_up(&self, shard: usize, held_up: bool) {
        self.state().kernel.rings[shard].held_up = held_up;
    }

    // ---- what can be seen ----

    pub fn seed(&self) -> u64 {
        self.state().kernel.seed()
    }

    /// A digest of all that has happened.
    pub fn trace(&self) -> u64 {
        self.state().kernel.trace()
    }

    /// Events so far: what a long run may be measured by.
    pub fn events(&self) -> u64 {
        self.state().kernel.events()
    }

    /// How often each fault, and each shortage, was met with.
    pub fn met(&self) -> BTreeMap<&'static str, u64> {
        self.state().kernel.met.clone()
    }

    pub fn clients(&self) -> impl Iterator<Item = ClientId> + use<> {
        (0..self.state().clients.len() as u32).map(ClientId)
    }

    /// What became of a client that makes requests.
    ///
    /// # Panics
    /// It is one that takes part in routing.
    pub fn report(&self, client: ClientId) -> Report {
        self.asking(client, |client| client.report().clone())
    }

    /// The plan of a client that makes requests.
    ///
    /// # Panics
    /// It is one that takes part in routing.
    pub fn plan(&self, client: ClientId) -> Plan {
        self.asking(client, |client| client.plan().clone())
    }

    /// What a client that takes part in routing has done and met with.
    ///
    /// # Panics
    /// It is one that makes requests.
    pub fn record(&self, client: ClientId) -> Record {
        self.routing(client, |party| party.record().clone())
    }

    /// The plan of a client that takes part in routing.
    ///
    /// # Panics
    /// It is one that makes requests.
    pub fn traffic(&self, client: ClientId) -> Traffic {
        self.routing(client, |party| party.plan().clone())
    }

    /// Whether a client that takes part in routing has done all it shall, and all of that
    /// is answered.
    ///
    /// # Panics
    /// It is one that makes requests.
    pub fn is_idle(&self, client: ClientId) -> bool {
        self.routing(client, Party::is_idle)
    }

    fn asking<T>(&self, client: ClientId, read: impl FnOnce(&Client) -> T) -> T {
        match &self.state().clients[client.0 as usize] {
            Role::Asks(found) => read(found),
            Role::Routes(_) => panic!("{client:?} takes part in routing"),
        }
    }

    fn routing<T>(&self, client: ClientId, read: impl FnOnce(&Party) -> T) -> T {
        match &self.state().clients[client.0 as usize] {
            Role::Asks(_) => panic!("{client:?} makes requests"),
            Role::Routes(found) => read(found),
        }
    }

    /// Whether every client has ended or gone.
    pub fn clients_over(&self) -> bool {
        self.state().clients.iter().all(Role::is_over)
    }

    /// Descriptors open at the server, those not yet handed to a shard included.
    pub fn sockets_open(&self) -> usize {
        self.state().kernel.descriptors.open()
    }

    /// Connections of which an end is still held.
    pub fn connections(&self) -> usize {
        self.state().kernel.links.count()
    }

    /// Turns of a shard so far, and those that found nothing to do and did not sleep.
    pub fn polls(&self, shard: usize) -> (u64, u64) {
        let ring = &self.state().kernel.rings[shard];
        (ring.polls, ring.polls_vain)
    }

    /// Sends that a shard has begun.
    pub fn sends(&self, shard: usize) -> u64 {
        self.state().kernel.rings[shard].sends
    }

    /// Receive buffers that a shard or its completion queue holds.
    pub fn buffers_lent(&self, shard: usize) -> usize {
        let ring = &self.state().kernel.rings[shard];
        usize::from(ring.size.buffers) - ring.buffers_free.len()
    }

    /// What a shard is sending: bytes of memory of its own, and chunks that others hold as well.
    pub fn sending(&self, shard: usize) -> (usize, usize) {
        self.state().kernel.rings[shard].sending()
    }

    /// Slots of a shard with a receive or a send in flight.
    pub fn slots_in_flight(&self, shard: usize) -> usize {
        self.state().kernel.rings[shard].slots.len()
    }

    /// All is over: asks that nothing is held, lent, open or in flight.
    ///
    /// # Panics
    /// Something is.
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
    /// Lets everything happen that is due.
    fn settle(&mut self) {
        while let Some(event) = self.kernel.agenda.take_due(self.kernel.now) {
            if let Some(client) = self.kernel.happen(event)
                && let Some(client) = self.clients.get_mut(client.0 as usize)
            {
                client.poke(&mut self.kernel, &self.settings);
            }
        }
    }
}

impl Kernel {
    /// One of those that have something to do.
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
            _ if ring.held_up || self.now < ring.busy_until => false,
            Activity::Gone => false,
            Activity::Awake => true,
            Activity::SleepingUntil(at) => {
                at <= self.now || ring.visible_at() <= self.now || ring.woken.load(Ordering::SeqCst)
            }
        }
    }

    /// When something happens next, as far as is known: no shard is runnable now.
    fn next_at(&self) -> Instant {
        let mut at = self.agenda.next_at();
        for ring in self.rings.iter().filter(|ring| !ring.held_up) {
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

/// How the clients' sessions are set: the server's word counts.
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
