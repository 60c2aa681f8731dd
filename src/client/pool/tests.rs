//! The pool over connections that fail and linger at will, under tokio's paused clock.
//!
//! The fake server counts the connections that exist at any moment, including dials, and knows
//! which task holds which: it decides whether a bound was broken, not the pool's own books.

use super::lease::{Lease, Refusal, acquire};
use super::maker::Maker;
use super::settings::Settings;
use super::shared::Shared;
use super::status::{PoolStatus, Reason};
use fastrand::Rng;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// A server and the network to it.
struct World {
    rng: Mutex<Rng>,
    /// Whether it accepts connections.
    is_up: AtomicBool,
    /// Whether its refusals are final.
    refuses: AtomicBool,
    /// How many of 100 dials fail although it is up.
    failing: AtomicUsize,
    dial_ms_max: u64,
    /// Incremented by each restart: earlier connections are broken.
    epoch: AtomicUsize,
    /// Peers of connections made before this have vanished silently.
    vanished: AtomicUsize,
    /// How many connections exist, including those being made or closed; and the most there have
    /// been.
    existing: AtomicUsize,
    existing_max: AtomicUsize,
    made: AtomicUsize,
    closed_in_order: AtomicUsize,
}

impl World {
    fn new(seed: u64) -> Arc<World> {
        fastrand::seed(seed);
        Arc::new(World {
            rng: Mutex::new(Rng::with_seed(seed)),
            is_up: AtomicBool::new(true),
            refuses: AtomicBool::new(false),
            failing: AtomicUsize::new(0),
            dial_ms_max: 5,
            epoch: AtomicUsize::new(0),
            vanished: AtomicUsize::new(0),
            existing: AtomicUsize::new(0),
            existing_max: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            closed_in_order: AtomicUsize::new(0),
        })
    }

    fn up_to(&self, max: u64) -> u64 {
        self.rng.lock().unwrap().u64(0..=max)
    }

    /// Breaks all connections, which each side notices at once.
    fn restart(&self) {
        self.epoch.fetch_add(1, SeqCst);
    }

    /// Kills all peers, which is noticed only by a PING.
    fn vanish(&self) {
        self.vanished.store(self.made.load(SeqCst), SeqCst);
    }
}

/// A connection, or one that is being made.
struct Socket {
    world: Arc<World>,
    number: usize,
    epoch: usize,
    heard_at: Mutex<Instant>,
    is_held: AtomicBool,
    is_draining: AtomicBool,
    is_shared: AtomicBool,
}

impl Socket {
    fn new(world: &Arc<World>) -> Socket {
        let existing = world.existing.fetch_add(1, SeqCst) + 1;
        world.existing_max.fetch_max(existing, SeqCst);
        Socket {
            world: world.clone(),
            number: 0,
            epoch: world.epoch.load(SeqCst),
            heard_at: Mutex::new(Instant::now()),
            is_held: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_shared: AtomicBool::new(false),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        assert!(!self.is_held.load(SeqCst), "closed in somebody's hands");
        self.world.existing.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug, PartialEq)]
enum Trouble {
    Passing,
    Lasting,
}

struct Dialer(Arc<World>);

impl Maker for Dialer {
    type Connection = Socket;
    type Error = Trouble;

    async fn connect(&self) -> Result<Socket, Trouble> {
        let world = &self.0;
        let mut socket = Socket::new(world);
        sleep(MS * world.up_to(world.dial_ms_max) as u32).await;
        if world.refuses.load(SeqCst) {
            return Err(Trouble::Lasting);
        }
        let is_unlucky = world.up_to(99) < world.failing.load(SeqCst) as u64;
        if !world.is_up.load(SeqCst) || is_unlucky {
            return Err(Trouble::Passing);
        }
        socket.epoch = world.epoch.load(SeqCst);
        socket.number = world.made.fetch_add(1, SeqCst) + 1;
        Ok(socket)
    }

    fn may_pass(&self, error: &Trouble) -> bool {
        *error == Trouble::Passing
    }

    fn fault(&self, socket: &Socket) -> Option<Reason> {
        let is_dead = socket.epoch != self.0.epoch.load(SeqCst);
        let all = [
            (is_dead, Reason::Dead),
            (socket.is_draining.load(SeqCst), Reason::Draining),
            (socket.is_shared.load(SeqCst), Reason::Shared),
        ];
        all.iter().find(|(is, _)| *is).map(|(_, reason)| *reason)
    }

    fn is_in_doubt(&self, socket: &Socket, after: Duration) -> bool {
        socket.heard_at.lock().unwrap().elapsed() >= after
    }

    async fn answers(&self, socket: &Socket) -> bool {
        if socket.number <= self.0.vanished.load(SeqCst) {
            return std::future::pending().await;
        }
        sleep(MS).await;
        *socket.heard_at.lock().unwrap() = Instant::now();
        true
    }

    async fn close(&self, socket: Socket) {
        sleep(MS).await;
        self.0.closed_in_order.fetch_add(1, SeqCst);
        drop(socket);
    }
}

type Pool = Arc<Shared<Dialer>>;

fn settings(connections_max: usize) -> Settings {
    Settings {
        connections_max,
        acquire_timeout: Duration::from_secs(3600),
        ..Settings::default()
    }
}

fn open(world: &Arc<World>, settings: Settings) -> Pool {
    assert_eq!(settings.mistake(), None);
    Shared::open(Dialer(world.clone()), settings, &Handle::current())
}

fn run(test: impl Future<Output = ()>) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

fn socket(lease: &Lease<Dialer>) -> &Socket {
    lease.connection().unwrap()
}

/// A held connection, checked to be held by one task only.
struct Held(Option<Lease<Dialer>>);

impl Held {
    fn new(lease: Lease<Dialer>) -> Held {
        let was_held = socket(&lease).is_held.swap(true, SeqCst);
        assert!(!was_held, "handed to two");
        Held(Some(lease))
    }

    fn number(&self) -> usize {
        socket(self.0.as_ref().unwrap()).number
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let lease = self.0.take().unwrap();
        socket(&lease).is_held.store(false, SeqCst);
    }
}

async fn hold(pool: &Pool) -> Held {
    Held::new(acquire(pool).await.ok().unwrap())
}

/// Closes the pool, and checks that everything is released and the books balance.
async fn leave(pool: Pool, world: &Arc<World>) -> PoolStatus {
    timeout(Duration::from_secs(60), pool.close())
        .await
        .expect("all connections come back");
    let status = pool.status();
    assert_eq!((status.open, status.waiting), (0, 0), "{status}");
    assert_eq!(status.made, world.made.load(SeqCst) as u64);
    assert_eq!(status.made, status.closed.sum());
    assert!(matches!(acquire(&pool).await, Err(Refusal::Closed)));
    drop(pool);
    assert_eq!(world.existing.load(SeqCst), 0, "connections leak");
    status
}

// ---- one thing at a time ----

#[test]
fn the_connection_used_last_is_lent_next_and_the_others_age() {
    run(async {
        let world = World::new(1);
        let pool = open(&world, settings(3));
        let held = [hold(&pool).await, hold(&pool).await, hold(&pool).await];
        let last = held[1].number();
        let [a, b, c] = held;
        drop((a, c));
        drop(b);
        assert_eq!(pool.status().idle, 3);
        for _ in 0..70 {
            sleep(Duration::from_secs(1)).await;
            assert_eq!(hold(&pool).await.number(), last);
        }
        let status = pool.status();
        assert_eq!((status.open, status.closed.idle), (1, 2), "{status}");
        assert_eq!(world.closed_in_order.load(SeqCst), 2);
        assert_eq!(leave(pool, &world).await.made, 3);
    });
}

#[test]
fn a_minimum_is_kept_ready_and_made_up_for() {
    run(async {
        let world = World::new(2);
        let settings = Settings {
            idle_min: 3,
            ..settings(4)
        };
        let pool = open(&world, settings);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pool.status().idle, 3);
        let held = [hold(&pool).await, hold(&pool).await];
        sleep(Duration::from_secs(1)).await;
        let status = pool.status();
        assert_eq!((status.idle, status.open), (2, 4), "{status}: four at most");
        drop(held);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(pool.status().idle, 3, "the fourth has grown old");
        world.restart();
        sleep(Duration::from_secs(2)).await;
        let status = pool.status();
        assert_eq!((status.idle, status.closed.dead), (3, 3), "{status}");
        leave(pool, &world).await;
    });
}

#[test]
fn lifetimes_end_idle_connections_and_lent_ones_on_return_not_all_at_once() {
    run(async {
        let world = World::new(3);
        let settings = Settings {
            lifetime_max: Some(Duration::from_secs(100)),
            idle_timeout: Duration::from_secs(1000),
            ..settings(40)
        };
        let pool = open(&world, settings);
        let mut held = Vec::new();
        for _ in 0..40 {
            held.push(hold(&pool).await);
        }
        let kept = held.pop().unwrap();
        drop(held);
        sleep(Duration::from_secs(79)).await;
        assert_eq!(pool.status().closed.lifetime, 0);
        sleep(Duration::from_secs(11)).await;
        let ended = pool.status().closed.lifetime;
        assert!((5..35).contains(&ended), "{ended} of 39 after 90 s");
        sleep(Duration::from_secs(12)).await;
        let status = pool.status();
        assert_eq!((status.closed.lifetime, status.lent), (39, 1), "{status}");
        drop(kept);
        assert_eq!(pool.status().closed.lifetime, 40);
        leave(pool, &world).await;
    });
}

#[test]
fn broken_draining_and_shared_ones_are_not_lent_again() {
    run(async {
        let world = World::new(4);
        let pool = open(&world, settings(1));
        let first = hold(&pool).await;
        world.restart();
        drop(first);
        assert_eq!(pool.status().closed.dead, 1);
        let second = hold(&pool).await;
        socket(second.0.as_ref().unwrap())
            .is_draining
            .store(true, SeqCst);
        drop(second);
        let third = hold(&pool).await;
        socket(third.0.as_ref().unwrap())
            .is_shared
            .store(true, SeqCst);
        drop(third);
        // Idle, and broken before anyone checked.
        drop(hold(&pool).await);
        world.restart();
        assert_eq!(hold(&pool).await.number(), 5);
        let closed = pool.status().closed;
        assert_eq!((closed.dead, closed.draining, closed.shared), (2, 1, 1));
        assert_eq!(world.existing_max.load(SeqCst), 1);
        leave(pool, &world).await;
    });
}

#[test]
fn a_rested_connection_is_probed_and_dropped_with_its_like_if_it_does_not_answer() {
    run(async {
        let world = World::new(5);
        let pool = open(&world, settings(3));
        let held = [hold(&pool).await, hold(&pool).await, hold(&pool).await];
        drop(held);
        world.vanish();
        sleep(Duration::from_secs(2)).await;
        let started = Instant::now();
        assert_eq!(hold(&pool).await.number(), 4);
        let waited = started.elapsed();
        // Only one was waited for.
        assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(2));
        assert_eq!(pool.status().closed.dead, 3);
        leave(pool, &world).await;
    });
}

#[test]
fn one_that_is_used_often_and_never_answers_is_not_lent_for_ever() {
    run(async {
        let world = World::new(15);
        let pool = open(&world, settings(1));
        drop(hold(&pool).await);
        world.vanish();
        let used = async {
            // Each use is more recent than `check_after`; the last message is not.
            while hold(&pool).await.number() == 1 {
                sleep(200 * MS).await;
            }
        };
        let asked = timeout(Duration::from_secs(60), used).await;
        asked.expect("it is asked, and another one made");
        assert_eq!(pool.status().closed.dead, 1);
        leave(pool, &world).await;
    });
}

#[test]
fn times_without_end_are_no_limit_and_none_may_be_zero() {
    run(async {
        let world = World::new(16);
        let settings = Settings {
            idle_timeout: Duration::MAX,
            lifetime_max: Some(Duration::MAX),
            acquire_timeout: Duration::MAX,
            check_after: Duration::ZERO,
            check_timeout: Duration::MAX,
            ..settings(2)
        };
        let pool = open(&world, settings);
        for _ in 0..3 {
            assert_eq!(hold(&pool).await.number(), 1);
            sleep(Duration::from_secs(3600)).await;
        }
        leave(pool, &world).await;
    });
    let zero = Duration::ZERO;
    for (name, wrong) in [
        (
            "idle_timeout",
            Settings {
                idle_timeout: zero,
                ..settings(1)
            },
        ),
        (
            "lifetime_max",
            Settings {
                lifetime_max: Some(zero),
                ..settings(1)
            },
        ),
        (
            "acquire_timeout",
            Settings {
                acquire_timeout: zero,
                ..settings(1)
            },
        ),
        (
            "check_timeout",
            Settings {
                check_timeout: zero,
                ..settings(1)
            },
        ),
    ] {
        assert!(wrong.mistake().unwrap().contains(name));
    }
}

#[test]
fn a_check_that_is_cut_short_proves_nothing() {
    run(async {
        let world = World::new(6);
        let settings = Settings {
            acquire_timeout: 100 * MS,
            ..settings(1)
        };
        let pool = open(&world, settings);
        drop(hold(&pool).await);
        world.vanish();
        sleep(Duration::from_secs(2)).await;
        assert!(matches!(
            acquire(&pool).await,
            Err(Refusal::TimedOut { .. })
        ));
        let cancelled = timeout(50 * MS, acquire(&pool)).await;
        assert!(cancelled.is_err());
        let status = pool.status();
        assert_eq!((status.idle, status.closed.dead), (1, 0), "{status}");
        // It has not been used meanwhile: the next caller checks again.
        world.vanished.store(0, SeqCst);
        assert_eq!(hold(&pool).await.number(), 1);
        leave(pool, &world).await;
    });
}

#[test]
fn a_waiter_that_times_out_gets_the_numbers_and_the_cause() {
    run(async {
        let world = World::new(7);
        let settings = Settings {
            acquire_timeout: 250 * MS,
            ..settings(2)
        };
        let pool = open(&world, settings);
        let held = [hold(&pool).await, hold(&pool).await];
        let Err(Refusal::TimedOut {
            waited,
            status,
            cause,
        }) = acquire(&pool).await
        else {
            panic!("there is none to be had");
        };
        assert_eq!(waited, 250 * MS);
        assert_eq!((status.lent, status.timed_out, status.waiting), (2, 1, 0));
        assert_eq!(cause, None);
        assert!(status.to_string().starts_with("2 of 2 connections open"));
        world.is_up.store(false, SeqCst);
        world.restart();
        drop(held);
        let Err(Refusal::TimedOut { cause, .. }) = acquire(&pool).await else {
            panic!("there is no server");
        };
        assert_eq!(cause.as_deref(), Some(&Trouble::Passing));
        leave(pool, &world).await;
    });
}

#[test]
fn a_final_refusal_is_returned_at_once_and_not_retried() {
    run(async {
        let world = World::new(8);
        world.refuses.store(true, SeqCst);
        let settings = Settings {
            idle_min: 1,
            ..settings(2)
        };
        let pool = open(&world, settings);
        for _ in 0..5 {
            let Err(Refusal::Failed(error)) = acquire(&pool).await else {
                panic!("it refuses");
            };
            assert_eq!(error, Trouble::Lasting);
        }
        sleep(Duration::from_secs(20)).await;
        let failed = pool.status().failed;
        assert!(failed <= 7, "{failed} attempts for 5 calls");
        world.refuses.store(false, SeqCst);
        sleep(Duration::from_secs(31)).await;
        assert_eq!(pool.status().idle, 1);
        leave(pool, &world).await;
    });
}

#[test]
fn a_waiter_takes_the_first_connection_new_or_returned() {
    run(async {
        let world = World::new(9);
        let pool = open(&world, settings(2));
        let held = hold(&pool).await;
        world.is_up.store(false, SeqCst);
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { hold(&pool).await.number() }
        });
        sleep(Duration::from_secs(10)).await;
        assert_eq!(pool.status().waiting, 1);
        let number = held.number();
        drop(held);
        assert_eq!(waiting.await.unwrap(), number);
        // The dial was for this caller, and ends.
        sleep(Duration::from_secs(3)).await;
        assert_eq!(pool.status().dialing, 0);
        leave(pool, &world).await;
    });
}

#[test]
fn a_closed_pool_fails_waiters_and_waits_for_lent_connections() {
    run(async {
        let world = World::new(10);
        let pool = open(&world, settings(1));
        let held = hold(&pool).await;
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { matches!(acquire(&pool).await, Err(Refusal::Closed)) }
        });
        sleep(MS).await;
        let closing = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close().await }
        });
        assert!(waiting.await.unwrap());
        sleep(Duration::from_secs(60)).await;
        assert!(!closing.is_finished());
        drop(held);
        closing.await.unwrap();
        assert_eq!(leave(pool, &world).await.closed.pool, 1);
    });
}

#[test]
fn a_dropped_pool_leaves_no_connection_and_no_task() {
    run(async {
        let world = World::new(11);
        let pool = open(&world, settings(4));
        let held = [hold(&pool).await, hold(&pool).await];
        let [one, other] = held;
        drop(one);
        world.is_up.store(false, SeqCst);
        let dialing = tokio::spawn({
            let pool = pool.clone();
            async move { (hold(&pool).await, hold(&pool).await) }
        });
        sleep(5 * MS).await;
        dialing.abort();
        assert!(dialing.await.is_err());
        drop(pool);
        drop(other);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.existing.load(SeqCst), 0);
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, 0);
    });
}

#[test]
fn a_pool_whose_runtime_has_ended_is_closed() {
    let runtime = || {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap()
    };
    let world = World::new(12);
    let first = runtime();
    let pool = first.block_on(async {
        let pool = open(&world, settings(2));
        let (one, other) = (hold(&pool).await, hold(&pool).await);
        drop(one);
        world.restart();
        world.is_up.store(false, SeqCst);
        drop(other);
        // Some wait, dials are under way, and nothing is there to be had.
        for _ in 0..5 {
            let pool = pool.clone();
            tokio::spawn(async move { drop(hold(&pool).await) });
        }
        sleep(MS).await;
        assert_eq!(pool.status().dialing, 2);
        pool
    });
    let second = runtime();
    let waiting = {
        let pool = pool.clone();
        second.spawn(async move { matches!(acquire(&pool).await, Err(Refusal::Closed)) })
    };
    second.block_on(async { sleep(MS).await });
    drop(first);
    assert!(second.block_on(waiting).unwrap());
    assert!(second.block_on(async { matches!(acquire(&pool).await, Err(Refusal::Closed)) }));
    second.block_on(leave(pool, &world));
}

// ---- many at once ----

#[test]
fn waiters_are_served_in_order() {
    for connections_max in [1, 3, 8] {
        run(async move {
            let world = World::new(20);
            let pool = open(&world, settings(connections_max));
            let served = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for number in 0..300 {
                let (pool, served) = (pool.clone(), served.clone());
                tasks.push(tokio::spawn(async move {
                    let held = hold(&pool).await;
                    served.lock().unwrap().push(number);
                    sleep(MS * (1 + number % 7)).await;
                    drop(held);
                }));
                // They queue in this order; some leave before the next arrives.
                tokio::task::yield_now().await;
                if number % 10 == 0 {
                    sleep(MS).await;
                }
            }
            for task in tasks {
                task.await.unwrap();
            }
            let served = served.lock().unwrap().clone();
            assert!(served.is_sorted(), "{connections_max}: {served:?}");
            leave(pool, &world).await;
        });
    }
}

/// One of a thousand tasks: acquires, holds, and now and then gives up or panics.
async fn compete(pool: Pool, world: Arc<World>, rounds: usize) -> usize {
    let mut done = 0;
    while done < rounds {
        sleep(MS * world.up_to(20) as u32).await;
        let patience = match world.up_to(9) {
            0 => MS * world.up_to(30) as u32,
            _ => Duration::from_secs(3600),
        };
        let Ok(acquired) = timeout(patience, acquire(&pool)).await else {
            continue; // gave up
        };
        let held = Held::new(acquired.expect("an hour is enough"));
        sleep(MS * world.up_to(10) as u32).await;
        done += 1;
        if world.up_to(99) == 0 {
            let lease = held.0.as_ref().unwrap();
            socket(lease).is_draining.store(true, SeqCst);
        }
        if world.up_to(99) == 0 {
            let fallen = tokio::spawn(async move {
                let _held = held;
                std::panic::resume_unwind(Box::new("fallen over"));
            });
            assert!(fallen.await.is_err());
        }
    }
    done
}

/// Restarts, outages, dead peers and failing dials, one after another, then no more faults.
async fn trouble(world: Arc<World>) {
    for _ in 0..30 {
        sleep(MS * world.up_to(200) as u32).await;
        match world.up_to(4) {
            0 => world.restart(),
            1 => world.vanish(),
            2 => world.failing.store(world.up_to(90) as usize, SeqCst),
            _ => {
                world.is_up.store(false, SeqCst);
                world.restart();
                sleep(MS * world.up_to(100) as u32).await;
                world.is_up.store(true, SeqCst);
            }
        }
    }
    world.failing.store(0, SeqCst);
}

#[test]
fn bounds_hold_and_all_are_served_with_a_thousand_tasks_and_every_trouble() {
    const TASKS: usize = 1000;
    const ROUNDS: usize = 3;
    for seed in 0..12 {
        run(async move {
            let world = World::new(100 + seed);
            let connections_max = 1 + world.up_to(40) as usize;
            let settings = Settings {
                idle_min: world.up_to(connections_max as u64) as usize,
                idle_timeout: MS * (20 + world.up_to(500) as u32),
                lifetime_max: (seed % 3 > 0).then(|| MS * (100 + world.up_to(1000) as u32)),
                check_after: MS * world.up_to(5) as u32,
                check_timeout: MS * (5 + world.up_to(50) as u32),
                ..settings(connections_max)
            };
            let pool = open(&world, settings);
            let troubled = tokio::spawn(trouble(world.clone()));
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| tokio::spawn(compete(pool.clone(), world.clone(), ROUNDS)))
                .collect();
            for task in tasks {
                assert_eq!(task.await.unwrap(), ROUNDS);
            }
            troubled.await.unwrap();
            let most = world.existing_max.load(SeqCst);
            assert!(most <= connections_max, "{most} of {connections_max}");
            // Without faults it shrinks to `idle_min`.
            sleep(Duration::from_secs(10)).await;
            // One whose lifetime has ended may be being replaced at this moment.
            let kept = async {
                loop {
                    let status = pool.status();
                    let kept = (status.idle, status.lent, status.dialing, status.waiting);
                    if kept == (settings.idle_min, 0, 0, 0) {
                        return status;
                    }
                    sleep(MS).await;
                }
            };
            let status = timeout(Duration::from_secs(10), kept).await;
            let status = status.unwrap_or_else(|_| panic!("{}", pool.status()));
            assert!(status.acquired >= (TASKS * ROUNDS) as u64);
            assert_eq!(status.timed_out, 0);
            leave(pool, &world).await;
        });
    }
}

/// One of several threads, each with a runtime of its own.
fn strive(pool: Pool, world: Arc<World>) {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (pool, world) = (pool.clone(), world.clone());
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let held = hold(&pool).await;
                        match world.up_to(9) {
                            0 => sleep(MS).await,
                            1 => world.restart(),
                            _ => tokio::task::yield_now().await,
                        }
                        drop(held);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn over_threads_too_none_is_lost_and_none_is_handed_to_two() {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    runtime.block_on(async {
        let world = World::new(300);
        let settings = Settings {
            idle_timeout: 10 * MS,
            check_after: MS,
            lifetime_max: Some(50 * MS),
            ..settings(7)
        };
        let pool = open(&world, settings);
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (pool, world) = (pool.clone(), world.clone());
                std::thread::spawn(move || strive(pool, world))
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            sleep(MS).await;
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(world.existing_max.load(SeqCst) <= 7);
        assert_eq!(leave(pool, &world).await.acquired, 4000);
    });
}
