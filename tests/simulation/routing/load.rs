//! Loads drawn from a seed: what a dozen devices and services might do in half a second.
//!
//! ```text
//!  p/…  plain subscribers        g/…  groups
//!  r/…  retained                 w/…  wills
//!  svc/steady, svc/flaky         services: of those that stay and answer, and of others
//! ```

use super::super::server::ms;
use ringmail::ring::sim::client::traffic::{
    Act, Answering, Filter, Keeping, Publish, Request, Traffic,
};
use ringmail::ring::sim::client::{Ending, Reading, Writing};
use std::time::Duration;

const PLAIN: &[&str] = &[
    "p/#", "p/+/x", "p/a/#", "p/a/x", "p/b/+", "r/#", "r/a", "#", "+/a/#",
];
const TOPICS: &[&str] = &["p/a/x", "p/a/y", "p/b/x", "p/b/y", "g/x", "g/y", "p/a"];
const RETAINED: &[&str] = &["r/a", "r/b", "r/c"];
const GROUPS: &[(&str, &str)] = &[("g/#", "one"), ("g/+", "two"), ("g/x", "one")];

/// What a load may contain.
#[derive(Clone, Copy)]
pub struct Measure {
    pub clients: usize,
    /// Connections that the clients break.
    pub cuts: bool,
    pub slow: bool,
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

/// The plans of a run; the first never breaks off and watches everything.
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
    let mut acts = stands(rng, index);
    if rng.bool() {
        acts.push(Act::Settle);
    }
    for _ in 0..rng.usize(0..40) {
        acts.push(any_act(rng));
    }
    // What is confirmed behind all tells that all was taken.
    acts.push(Act::publish("p/a/x"));
    let mut plan = Traffic {
        checksum: rng.bool(),
        think: Duration::from_micros(pick(rng, &[0, 500, 20_000])),
        window: pick(rng, &[1, 4, 32]),
        answering: answering(rng),
        reconnect: (rng.u8(..8) > 0).then_some(ms(40)),
        ..Traffic::of(acts)
    };
    if rng.u8(..10) < 6 {
        plan.session = Some(Keeping {
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

/// What it stands for: subscriptions, a place in a group, a service, a will.
fn stands(rng: &mut fastrand::Rng, index: usize) -> Vec<Act> {
    let mut acts = Vec::new();
    let in_group = rng.u8(..3) == 0;
    if in_group {
        let (filter, group) = pick(rng, GROUPS);
        acts.push(Act::Subscribe(Filter::in_group(filter, group)));
    }
    for _ in 0..rng.usize(0..3) {
        let filter = pick(rng, PLAIN);
        if !(in_group && matches_groups(filter)) {
            acts.push(Act::subscribe(filter));
        }
    }
    if rng.u8(..4) == 0 {
        acts.push(Act::serve("svc/flaky"));
    }
    if rng.u8(..3) == 0 {
        acts.push(Act::Will(Publish {
            bytes: rng.usize(..100),
            ..Publish::of(&format!("w/{index}"))
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

fn any_act(rng: &mut fastrand::Rng) -> Act {
    match rng.u8(..32) {
        0 => Act::Pause(ms(rng.u64(..30))),
        1 => Act::Settle,
        2 => Act::unsubscribe(pick(rng, &PLAIN[..5])),
        3 => Act::subscribe(pick(rng, &PLAIN[..5])),
        4 => Act::Unserve(Filter::of("svc/flaky")),
        5 => Act::serve("svc/flaky"),
        6..=9 => Act::Request(Request {
            service: pick(rng, &["svc/steady", "svc/flaky", "svc/none", "$sys/echo"]).to_owned(),
            timeout_ms: (rng.u8(..3) == 0).then(|| rng.u32(1..200)),
            bytes: pick(rng, &[0, 50, 2000]),
        }),
        10..=12 => Act::Publish(Publish {
            retain: rng.u8(..4) > 0,
            empty: rng.u8(..6) == 0,
            confirmed: rng.u8(..3) > 0,
            bytes: pick(rng, &[0, 20, 500]),
            ..Publish::of(pick(rng, RETAINED))
        }),
        _ => Act::Publish(Publish {
            confirmed: rng.u8(..3) > 0,
            bytes: pick(rng, &[0, 20, 500, 6000]),
            expires_ms: (rng.u8(..20) == 0).then(|| rng.u32(..50)),
            ..Publish::of(pick(rng, TOPICS))
        }),
    }
}
