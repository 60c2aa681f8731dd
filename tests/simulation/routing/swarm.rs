//! Swarm testing: which features, faults, limits and sizes a seed's run has, each on or off at
//! random. With all of them on in every run, none would show what it does without the others, and
//! most of the time would go to the same things.

use super::super::server::{Guards, limits, ms};
use super::load::Measure;
use ringmail::broker::{Demand, Limits, Pace, Schemas};
use ringmail::codec::Descriptors;
use ringmail::ring::sim::{Faults, RingSize};
use std::sync::Arc;
use std::time::Duration;

const SITE: &[u8] = include_bytes!("../../schema/site.binpb");

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
    /// Slow policies other than the server's.
    policies,
    expiry,
    /// An operator ends connections.
    kicks,
    /// Silent connections take all remaining slots.
    strangers,
}

/// One seed's run.
#[derive(Clone, Debug)]
pub struct Swarm {
    pub room: Room,
    pub shards: usize,
    pub faults: Faults,
    pub size: RingSize,
    pub limits: Limits,
    pub measure: Measure,
    /// `None`: the world's.
    pub pipe_bytes: Option<usize>,
    /// How long the clients run before everything is healed.
    pub time: Duration,
}

impl Swarm {
    /// Draws a run whose faults are among these.
    pub fn any(rng: &mut fastrand::Rng, faults: Faults, room: Room) -> Swarm {
        let mut features = Features::any(rng);
        // Otherwise they would dominate most runs.
        features.strangers &= rng.u8(..3) == 0;
        let shards = [1, 2, 3, 5][rng.usize(..4)];
        // Few large ones: each takes as long as twenty others.
        let is_large = rng.u8(..48) == 0;
        let (clients, acts_max) = match is_large {
            true => (rng.usize(260..400), 3),
            false => (rng.usize(4..14), 40),
        };
        let mut limits = any_limits(rng, room);
        if features.strangers {
            limits.connections_max = clients.div_ceil(shards) as u32 + 8;
        }
        Swarm {
            room,
            shards,
            faults: any_of(rng, faults),
            size: any_size(rng),
            limits,
            measure: Measure {
                clients,
                acts_max,
                cuts: rng.u8(..4) > 0,
                slow: rng.bool(),
                features,
            },
            pipe_bytes: rng.bool().then(|| rng.usize(2000..50_000)),
            time: ms(rng.u64(100..700)),
        }
    }

    pub fn guards(&self) -> Guards {
        let demand = Arc::<Demand>::default();
        let make = move || {
            let schema = Descriptors::decode(SITE).unwrap().schema("site.Reading");
            let topics = vec![("s/#".to_owned(), schema.unwrap())];
            Schemas::new(topics, demand.clone(), 1 << 20)
        };
        Guards {
            trace: (self.room == Room::Traced).then_some((0.5, 64)),
            schemas: self.measure.features.codecs.then(|| Arc::new(make) as _),
            ..Guards::default()
        }
    }
}

fn any_limits(rng: &mut fastrand::Rng, room: Room) -> Limits {
    let mut limits = limits();
    limits.session_linger = ms(5000);
    limits.pace = any_pace(rng);
    if room == Room::Narrow {
        limits.outbox_bytes_max = rng.usize(4_000..60_000);
        if rng.bool() {
            limits.outbox_bytes_shard_max = rng.usize(100_000..1_000_000);
        }
        limits.session_buffer_bytes_max = rng.usize(500..30_000);
        limits.session_linger = ms([20, 100, 5000][rng.usize(..3)]);
    }
    limits
}

/// Draws limits so small that even a few retained messages are delivered in slices, and in every
/// other run also fan-outs to a few subscribers.
fn any_pace(rng: &mut fastrand::Rng) -> Pace {
    let mut pace = Pace {
        retained_looks: rng.usize(1..4),
        ..Pace::default()
    };
    if rng.bool() {
        (pace.percent, pace.fanout_min) = (rng.usize(1..4), rng.usize(1..6));
        // Then most matches take more than one step.
        pace.match_looks = rng.usize(1..8);
    }
    pace
}

fn any_size(rng: &mut fastrand::Rng) -> RingSize {
    RingSize {
        buffers: 1 << rng.u32(2..8),
        buffer_bytes: 1 << rng.u32(6..13),
        completions: 1 << rng.u32(2..10),
        backlog: 4096,
    }
}

/// Keeps or drops each of these faults at random.
fn any_of(rng: &mut fastrand::Rng, mut faults: Faults) -> Faults {
    for chance in [
        &mut faults.short_receive,
        &mut faults.short_send,
        &mut faults.slow_send,
        &mut faults.late,
        &mut faults.reorder,
        &mut faults.no_buffers,
        &mut faults.multishot_ends,
        &mut faults.late_cancel,
        &mut faults.accept_full,
        &mut faults.accept_aborts,
        &mut faults.breaks,
        &mut faults.no_peer_address,
        &mut faults.segments,
        &mut faults.reset_discards,
    ] {
        if rng.u8(..3) == 0 {
            *chance = 0.0;
        }
    }
    faults
}
