//! Random runs: several users of one client, whose connections are refused, hang, stall and break
//! anywhere; and a witness on a sound connection. Then all heals, or the server drains, and what was
//! noted is judged: each call ended once, in time, with what is true; streams have no holes and
//! nothing twice; in the end nothing is left, at either side.

use super::super::seed::each;
use super::super::server::{limits, ms};
use super::life::{ANSWERED, Habits, Life, Listener, Outcome, PANICS, number};
use super::network::{Door, End, Fortune, Net};
use super::stage::{Stage, play};
use ringmail::Client;
use ringmail::base::reason::Reason;
use ringmail::client::glance::Glance;
use ringmail::client::{Builder, Reconnect};
use ringmail::ring::sim::Faults;
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const SEEDS: u64 = 24;
/// How long everybody works, in virtual time.
const WORK: Duration = Duration::from_secs(6);
/// How long what has healed may take to converge: beyond the longest delay and heartbeat.
const PATIENCE: Duration = Duration::from_secs(120);
/// What may wait beyond the inbox's bound: one read, of the smallest messages.
const BEYOND_BYTES: usize = 1 << 20;

fn fortune(rng: &mut fastrand::Rng) -> Fortune {
    let door = match rng.u8(..10) {
        0 => Door::Refused,
        1 => Door::Slow(ms(rng.u64(..1500))),
        _ => Door::Open,
    };
    let end = if rng.bool() { End::Eof } else { End::Reset };
    // Most bytes are those of the first steps: any of them is the last one of some run.
    let bytes = 1 << rng.u32(3..15);
    let cut = (rng.u8(..8) > 0).then(|| (rng.usize(..bytes), end));
    let stall = (rng.u8(..8) == 0).then(|| (rng.usize(..bytes), ms(rng.u64(..7000))));
    Fortune {
        door,
        cut,
        stall,
        piece_bytes: match rng.u8(..3) {
            0 => rng.usize(1..20),
            _ => usize::MAX,
        },
    }
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn subject(rng: &mut fastrand::Rng, net: &Net) -> (Habits, Builder<Client>, usize) {
    let kind = rng.u8(..4).min(2);
    let times = [ms(1), ms(40), ms(2000), ms(10_000), Duration::MAX];
    let habits = Habits {
        session: kind == 2,
        reconnect: kind == 1,
        request_timeout: pick(rng, &times),
        gives_up: pick(rng, &[0, 10, 50]),
        pause: pick(rng, &[ms(10), ms(100), ms(300)]),
    };
    let inbox_bytes_max = pick(rng, &[1, 2000, 1 << 20]);
    let mut builder = Client::builder()
        .network(std::sync::Arc::new(net.clone()))
        .request_timeout(habits.request_timeout)
        .connect_timeout(pick(rng, &[ms(400), ms(2000), Duration::MAX]))
        .inbox_bytes_max(inbox_bytes_max)
        .checksum(rng.bool())
        .session(habits.session);
    if habits.reconnect || rng.bool() && habits.session {
        let delay_max = pick(rng, &[ms(5), ms(200), ms(3000)]);
        builder = builder.reconnect(Reconnect::default().delay_max(delay_max));
    }
    (habits, builder, inbox_bytes_max)
}

/// What the witness does: it sees all, publishes, and asks the client's services.
async fn witness(life: Rc<Life>, client: Client, mut rng: fastrand::Rng) {
    while !life.stopping.get() {
        sleep(Duration::from_micros(rng.u64(..30_000))).await;
        publish_next(&life, &client).await;
    }
}

async fn publish_next(life: &Life, client: &Client) -> u64 {
    let n = life.log.borrow().begun + 1;
    life.log.borrow_mut().begun = n;
    let published = client.publish_confirmed("in/a", n.to_be_bytes()).await;
    if let Err(error) = published
        && !life.stopping.get()
    {
        life.fail(format_args!("the witness cannot publish: {error}"));
    }
    n
}

async fn watch(life: Rc<Life>, client: Client) {
    let mut all = client.subscribe("#").await.unwrap();
    while let Some(message) = all.next().await {
        let mut log = life.log.borrow_mut();
        let seen = log.seen.entry(message.topic).or_default();
        seen.push(number(&message.payload));
    }
}

async fn consult(life: Rc<Life>, client: Client, mut rng: fastrand::Rng) {
    for n in 0.. {
        sleep(Duration::from_micros(rng.u64(..60_000))).await;
        if life.stopping.get() {
            return;
        }
        let payload = u64::to_be_bytes(n);
        match client.request("svc", payload).await {
            Ok(answer) if answer.payload != payload || n % 5 == 0 || n % 7 == 0 => {
                life.fail(format_args!("svc: a wrong answer to {n}"));
            }
            _ => {}
        }
    }
}

fn begin(life: &Rc<Life>, rng: &mut fastrand::Rng, witness_client: &Client) -> JoinSet<()> {
    let mut actors = JoinSet::new();
    for i in 0..rng.usize(1..4) {
        actors.spawn_local(life.clone().publish(format!("out/{i}"), rng.fork()));
        actors.spawn_local(life.clone().ask(rng.fork()));
        actors.spawn_local(life.clone().listen(rng.fork()));
    }
    actors.spawn_local(life.clone().publish_on("free".to_owned(), rng.fork()));
    actors.spawn_local(life.clone().serve("svc".to_owned(), rng.fork()));
    actors.spawn_local(witness(life.clone(), witness_client.clone(), rng.fork()));
    actors.spawn_local(consult(life.clone(), witness_client.clone(), rng.fork()));
    actors
}

async fn joined(actors: &mut JoinSet<()>) {
    while let Some(ended) = actors.join_next().await {
        ended.unwrap();
    }
}

/// Everything works again: whoever subscribes now gets all that follows.
async fn converge(life: &Life, witness_client: &Client) {
    // With a timeout of a millisecond nothing need ever succeed.
    if life.habits.request_timeout < ms(100) {
        return;
    }
    let (client, stream) = loop {
        let client = life.client().await;
        if let Ok(stream) = client.subscribe("in/a").await {
            break (client, stream);
        }
    };
    let mut listener = Listener::new(life, stream, &client);
    for _ in 0..20 {
        publish_next(life, witness_client).await;
    }
    let last = life.log.borrow().begun;
    while listener.last() < last {
        assert!(
            listener.take(life).await,
            "seed {}: it has ended",
            life.seed
        );
    }
    // A handler that panics fails its request; the service goes on.
    let service = loop {
        if let Ok(service) = life.serve_on(&client, "svc").await {
            break service;
        }
    };
    let failed = witness_client.request("svc", PANICS.to_be_bytes()).await;
    assert!(failed.is_err(), "seed {}", life.seed);
    let answer = witness_client.request("svc", ANSWERED.to_be_bytes()).await;
    if let Err(error) = answer {
        life.fail(format_args!("behind a panic: {error}"));
    }
    drop(service);
    let answer = client.request("$sys/echo", "x").await;
    if let Err(error) = answer {
        life.fail(format_args!("after all has healed: {error}"));
    }
}

/// Nobody uses the client any more: it holds nothing, closes, and is gone.
async fn part(life: &Life, drains: bool) {
    let Some(client) = life.take_client() else {
        return;
    };
    let glance = Glance::at(&client);
    if !drains {
        sleep(ms(3000)).await;
        let held = glance.held().unwrap();
        let is_connected = client.is_connected();
        if is_connected && held != Default::default() {
            life.fail(format_args!("it still holds {held:?}"));
        }
    }
    let closed = client.close().await;
    if !drains && life.habits.request_timeout > ms(100) && client.is_connected() {
        life.fail(format_args!("not closed: {closed:?}"));
    }
    drop(client);
    sleep(ms(12_000)).await;
    if let Some(held) = glance.held() {
        life.fail(format_args!("it is not gone: {held:?}"));
    }
    if life.net.held() > 0 {
        life.fail("a connection is held");
    }
}

fn judge(life: &Life) {
    let (log, lapses) = (life.log.borrow(), life.lapses.get());
    for (topic, published) in &log.published {
        let none = Vec::new();
        let seen = log.seen.get(topic).unwrap_or(&none);
        let distinct: HashSet<u64> = seen.iter().copied().collect();
        for (n, outcome) in published {
            let is_true = match outcome {
                Outcome::Done => distinct.contains(n),
                Outcome::NotDone => !distinct.contains(n),
                Outcome::Unknown => true,
            };
            if !is_true {
                life.fail(format_args!("{topic} {n} is {outcome:?}: not true"));
            }
        }
        if lapses == 0 && distinct.len() < seen.len() {
            life.fail(format_args!("{topic}: something twice: {seen:?}"));
        }
        if lapses == 0 && life.habits.session && !seen.is_sorted() {
            life.fail(format_args!("{topic}: out of order: {seen:?}"));
        }
    }
    let free: HashSet<u64> = log
        .seen
        .get("free")
        .into_iter()
        .flatten()
        .copied()
        .collect();
    let free_count = log.seen.get("free").map_or(0, Vec::len);
    if free.len() < free_count {
        life.fail("an unconfirmed PUBLISH came twice");
    }
    if log.handled.lock().unwrap().values().any(|count| *count > 1) {
        life.fail("a request was handled twice");
    }
}

/// What all seeds together have reached.
#[derive(Debug, Default)]
struct Reached {
    dials: usize,
    lapses: u64,
    resumed: u64,
    done: u64,
    taken: u64,
    unknown: usize,
}

/// All clients there have been.
type Looks = Rc<RefCell<Vec<Glance>>>;

async fn look(life: Rc<Life>, looks: Looks) {
    loop {
        let client = life.client().await;
        looks.borrow_mut().push(Glance::at(&client));
        let mut status = client.watch();
        drop(client);
        while status.changed().await.is_ok() {}
    }
}

/// Every call ends; when the server has gone, every call that has a time.
async fn settle(
    stage: &mut Stage,
    life: &Life,
    looks: &Looks,
    actors: &mut JoinSet<()>,
    drains: bool,
) {
    if drains && life.habits.request_timeout > ms(10_000) {
        return;
    }
    let ended = stage.run(timeout(PATIENCE, joined(actors))).await;
    if ended.is_err() {
        let held = looks.borrow().iter().filter_map(Glance::held).next_back();
        let waiting = life.waiting.borrow();
        life.fail(format_args!("{waiting:?} did not end; {held:?}"));
    }
}

async fn run(seed: u64, reached: &Mutex<Reached>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut fate = rng.fork();
    let net = Net::new(move |_| fortune(&mut fate));
    let (habits, builder, inbox_bytes_max) = subject(&mut rng, &net);
    let sound = Net::sound();
    let mut limits = limits();
    limits.session_linger = pick(&mut rng, &[ms(50), ms(60_000)]);
    let faults = pick(
        &mut rng,
        &[Faults::none as fn() -> Faults, Faults::harmless],
    )();
    let shards = rng.usize(1..4);
    let mut stage = Stage::new(seed, shards, faults, &limits, &[&net, &sound]);
    let drains = rng.u8(..4) == 0;
    let life = Life::new(seed, habits, builder, net.clone());
    let looks = Looks::default();
    let seen = looks.clone();
    stage.watch = Box::new(move || {
        for held in seen.borrow().iter().filter_map(Glance::held) {
            let most = inbox_bytes_max + BEYOND_BYTES;
            assert!(held.inbox_bytes < most, "seed {seed}: {held:?}");
        }
    });

    let network = std::sync::Arc::new(sound.clone());
    let other = Client::builder()
        .network(network)
        .connect_timeout(ms(20_000));
    let other = stage.run(other.connect("server:1")).await.unwrap();
    let keeper = tokio::task::spawn_local(life.clone().keep());
    let watching = tokio::task::spawn_local(watch(life.clone(), other.clone()));
    stage.run_for(ms(50)).await;
    let mut actors = begin(&life, &mut rng, &other);
    let looker = tokio::task::spawn_local(look(life.clone(), looks.clone()));
    stage.run_for(WORK).await;
    if drains {
        stage.server.drain(stage.world.now() + ms(5000));
    } else {
        net.heal();
    }
    life.stopping.set(true);
    settle(&mut stage, &life, &looks, &mut actors, drains).await;
    if !drains {
        let converging = timeout(PATIENCE, converge(&life, &other));
        if stage.run(converging).await.is_err() {
            life.fail("it has healed and does not converge");
        }
    }
    keeper.abort();
    looker.abort();
    actors.shutdown().await;
    let last = stage.run(timeout(ms(1), life.client())).await.ok();
    if let Some(last) = last {
        life.note(last.status());
    }
    if stage
        .run(timeout(PATIENCE, part(&life, drains)))
        .await
        .is_err()
    {
        life.fail("it does not part");
    }
    let _ = stage.run(other.close()).await;
    drop(other);
    stage
        .run(timeout(PATIENCE, watching))
        .await
        .unwrap()
        .unwrap();
    stage.run_for(ms(1000)).await;
    life.check();
    judge(&life);
    note(reached, &life);
    rest(stage, drains, limits.session_linger).await;
}

fn note(reached: &Mutex<Reached>, life: &Life) {
    let log = life.log.borrow();
    let mut reached = reached.lock().unwrap();
    reached.dials += life.net.dials();
    reached.lapses += life.lapses.get();
    if life.habits.session {
        reached.resumed += life.connections.get().saturating_sub(1 + life.lapses.get());
    }
    reached.done += log.done;
    reached.taken += log.taken;
    let all = log.published.values().flatten();
    reached.unknown += all.filter(|it| it.1 == Outcome::Unknown).count();
}

/// The server at rest: nothing of the clients is left there either.
async fn rest(mut stage: Stage, drains: bool, linger: Duration) {
    assert_eq!(stage.server.closed(Reason::TooManyErrors), 0);
    stage.run_for(linger + Duration::from_secs(20)).await;
    match drains {
        true => assert!(stage.server.has_ended()),
        false => {
            stage.world.set_faults(Faults::none());
            stage.server.end();
        }
    }
}

#[test]
fn whatever_breaks_calls_end_truly_and_streams_are_whole() {
    let reached = Mutex::new(Reached::default());
    each("client::random", SEEDS, |seed| {
        play(seed, async || run(seed, &reached).await);
    });
    let reached = reached.into_inner().unwrap();
    if !super::super::seed::are_overridden() {
        println!("{reached:?}");
        let Reached {
            lapses, resumed, ..
        } = reached;
        assert!(lapses > 10 && resumed > 20, "{reached:?}");
        assert!(reached.done > 3_000 && reached.taken > 1_500, "{reached:?}");
        assert!(reached.unknown > 100 && reached.dials > 150, "{reached:?}");
    }
}
