//! A server on three shards and the clients that route through it; its end, at which all is
//! judged and everything must be back where it was.

use super::super::server::{Guards, Server, limits, ms, settings};
use super::judge::Evidence;
use ringmail::broker::Limits;
use ringmail::ring::sim::client::traffic::{Act, Command, Record, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending};
use ringmail::ring::sim::{Faults, RingSize, World};
use std::time::Duration;

pub const SHARDS: usize = 3;

pub struct Scene {
    pub world: World,
    pub server: Server,
    pub clients: Vec<ClientId>,
    pub linger: Duration,
    /// Room for everything: no session is lost, no reader too slow.
    pub ample: bool,
    /// Others take all places that are left: who comes back may be turned away.
    pub crowded: bool,
}

impl Scene {
    /// A server with every default, and no faults.
    pub fn quiet(seed: u64) -> Scene {
        Scene::with(seed, Faults::none(), RingSize::default(), limits())
    }

    pub fn with(seed: u64, faults: Faults, size: RingSize, limits: Limits) -> Scene {
        Scene::guarded(seed, faults, size, limits, Guards::default())
    }

    pub fn guarded(
        seed: u64,
        faults: Faults,
        size: RingSize,
        limits: Limits,
        guards: Guards,
    ) -> Scene {
        Scene::of_shards(SHARDS, seed, faults, size, limits, guards)
    }

    pub fn of_shards(
        shards: usize,
        seed: u64,
        faults: Faults,
        size: RingSize,
        limits: Limits,
        guards: Guards,
    ) -> Scene {
        let world = World::new(seed, faults);
        let linger = limits.session_linger;
        let server = Server::guarded(&world, shards, size, &settings(), &limits, guards);
        Scene {
            world,
            server,
            clients: Vec::new(),
            linger,
            ample: true,
            crowded: false,
        }
    }

    /// A client that begins now.
    pub fn enter(&mut self, plan: Traffic) -> ClientId {
        self.enter_later(Duration::ZERO, plan)
    }

    pub fn enter_later(&mut self, after: Duration, plan: Traffic) -> ClientId {
        let id = self.world.add_traffic(self.world.now() + after, plan);
        self.clients.push(id);
        id
    }

    /// One client after the other, so that they stand on different shards while they can.
    pub fn enter_each<const N: usize>(&mut self, plans: [Traffic; N]) -> [ClientId; N] {
        plans.map(|plan| {
            let id = self.enter(plan);
            self.settle();
            id
        })
    }

    pub fn act(&self, client: ClientId, acts: impl Into<Vec<Act>>) {
        self.world.command(client, Command::Act(acts.into()));
    }

    /// Has a client do this, and waits until all is answered.
    pub fn perform(&mut self, client: ClientId, acts: impl Into<Vec<Act>>) {
        self.act(client, acts);
        self.settle();
    }

    pub fn end(&self, client: ClientId, ending: Ending) {
        self.world.command(client, Command::End(ending));
    }

    pub fn record(&self, client: ClientId) -> Record {
        self.world.record(client)
    }

    /// Numbers of the messages on `topic` of `from` that `to` has, in their order.
    pub fn numbers(&self, to: ClientId, from: ClientId, topic: &str) -> Vec<u32> {
        self.record(to).numbers(from, topic)
    }

    pub fn run_for(&mut self, time: Duration) {
        self.server.run_for(time);
    }

    /// Lets everybody finish what it has to do.
    ///
    /// # Panics
    /// Somebody does not, within a minute.
    pub fn settle(&mut self) {
        for _ in 0..600 {
            // Even who has nothing to do may be sent something still.
            self.server.run_for(ms(20));
            if self.clients.iter().all(|&id| self.world.is_idle(id)) {
                return;
            }
            self.server.run_for(ms(80));
        }
        let seed = self.world.seed();
        for &id in &self.clients {
            let record = self.record(id);
            let last = record.connections.last();
            assert!(
                self.world.is_idle(id),
                "seed {seed}: {id:?} waits: {last:?}, {:?}",
                record.wrong
            );
        }
    }

    /// Long enough for sessions, and for connections gone without a word, to be given up.
    pub fn outlast(&mut self) {
        self.run_for(self.linger + Duration::from_secs(100));
    }

    /// Has all clients send CLOSE; all they have seen.
    pub fn close(&mut self) -> Evidence {
        for &id in &self.clients {
            self.end(id, Ending::Close);
        }
        self.run_for(Duration::from_secs(5));
        let mut evidence = Evidence::gather(&self.world, &self.clients, self.linger, self.ample);
        evidence.crowded = self.crowded;
        for witness in &evidence.witnesses {
            let seed = self.world.seed();
            let (id, record) = (witness.id, &witness.record);
            assert!(record.over, "seed {seed}: {id:?} does not end: {record:?}");
        }
        evidence
    }

    /// Heals and closes all, judges what they have seen, and asks for everything back.
    pub fn finish(mut self) {
        self.settle();
        self.outlast();
        self.close().judge();
        self.rest();
    }

    /// What is left when all have gone: nothing.
    pub fn rest(mut self) {
        self.outlast();
        self.server.end();
    }
}
