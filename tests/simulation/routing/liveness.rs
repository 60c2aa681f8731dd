//! Promise 9: whatever some clients do, on whatever shard, every operation of all others is
//! answered within 10 ms. Here work takes virtual time (`World::keep_busy`), and the lanes have
//! their real shares.
//!
//! Each seed draws its floods: none of them waits for answers, and each has more to do than there
//! is time for.

use super::super::seed;
use super::super::server::{Guards, limits, ms};
use super::judge::Evidence;
use super::scene::Scene;
use ringmail::ring::sim::client::traffic::{
    Act, Answering, Command, Filter, Publish, Request, Traffic,
};
use ringmail::ring::sim::client::{ClientId, Ending, Opening, Plan, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

const BOUND: Duration = ms(10);
/// All floods last this long: the other clients need less.
const TIME: Duration = ms(60);

/// What some clients do without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flood {
    /// Publications without confirmation, to a few subscribers.
    Publishes,
    /// The same, to three hundred subscribers, to whom they are delivered at once unless there are
    /// many on one shard.
    Many,
    /// To so many subscribers that they are delivered over several turns.
    Crowds,
    /// Publications whose topic matches filters in two ways at each level.
    Wide,
    /// REQUESTs whose name matches filters of services in two ways at each level.
    WideRequests,
    Retain,
    /// The same, to three hundred.
    RetainMany,
    /// SUBSCRIBEs to ten thousand retained topics.
    Replays,
    /// SUBSCRIBE and UNSUBSCRIBE, which go to all shards.
    Churn,
    /// REQUESTs that no server answers, and ones without a server.
    Requests,
    Wills,
    /// Messages for clients that do not read.
    Deaf,
    /// Connections with many subscriptions that disconnect and reconnect.
    Ends,
    /// Connections that send nothing.
    Strangers,
}

/// The floods that seeds draw from.
const DRAWN: [Flood; 14] = [
    Flood::Publishes,
    Flood::Many,
    Flood::Crowds,
    Flood::Wide,
    Flood::Retain,
    Flood::RetainMany,
    Flood::Replays,
    Flood::Churn,
    Flood::Requests,
    Flood::Wills,
    Flood::Deaf,
    Flood::Ends,
    Flood::Strangers,
    Flood::WideRequests,
];

fn unconfirmed(topic: String, bytes: usize) -> Act {
    Act::Publish(Publish {
        confirmed: false,
        bytes,
        ..Publish::of(&topic)
    })
}

fn flooding(acts: Vec<Act>) -> Traffic {
    Traffic {
        window: 4096,
        ..Traffic::of(acts)
    }
}

/// A client that repeats these acts over and over.
fn over_and_over(count: usize, act: impl Fn(usize) -> Act) -> Traffic {
    flooding((0..count).map(act).collect())
}

fn retaining(under: &str) -> Vec<Traffic> {
    let act = |n| {
        Act::Publish(Publish {
            confirmed: false,
            ..Publish::retained(&format!("{under}/{}", n % 1000))
        })
    };
    vec![over_and_over(40_000, act); 2]
}

/// A name that matches `a/a/…` level by level, in one of 2^levels ways.
fn wide(number: usize, levels: usize) -> String {
    let levels = (0..levels).map(|bit| ["a", "+"][number >> bit & 1]);
    levels.collect::<Vec<_>>().join("/")
}

impl Flood {
    /// The flood's other participants: they connect and are answered before it begins.
    fn bystanders(self) -> Vec<Traffic> {
        let reader = |topic: &str| Traffic::of([Act::subscribe(topic)]);
        match self {
            Flood::Publishes => vec![reader("publishes/#"); 4],
            Flood::Many => vec![reader("many/#"); 300],
            Flood::Crowds => vec![reader("crowds/#"); 1500],
            Flood::RetainMany => vec![reader("retain-many/#"); 300],
            Flood::Wide => {
                let filters = (0..200).map(|n| Act::subscribe(&wide(n, 8)));
                vec![Traffic::of(filters.collect::<Vec<_>>())]
            }
            Flood::WideRequests => {
                let names = (0..1000).map(|n| Act::serve(&wide(n, 10)));
                vec![Traffic::of(names.collect::<Vec<_>>())]
            }
            Flood::Replays => {
                let retained = |n| Act::Publish(Publish::retained(&format!("replays/{n}")));
                vec![Traffic::of((0..10_000).map(retained).collect::<Vec<_>>())]
            }
            Flood::Requests => vec![Traffic {
                answering: vec![Answering::Never],
                ..Traffic::of([Act::serve("mute")])
            }],
            Flood::Deaf => vec![Traffic {
                acts: vec![
                    Act::subscribe("deaf/#"),
                    Act::AwaitAnswers,
                    Act::Read(Reading::Never),
                ],
                ..Traffic::default()
            }],
            _ => Vec::new(),
        }
    }

    fn clients(self) -> Vec<Traffic> {
        match self {
            Flood::Publishes => {
                let act = |_| unconfirmed("publishes/a".to_owned(), 0);
                vec![over_and_over(60_000, act); 2]
            }
            Flood::Many => {
                let act = |_| unconfirmed("many/a".to_owned(), 0);
                vec![over_and_over(60_000, act); 4]
            }
            Flood::Crowds => {
                let act = |_| unconfirmed("crowds/a".to_owned(), 0);
                vec![over_and_over(60_000, act); 2]
            }
            Flood::Wide => {
                let act = |_| unconfirmed("a/a/a/a/a/a/a/a".to_owned(), 0);
                vec![over_and_over(30_000, act); 2]
            }
            Flood::WideRequests => {
                let act = |_| Act::request("a/a/a/a/a/a/a/a/a/a");
                vec![over_and_over(400, act); 4]
            }
            Flood::Retain => retaining("retain"),
            Flood::RetainMany => retaining("retain-many"),
            Flood::Replays => vec![over_and_over(100, |_| Act::subscribe("replays/#")); 6],
            Flood::Churn => {
                let filter = |n: usize| Filter::of(&format!("churn/{}/+/#", n / 2 % 900));
                let act = |n: usize| match n % 2 {
                    0 => Act::Subscribe(filter(n)),
                    _ => Act::Unsubscribe(filter(n)),
                };
                vec![over_and_over(20_000, act); 2]
            }
            Flood::Requests => {
                let act = |n: usize| {
                    Act::Request(Request {
                        service: ["mute", "none"][n % 2].to_owned(),
                        timeout_ms: [None, Some(1), Some(u32::MAX)][n % 3],
                        bytes: 10,
                        ..Request::default()
                    })
                };
                vec![over_and_over(20_000, act); 2]
            }
            Flood::Wills => vec![over_and_over(20_000, |_| Act::Will(Publish::of("wills"))); 2],
            Flood::Deaf => vec![over_and_over(3000, |_| unconfirmed("deaf/a".to_owned(), 5000)); 2],
            Flood::Ends => {
                let act = |n| Act::subscribe(&format!("ends/{n}/a/b/c/d"));
                let mut plan = over_and_over(500, act);
                plan.reconnect = Some(ms(1));
                plan.cuts = (1..20).map(|n| (ms(3 * n), Ending::Reset)).collect();
                vec![plan; 8]
            }
            Flood::Strangers => Vec::new(),
        }
    }
}

/// Every kind of operation, one after the other.
fn calm_acts(index: usize) -> Vec<Act> {
    let will = Publish::of("calm/will");
    let mut acts = Vec::new();
    for act in [
        Act::subscribe("calm/#"),
        Act::publish("calm/a"),
        Act::Publish(Publish::retained(&format!("calm/{index}"))),
        Act::request("calm/service"),
        Act::request("$sys/echo"),
        Act::serve(&format!("calm/{index}")),
        Act::Will(will),
        Act::publish("calm/b"),
        Act::WithdrawWill,
        Act::unsubscribe("calm/#"),
        Act::Unserve(Filter::of(&format!("calm/{index}"))),
        Act::request("calm/service"),
    ] {
        acts.extend([act, Act::AwaitAnswers]);
    }
    acts
}

/// What a seed runs.
#[derive(Debug)]
struct Setup {
    seed: u64,
    shards: usize,
    floods: Vec<Flood>,
}

impl Setup {
    /// The first seeds run each flood alone, later ones several at a time.
    fn any(seed: u64, all: &[Flood]) -> Setup {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut floods = all.to_vec();
        match all.get(seed as usize) {
            Some(&one) => floods = vec![one],
            None => {
                rng.shuffle(&mut floods);
                floods.truncate(rng.usize(2..4));
            }
        }
        let shards = [2, 3, 5][rng.usize(..3)];
        Setup {
            seed,
            shards,
            floods,
        }
    }

    /// The longest wait of a calm client, and which floods ended before the calm clients did.
    fn run(&self) -> (Duration, String, Vec<Flood>) {
        let (size, guards) = (RingSize::default(), Guards::default());
        let faults = Faults::none();
        let mut scene = Scene::of_shards(self.shards, self.seed, faults, size, limits(), guards);
        scene.terms.ample = false;
        let [_] = scene.enter_each([Traffic::of([Act::serve("calm/service")])]);
        for plan in self.floods.iter().flat_map(|one| one.bystanders()) {
            scene.enter(plan);
        }
        let calm: Vec<ClientId> = (0..2 * self.shards)
            .map(|_| scene.enter(Traffic::default()))
            .collect();
        scene.run_for(ms(200));
        let mut floods: BTreeMap<Flood, Vec<ClientId>> = BTreeMap::new();
        for &flood in &self.floods {
            let clients = flood.clients().into_iter().map(|plan| scene.enter(plan));
            floods.insert(flood, clients.collect());
        }
        if self.floods.contains(&Flood::Strangers) {
            let silent = Rc::new(Plan {
                opening: Opening::Silent,
                ..Plan::default()
            });
            for n in 0..4000 {
                let at = scene.world.now() + n * TIME / 4000;
                scene.world.add_client(at, silent.clone());
            }
        }
        scene.run_for(ms(3));
        for (index, &id) in calm.iter().enumerate() {
            scene.act(id, calm_acts(index));
        }
        let begun = scene.world.now();
        let waits = |scene: &Scene| calm.iter().any(|&id| !scene.world.is_idle(id));
        while waits(&scene) && scene.world.now().since(begun) < 10 * TIME {
            scene.run_for(ms(1));
        }
        let over = floods.iter().filter(|(_, clients)| {
            let goes_on = |&id: &ClientId| !scene.world.is_idle(id);
            !clients.is_empty() && !clients.iter().any(goes_on)
        });
        let over = over.map(|(&flood, _)| flood).collect();
        let terms = scene.terms.clone();
        let evidence = Evidence::gather(&scene.world, &calm, scene.linger, terms);
        let (longest, what) = evidence.longest_wait(&calm, scene.world.now());
        self.end(scene, floods);
        (longest, what, over)
    }

    fn end(&self, scene: Scene, floods: BTreeMap<Flood, Vec<ClientId>>) {
        for &id in floods.values().flatten() {
            scene.world.command(id, Command::Reconnect(None));
            scene.end(id, Ending::Reset);
        }
        for &id in &scene.clients {
            scene.end(id, Ending::Reset);
        }
        scene.rest();
    }
}

fn each(name: &str, count: u64, all: &[Flood]) {
    let met = Mutex::new((Duration::ZERO, 0, 0));
    seed::each(name, count, |seed| {
        let setup = Setup::any(seed, all);
        let (longest, what, over) = setup.run();
        println!("{setup:?}: {longest:?} for {what}; over: {over:?}");
        assert!(longest <= BOUND, "{setup:?}: {longest:?} for {what}");
        let mut met = met.lock().unwrap();
        met.0 = met.0.max(longest);
        met.1 += setup.floods.len();
        met.2 += over.len();
    });
    let (longest, floods, over) = met.into_inner().unwrap();
    println!("{longest:?} at the longest");
    assert!(
        over * 3 <= floods || seed::are_overridden(),
        "{over} of {floods} floods were over too soon"
    );
}

#[test]
fn every_operation_is_answered_soon_whatever_others_do() {
    let name = "every_operation_is_answered_soon_whatever_others_do";
    each(name, 28, &DRAWN);
}
