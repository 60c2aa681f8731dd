//! The main test: clients that renew their credentials or do not, present others', ask for more
//! than their rights, disconnect and reconnect, while tokens are revoked.

use super::super::coverage::Coverage;
use super::super::seed;
use super::super::server::{limits, ms};
use super::guarded::Guarded;
use ringmail::auth::address::AccessList;
use ringmail::auth::tally::TallyLimits;
use ringmail::base::reason::Reason;
use ringmail::proto::envelope::SlowPolicy;
use ringmail::ring::sim::client::traffic::{Act, Filter, Publish, SessionPlan, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::rc::Rc;

const PRINCIPALS: &[&str] = &["a", "b", "c"];
const ROLES: &[&str] = &["device", "device", "reader", "writer", "narrow"];
const TOPICS: &[&str] = &["of/a/x", "of/b/x", "of/c/y", "all/a", "all/b", "to/x"];
const FILTERS: &[&str] = &["of/a/#", "of/b/#", "of/#", "all/#", "all/a", "#", "to/+"];
const STEPS: usize = 40;

/// What each of these tests has to reach.
pub const REACHED: &[&str] = &[
    "closed: auth_expired",
    "closed: revoked",
    "auth_refused",
    "forbidden",
    "deliveries",
    "sessions_resumed",
    "address_refused",
    "auth_accepted",
    "connections_moved_out",
    "closed: auth_failed",
    "closed: rate_limited",
    "closed: session_taken",
    "code: AuthExpired",
    "code: AuthFailed",
    "code: Forbidden",
    "code: RateLimited",
    "code: Revoked",
    "code: SessionTaken",
    "code: SessionUnknown",
    "code: TooManyConnections",
];

fn pick(rng: &mut fastrand::Rng, from: &[&'static str]) -> &'static str {
    from[rng.usize(..from.len())]
}

fn any_act(rng: &mut fastrand::Rng) -> Act {
    let policy = SlowPolicy::DropOldest;
    match rng.u8(..8) {
        0 | 1 => Act::Subscribe(Filter::with_policy(pick(rng, FILTERS), policy)),
        2 => Act::unsubscribe(pick(rng, FILTERS)),
        3 => Act::Will(Publish::of(pick(rng, TOPICS))),
        4 => Act::publish(pick(rng, TOPICS)),
        5 => Act::request("$sys/echo"),
        _ => Act::Publish(Publish {
            bytes: rng.usize(..3000),
            retain: rng.u8(..6) == 0,
            ..Publish::of(pick(rng, TOPICS))
        }),
    }
}

struct Trial {
    scene: Guarded,
    rng: fastrand::Rng,
    tokens: Vec<Rc<str>>,
}

impl Trial {
    fn token(&mut self) -> Rc<str> {
        let principal = pick(&mut self.rng, PRINCIPALS);
        let role = pick(&mut self.rng, ROLES);
        let seconds = [1, 2, 5, 3600][self.rng.usize(..4)];
        let token = self.scene.token(principal, role, seconds);
        self.tokens.push(token.clone());
        token
    }

    fn any_token(&mut self) -> Rc<str> {
        match self.tokens.is_empty() || self.rng.bool() {
            true => self.token(),
            false => self.tokens[self.rng.usize(..self.tokens.len())].clone(),
        }
    }

    fn any_client(&mut self) -> Option<ClientId> {
        let clients = &self.scene.clients;
        (!clients.is_empty()).then(|| clients[self.rng.usize(..clients.len())])
    }

    /// Adds a new client, often with the key of another's session.
    fn enter(&mut self) {
        let token = self.any_token();
        let known = self.any_client().map(|id| self.scene.record(id));
        let resumes = known.and_then(|record| {
            let membership = record.memberships.last()?;
            Some((membership.key?, membership.received))
        });
        let rng = &mut self.rng;
        let session = SessionPlan {
            ack_every: rng.u32(..4),
            repeats_all: rng.bool(),
            resumes: resumes.filter(|_| rng.bool()),
        };
        let plan = Traffic {
            checksum: rng.bool(),
            session: (rng.u8(..4) > 0).then_some(session),
            reconnect: (rng.u8(..3) > 0).then_some(ms(30)),
            reading: match rng.u8(..4) {
                0 => Reading::Slow {
                    bytes: rng.usize(100..2000),
                    every: ms(20),
                },
                _ => Reading::Eager,
            },
            ..Traffic::of((0..6).map(|_| any_act(rng)).collect::<Vec<_>>())
        };
        self.scene.enter(&token, plan);
    }

    fn step(&mut self) {
        let choice = self.rng.u8(..10);
        if choice < 3 && self.scene.clients.len() < 16 {
            return self.enter();
        }
        let Some(client) = self.any_client() else {
            return;
        };
        match choice {
            // AUTH again, often several in a row, with any principal's token.
            3 | 4 => {
                let tokens = (0..self.rng.usize(1..4)).map(|_| self.any_token());
                let auths: Vec<Act> = tokens
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(Act::Auth)
                    .collect();
                self.scene.act(client, auths);
            }
            5 => {
                let endings = [Ending::Reset, Ending::Vanish, Ending::Fin];
                self.scene.end(client, endings[self.rng.usize(..3)]);
            }
            6 if !self.tokens.is_empty() => {
                let token = self.any_token();
                self.scene.revoke(&token);
            }
            _ => {
                let rng = &mut self.rng;
                let acts: Vec<Act> = (0..rng.usize(1..8)).map(|_| any_act(rng)).collect();
                self.scene.act(client, acts);
            }
        }
    }
}

fn run(seed: u64, faults: Faults, coverage: &Coverage) {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut limits = limits();
    limits.session_linger = ms(3000);
    limits.outbox_bytes_max = rng.usize(8_000..200_000);
    let size = RingSize {
        buffers: 1 << rng.u32(2..8),
        buffer_bytes: 1 << rng.u32(6..13),
        completions: 1 << rng.u32(2..10),
        backlog: 4096,
    };
    let tally = TallyLimits {
        connections_max: rng.u32(..3),
        connects_per_s: rng.u32(..4) * 5,
        auth_failures_per_min: rng.u32(..3) * 4,
    };
    let list = AccessList::default();
    let mut scene = Guarded::with(seed, faults, size, limits, list, tally);
    scene.shared = true;
    if rng.bool() {
        scene.world.set_pipe_bytes(rng.usize(3000..50_000));
    }
    let mut trial = Trial {
        scene,
        rng,
        tokens: Vec::new(),
    };
    for _ in 0..STEPS {
        trial.step();
        let pause = ms(trial.rng.u64(..200));
        trial.scene.run_for(pause);
        trial.scene.server.check_reasons();
    }
    let scene = trial.scene;
    scene.world.set_faults(Faults::none());
    let server = &scene.server;
    assert_eq!(server.closed(Reason::Internal), 0, "seed {seed}");
    coverage.add_server(server);
    for &id in &scene.clients {
        coverage.add_record(&scene.record(id));
    }
    scene.finish();
}

fn each(name: &str, count: u64, faults: &Faults) {
    let coverage = Coverage::default();
    seed::each(name, count, |seed| run(seed, faults.clone(), &coverage));
    coverage.require(REACHED);
}

#[test]
fn no_client_receives_what_its_rights_forbid_under_every_fault() {
    let name = "no_client_receives_what_its_rights_forbid_under_every_fault";
    each(name, 120, &Faults::all());
}

#[test]
fn no_client_receives_what_its_rights_forbid_when_only_clients_disconnect() {
    let name = "no_client_receives_what_its_rights_forbid_when_only_clients_disconnect";
    each(name, 100, &Faults::harmless());
}
