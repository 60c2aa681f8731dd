//! The simulation tested with a small server of its own: an echo of bytes, or of REQUESTs.

use super::client::{Ending, Opening, Order, Plan, Reading, Writing};
use super::{Faults, RingSize, SimDriver, World};
use crate::base::chunk::Chunk;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::proto::envelope::Envelope;
use crate::proto::message::{Message, MessageType};
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session, Settings, Step};
use crate::ring::driver::{Buffer, Completion, Driver, Received, Socket};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SEEDS: u64 = 200;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

struct Peer {
    generation: u32,
    socket: Socket,
    session: Option<Session>,
    input: Reassembly,
    out: Vec<u8>,
    receiving: bool,
    sending: bool,
    /// Nothing more is to be read, or nothing more can be written.
    read_ended: bool,
    write_ended: bool,
    chunk_from: usize,
}

/// The smallest server that the driver's contract allows.
struct Toy {
    driver: SimDriver,
    settings: Option<Arc<Settings>>,
    peers: BTreeMap<u32, Peer>,
    generation: u32,
    accept_at: Instant,
    accepts: bool,
    starved: Vec<u32>,
}

impl Toy {
    fn new(mut driver: SimDriver, shakes_hands: bool) -> Toy {
        driver.accept();
        Toy {
            driver,
            settings: shakes_hands.then(|| Arc::new(super::world::client_settings())),
            peers: BTreeMap::new(),
            generation: 0,
            accept_at: Instant::NEVER,
            accepts: true,
            starved: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.driver
            .poll(64, Some(self.accept_at), &mut || true)
            .unwrap();
        let starved = std::mem::take(&mut self.starved);
        while let Some(completion) = self.driver.next() {
            match completion {
                Completion::Accepted(socket) => self.admit(socket),
                Completion::AcceptEnded(None) if self.accepts => self.driver.accept(),
                Completion::AcceptEnded(None) => {}
                Completion::AcceptEnded(Some(_)) => self.accept_at = self.driver.now() + ms(10),
                Completion::Received { key, result, more } => self.received(key, result, more),
                Completion::Sent { key, result, chunk } => {
                    let peer = self.peers.get_mut(&key.slot).expect("a slot in use");
                    assert_eq!(peer.generation, key.generation);
                    peer.sending = false;
                    match result {
                        Ok(count) => {
                            let sent = peer.chunk_from + count;
                            peer.out
                                .splice(..0, chunk.as_slice()[sent..].iter().copied());
                        }
                        Err(_) => {
                            (peer.read_ended, peer.write_ended) = (true, true);
                            peer.out.clear();
                        }
                    }
                }
            }
        }
        if self.accepts && self.accept_at <= self.driver.now() {
            self.accept_at = Instant::NEVER;
            self.driver.accept();
        }
        for slot in starved {
            self.rearm(slot);
        }
        let slots: Vec<u32> = self.peers.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.flush(slot));
    }

    fn admit(&mut self, socket: Socket) {
        let slot = (0..).find(|slot| !self.peers.contains_key(slot)).unwrap();
        if let Some(peer) = self.driver.peer(socket) {
            assert!(peer.is_ipv4());
        }
        self.generation += 1;
        let session = self.settings.as_ref();
        let peer = Peer {
            generation: self.generation,
            socket,
            session: session.map(|s| Session::accept(Arc::clone(s), 7, self.driver.now())),
            input: Reassembly::default(),
            out: Vec::new(),
            receiving: true,
            sending: false,
            read_ended: false,
            write_ended: false,
            chunk_from: 0,
        };
        let generation = peer.generation;
        self.peers.insert(slot, peer);
        self.driver.receive(Key { slot, generation }, socket);
    }

    fn received(&mut self, key: Key, result: Received, more: bool) {
        let peer = self.peers.get_mut(&key.slot).expect("a slot in use");
        assert_eq!(
            peer.generation, key.generation,
            "the slot is kept until the last"
        );
        match result {
            Received::Data(buffer) => {
                let bytes = self.driver.bytes(&buffer);
                match &mut peer.session {
                    Some(session) => {
                        let now = self.driver.now();
                        answer(session, &mut peer.input, bytes, now, &mut peer.out);
                        peer.read_ended |= session.is_ended();
                    }
                    None => peer.out.extend_from_slice(bytes),
                }
                self.driver.release(buffer);
            }
            Received::End => peer.read_ended = true,
            Received::Failed(_) => {
                (peer.read_ended, peer.write_ended) = (true, true);
                peer.out.clear();
            }
            Received::NoBuffers => self.starved.push(key.slot),
            Received::Stopped => {}
        }
        if !more {
            peer.receiving = false;
            if !self.starved.contains(&key.slot) {
                self.rearm(key.slot);
            }
        }
    }

    fn rearm(&mut self, slot: u32) {
        if let Some(peer) = self.peers.get_mut(&slot)
            && !peer.receiving
            && !peer.read_ended
        {
            peer.receiving = true;
            let generation = peer.generation;
            self.driver.receive(Key { slot, generation }, peer.socket);
        }
    }

    fn flush(&mut self, slot: u32) {
        let peer = self.peers.get_mut(&slot).unwrap();
        let generation = peer.generation;
        let key = Key { slot, generation };
        if peer.sending {
            return;
        }
        if !peer.out.is_empty() && !peer.write_ended {
            // A byte that is not to be sent stands in front: `from` has to be heeded.
            peer.chunk_from = 1;
            let mut bytes = vec![b'?'];
            bytes.append(&mut peer.out);
            peer.sending = true;
            self.driver.send(key, peer.socket, Chunk::Own(bytes), 1);
        } else if peer.read_ended && !peer.write_ended {
            peer.write_ended = true;
            self.driver.shutdown(peer.socket);
        }
        if peer.read_ended && peer.write_ended && !peer.sending {
            if peer.receiving {
                self.driver.cancel_receive(key);
            } else {
                self.driver.close(peer.socket);
                self.peers.remove(&slot);
            }
        }
    }

    fn stop(&mut self) {
        self.accepts = false;
        self.driver.stop_accepting();
    }
}

/// Answers each REQUEST with its payload.
fn answer(
    session: &mut Session,
    input: &mut Reassembly,
    mut bytes: &[u8],
    now: Instant,
    out: &mut Vec<u8>,
) {
    while !session.is_ended() {
        match session.handle(input.view(bytes), now, out) {
            Step::Taken { used, event } => {
                match event {
                    Event::Message(Message::Envelope(MessageType::Request, asked)) => {
                        let envelope = Envelope {
                            id: asked.id,
                            payload: asked.payload,
                            ..Envelope::default()
                        };
                        let response = Message::Envelope(MessageType::Response, envelope);
                        session.send(&response, out);
                    }
                    Event::PeerClosed { .. } => session.finish(out),
                    _ => {}
                }
                input.consume(used, &mut bytes);
            }
            Step::Incomplete { need } => {
                if !input.fill(need, &mut bytes) {
                    break;
                }
            }
        }
    }
}

fn small() -> RingSize {
    RingSize {
        buffers: 4,
        buffer_bytes: 128,
        completions: 6,
        backlog: 2,
    }
}

fn run(world: &World, toys: &mut [Toy], until: Instant) {
    while let Some(shard) = world.next(until) {
        toys[shard].turn();
    }
}

fn finish(world: &World, toys: &mut [Toy]) {
    toys.iter_mut().for_each(Toy::stop);
    run(world, toys, world.now() + ms(10_000));
    world.check_no_leaks();
    let mut reports = world.clients().map(|id| world.report(id));
    let staying = reports.find(|report| !report.ended);
    assert_eq!(world.connections(), 0, "seed {}: {staying:?}", world.seed());
}

/// Twenty clients that send bytes and count on having them back.
fn echo_bytes(seed: u64, faults: Faults) -> World {
    let world = World::new(seed, faults);
    let mut rng = fastrand::Rng::with_seed(!seed);
    let mut toys: Vec<Toy> = (0..2)
        .map(|_| Toy::new(world.add_shard(small()), false))
        .collect();
    for _ in 0..20 {
        let mut bytes = vec![0; rng.usize(1..3000)];
        rng.fill(&mut bytes);
        let plan = Plan {
            opening: Opening::Raw(bytes),
            ending: Ending::Fin,
            ..Plan::default()
        };
        world.add_client(world.now() + ms(rng.u64(..50)), plan);
    }
    run(&world, &mut toys, world.now() + ms(20_000));
    for id in world.clients() {
        let (report, Opening::Raw(sent)) = (world.report(id), world.plan(id).opening) else {
            unreachable!("all are raw")
        };
        assert!(report.ended, "seed {seed}: {report:?}");
        if report.broken {
            assert!(sent.starts_with(&report.raw), "seed {seed}");
        } else {
            assert!(report.eof && report.raw == sent, "seed {seed}: {report:?}");
        }
    }
    finish(&world, &mut toys);
    world
}

#[test]
fn bytes_come_back_whole_and_in_order_under_every_fault() {
    for seed in 0..SEEDS {
        echo_bytes(seed, Faults::all());
    }
}

#[test]
fn every_fault_and_shortage_happens() {
    let mut met = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        met.extend(echo_bytes(seed, Faults::all()).coverage().into_keys());
    }
    let expected = [
        "accept_aborts",
        "accept_full",
        "backlog full",
        "breaks",
        "buffers ran out",
        "multishot_ends",
        "late",
        "no_peer_address",
        "no_buffers",
        "queue full",
        "queue full at accept",
        "reorder",
        "reset_discards",
        "segments",
        "send waits",
        "short_receive",
        "short_send",
        "slow_send",
    ];
    for name in expected {
        assert!(met.contains(name), "{name} is not among {met:?}");
    }
}

#[test]
fn without_faults_no_connection_breaks() {
    for seed in 0..20 {
        let world = echo_bytes(seed, Faults::none());
        assert!(world.clients().all(|id| world.report(id).eof));
    }
}

#[test]
fn a_seed_makes_one_run_and_another_seed_another() {
    let traces: Vec<u64> = (0..20)
        .map(|seed| echo_bytes(seed, Faults::all()).trace())
        .collect();
    for (seed, trace) in traces.iter().enumerate() {
        assert_eq!(echo_bytes(seed as u64, Faults::all()).trace(), *trace);
        assert!(!traces[..seed].contains(trace));
    }
}

#[test]
fn clients_of_every_kind_get_everything_owed() {
    for seed in 0..SEEDS {
        let world = World::new(seed, Faults::all());
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut toys: Vec<Toy> = (0..2)
            .map(|_| Toy::new(world.add_shard(small()), true))
            .collect();
        let mut good = Vec::new();
        for count in 0..20 {
            let start = world.now() + ms(rng.u64(..50));
            if count % 2 == 0 {
                let plan = Plan::well_behaved(&mut rng);
                good.push((world.add_client(start, plan.clone()), plan));
            } else {
                world.add_client(start, Plan::ill_behaved(&mut rng));
            }
        }
        run(&world, &mut toys, world.now() + ms(300));
        world.set_faults(Faults::none());
        for id in world.clients() {
            world.order(id, Order::Heal);
        }
        run(&world, &mut toys, world.now() + ms(60_000));
        for (id, plan) in good {
            let checked = world.report(id).check(&world.plan(id));
            checked.unwrap_or_else(|wrong| panic!("seed {seed}: {plan:?}: {wrong}"));
        }
        // Those that vanished are still there: the toy has no heartbeat.
        for toy in &mut toys {
            for (slot, peer) in &mut toy.peers {
                let generation = peer.generation;
                (peer.read_ended, peer.write_ended) = (true, true);
                toy.driver.cancel_send(Key {
                    slot: *slot,
                    generation,
                });
            }
        }
        finish(&world, &mut toys);
    }
}

#[test]
fn the_lowest_free_number_is_the_next() {
    let world = World::new(1, Faults::none());
    let mut driver = world.add_shard(RingSize::default());
    driver.accept();
    let plan = || Plan {
        opening: Opening::Silent,
        ..Plan::default()
    };
    let accept = |driver: &mut SimDriver| {
        world.add_client(world.now(), plan());
        driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
        world.next(world.now() + ms(100));
        driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
        match driver.next() {
            Some(Completion::Accepted(socket)) => socket,
            other => panic!("{other:?}"),
        }
    };
    driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
    let sockets: Vec<Socket> = (0..3).map(|_| accept(&mut driver)).collect();
    driver.close(sockets[1]);
    driver.close(sockets[0]);
    assert_eq!(accept(&mut driver), sockets[0]);
    assert_eq!(accept(&mut driver), sockets[1]);
}

#[test]
fn full_descriptors_pause_the_accept_and_no_connection_is_lost() {
    let world = World::new(3, Faults::none());
    world.set_descriptors_max(2);
    let mut toys = [Toy::new(world.add_shard(RingSize::default()), true)];
    for _ in 0..10 {
        let plan = Plan {
            requests: 3,
            ending: Ending::Close,
            ..Plan::default()
        };
        world.add_client(world.now(), plan);
    }
    let mut open_max = 0;
    while let Some(shard) = world.next(world.now() + ms(5_000)) {
        toys[shard].turn();
        open_max = open_max.max(world.sockets_open());
    }
    assert_eq!(open_max, 2);
    for id in world.clients() {
        world.report(id).check(&world.plan(id)).unwrap();
    }
    finish(&world, &mut toys);
}

#[test]
fn a_slow_reader_fills_its_pipe_and_the_send_waits() {
    let world = World::new(4, Faults::none());
    world.set_pipe_bytes(1000);
    let mut toys = [Toy::new(world.add_shard(RingSize::default()), true)];
    let plan = Plan {
        requests: 50,
        depth: 50,
        payload_bytes_max: 400,
        reading: Reading::Never,
        writing: Writing::Trickle {
            bytes: 100,
            every: ms(1),
        },
        ending: Ending::Close,
        ..Plan::default()
    };
    let id = world.add_client(world.now(), plan);
    run(&world, &mut toys, world.now() + ms(2_000));
    assert!(!world.report(id).established);
    world.order(id, Order::Heal);
    run(&world, &mut toys, world.now() + ms(2_000));
    world.report(id).check(&world.plan(id)).unwrap();
    finish(&world, &mut toys);
}

#[test]
fn closing_with_bytes_unread_resets_and_reading_first_does_not() {
    for (reads, reset) in [(false, true), (true, false)] {
        let world = World::new(5, Faults::none());
        let mut driver = world.add_shard(RingSize::default());
        driver.accept();
        let plan = Plan {
            opening: Opening::Raw(vec![1, 2, 3]),
            ..Plan::default()
        };
        let id = world.add_client(world.now(), plan);
        let key = Key {
            slot: 0,
            generation: 1,
        };
        let until = world.now() + ms(100);
        while world.next(until).is_some() {
            driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
            match driver.next() {
                Some(Completion::Accepted(socket)) if reads => driver.receive(key, socket),
                Some(Completion::Accepted(socket)) => {
                    world.next(world.now() + ms(5));
                    driver.close(socket);
                }
                Some(Completion::Received { result, more, .. }) => match result {
                    Received::Data(buffer) => {
                        assert_eq!(driver.bytes(&buffer), [1, 2, 3]);
                        driver.release(buffer);
                        driver.cancel_receive(key);
                    }
                    Received::Stopped if !more => driver.close(Socket(8)),
                    other => panic!("{other:?}"),
                },
                _ => {}
            }
        }
        assert_eq!(world.report(id).reset, reset);
        assert_eq!(world.report(id).eof, !reset);
        driver.stop_accepting();
        driver.poll(8, None, &mut || true).unwrap();
        assert!(matches!(driver.next(), Some(Completion::AcceptEnded(None))));
        world.check_no_leaks();
    }
}

#[test]
fn a_waker_wakes_a_sleeping_shard() {
    let world = World::new(6, Faults::none());
    let mut driver = world.add_shard(RingSize::default());
    let waker = driver.waker();
    let until = world.now() + ms(50);
    assert_eq!(world.next(until), Some(0));
    driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
    assert_eq!(world.next(until), None);
    assert_eq!(world.now(), until);
    waker.wake();
    assert_eq!(world.next(until + ms(50)), Some(0));
    // Woken during its last look before sleeping: it does not sleep.
    driver.poll(8, Some(Instant::NEVER), &mut || false).unwrap();
    assert_eq!(world.next(until + ms(50)), Some(0));
}

// ---- breaches of the driver's contract ----

const KEY: Key = Key {
    slot: 0,
    generation: 1,
};

/// A driver with one connection, silent.
fn connected() -> (World, SimDriver, Socket) {
    let world = World::new(7, Faults::none());
    let mut driver = world.add_shard(RingSize::default());
    driver.accept();
    let plan = Plan {
        opening: Opening::Silent,
        ..Plan::default()
    };
    world.add_client(world.now(), plan);
    loop {
        driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
        match driver.next() {
            Some(Completion::Accepted(socket)) => return (world, driver, socket),
            _ => world.next(Instant::NEVER),
        };
    }
}

#[test]
#[should_panic(expected = "seed 7: shard 0 at 1.0")]
fn a_breach_names_the_seed() {
    let (_world, mut driver, socket) = connected();
    driver.receive(KEY, socket);
    driver.receive(KEY, socket);
}

#[test]
#[should_panic(expected = "two sends of 0.1")]
fn a_second_send_of_a_key_is_a_breach() {
    let (world, mut driver, socket) = connected();
    world.add_client(world.now(), Plan::default());
    driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
    world.next(Instant::NEVER);
    driver.poll(8, Some(Instant::NEVER), &mut || true).unwrap();
    let Some(Completion::Accepted(other)) = driver.next() else {
        panic!("a second connection");
    };
    driver.send(KEY, socket, Chunk::Own(vec![1]), 0);
    driver.send(KEY, other, Chunk::Own(vec![1]), 0);
}

#[test]
#[should_panic(expected = "used while its slot is in flight")]
fn a_slot_reused_before_its_last_completion_is_a_breach() {
    let (_world, mut driver, socket) = connected();
    driver.receive(KEY, socket);
    let next = Key {
        slot: 0,
        generation: 2,
    };
    driver.send(next, socket, Chunk::Own(vec![1]), 0);
}

#[test]
#[should_panic(expected = "closed with something in flight")]
fn a_close_under_a_receive_is_a_breach() {
    let (_world, mut driver, socket) = connected();
    driver.receive(KEY, socket);
    driver.close(socket);
}

#[test]
#[should_panic(expected = "not open")]
fn a_second_close_is_a_breach() {
    let (_world, mut driver, socket) = connected();
    driver.close(socket);
    driver.close(socket);
}

#[test]
#[should_panic(expected = "not open")]
fn use_after_close_is_a_breach() {
    let (_world, mut driver, socket) = connected();
    driver.close(socket);
    driver.poll(8, None, &mut || true).unwrap();
    driver.receive(KEY, socket);
}

#[test]
#[should_panic(expected = "released, not lent")]
fn a_buffer_released_that_was_not_lent_is_a_breach() {
    let (_world, mut driver, _) = connected();
    driver.release(Buffer { id: 0, len: 0 });
}

#[test]
#[should_panic(expected = "two accepts armed")]
fn a_second_accept_is_a_breach() {
    let (_world, mut driver, _) = connected();
    driver.accept();
}

#[test]
#[should_panic(expected = "never closed")]
fn a_socket_never_closed_is_a_leak() {
    let (world, _driver, _socket) = connected();
    world.check_no_leaks();
}

#[test]
#[should_panic(expected = "in flight: slots [0]")]
fn a_receive_never_ended_is_a_leak() {
    let (world, mut driver, socket) = connected();
    driver.receive(KEY, socket);
    world.check_no_leaks();
}
