//! A server on three shards and its clients; at the end everything is judged, and everything must
//! be released.

use super::super::server::{Guards, Server, limits, ms, settings};
use super::judge::{Evidence, Terms};
use ringmail::broker::Limits;
use ringmail::proto::session::Settings;
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
    /// What its setup allows the server.
    pub terms: Terms,
}

impl Scene {
    /// A server with default settings, and no faults.
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
        Scene::set_up(shards, seed, faults, size, &settings(), limits, guards)
    }

    pub fn set_up(
        shards: usize,
        seed: u64,
        faults: Faults,
        size: RingSize,
        settings: &Settings,
        limits: Limits,
        guards: Guards,
    ) -> Scene {
        let world = World::new(seed, faults);
        let linger = limits.session_linger;
        let server = Server::guarded(&world, shards, size, settings, &limits, guards);
        Scene {
            world,
            server,
            clients: Vec::new(),
            linger,
            terms: Terms::default(),
        }
    }

    /// Adds a client that starts now.
    pub fn enter(&mut self, plan: Traffic) -> ClientId {
        self.enter_later(Duration::ZERO, plan)
    }

    pub fn enter_later(&mut self, after: Duration, plan: Traffic) -> ClientId {
        let id = self.world.add_traffic(self.world.now() + after, plan);
        self.clients.push(id);
        id
    }

    /// Adds one client after the other, so that they are spread over the shards.
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

    /// Has a client perform these acts, and waits until everything is answered.
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

    /// The numbers of the messages on `topic` from `from` that `to` has received, in order.
    pub fn numbers(&self, to: ClientId, from: ClientId, topic: &str) -> Vec<u32> {
        self.record(to).numbers(from, topic)
    }

    pub fn run_for(&mut self, time: Duration) {
        self.server.run_for(time);
    }

    /// Lets every client finish its script.
    ///
    /// # Panics
    /// If one does not, within a minute.
    pub fn settle(&mut self) {
        for _ in 0..600 {
            // A client that has finished may still be sent something.
            self.server.run_for(ms(20));
            if self.well_behaved().all(|id| self.world.is_idle(id)) {
                return;
            }
            self.server.run_for(ms(80));
        }
        let seed = self.world.seed();
        for id in self.well_behaved() {
            let record = self.record(id);
            let last = record.connections.last();
            assert!(
                self.world.is_idle(id),
                "seed {seed}: {id:?} waits: {last:?}, {:?}",
                record.violation
            );
        }
    }

    fn well_behaved(&self) -> impl Iterator<Item = ClientId> {
        let all = self.clients.iter().copied();
        all.filter(|&id| self.terms.bad != Some(id))
    }

    /// Runs long enough for sessions and vanished connections to time out.
    pub fn outlast(&mut self) {
        self.run_for(self.linger + Duration::from_secs(100));
    }

    /// What all clients have seen so far.
    pub fn evidence(&self) -> Evidence {
        Evidence::gather(&self.world, &self.clients, self.linger, self.terms.clone())
    }

    /// Has all clients send CLOSE; returns what they have seen.
    pub fn close(&mut self) -> Evidence {
        for &id in &self.clients {
            self.end(id, Ending::Close);
        }
        self.run_for(Duration::from_secs(5));
        let evidence = self.evidence();
        for witness in &evidence.witnesses {
            let seed = self.world.seed();
            let (id, record) = (witness.id, &witness.record);
            assert!(record.ended, "seed {seed}: {id:?} does not end: {record:?}");
        }
        evidence
    }

    /// Heals and closes all clients, judges what they have seen, and checks that everything is
    /// released.
    pub fn finish(mut self) {
        self.settle();
        self.outlast();
        self.close().judge();
        self.rest();
    }

    /// Checks that nothing is left once all clients have ended.
    pub fn rest(mut self) {
        self.outlast();
        self.server.end();
    }
}
