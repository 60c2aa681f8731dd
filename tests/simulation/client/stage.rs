//! A whole simulated server at the other end of a client's network, in the same virtual time.
//!
//! tokio's clock, paused, leads: it goes on when all tasks wait. The server's world follows it, in
//! steps of a millisecond, the resolution of tokio's timers.

use super::super::server::{Server, ms, settings};
use super::network::{End, Id, Net};
use ringmail::base::clock::Instant;
use ringmail::broker::Limits;
use ringmail::ring::sim::{Fate, Faults, Outside, RingSize, World};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::task::LocalSet;

/// Bytes moved at once.
const PIECE_BYTES: usize = 64 << 10;

/// Runs a program in virtual time; `seed` decides the rest.
pub fn play<T>(seed: u64, program: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    fastrand::seed(seed);
    let done = runtime.block_on(LocalSet::new().run_until(program()));
    // What was dropped may take a few turns to end.
    runtime.block_on(async {
        for _ in 0..1000 {
            if runtime.metrics().num_alive_tasks() == 0 {
                break;
            }
            tokio::time::sleep(ms(20)).await;
        }
    });
    let left = runtime.metrics().num_alive_tasks();
    assert_eq!(left, 0, "seed {seed}: tasks left");
    done
}

struct Joint {
    net: usize,
    id: Id,
    end: Outside,
    /// Taken from the client, and not written yet.
    unwritten: Vec<u8>,
    is_finished: bool,
}

pub struct Stage {
    pub world: World,
    pub server: Server,
    nets: Vec<Net>,
    joints: Vec<Joint>,
    /// The same moment by both clocks.
    begun: (tokio::time::Instant, Instant),
    /// Called after each move, with the time that has passed.
    pub watch: Box<dyn FnMut()>,
}

impl Stage {
    pub fn new(seed: u64, shards: usize, faults: Faults, limits: &Limits, nets: &[&Net]) -> Stage {
        let world = World::new(seed, faults);
        let mut settings = settings();
        settings.heartbeat_interval = ms(2000);
        settings.heartbeat_timeout = ms(6000);
        let server = Server::with(&world, shards, RingSize::default(), &settings, limits);
        Stage {
            begun: (tokio::time::Instant::now(), world.now()),
            world,
            server,
            nets: nets.iter().map(|&net| net.clone()).collect(),
            joints: Vec::new(),
            watch: Box::new(|| ()),
        }
    }

    /// Runs the world until this is done.
    pub async fn run<T>(&mut self, program: impl Future<Output = T>) -> T {
        let mut program = pin!(program);
        let nets = self.nets.clone();
        loop {
            self.turn();
            (self.watch)();
            let any_change = async {
                let mut waits: Vec<_> = nets.iter().map(|net| Box::pin(net.changed())).collect();
                std::future::poll_fn(|cx| {
                    let ready = waits.iter_mut().any(|it| it.as_mut().poll(cx).is_ready());
                    if ready {
                        std::task::Poll::Ready(())
                    } else {
                        std::task::Poll::Pending
                    }
                })
                .await;
            };
            tokio::select! { biased;
                done = program.as_mut() => return done,
                () = any_change => {}
                () = tokio::time::sleep_until(self.due()) => {}
            }
        }
    }

    pub async fn run_for(&mut self, time: Duration) {
        self.run(tokio::time::sleep(time)).await;
    }

    /// When to turn again, though no client does anything.
    fn due(&self) -> tokio::time::Instant {
        let now = tokio::time::Instant::now();
        let due = self.world.due();
        let mut at = now + Duration::from_secs(3600);
        if due != Instant::NEVER {
            at = at.min(self.begun.0 + due.since(self.begun.1));
        }
        let stalls = self.nets.iter().filter_map(Net::due);
        stalls.fold(at, Ord::min).max(now + ms(1))
    }

    /// Moves bytes to and fro, and lets the server do what is due.
    fn turn(&mut self) {
        let now = self.begun.1 + self.begun.0.elapsed();
        // First up to now: what is carried begins its way now.
        self.server.run(now);
        self.join();
        loop {
            let moved = self.carry();
            self.server.run(now);
            if !(self.carry() || moved) {
                break;
            }
        }
        let (world, nets) = (&self.world, &self.nets);
        self.joints
            .retain_mut(|joint| !joint.part(&nets[joint.net], world));
    }

    fn join(&mut self) {
        for (index, net) in self.nets.iter().enumerate() {
            while let Some(id) = net.accept() {
                match self.world.dial() {
                    Some(end) => self.joints.push(Joint {
                        net: index,
                        id,
                        end,
                        unwritten: Vec::new(),
                        is_finished: false,
                    }),
                    None => net.end(id, End::Reset),
                }
            }
        }
    }

    fn carry(&mut self) -> bool {
        let mut moved = false;
        for joint in &mut self.joints {
            moved |= joint.carry(&self.nets[joint.net], &self.world);
        }
        moved
    }
}

impl Joint {
    /// Moves what there is room for; whether that was anything.
    fn carry(&mut self, net: &Net, world: &World) -> bool {
        let mut moved = false;
        let room = net.room(self.id).min(PIECE_BYTES);
        if room > 0 && !net.is_dropped(self.id) {
            let down = world.read(self.end, room);
            moved |= !down.is_empty();
            net.give(self.id, &down);
        }
        if self.unwritten.is_empty() {
            self.unwritten = net.take(self.id, PIECE_BYTES);
        }
        let written = world.write(self.end, &self.unwritten);
        moved |= written > 0;
        self.unwritten.drain(..written);
        if !self.is_finished && self.unwritten.is_empty() && net.is_finished(self.id) {
            self.is_finished = true;
            world.finish(self.end);
            moved = true;
        }
        moved
    }

    /// Whether it is over, at both ends.
    fn part(&self, net: &Net, world: &World) -> bool {
        if net.ended(self.id).is_some() {
            world.hang_up(self.end, world.fate(self.end) == Fate::Ended);
            return true;
        }
        if net.is_dropped(self.id) && self.is_finished {
            world.hang_up(self.end, true);
            return true;
        }
        match world.fate(self.end) {
            Fate::Open => {}
            Fate::Ended => net.end(self.id, End::Eof),
            Fate::Reset => net.end(self.id, End::Reset),
        }
        false
    }
}
