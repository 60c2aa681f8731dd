//! The main test: loads drawn from seeds on one to five shards, under faults; then the faults stop,
//! the clients finish, and every promise must have been kept.

use super::super::coverage::Coverage;
use super::super::seed;
use super::super::server::{ms, settings};
use super::credential::Credentials;
use super::judge::Evidence;
use super::load;
use super::scene::Scene;
use super::shrink::{self, Only};
use super::swarm::{Bad, Finish, Room, Swarm};
use ringmail::base::clock::Instant;
use ringmail::base::reason::Reason;
use ringmail::metrics::counter::Counter;
use ringmail::ring::sim::Faults;
use ringmail::ring::sim::client::traffic::{Act, Command, Delivered, Publish, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Opening, Plan, Reading};
use ringmail::shard::{Query, State};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

/// How many steps the run has; between two of them the harness may intervene.
const STEPS: u32 = 8;
/// Longer than a silent or vanished connection keeps its slot.
const PLACES_FREE: Duration = Duration::from_secs(100);
/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(5);
/// How often a bad client goes on while the others are healed, every 20 ms.
const WORSE: u32 = 10;
/// The longest that an operation may take then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Prints what a seed's run was made of if it fails.
struct Said<'a>(&'a Swarm);

impl Drop for Said<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !shrink::is_quiet() {
            eprintln!("{:?}", self.0);
        }
    }
}

fn any_swarm(seed: u64, faults: Faults, room: Room, only: &Only) -> Swarm {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    Swarm::any(&mut rng, faults, room, only)
}

/// A run, and what its harness does to the server meanwhile.
struct Trial<'a> {
    swarm: &'a Swarm,
    scene: Scene,
    rng: fastrand::Rng,
    credentials: Option<Credentials>,
}

impl Trial<'_> {
    fn new(seed: u64, swarm: &Swarm) -> Trial<'_> {
        let features = swarm.measure.features;
        let credentials = features.credentials.then(Credentials::new);
        let (mut guards, mut settings) = (swarm.guards(), settings());
        settings.message_bytes_max = swarm.message_max;
        if let Some(credentials) = &credentials {
            credentials.guard(&mut guards, &mut settings);
        }
        let (faults, limits) = (swarm.faults.clone(), swarm.limits.clone());
        let mut scene = Scene::set_up(
            swarm.shards,
            seed,
            faults,
            swarm.size,
            &settings,
            limits,
            guards,
        );
        scene.terms = swarm.terms();
        if let Some(bytes) = swarm.pipe_bytes {
            scene.world.set_pipe_bytes(bytes);
        }
        let mut trial = Trial {
            swarm,
            scene,
            rng: fastrand::Rng::with_seed(seed),
            credentials,
        };
        trial.enter_all(seed);
        trial
    }

    fn enter_all(&mut self, seed: u64) {
        for (start, mut plan) in load::any(seed, self.swarm) {
            plan.token = self.token(self.scene.clients.len());
            self.scene.enter_later(start, plan);
        }
        if self.swarm.measure.features.strangers {
            let silent = Rc::new(Plan {
                opening: Opening::Silent,
                ..Plan::default()
            });
            for _ in 0..self.rng.usize(10..100) {
                // After the other clients, so that these keep their slots.
                let at = self.scene.world.now() + ms(self.rng.u64(100..300));
                self.scene.world.add_client(at, silent.clone());
            }
        }
    }

    /// A token for this client, if they have any.
    fn token(&mut self, place: usize) -> Option<Rc<str>> {
        let is_short = self.swarm.measure.features.short_lived && self.rng.bool();
        let seconds = is_short.then(|| self.rng.u64(1..4));
        let now = self.scene.world.now();
        Some(self.credentials.as_mut()?.token(place, seconds, now))
    }

    /// What happens between two steps of the run.
    fn intervene(&mut self) {
        let features = self.swarm.measure.features;
        self.scene.server.check_ledgers();
        if features.kicks && self.rng.u8(..4) == 0 {
            kick(&mut self.scene, &mut self.rng);
        }
        let Some(credentials) = &mut self.credentials else {
            return;
        };
        if features.clock_steps && self.rng.u8(..4) == 0 {
            credentials.step_clock(&mut self.rng);
        }
        if features.short_lived
            && self.rng.bool()
            && let Some(authority) = credentials.revoke_one(&mut self.rng)
        {
            self.scene.server.put_authority(&authority);
        }
        let place = self.rng.usize(..self.scene.clients.len());
        if let Some(token) = self.token(place) {
            self.renew(place, token);
        }
    }

    /// A client gets another token, for this connection and those to come.
    fn renew(&self, place: usize, token: Rc<str>) {
        let id = self.scene.clients[place];
        self.scene.world.command(id, Command::Token(token.clone()));
        self.scene.act(id, [Act::Auth(token)]);
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            self.scene.run_for(self.swarm.time / STEPS);
            self.intervene();
        }
        self.scene.server.check_reasons();
    }

    /// All faults stop, and all clients behave but for a bad one. Everything is answered soon.
    fn heal(&mut self, bad: Option<Bad>) {
        self.scene.world.set_faults(Faults::none());
        let bad = bad.filter(|_| self.scene.clients.len() > 2);
        self.scene.terms.bad = bad.map(|_| self.scene.clients[2]);
        self.scene.terms.bad_garbles = bad == Some(Bad::Half);
        for place in 0..self.scene.clients.len() {
            let id = self.scene.clients[place];
            if let Some(credentials) = &mut self.credentials {
                let token = credentials.token(place, None, self.scene.world.now());
                self.renew(place, token);
            }
            if self.scene.terms.bad != Some(id) {
                self.scene.world.command(id, Command::Heal);
            }
        }
        let healed_at = self.scene.world.now();
        for _ in 0..WORSE {
            self.misbehave(bad);
            self.scene.run_for(ms(20));
        }
        self.scene.settle();
        if self.swarm.measure.features.strangers {
            self.scene.run_for(PLACES_FREE);
            self.scene.settle();
        }
        self.check_patience(healed_at);
    }

    /// Every operation of the others was answered in time.
    fn check_patience(&self, since: Instant) {
        let terms = &self.scene.terms;
        if !terms.ample || terms.limits_rates {
            return;
        }
        let all = self.scene.clients.iter().copied();
        let all: Vec<_> = all.filter(|&id| terms.bad != Some(id)).collect();
        let now = self.scene.world.now();
        let (longest, what) = self.scene.evidence().longest_wait_since(&all, since, now);
        let seed = self.scene.world.seed();
        assert!(longest <= PATIENCE, "seed {seed}: {longest:?} for {what}");
    }

    fn misbehave(&self, bad: Option<Bad>) {
        let Some((id, bad)) = self.scene.terms.bad.zip(bad) else {
            return;
        };
        match bad {
            Bad::Deaf => self.scene.world.command(id, Command::Read(Reading::Never)),
            Bad::Half if self.scene.world.is_idle(id) => {
                self.scene
                    .act(id, [Act::Raw(vec![b'M', b'C', 1, 0x10, 0, 0, 1, 0])]);
            }
            Bad::Floods if self.scene.world.is_idle(id) => {
                let one = Act::Publish(Publish {
                    confirmed: false,
                    bytes: 100,
                    ..Publish::of("f/a")
                });
                self.scene.act(id, vec![one; 1000]);
            }
            Bad::Forgetful | Bad::Half | Bad::Floods => {}
        }
    }

    /// Ends the bad client, which may not answer.
    fn end_bad(&mut self) {
        let Some(id) = self.scene.terms.bad else {
            return;
        };
        self.scene.world.command(id, Command::Reconnect(None));
        while !self.scene.record(id).ended {
            self.scene.end(id, Ending::Reset);
            self.scene.run_for(ms(20));
        }
    }

    /// Late subscribers, who find a place and are brought what is retained.
    fn enter_late(&mut self) -> Vec<ClientId> {
        let late: Vec<_> = (0..6)
            .map(|_| {
                let token = self.token_that_stands();
                self.scene.enter(Traffic {
                    token,
                    ..Traffic::of([Act::subscribe("r/#")])
                })
            })
            .collect();
        self.scene.settle();
        for &id in &late {
            let stands = self.scene.record(id).subscriptions;
            let stands = stands.iter().any(|one| one.confirmed_at.is_some());
            let seed = self.scene.world.seed();
            assert!(
                stands,
                "seed {seed}: {id:?} found no place, though many are free"
            );
        }
        late
    }

    fn token_that_stands(&mut self) -> Option<Rc<str>> {
        let (place, now) = (self.scene.clients.len(), self.scene.world.now());
        Some(self.credentials.as_mut()?.token(place, None, now))
    }

    /// The server ends under load: in time, and whoever was told so has everything it was owed.
    fn drain(&mut self) -> Evidence {
        let deadline = self.scene.world.now() + DRAIN;
        self.scene.server.drain(deadline);
        self.scene.server.run(deadline + ms(50));
        let seed = self.scene.world.seed();
        assert!(self.scene.server.has_ended(), "seed {seed}: not in time");
        self.scene.server.check_reasons();
        assert_eq!(self.scene.server.open(), 0, "seed {seed}");
        self.scene.run_for(Duration::from_secs(5));
        self.scene.world.check_no_leaks();
        self.scene.evidence()
    }

    /// Runs until all clients have closed; returns what they have seen.
    fn finish(&mut self) -> Evidence {
        self.run();
        let bad = match self.swarm.finish {
            Finish::Drain => {
                let evidence = self.drain();
                evidence.judge();
                return evidence;
            }
            Finish::Heal(bad) => bad,
        };
        self.heal(bad);
        let late = self.enter_late();
        self.end_bad();
        self.scene.outlast();
        let evidence = self.scene.close();
        evidence.judge();
        if bad.is_some() {
            // It may have gone on publishing.
            return evidence;
        }
        let retained = evidence.check_retained(&late);
        retained.unwrap_or_else(|breach| panic!("seed {}: {breach}", evidence.seed));
        evidence
    }
}

/// Ends a random connection, as an operator would.
fn kick(scene: &mut Scene, rng: &mut fastrand::Rng) {
    let replies = scene.server.list(&Query {
        most: 64,
        ..Query::default()
    });
    scene.run_for(ms(5));
    let rows = replies.try_iter().flat_map(|(_, seen)| seen.rows);
    let open: Vec<_> = rows.filter(|row| row.state == State::Open).collect();
    if let Some(row) = rng.choice(open) {
        scene.server.kick(row.shard, row.key);
    }
}

fn run(seed: u64, swarm: &Swarm, coverage: &Coverage) -> u64 {
    let _said = Said(swarm);
    let mut trial = Trial::new(seed, swarm);
    let evidence = trial.finish();
    let scene = trial.scene;
    let server = &scene.server;
    assert_eq!(server.closed(Reason::Internal), 0, "seed {seed}");
    if scene.terms.ample && scene.terms.bad.is_none() {
        assert_eq!(server.closed(Reason::SlowConsumer), 0, "seed {seed}");
    }
    let connections = evidence.witnesses.iter();
    let connections: usize = connections.map(|one| one.record.connections.len()).sum();
    let strangers = scene.world.clients().count() - scene.clients.len();
    let opened = server.count(Counter::Opened) as usize;
    assert!(
        opened <= connections + strangers,
        "seed {seed}: {opened} opened"
    );
    coverage.add_server(server);
    evidence
        .witnesses
        .iter()
        .for_each(|one| coverage.add_record(&one.record));
    for name in swarm.names() {
        coverage.add(format!("with {name}"), 1);
    }
    coverage.add(format!("finish: {:?}", swarm.finish), 1);
    let trace = scene.world.trace();
    if swarm.finish != Finish::Drain {
        scene.rest();
    }
    trace
}

/// What each of these tests has to reach, whatever its faults.
pub const REACHED: &[&str] = &[
    "closed: peer_close",
    "closed: peer_eof",
    "closed: peer_reset",
    "closed: kicked",
    "closed: handshake_timeout",
    "code: NoService",
    "code: RequestTimeout",
    "code: Application(4660)",
    "connections_handed_over",
    "connections_moved_in",
    "deliveries_expired",
    "mesh_entries",
    "requests_forwarded",
    "answers_late",
    "sessions_resumed",
    "sessions_ended",
    "translated_to_json",
    "translated_to_protobuf",
    "wills",
];

pub const REACHED_WITH_FAULTS: &[&str] = &[
    "accept_aborts",
    "breaks",
    "multishot_ends",
    "late",
    "late_cancel",
    "no_buffers",
    "reset_discards",
    "short_receive",
    "short_send",
    "code: ServiceGone",
    "closed: too_many_connections",
    "auth_accepted",
    "connections_moved_out",
    "deliveries_too_large",
    "group_messages_handed_on",
    "group_messages_lost",
    "publishes",
    "rate_limited",
    "schema_refused",
    "sessions_begun",
    "subscribed",
    "unsubscribed",
    "closed: drained",
    "closed: shutdown",
    "code: BadPayload",
    "code: TooManySubscriptions",
    "finish: Drain",
    "finish: Heal(Some(Deaf))",
    "finish: Heal(Some(Floods))",
    "finish: Heal(Some(Forgetful))",
    "finish: Heal(Some(Half))",
];
pub const REACHED_IN_LITTLE_ROOM: &[&str] = &[
    "closed: slow_consumer",
    "sessions_overflowed",
    "slow_dropped_oldest",
    "slow_dropped_newest",
    "slow_replaced",
];
pub const REACHED_TRACED: &[&str] = &["spans_dropped"];

fn each(name: &str, count: u64, faults: &Faults, room: Room, also: &[&str]) {
    let coverage = Coverage::default();
    let only = Only::from_env();
    seed::each(name, count, |seed| {
        let draw = |only: &Only| any_swarm(seed, faults.clone(), room, only);
        let fails = |only: &Only| shrink::reason(|| run(seed, &draw(only), &Coverage::default()));
        let swarm = draw(&only);
        let failed = catch_unwind(AssertUnwindSafe(|| run(seed, &swarm, &coverage)));
        let Err(failure) = failed else { return };
        if let Some(reason) = fails(&only).filter(|_| only == Only::default()) {
            let least = shrink::shrink(&reason, draw, fails);
            eprintln!(
                "seed {seed} still fails with: RINGMAIL_SEED={seed} RINGMAIL_ONLY=\"{least}\" \
                 cargo test --test simulation {name}"
            );
        }
        resume_unwind(failure);
    });
    coverage.require(&[REACHED, also].concat());
}

#[test]
fn every_promise_of_routing_is_kept_under_every_fault() {
    let name = "every_promise_of_routing_is_kept_under_every_fault";
    each(name, 180, &Faults::all(), Room::Ample, REACHED_WITH_FAULTS);
}

#[test]
fn every_promise_of_routing_is_kept_when_only_clients_disconnect() {
    let name = "every_promise_of_routing_is_kept_when_only_clients_disconnect";
    each(name, 150, &Faults::harmless(), Room::Ample, &[]);
}

/// Without latency, what is sent at the same time arrives at the same time: most races happen here.
#[test]
fn every_promise_of_routing_is_kept_without_latency() {
    let name = "every_promise_of_routing_is_kept_without_latency";
    each(name, 100, &Faults::none(), Room::Ample, &[]);
}

#[test]
fn every_promise_of_routing_is_kept_with_too_little_room() {
    let name = "every_promise_of_routing_is_kept_with_too_little_room";
    let also = REACHED_IN_LITTLE_ROOM;
    each(name, 150, &Faults::harmless(), Room::Narrow, also);
}

#[test]
fn every_promise_of_routing_is_kept_for_traced_messages() {
    let name = "every_promise_of_routing_is_kept_for_traced_messages";
    each(name, 60, &Faults::all(), Room::Traced, REACHED_TRACED);
}

#[test]
fn routing_makes_the_same_run_from_the_same_seed() {
    for seed in 0..8 {
        let run = || {
            let swarm = any_swarm(seed, Faults::all(), Room::Ample, &Only::default());
            run(seed, &swarm, &Coverage::default())
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// Sets of shards are sets of bits: more shards than one word has.
#[test]
fn every_promise_of_routing_is_kept_on_seventy_shards() {
    let name = "every_promise_of_routing_is_kept_on_seventy_shards";
    seed::each(name, 2, |seed| {
        let only = Only::parse("shards=70 time=50 without=kicks,strangers,finish");
        let mut swarm = any_swarm(seed, Faults::none(), Room::Ample, &only);
        (swarm.measure.clients, swarm.measure.acts_max) = (100, 4);
        run(seed, &swarm, &Coverage::default());
    });
}

#[test]
fn the_judge_detects_a_lost_doubled_moved_or_changed_message() {
    // A run with many deliveries and no broken connection.
    let trials = (0..).map(|seed| {
        let only = Only::parse("without=kicks,finish,tiny_rates,short_lived,maxima");
        let swarm = any_swarm(seed, Faults::none(), Room::Ample, &only);
        Trial::new(seed, &swarm).finish()
    });
    let much = |evidence: &Evidence| evidence.witnesses[0].record.delivered.len() > 100;
    let evidence = trials.take(20).find(much).expect("one of twenty");
    assert!(evidence.check().is_ok());
    let tampered = |change: &dyn Fn(&mut Vec<Delivered>)| {
        let mut evidence = evidence.clone();
        // The first client subscribes to everything and is owed every message after its OK.
        change(&mut evidence.witnesses[0].record.delivered);
        evidence.check().is_err()
    };
    let delivered = &evidence.witnesses[0].record.delivered;
    let (mut lost, mut doubled) = (0, 0);
    for (place, one) in delivered.iter().enumerate() {
        lost += u32::from(tampered(&|delivered| drop(delivered.remove(place))));
        doubled += u32::from(tampered(&|delivered| delivered.push(one.clone())));
        assert!(tampered(&|delivered| delivered[place].digest ^= 1));
    }
    // Unconfirmed and retained messages need not be delivered exactly once.
    let count = delivered.len() as u32;
    assert!(
        count > 50 && lost > count / 2,
        "{lost} of {count} lost seen"
    );
    assert!(doubled > count / 2, "{doubled} of {count} doubled seen");
    assert!(tampered(&|delivered| delivered.reverse()));
}
