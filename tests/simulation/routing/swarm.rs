//! Swarm testing: which features, faults, limits and sizes a seed's run has, each on or off at
//! random, and sizes tiny or as they are by default. With all of them on in every run, none would
//! show what it does without the others, and most of the time would go to the same things.
//!
//! Whatever is drawn has a name, by which a failing run can do without it (`shrink`).

use super::super::server::{Guards, limits, ms};
use super::judge::Terms;
use super::load::Measure;
use super::shrink::Only;
use ringmail::auth::bucket::Limit;
use ringmail::base::limits::CHUNK_BYTES;
use ringmail::broker::{Demand, Limits, LinkSize, Pace, Rates, Schemas};
use ringmail::codec::Descriptors;
use ringmail::proto::error::Code;
use ringmail::ring::sim::{Faults, RingSize};
use std::sync::Arc;
use std::time::Duration;

const SITE: &[u8] = include_bytes!("../../schema/site.binpb");
/// The server's MESSAGE_MAX by default.
const MESSAGE_MAX: u32 = 1 << 20;

/// How much memory and how many slots there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Ample,
    /// Outboxes, session buffers and lingers too small for the load; in every other run the shard's
    /// memory as well.
    Narrow,
    /// Enough of everything, and half of the messages are traced: more spans than there is room
    /// for.
    Traced,
}

/// What one client goes on doing when everything else is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It does not read.
    Deaf,
    /// It never acknowledges what its session receives.
    Forgetful,
    /// It publishes without end.
    Floods,
    /// It sends half a message, then nothing.
    Half,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The faults stop and the clients behave, but for one.
    Heal(Option<Bad>),
    /// The server drains while everything goes on.
    Drain,
}

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What clients do beside publishing to plain subscribers.
        #[derive(Clone, Copy, Debug)]
        pub struct Features { $($(#[$doc])* pub $name: bool,)* }

        impl Features {
            fn any(rng: &mut fastrand::Rng) -> Features {
                Features { $($name: rng.u8(..4) > 0,)* }
            }

            /// The names of the features that are on.
            pub fn on(self) -> impl Iterator<Item = &'static str> {
                let all = [$((stringify!($name), self.$name),)*];
                all.into_iter().filter(|one| one.1).map(|one| one.0)
            }

            fn switch_off(&mut self, name: &str) {
                $(if name == stringify!($name) { self.$name = false; })*
            }
        }
    };
}

features! {
    groups,
    /// Members leave their group and join it again.
    leaves,
    retained,
    wills,
    services,
    sessions,
    /// A topic with a schema.
    codecs,
    /// Topics of eight levels, and filters that may match each level in two ways.
    deep,
    /// Names of 255 bytes, and of 32 levels.
    long,
    /// Headers that only clients interpret.
    headers,
    /// Messages that are shared rather than copied.
    large,
    /// Slow policies other than the server's.
    policies,
    expiry,
    /// Clients that accept small messages only.
    maxima,
    /// Ids that reach the end of their range.
    wraps,
    /// An operator ends connections.
    kicks,
    /// Silent connections take all remaining slots.
    strangers,
    /// Clients authenticate.
    credentials,
    /// Credentials expire and are revoked.
    short_lived,
    /// The wall clock is stepped by an hour.
    clock_steps,
}

macro_rules! limits {
    ($($name:ident,)*) => {
        /// Which limits are tiny.
        #[derive(Clone, Copy, Debug)]
        pub struct Tiny { $(pub $name: bool,)* }

        impl Tiny {
            /// One in four, or none.
            fn any(rng: &mut fastrand::Rng) -> Tiny {
                let some = rng.u8(..3) > 0;
                Tiny { $($name: rng.u8(..4) == 0 && some,)* }
            }

            pub fn on(self) -> impl Iterator<Item = &'static str> {
                let all = [$((concat!("tiny_", stringify!($name)), self.$name),)*];
                all.into_iter().filter(|one| one.1).map(|one| one.0)
            }

            fn switch_off(&mut self, name: &str) {
                $(if name == concat!("tiny_", stringify!($name)) { self.$name = false; })*
            }
        }
    };
}

limits! {
    requests,
    calls,
    subscriptions,
    waiting,
    timeouts,
    message,
    rates,
    links,
    turns,
    ring,
    pipe,
}

/// One seed's run.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub room: Room,
    pub shards: usize,
    pub faults: Faults,
    pub tiny: Tiny,
    pub size: RingSize,
    pub limits: Limits,
    pub link: LinkSize,
    pub completions_per_turn: usize,
    /// The server's MESSAGE_MAX.
    pub message_max: u32,
    pub measure: Measure,
    /// `None`: the world's.
    pub pipe_bytes: Option<usize>,
    /// How long the clients run before everything is healed.
    pub time: Duration,
    pub finish: Finish,
    /// The clients that take part, and how many acts of each; `None`: all.
    pub clients: Option<Vec<usize>>,
    pub acts: Option<usize>,
}

impl Swarm {
    /// Draws a run whose faults are among these, without what `only` leaves out.
    pub fn any(rng: &mut fastrand::Rng, faults: Faults, room: Room, only: &Only) -> Swarm {
        let mut features = Features::any(rng);
        // Otherwise they would dominate most runs.
        features.strangers &= rng.u8(..3) == 0;
        features.short_lived &= rng.u8(..3) == 0;
        features.maxima &= rng.bool();
        let shards = [1, 2, 3, 5][rng.usize(..4)];
        let (clients, acts_max) = any_size_of_load(rng);
        let mut faults = any_of(rng, faults);
        let mut tiny = Tiny::any(rng);
        let finish = any_finish(rng);
        for name in &only.without {
            features.switch_off(name);
            tiny.switch_off(name);
            switch_off_fault(&mut faults, name);
        }
        let mut swarm = Swarm {
            room,
            shards,
            faults,
            tiny,
            size: any_size(&mut rng.fork(), tiny.ring),
            limits: any_limits(&mut rng.fork(), room, tiny),
            link: any_link(&mut rng.fork(), tiny.links),
            completions_per_turn: any_small(&mut rng.fork(), tiny.turns, 64),
            message_max: any_message_max(&mut rng.fork(), tiny.message),
            measure: Measure {
                clients,
                acts_max,
                cuts: rng.u8(..4) > 0,
                slow: rng.bool(),
                features,
                bytes_max: 0,
                forgetful: finish == Finish::Heal(Some(Bad::Forgetful)),
            },
            pipe_bytes: any_pipe(&mut rng.fork(), tiny.pipe),
            time: ms(rng.u64(100..700)),
            finish,
            clients: only.clients.clone(),
            acts: only.acts,
        };
        swarm.edit(only);
        swarm.measure.bytes_max = swarm.message_max as usize - 1000;
        if room == Room::Narrow {
            // What one publication to all takes is to be little beside a turn's bound.
            let most = match clients {
                0..20 => swarm.limits.outbox_bytes_max / 2,
                _ => 500,
            };
            swarm.measure.bytes_max = swarm.measure.bytes_max.min(most * 3 / 2);
            // Each connection that is sent something holds a chunk, and all may be in one turn.
            let least = clients * CHUNK_BYTES;
            let max = &mut swarm.limits.outbox_bytes_shard_max;
            *max = least.max(*max);
        }
        if features.strangers {
            swarm.limits.connections_max = clients.div_ceil(swarm.shards) as u32 + 8;
        }
        swarm
    }

    fn edit(&mut self, only: &Only) {
        let is_without = |what: &str| only.without.iter().any(|name| name == what);
        self.shards = only.shards.unwrap_or(self.shards);
        self.time = only.time_ms.map_or(self.time, ms);
        self.measure.cuts &= !is_without("cuts");
        self.measure.slow &= !is_without("slow");
        if is_without("finish") {
            self.finish = Finish::Heal(None);
        }
        if is_without("pace") {
            self.limits.pace = Pace::default();
        }
    }

    /// The names of all that the run can do without.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.measure.features.on().chain(self.tiny.on()).collect();
        let mut faults = self.faults.clone();
        let drawn = faults_by_name(&mut faults);
        names.extend(
            drawn
                .into_iter()
                .filter(|one| *one.1 > 0.0)
                .map(|one| one.0),
        );
        names.extend(["pace", "finish"]);
        names.extend(self.measure.cuts.then_some("cuts"));
        names.extend(self.measure.slow.then_some("slow"));
        names
    }

    pub fn guards(&self) -> Guards {
        let demand = Arc::<Demand>::default();
        let message_max = self.message_max;
        let make = move || {
            let schema = Descriptors::decode(SITE).unwrap().schema("site.Reading");
            let topics = vec![("s/#".to_owned(), schema.unwrap())];
            Schemas::new(topics, demand.clone(), message_max)
        };
        Guards {
            trace: (self.room == Room::Traced).then_some((0.5, 64)),
            schemas: self.measure.features.codecs.then(|| Arc::new(make) as _),
            link: self.link,
            completions_per_turn: Some(self.completions_per_turn),
            ..Guards::default()
        }
    }

    /// What its setup allows the server.
    pub fn terms(&self) -> Terms {
        let features = self.measure.features;
        let expires = features.credentials && features.short_lived;
        let mut may_end = Vec::new();
        if expires {
            may_end.extend([Code::AuthExpired, Code::AuthFailed, Code::Revoked]);
        }
        Terms {
            ample: self.room != Room::Narrow,
            crowded: features.strangers,
            may_end,
            loses_sessions: expires || self.tiny.waiting || self.finish == Finish::Drain,
            few_calls: self.tiny.calls || self.tiny.requests,
            limits_rates: self.tiny.rates,
            timeout: self.limits.request_timeout,
            timeout_max: self.limits.request_timeout_max,
            drained: self.finish == Finish::Drain,
            bad: None,
            bad_garbles: false,
        }
    }
}

fn any_finish(rng: &mut fastrand::Rng) -> Finish {
    match rng.u8(..12) {
        0 | 1 => Finish::Drain,
        2 => Finish::Heal(Some(Bad::Deaf)),
        3 => Finish::Heal(Some(Bad::Forgetful)),
        4 => Finish::Heal(Some(Bad::Floods)),
        5 => Finish::Heal(Some(Bad::Half)),
        _ => Finish::Heal(None),
    }
}

/// How many clients, and the most acts of each. Few large loads: each takes as long as twenty
/// others.
fn any_size_of_load(rng: &mut fastrand::Rng) -> (usize, usize) {
    match rng.u8(..96) {
        0 | 1 => (rng.usize(260..400), 3),
        2..5 => (rng.usize(40..120), 8),
        5..20 => (rng.usize(3..5), 60),
        _ => (rng.usize(4..14), 40),
    }
}

fn any_small(rng: &mut fastrand::Rng, tiny: bool, usual: usize) -> usize {
    match tiny {
        true => rng.usize(1..6),
        false => usual,
    }
}

fn any_link(rng: &mut fastrand::Rng, tiny: bool) -> LinkSize {
    match tiny {
        true => LinkSize {
            batches: rng.usize(1..4),
            bytes: rng.usize(100..20_000),
        },
        false => LinkSize::default(),
    }
}

fn any_message_max(rng: &mut fastrand::Rng, tiny: bool) -> u32 {
    match tiny {
        true => rng.u32(1200..8000),
        false => MESSAGE_MAX,
    }
}

fn any_pipe(rng: &mut fastrand::Rng, tiny: bool) -> Option<usize> {
    match rng.u8(..3) {
        _ if tiny => Some(rng.usize(200..1500)),
        0 => None,
        // The kernel may hold more for a group's member than for one that keeps up.
        1 => Some(rng.usize(300_000..1_000_000)),
        _ => Some(rng.usize(2000..50_000)),
    }
}

fn any_limits(rng: &mut fastrand::Rng, room: Room, tiny: Tiny) -> Limits {
    let mut limits = limits();
    limits.session_linger = ms(5000);
    limits.pace = any_pace(rng, tiny.turns);
    if room == Room::Narrow {
        limits.outbox_bytes_max = rng.usize(4_000..60_000);
        if rng.bool() {
            limits.outbox_bytes_shard_max = rng.usize(100_000..1_000_000);
        }
        limits.session_buffer_bytes_max = rng.usize(500..30_000);
        limits.session_linger = ms([20, 100, 5000][rng.usize(..3)]);
    }
    if tiny.requests {
        limits.requests_open_max = rng.u32(1..4);
    }
    if tiny.calls {
        limits.calls_open_max = rng.u32(1..8);
    }
    if tiny.subscriptions {
        limits.subscriptions_max = rng.u32(1..4);
    }
    if tiny.waiting {
        limits.sessions_waiting_max = rng.u32(1..4);
    }
    if tiny.timeouts {
        limits.request_timeout = ms(rng.u64(1..100));
        limits.request_timeout_max = ms(rng.u64(1..200));
    }
    if tiny.rates {
        limits.rates = Rates {
            messages: Limit::per_second(rng.u64(50..1000), rng.u64(5..50)),
            bytes: Limit::per_second(rng.u64(100_000..1_000_000), 20_000),
        };
    }
    limits
}

/// Draws limits so small that even a few retained messages are delivered in slices, and in every
/// other run also fan-outs to a few subscribers.
fn any_pace(rng: &mut fastrand::Rng, tiny: bool) -> Pace {
    let mut pace = Pace {
        retained_looks: rng.usize(1..4),
        ..Pace::default()
    };
    if rng.bool() {
        (pace.percent, pace.fanout_min) = (rng.usize(1..4), rng.usize(1..6));
        // Then most matches take more than one step.
        pace.match_looks = rng.usize(1..8);
    }
    if tiny {
        (pace.messages, pace.answers) = (rng.u32(1..4), rng.u32(2..5));
        pace.legacies = rng.usize(1..3);
    }
    pace
}

fn any_size(rng: &mut fastrand::Rng, tiny: bool) -> RingSize {
    let size = RingSize {
        buffers: 1 << rng.u32(2..8),
        buffer_bytes: 1 << rng.u32(6..13),
        completions: 1 << rng.u32(2..10),
        backlog: 4096,
    };
    match tiny {
        true => RingSize {
            buffers: 1,
            buffer_bytes: 1 << rng.u32(4..7),
            completions: rng.usize(1..3),
            backlog: 4096,
        },
        false => size,
    }
}

fn faults_by_name(faults: &mut Faults) -> [(&'static str, &mut f32); 19] {
    [
        ("short_receive", &mut faults.short_receive),
        ("short_send", &mut faults.short_send),
        ("slow_send", &mut faults.slow_send),
        ("late", &mut faults.late),
        ("reorder", &mut faults.reorder),
        ("no_buffers", &mut faults.no_buffers),
        ("multishot_ends", &mut faults.multishot_ends),
        ("late_cancel", &mut faults.late_cancel),
        ("accept_full", &mut faults.accept_full),
        ("accept_aborts", &mut faults.accept_aborts),
        ("accept_fails", &mut faults.accept_fails),
        ("breaks", &mut faults.breaks),
        ("receive_fails", &mut faults.receive_fails),
        ("send_fails", &mut faults.send_fails),
        ("submits_some", &mut faults.submits_some),
        ("wakes", &mut faults.wakes),
        ("no_peer_address", &mut faults.no_peer_address),
        ("segments", &mut faults.segments),
        ("reset_discards", &mut faults.reset_discards),
    ]
}

/// Keeps or drops each of these faults at random.
fn any_of(rng: &mut fastrand::Rng, mut faults: Faults) -> Faults {
    for (_, chance) in faults_by_name(&mut faults) {
        if rng.u8(..3) == 0 {
            *chance = 0.0;
        }
    }
    faults
}

fn switch_off_fault(faults: &mut Faults, name: &str) {
    for (of, chance) in faults_by_name(faults) {
        if of == name {
            *chance = 0.0;
        }
    }
}
