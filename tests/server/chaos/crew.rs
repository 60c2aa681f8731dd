//! All clients of one server: started, waited for, and their records gathered.

use super::client::Client;
use super::connection::{Dial, credential};
use super::history::{Clock, Fate, History, Label, Record};
use super::native::Native;
use super::network::Network;
use super::trial::{Ground, LINGER, PATIENCE, Plan};
use super::workload::{LONG_S, Manner};
use super::world::{Command, Seat, World};
use crate::harness::Server;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The clients at work.
pub struct Crew {
    pub world: Arc<World>,
    pub seats: Vec<Arc<Seat>>,
    pub commands: Vec<mpsc::Sender<Command>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    pub fn hire(
        plan: &Plan,
        ground: &Ground,
        server: &Server,
        network: &Network,
        clock: Clock,
    ) -> Crew {
        let links = network.links.iter().map(|link| link.address);
        let world = Arc::new(World {
            clock,
            addresses: std::iter::once(server.address).chain(links).collect(),
            tls: plan.has_tls.then(|| ground.authority.client()),
            is_tight: plan.is_tight,
            phase: AtomicU8::new(0),
            is_draining: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            revoked: (0..plan.clients).map(|_| AtomicU32::new(0)).collect(),
            progress: AtomicU64::new(0),
        });
        let mut crew = Crew {
            world,
            seats: Vec::new(),
            commands: Vec::new(),
            threads: Vec::new(),
        };
        let mut random = fastrand::Rng::with_seed(!plan.seed);
        let mut stale = ground.stale.iter().copied();
        for client in 0..plan.clients {
            let manner = match client {
                0 => Manner::observer(),
                _ => Manner::draw(&mut random, network.links.len(), plan.has_tls),
            };
            let seat = crew.seat(client, format!("{manner:?}"), &mut random);
            let (sender, receiver) = mpsc::channel();
            let stale = if manner.session { stale.next() } else { None };
            let seed = random.u64(..);
            let (world, taken) = (crew.world.clone(), seat.clone());
            let client = Client::new(world, taken, manner, seed, receiver, stale);
            crew.commands.push(sender);
            crew.threads.push(std::thread::spawn(move || client.run()));
            if crew.seats.len() == 1 {
                crew.wait_for_observer();
            }
        }
        for client in plan.clients..plan.clients + plan.natives {
            crew.hire_native(client, ground, &mut random);
        }
        crew
    }

    fn seat(&mut self, client: u16, manner: String, random: &mut fastrand::Rng) -> Arc<Seat> {
        let seat = Arc::new(Seat {
            record: Mutex::new(Record {
                client,
                manner,
                ..Record::default()
            }),
            at_rest: AtomicBool::new(false),
            // A principal of its own in each trial: revocations outlive the server.
            identity: AtomicU32::new(random.u32(..1 << 30)),
            key: Mutex::new(None),
        });
        self.seats.push(seat.clone());
        seat
    }

    fn hire_native(&mut self, client: u16, ground: &Ground, random: &mut fastrand::Rng) {
        let ca = self.world.tls.is_some() && random.bool();
        let ca = ca.then(|| ground.authority.path("ca.pem"));
        let dial = Dial {
            address: self.world.addresses[random.usize(..self.world.addresses.len())],
            tls: None,
            checksum: random.bool(),
            client_id: format!("c{client}"),
            credential: Some(credential(&format!("native-{client}"), LONG_S)),
        };
        let (address, checksum) = (dial.address, dial.checksum);
        let manner = format!("the library at {address}, checksum: {checksum}, tls: {ca:?}");
        let (seat, seed) = (self.seat(client, manner, random), random.u64(..));
        let world = self.world.clone();
        let live = move || Native::live(world, seat, seed, &dial, ca);
        self.threads.push(std::thread::spawn(live));
    }

    fn wait_for_observer(&self) {
        self.until("the observer subscribes", || {
            let record = self.seats[0].record.lock().unwrap();
            let mut standings = record.standings.iter();
            standings.any(|one| one.confirmed_at.is_some())
        })
        .unwrap();
    }

    pub fn until(&self, what: &str, mut met: impl FnMut() -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !met() {
            if Instant::now() > end {
                return Err(format!("within {PATIENCE:?} never: {what}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Until so many more messages have come to clients, or a while has passed.
    pub fn go_on(&self, messages: u64) {
        let progress = || self.world.progress.load(Ordering::Relaxed);
        let until = progress() + messages;
        let end = Instant::now() + Duration::from_secs(3);
        while progress() < until && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn history(&self, fate: Fate, retained: Option<Vec<(String, Label)>>) -> History {
        let records = self.seats.iter();
        History {
            fate,
            linger: u64::try_from(LINGER.as_micros()).unwrap(),
            records: records
                .map(|seat| seat.record.lock().unwrap().clone())
                .collect(),
            retained,
        }
    }

    pub fn join(&mut self) -> Result<(), String> {
        let threads = std::mem::take(&mut self.threads);
        let mut failed = Ok(());
        self.until("all clients have gone", || {
            threads.iter().all(JoinHandle::is_finished)
        })?;
        for (number, thread) in threads.into_iter().enumerate() {
            if thread.join().is_err() {
                failed = Err(format!("client {number} panicked"));
            }
        }
        failed
    }

    /// What is open at clients that do not come to rest.
    pub fn restless(&self) -> String {
        let seats = self.seats.iter().enumerate();
        let restless = seats.filter(|(_, seat)| !seat.at_rest.load(Ordering::SeqCst));
        let told = restless.map(|(number, seat)| {
            let record = seat.record.lock().unwrap();
            let asked = record.asked.iter().rfind(|one| one.answers.is_empty());
            let published = record
                .published
                .iter()
                .rfind(|one| one.confirmed_at.is_none());
            format!(
                "client {number} is not at rest: {}; {:?}; {:?}; {:?}; {asked:?}; {published:?}",
                record.manner,
                record.wrong.last(),
                record.lives.last(),
                record.connections.last()
            )
        });
        told.collect::<Vec<_>>().join("\n")
    }
}
