//! Loads drawn from a seed: what a dozen devices and services, or some hundreds, might do in
//! half a second.
//!
//! ```text
//!  p/…  plain subscribers        g/…  groups
//!  r/…  retained                 w/…  wills
//!  d/…  deep wildcards           s/…  a schema, in two codecs
//!  svc/steady, svc/flaky         services: of those that stay and answer, and of others
//! ```

use super::super::server::ms;
use super::swarm::Features;
use ringmail::proto::envelope::{Codec, SlowPolicy};
use ringmail::ring::sim::client::traffic::{
    Act, Answering, Filter, Publish, Request, SessionPlan, Traffic,
};
use ringmail::ring::sim::client::{Ending, Reading, Writing};
use std::time::Duration;

const PLAIN: &[&str] = &[
    "p/#", "p/+/x", "p/a/#", "p/a/x", "p/b/+", "r/#", "r/a", "#", "+/a/#",
];
const TOPICS: &[&str] = &["p/a/x", "p/a/y", "p/b/x", "p/b/y", "g/x", "g/y", "p/a"];
const RETAINED: &[&str] = &["r/a", "r/b", "r/c"];
const GROUPS: &[(&str, &str)] = &[("g/#", "one"), ("g/+", "two"), ("g/x", "one")];
const DEEP: &[&str] = &[
    "d/+/+/+/+/+/+/+",
    "d/+/a/+/a/+/a/#",
    "d/a/+/+/b/#",
    "d/b/b/b/b/b/b/b",
    "+/+/+/+/a/#",
];
const CODECS: &[Codec] = &[Codec::Json, Codec::Protobuf];
const POLICIES: &[SlowPolicy] = &[
    SlowPolicy::DropOldest,
    SlowPolicy::DropNewest,
    SlowPolicy::LatestPerKey,
];

/// Limits of what a load may contain.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    pub clients: usize,
    /// The most acts of each client, beside its registrations.
    pub acts_max: usize,
    /// Whether clients cut their connections.
    pub cuts: bool,
    pub slow: bool,
    pub features: Features,
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// The plans of a run; the first client never disconnects and subscribes to everything.
pub fn any(rng: &mut fastrand::Rng, measure: Measure) -> Vec<Traffic> {
    let watcher = Traffic::of([Act::subscribe("#")]);
    let server = Traffic {
        answering: vec![Answering::AtOnce, Answering::After(ms(3)), Answering::Twice],
        ..Traffic::of([Act::serve("svc/steady")])
    };
    let mut plans = vec![watcher, server];
    while plans.len() < measure.clients {
        let index = plans.len();
        plans.push(device(rng, index, measure));
    }
    plans
}

fn device(rng: &mut fastrand::Rng, index: usize, measure: Measure) -> Traffic {
    let features = measure.features;
    let member = (features.groups && rng.u8(..3) == 0).then(|| {
        let (filter, group) = pick(rng, GROUPS);
        Filter::in_group(filter, group)
    });
    // The same policy for all of its filters: which one applies where several match is not judged
    // here.
    let policy = (features.policies && rng.u8(..4) == 0).then(|| pick(rng, POLICIES));
    let mut acts = stands(rng, index, features, member.as_ref());
    if rng.bool() {
        acts.push(Act::AwaitAnswers);
    }
    for _ in 0..rng.usize(0..measure.acts_max) {
        match &member {
            Some(member) if features.leaves && rng.u8(..16) == 0 => {
                acts.push(Act::Unsubscribe(member.clone()));
                acts.push(Act::Subscribe(member.clone()));
            }
            _ => acts.push(any_act(rng, features)),
        }
    }
    for act in &mut acts {
        if let Act::Subscribe(filter) = act {
            filter.policy = policy.filter(|_| filter.group.is_none());
        }
    }
    // Its OK shows that everything before it was taken.
    acts.push(Act::publish("p/a/x"));
    let mut plan = Traffic {
        checksum: rng.bool(),
        think: Duration::from_micros(pick(rng, &[0, 500, 20_000])),
        window: pick(rng, &[1, 4, 32]),
        answering: answering(rng),
        reconnect: (rng.u8(..8) > 0).then_some(ms(40)),
        ..Traffic::of(acts)
    };
    if features.sessions && rng.u8(..10) < 6 {
        plan.session = Some(SessionPlan {
            ack_every: pick(rng, &[1, 3, 10]),
            repeats_all: rng.bool(),
            resumes: None,
        });
    }
    if measure.cuts && rng.u8(..10) < 5 {
        let mut at = 0;
        for _ in 0..rng.usize(1..4) {
            at += rng.u64(1000..300_000);
            let ending = pick(rng, &[Ending::Reset, Ending::Vanish, Ending::Fin]);
            plan.cuts.push((Duration::from_micros(at), ending));
        }
    }
    match rng.u8(..8) {
        0 if measure.slow => {
            plan.reading = Reading::Slow {
                bytes: rng.usize(16..2048),
                every: ms(5),
            };
        }
        1 if measure.slow => plan.acts.push(Act::Read(Reading::Never)),
        2 => {
            plan.writing = Writing::Trickle {
                bytes: rng.usize(16..2048),
                every: ms(1),
            };
        }
        _ => {}
    }
    plan
}

/// What it registers: subscriptions, membership in a group, a service, a will.
fn stands(
    rng: &mut fastrand::Rng,
    index: usize,
    features: Features,
    member: Option<&Filter>,
) -> Vec<Act> {
    let mut acts: Vec<Act> = member.cloned().map(Act::Subscribe).into_iter().collect();
    let mut subscribe = |filter: Filter| acts.push(Act::Subscribe(filter));
    for _ in 0..rng.usize(0..3) {
        let filter = pick(rng, PLAIN);
        if !(member.is_some() && matches_groups(filter)) {
            subscribe(Filter::of(filter));
        }
    }
    if features.deep && rng.bool() {
        for _ in 0..rng.usize(1..4) {
            subscribe(Filter::of(pick(rng, DEEP)));
        }
    }
    if features.codecs && rng.bool() {
        subscribe(Filter::in_codec("s/#", pick(rng, CODECS)));
    }
    if features.services && rng.u8(..4) == 0 {
        acts.push(Act::serve("svc/flaky"));
    }
    if features.wills && rng.u8(..3) == 0 {
        let translated = features.codecs && rng.u8(..3) == 0;
        let (under, codec) = match translated {
            true => ("s", pick(rng, CODECS)),
            false => ("w", Codec::Bytes),
        };
        acts.push(Act::Will(Publish {
            bytes: rng.usize(..100),
            ..Publish::in_codec(&format!("{under}/{index}"), codec)
        }));
    }
    rng.shuffle(&mut acts);
    acts
}

fn matches_groups(filter: &str) -> bool {
    filter == "#"
}

fn answering(rng: &mut fastrand::Rng) -> Vec<Answering> {
    let mut all = vec![
        Answering::AtOnce,
        Answering::After(ms(rng.u64(..50))),
        Answering::Never,
        Answering::Fails(0x1234),
        Answering::Twice,
    ];
    rng.shuffle(&mut all);
    all.truncate(rng.usize(1..4));
    all
}

fn any_request(rng: &mut fastrand::Rng) -> Act {
    let service = pick(rng, &["svc/steady", "svc/flaky", "svc/none", "$sys/echo"]);
    let timeout_ms = match rng.u8(..6) {
        0 | 1 => Some(rng.u32(1..200)),
        // Not for a service that may never answer: the run would not end.
        2 if service != "svc/flaky" => Some(u32::MAX),
        _ => None,
    };
    Act::Request(Request {
        service: service.to_owned(),
        timeout_ms,
        bytes: pick(rng, &[0, 50, 2000]),
    })
}

fn any_topic(rng: &mut fastrand::Rng, features: Features) -> (String, Codec) {
    let choice = rng.u8(..8);
    if features.codecs && choice == 0 {
        return (format!("s/{}", pick(rng, &["a", "b"])), pick(rng, CODECS));
    }
    if features.deep && choice < 3 {
        let levels: Vec<_> = (0..7).map(|_| pick(rng, &["a", "b"])).collect();
        return (format!("d/{}", levels.join("/")), Codec::Bytes);
    }
    (pick(rng, TOPICS).to_owned(), Codec::Bytes)
}

fn any_act(rng: &mut fastrand::Rng, features: Features) -> Act {
    match rng.u8(..32) {
        0 => Act::Pause(ms(rng.u64(..30))),
        1 => Act::AwaitAnswers,
        2 => Act::unsubscribe(pick(rng, &PLAIN[..5])),
        3 => Act::subscribe(pick(rng, &PLAIN[..5])),
        4 if features.services => Act::Unserve(Filter::of("svc/flaky")),
        5 if features.services => Act::serve("svc/flaky"),
        6..=9 if features.services => any_request(rng),
        10..=12 if features.retained => Act::Publish(Publish {
            retain: rng.u8(..4) > 0,
            empty: rng.u8(..6) == 0,
            confirmed: rng.u8(..3) > 0,
            bytes: pick(rng, &[0, 20, 500]),
            ..Publish::of(pick(rng, RETAINED))
        }),
        13 if features.wills => Act::WithdrawWill,
        _ => {
            let (topic, codec) = any_topic(rng, features);
            Act::Publish(Publish {
                confirmed: rng.u8(..3) > 0,
                bytes: pick(rng, &[0, 20, 500, 6000]),
                expires_ms: (features.expiry && rng.u8(..10) == 0).then(|| rng.u32(..50)),
                key: (features.policies && rng.u8(..4) == 0).then(|| vec![rng.u8(..3)]),
                ..Publish::in_codec(&topic, codec)
            })
        }
    }
}
