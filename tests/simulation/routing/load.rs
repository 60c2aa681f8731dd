//! Loads drawn from a seed: what a dozen devices and services, or some hundreds, might do in
//! half a second.
//!
//! ```text
//!  p/…  plain subscribers        g/…  groups
//!  r/…  retained                 w/…  wills
//!  d/…  deep wildcards           s/…  a schema, in two codecs
//!  l/…  the longest names
//!  svc/steady, svc/flaky         services: of those that stay and answer, and of others
//! ```

use super::super::server::ms;
use super::swarm::{Features, Swarm};
use ringmail::proto::envelope::{Codec, SlowPolicy, header};
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

/// The ids of headers that no server interprets, but checks; TRACEPARENT may be replaced.
const HEADERS: &[u8] = &[
    header::TRACEPARENT,
    header::SCHEMA,
    header::TIMESTAMP_NS,
    header::CONTENT_TYPE,
    header::REPLY_TO,
    header::CORRELATION,
    header::PROPERTY,
    header::PROPERTY,
    header::APPLICATION + 1,
];
/// Bytes of a message's payload: some are copied, some shared between their subscribers.
const BYTES: &[usize] = &[0, 20, 500, 6000];
const BYTES_LARGE: &[usize] = &[16_500, 30_000, 70_000];

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
    /// The largest payload, in whatever codec.
    pub bytes_max: usize,
    /// The third client keeps a session and never acknowledges.
    pub forgetful: bool,
}

impl Measure {
    fn bytes(&self, rng: &mut fastrand::Rng, usual: &[usize]) -> usize {
        let large = self.features.large && rng.u8(..24) == 0;
        let bytes = pick(rng, if large { BYTES_LARGE } else { usual });
        // As JSON it is larger by a third.
        bytes.min(self.bytes_max * 2 / 3)
    }
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// The plans of a run, and when each client starts; the first client never disconnects and
/// subscribes to everything. Each plan is drawn for itself, so that the others are what they are
/// without it.
pub fn any(seed: u64, swarm: &Swarm) -> Vec<(Duration, Traffic)> {
    let draw = |index: usize| {
        let own = seed.wrapping_add(index as u64 + 1);
        let mut rng = fastrand::Rng::with_seed(own.wrapping_mul(0xD134_2543_DE82_EF95));
        let start = ms(rng.u64(..50));
        let plan = match index {
            0 => Traffic::of([Act::subscribe("#")]),
            1 => Traffic {
                answering: vec![Answering::AtOnce, Answering::After(ms(3)), Answering::Twice],
                ..Traffic::of([Act::serve("svc/steady")])
            },
            _ => device(&mut rng, index, swarm),
        };
        (start, plan)
    };
    match &swarm.clients {
        Some(some) => some.iter().map(|&index| draw(index)).collect(),
        None => (0..swarm.measure.clients).map(draw).collect(),
    }
}

fn device(rng: &mut fastrand::Rng, index: usize, swarm: &Swarm) -> Traffic {
    let measure = swarm.measure;
    let features = measure.features;
    let member = (features.groups && rng.u8(..3) == 0).then(|| {
        let (filter, group) = pick(rng, GROUPS);
        Filter::in_group(filter, group)
    });
    // The same policy for all of its filters: which one applies where several match is not judged
    // here.
    let policy = (features.policies && rng.u8(..4) == 0).then(|| pick(rng, POLICIES));
    let mut acts = stands(rng, index, measure, member.as_ref());
    let standing = acts.len();
    if rng.bool() {
        acts.push(Act::AwaitAnswers);
    }
    for _ in 0..rng.usize(0..measure.acts_max) {
        match &member {
            Some(member) if features.leaves && rng.u8(..16) == 0 => {
                acts.push(Act::Unsubscribe(member.clone()));
                acts.push(Act::Subscribe(member.clone()));
            }
            _ => acts.push(any_act(rng, measure)),
        }
    }
    acts.truncate(swarm.acts.map_or(usize::MAX, |most| standing + most));
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
            // One that repeats only what is beyond the last confirmed id would take what was
            // refused before that for confirmed.
            repeats_all: rng.bool() || features.codecs || swarm.tiny.rates,
            resumes: None,
        });
    }
    if measure.forgetful && index == 2 {
        plan.session = Some(SessionPlan {
            ack_every: 0,
            ..SessionPlan::default()
        });
    }
    if features.maxima && rng.u8(..3) == 0 {
        plan.message_max = Some(rng.u32(1024..10_000));
    }
    if features.codecs && rng.u8(..4) == 0 {
        plan.codec = Some(pick(rng, CODECS));
    }
    if features.wraps && rng.bool() {
        plan.first_id = rng.u32(..20).wrapping_sub(10).max(1);
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
    measure: Measure,
    member: Option<&Filter>,
) -> Vec<Act> {
    let features = measure.features;
    let mut acts: Vec<Act> = member.cloned().map(Act::Subscribe).into_iter().collect();
    let mut subscribe = |filter: Filter| acts.push(Act::Subscribe(filter));
    for _ in 0..rng.usize(0..3) {
        let filter = pick(rng, PLAIN);
        if !(member.is_some() && matches_groups(filter)) {
            let headers = start(rng, features);
            subscribe(Filter {
                headers,
                ..Filter::of(filter)
            });
        }
    }
    if features.deep && rng.bool() {
        for _ in 0..rng.usize(1..4) {
            subscribe(Filter::of(pick(rng, DEEP)));
        }
    }
    if features.long && rng.bool() {
        let (long, deep) = long_names();
        let filter = ["l/#".to_owned(), long, deep.replace("/a", "/+"), deep];
        subscribe(Filter::of(&filter[rng.usize(..4)]));
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
            bytes: measure.bytes(rng, &[0, 20, 99]),
            headers: headers(rng, features),
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

fn any_request(rng: &mut fastrand::Rng, measure: Measure) -> Act {
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
        bytes: measure.bytes(rng, &[0, 50, 2000]),
        headers: headers(rng, measure.features),
    })
}

fn any_topic(rng: &mut fastrand::Rng, features: Features) -> (String, Codec) {
    let choice = rng.u8(..8);
    if features.codecs && choice == 0 {
        return (format!("s/{}", pick(rng, &["a", "b"])), pick(rng, CODECS));
    }
    if features.codecs && choice == 1 && rng.u8(..4) == 0 {
        // It does not conform.
        return ("s/a".to_owned(), Codec::Bytes);
    }
    if features.long && choice == 2 && rng.bool() {
        let (long, deep) = long_names();
        return (if rng.bool() { long } else { deep }, Codec::Bytes);
    }
    if features.deep && choice < 3 {
        let levels: Vec<_> = (0..7).map(|_| pick(rng, &["a", "b"])).collect();
        return (format!("d/{}", levels.join("/")), Codec::Bytes);
    }
    (pick(rng, TOPICS).to_owned(), Codec::Bytes)
}

fn any_act(rng: &mut fastrand::Rng, measure: Measure) -> Act {
    let features = measure.features;
    match rng.u8(..32) {
        0 => Act::Pause(ms(rng.u64(..30))),
        1 => Act::AwaitAnswers,
        2 => Act::unsubscribe(pick(rng, &PLAIN[..5])),
        3 => Act::Subscribe(Filter {
            headers: start(rng, features),
            ..Filter::of(pick(rng, &PLAIN[..5]))
        }),
        4 if features.services => Act::Unserve(Filter::of("svc/flaky")),
        5 if features.services => Act::serve("svc/flaky"),
        6..=9 if features.services => any_request(rng, measure),
        10..=12 if features.retained => Act::Publish(Publish {
            retain: rng.u8(..4) > 0,
            empty: rng.u8(..6) == 0,
            confirmed: rng.u8(..3) > 0,
            bytes: measure.bytes(rng, &BYTES[..3]),
            headers: headers(rng, features),
            ..Publish::of(pick(rng, RETAINED))
        }),
        13 if features.wills => Act::WithdrawWill,
        _ => {
            let (topic, codec) = any_topic(rng, features);
            let is_refused = codec == Codec::Bytes && topic.starts_with("s/");
            Act::Publish(Publish {
                confirmed: rng.u8(..3) > 0 || is_refused,
                bytes: measure.bytes(rng, BYTES),
                headers: headers(rng, features),
                expires_ms: (features.expiry && rng.u8(..10) == 0).then(|| rng.u32(..50)),
                key: (features.policies && rng.u8(..4) == 0).then(|| vec![rng.u8(..3)]),
                ..Publish::in_codec(&topic, codec)
            })
        }
    }
}

/// A name of 255 bytes, and one of 32 levels.
fn long_names() -> (String, String) {
    (
        format!("l/{}", "x".repeat(253)),
        format!("l{}", "/a".repeat(31)),
    )
}

/// Where a SUBSCRIBE asks to begin: no matter where nothing is stored.
fn start(rng: &mut fastrand::Rng, features: Features) -> Vec<(u8, Vec<u8>)> {
    match features.headers && rng.u8(..4) == 0 {
        true => vec![(header::START, vec![4, 0, 0, 0, rng.u8(..3)])],
        false => Vec::new(),
    }
}

fn headers(rng: &mut fastrand::Rng, features: Features) -> Vec<(u8, Vec<u8>)> {
    if !features.headers || rng.bool() {
        return Vec::new();
    }
    let some = HEADERS.iter().filter(|_| rng.u8(..3) == 0);
    let some: Vec<u8> = some.copied().collect();
    some.into_iter()
        .map(|key| (key, header_value(rng, key)))
        .collect()
}

fn header_value(rng: &mut fastrand::Rng, key: u8) -> Vec<u8> {
    let mut noise = vec![0; rng.usize(..40)];
    rng.fill(&mut noise);
    match key {
        header::TRACEPARENT => {
            noise.resize(25, 7);
            noise
        }
        header::TIMESTAMP_NS => rng.u64(..).to_be_bytes().to_vec(),
        header::SCHEMA | header::CONTENT_TYPE => "é".repeat(rng.usize(..20)).into_bytes(),
        header::REPLY_TO => b"p/a/x".to_vec(),
        header::PROPERTY => b"\x04nameis told".to_vec(),
        _ => noise,
    }
}
