//! The io_uring driver alone, against real sockets: what `ring::driver` promises, held
//! operation by operation, without a shard to smooth anything over.

use ringmail::base::chunk::Chunk;
use ringmail::base::clock::Instant;
use ringmail::base::id::Key;
use ringmail::ring::driver::{Completion, Driver, Received, Socket};
use ringmail::ring::uring::{Geometry, Uring};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn geometry() -> Geometry {
    Geometry {
        entries: 64,
        completions: 256,
        buffers: 64,
        buffer_bytes: 4096,
        busy_poll: Duration::ZERO,
    }
}

const fn key(slot: u32, generation: u32) -> Key {
    Key { slot, generation }
}

/// A driver and what it has said that nobody has asked about yet.
struct Bench {
    driver: Uring,
    address: SocketAddr,
    said: VecDeque<Completion>,
}

impl Bench {
    fn new(geometry: &Geometry) -> Bench {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut driver = Uring::new(geometry, listener).unwrap();
        driver.accept();
        Bench {
            driver,
            address,
            said: VecDeque::new(),
        }
    }

    fn poll(&mut self) {
        let until = Instant::now() + Duration::from_millis(20);
        let until = self.said.is_empty().then_some(until);
        self.driver.poll(1024, until, &mut || true).unwrap();
        while let Some(completion) = self.driver.next() {
            self.said.push_back(completion);
        }
    }

    /// The first completion that `pick` takes; others stay for later.
    fn wait<T>(&mut self, what: &str, mut pick: impl FnMut(&mut Completion) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            for at in 0..self.said.len() {
                if let Some(picked) = pick(&mut self.said[at]) {
                    let _ = self.said.remove(at);
                    return picked;
                }
            }
            assert!(Instant::now() < end, "no {what}; said: {:?}", self.said);
            self.driver
                .poll(
                    1024,
                    Some(Instant::now() + Duration::from_millis(20)),
                    &mut || true,
                )
                .unwrap();
            while let Some(completion) = self.driver.next() {
                self.said.push_back(completion);
            }
        }
    }

    /// A client and the socket it was accepted on.
    fn pair(&mut self) -> (TcpStream, Socket) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = self.accepted();
        (client, socket)
    }

    fn accepted(&mut self) -> Socket {
        self.wait("accept", |completion| match completion {
            Completion::Accepted(socket) => Some(*socket),
            _ => None,
        })
    }

    /// The next completion of a key's receive: its bytes (the buffer given back), or what
    /// else it was, and whether more follow.
    fn received(&mut self, of: Key) -> (Got, bool) {
        let (result, more) = self.wait("receive", |completion| match completion {
            Completion::Received { key, result, more } if *key == of => {
                Some((std::mem::replace(result, Received::Stopped), *more))
            }
            _ => None,
        });
        let got = match result {
            Received::Data(buffer) => {
                let bytes = self.driver.bytes(&buffer).to_vec();
                self.driver.release(buffer);
                Got::Bytes(bytes)
            }
            Received::End => Got::End,
            Received::NoBuffers => Got::NoBuffers,
            Received::Stopped => Got::Stopped,
            Received::Failed(error) => panic!("receive failed: {error}"),
        };
        (got, more)
    }

    fn sent(&mut self, of: Key) -> (std::io::Result<usize>, Chunk) {
        self.wait("send", |completion| match completion {
            Completion::Sent { key, result, chunk } if *key == of => Some((
                std::mem::replace(result, Ok(0)),
                std::mem::replace(chunk, Chunk::Own(Vec::new())),
            )),
            _ => None,
        })
    }

    /// Receives `count` bytes of a key, arming again whatever ended meanwhile.
    fn receive_all(&mut self, of: Key, socket: Socket, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let (got, more) = self.received(of);
            match got {
                Got::Bytes(bytes) => all.extend(bytes),
                Got::NoBuffers | Got::Stopped => {}
                Got::End => panic!("ended after {} bytes", all.len()),
            }
            if !more {
                self.driver.receive(of, socket);
            }
        }
        all
    }

    fn silent(&mut self, what: &str) {
        for _ in 0..5 {
            self.poll();
        }
        assert!(self.said.is_empty(), "{what}: {:?}", self.said);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Got {
    Bytes(Vec<u8>),
    End,
    NoBuffers,
    Stopped,
}

fn descriptor_is_open(socket: Socket) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{}", socket.0)).is_ok()
}

#[test]
fn accepted_received_sent_and_ended() {
    let mut bench = Bench::new(&geometry());
    let (mut client, socket) = bench.pair();
    let key = key(7, 3);
    assert_eq!(
        bench.driver.peer(socket),
        Some(client.local_addr().unwrap())
    );
    bench.driver.receive(key, socket);
    client.write_all(b"hello").unwrap();
    assert_eq!(bench.received(key), (Got::Bytes(b"hello".to_vec()), true));
    bench
        .driver
        .send(key, socket, Chunk::Own(b"--world".to_vec()), 2);
    let (sent, chunk) = bench.sent(key);
    assert_eq!((sent.unwrap(), chunk.as_slice()), (5, &b"--world"[..]));
    let shared = bytes::Bytes::from_static(b"!");
    bench.driver.send(key, socket, Chunk::Shared(shared), 0);
    assert_eq!(bench.sent(key).0.unwrap(), 1);
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"world!");
    // The end of each direction on its own.
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bench.received(key), (Got::End, false));
    bench
        .driver
        .send(key, socket, Chunk::Own(b"late".to_vec()), 0);
    bench.sent(key).0.unwrap();
    bench.driver.shutdown(socket);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"late");
    bench.driver.close(socket);
    bench.silent("after the end");
}

#[test]
fn a_cancelled_receive_says_so_once_and_what_came_before_is_not_lost() {
    let mut bench = Bench::new(&geometry());
    let (mut client, socket) = bench.pair();
    let key = key(1, 1);
    bench.driver.receive(key, socket);
    bench.silent("armed and nothing sent");
    bench.driver.cancel_receive(key);
    assert_eq!(bench.received(key), (Got::Stopped, false));
    // What comes now waits in the kernel until it is armed again.
    client.write_all(b"meanwhile").unwrap();
    bench.silent("not armed");
    bench.driver.receive(key, socket);
    assert_eq!(
        bench.received(key),
        (Got::Bytes(b"meanwhile".to_vec()), true)
    );
    // Armed and cancelled in one submission; a cancel of nothing does nothing.
    bench.driver.cancel_receive(key);
    bench.driver.cancel_receive(key);
    assert_eq!(bench.received(key), (Got::Stopped, false));
    bench.driver.receive(key, socket);
    bench.driver.cancel_receive(key);
    assert_eq!(bench.received(key), (Got::Stopped, false));
    bench.driver.cancel_receive(key);
    bench.silent("cancelled already");
}

#[test]
fn a_receive_cancelled_under_traffic_ends_soon_and_keeps_the_order() {
    const TOTAL: usize = 64 << 20;
    let byte_at = |at: usize| (at % 251) as u8;
    let mut bench = Bench::new(&geometry());
    let (mut client, socket) = bench.pair();
    let writing = std::thread::spawn(move || {
        let block: Vec<u8> = (0..251 * 256).map(byte_at).collect();
        let mut left = TOTAL;
        while left > 0 {
            let count = left.min(block.len());
            client.write_all(&block[..count]).unwrap();
            left -= count;
        }
        client
    });
    let key = key(4, 1);
    let (mut at, mut cancels) = (0, 0);
    while at < TOTAL {
        bench.driver.receive(key, socket);
        let mut since_cancel = None;
        loop {
            let (got, more) = bench.received(key);
            if let Got::Bytes(bytes) = got {
                let right = (at..).zip(&bytes).all(|(at, byte)| *byte == byte_at(at));
                assert!(right, "out of order at {at}");
                at += bytes.len();
            }
            if !more {
                break;
            }
            match &mut since_cancel {
                None => {
                    bench.driver.cancel_receive(key);
                    since_cancel = Some(0);
                    cancels += 1;
                }
                Some(count) => {
                    *count += 1;
                    assert!(*count < 1000, "the cancel was lost");
                }
            }
        }
    }
    println!("{cancels} cancels in {TOTAL} bytes");
    assert!(cancels > 50 && at == TOTAL);
    drop(writing.join().unwrap());
}

#[test]
fn a_cancelled_send_gives_its_memory_back_and_says_how_far_it_came() {
    let mut bench = Bench::new(&geometry());
    let (mut client, socket) = bench.pair();
    let key = key(2, 9);
    let bytes: Vec<u8> = (0..32u32 << 20).map(|i| (i % 241) as u8).collect();
    bench.driver.send(key, socket, Chunk::Own(bytes.clone()), 0);
    bench.silent("a send nobody reads");
    bench.driver.cancel_send(key);
    let (sent, chunk) = bench.sent(key);
    assert!(chunk.as_slice() == bytes, "another chunk came back");
    let sent = sent.unwrap_or_else(|error| panic!("some of it had gone: {error}"));
    assert!(sent > 0 && sent < bytes.len(), "{sent}");
    bench.driver.cancel_send(key);
    bench.silent("cancelled already");
    // Exactly that much arrives.
    bench.driver.shutdown(socket);
    let mut arrived = Vec::new();
    client.read_to_end(&mut arrived).unwrap();
    assert!(arrived == bytes[..sent], "{} of {sent}", arrived.len());
}

#[test]
fn a_descriptor_used_again_hears_nothing_of_its_former_life() {
    let mut bench = Bench::new(&geometry());
    let former = key(5, 1);
    let mut others = Vec::new();
    // The lowest free number is the next socket's, unless another test is quicker.
    let (mut first, mut second, socket) = loop {
        let (first, socket) = bench.pair();
        bench.driver.receive(former, socket);
        bench.poll();
        let chunk = Chunk::Own(b"bye".to_vec());
        bench.driver.send(former, socket, chunk, 0);
        bench.sent(former).0.unwrap();
        bench.driver.shutdown(socket);
        bench.driver.cancel_receive(former);
        assert_eq!(bench.received(former), (Got::Stopped, false));
        let second = TcpStream::connect(bench.address).unwrap();
        second.set_read_timeout(Some(PATIENCE)).unwrap();
        bench.driver.close(socket);
        if bench.accepted() == socket {
            break (first, second, socket);
        }
        assert!(others.len() < 100, "the number did not come again");
        others.push((first, second));
    };
    let present = key(5, 2);
    bench.driver.receive(present, socket);
    bench.poll();
    second.write_all(b"mine").unwrap();
    let _ = first.write_all(b"not yours");
    assert_eq!(
        bench.received(present),
        (Got::Bytes(b"mine".to_vec()), true)
    );
    bench.silent("the former owner's bytes");
    let mut answer = Vec::new();
    let _ = first.read_to_end(&mut answer);
    assert_eq!(answer, b"bye");
}

#[test]
fn a_close_without_cancel_leaves_the_receive_armed_which_is_why_there_is_an_order() {
    // FACTS of the kernel that `settle`'s order rests on: should this change, it may go.
    let mut bench = Bench::new(&geometry());
    let (mut client, socket) = bench.pair();
    let key = key(6, 1);
    bench.driver.receive(key, socket);
    bench.poll();
    bench.driver.close(socket);
    client.write_all(b"ghost").unwrap();
    assert_eq!(bench.received(key), (Got::Bytes(b"ghost".to_vec()), true));
    bench.driver.cancel_receive(key);
    assert_eq!(bench.received(key), (Got::Stopped, false));
}

#[test]
fn without_buffers_a_receive_ends_and_loses_nothing() {
    let mut bench = Bench::new(&Geometry {
        buffers: 8,
        buffer_bytes: 256,
        ..geometry()
    });
    let (mut client, socket) = bench.pair();
    let key = key(3, 1);
    let bytes: Vec<u8> = (0..20_000u32).map(|i| (i % 249) as u8).collect();
    client.write_all(&bytes).unwrap();
    bench.driver.receive(key, socket);
    // Eight are lent out and kept: the ninth arrival finds none.
    let mut lent = Vec::new();
    loop {
        let (result, more) = bench.wait("receive", |completion| match completion {
            Completion::Received { result, more, .. } => {
                Some((std::mem::replace(result, Received::Stopped), *more))
            }
            _ => None,
        });
        match result {
            Received::Data(buffer) => lent.push(buffer),
            Received::NoBuffers => {
                assert!(!more);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lent.len(), 8);
    bench.silent("ended");
    let mut received = Vec::new();
    for buffer in lent {
        received.extend_from_slice(bench.driver.bytes(&buffer));
        bench.driver.release(buffer);
    }
    bench.driver.receive(key, socket);
    let left = bytes.len() - received.len();
    received.extend(bench.receive_all(key, socket, left));
    assert!(received == bytes);
}

#[test]
fn a_tiny_completion_queue_ends_multishots_and_loses_nothing() {
    const CLIENTS: u32 = 40;
    let mut bench = Bench::new(&Geometry {
        entries: 8,
        completions: 8,
        buffers: 16,
        buffer_bytes: 256,
        ..geometry()
    });
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| TcpStream::connect(bench.address).unwrap())
        .collect();
    let mut sockets = Vec::new();
    while sockets.len() < clients.len() {
        sockets.push(bench.accepted());
        // As a shard does: what ended is armed again.
        let ended = bench
            .said
            .iter()
            .any(|c| matches!(c, Completion::AcceptEnded(_)));
        if ended {
            bench
                .said
                .retain(|c| !matches!(c, Completion::AcceptEnded(_)));
            bench.driver.accept();
        }
    }
    for (slot, socket) in sockets.iter().enumerate() {
        bench.driver.receive(key(slot as u32, 1), *socket);
    }
    for (peer, mut client) in clients.iter().enumerate() {
        client.write_all(&[peer as u8; 1000]).unwrap();
    }
    let mut of_peer = vec![0; clients.len()];
    for (slot, socket) in sockets.iter().enumerate() {
        let bytes = bench.receive_all(key(slot as u32, 1), *socket, 1000);
        let peer = bytes[0];
        assert!(
            bytes == vec![peer; 1000],
            "bytes of several peers on one key"
        );
        of_peer[usize::from(peer)] += 1;
        let answer = Chunk::Own(vec![peer; 10]);
        bench.driver.send(key(slot as u32, 1), *socket, answer, 0);
    }
    assert_eq!(of_peer, vec![1; clients.len()]);
    for slot in 0..sockets.len() {
        assert_eq!(bench.sent(key(slot as u32, 1)).0.unwrap(), 10);
    }
    for (peer, mut client) in clients.iter().enumerate() {
        let mut answer = [0; 10];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [peer as u8; 10]);
    }
}

#[test]
fn a_wake_ends_a_sleep_and_none_is_lost_around_its_edges() {
    let mut bench = Bench::new(&geometry());
    let waker = bench.driver.waker();
    // Asleep for good unless woken.
    let asleep = {
        let waker = waker.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            waker.wake();
        })
    };
    bench
        .driver
        .poll(64, Some(Instant::NEVER), &mut || true)
        .unwrap();
    asleep.join().unwrap();
    while bench.driver.next().is_some() {}
    // Woken while awake, with something left where the shard looks: it must not sleep.
    waker.wake();
    let looked = AtomicBool::new(false);
    let mut idle = || {
        looked.store(true, Ordering::Relaxed);
        false
    };
    bench
        .driver
        .poll(64, Some(Instant::NEVER), &mut idle)
        .unwrap();
    assert!(looked.load(Ordering::Relaxed), "it slept without looking");

    // Many times against the edge: each posts one item; a lost wake would sleep forever.
    const ITEMS: u32 = 20_000;
    let posted = Arc::new(AtomicU32::new(0));
    let taken = Arc::new(AtomicU32::new(0));
    let poster = {
        let (posted, taken) = (posted.clone(), taken.clone());
        std::thread::spawn(move || {
            for item in 1..=ITEMS {
                posted.store(item, Ordering::Release);
                waker.wake();
                while taken.load(Ordering::Acquire) < item {
                    std::hint::spin_loop();
                }
                for _ in 0..item % 500 {
                    std::hint::spin_loop();
                }
            }
        })
    };
    let mut seen = 0;
    while seen < ITEMS {
        let mut idle = || posted.load(Ordering::Acquire) == seen;
        bench
            .driver
            .poll(64, Some(Instant::NEVER), &mut idle)
            .unwrap();
        while bench.driver.next().is_some() {}
        seen = posted.load(Ordering::Acquire);
        taken.store(seen, Ordering::Release);
    }
    poster.join().unwrap();
}

#[test]
fn a_sleep_ends_at_its_deadline() {
    let mut bench = Bench::new(&geometry());
    let until = Instant::now() + Duration::from_millis(50);
    bench.driver.poll(64, Some(until), &mut || true).unwrap();
    assert!(bench.driver.now() >= until, "nothing came, and yet it woke");
}

#[test]
fn dropped_with_everything_in_flight() {
    let before = Mutex::new(Vec::new());
    {
        let mut bench = Bench::new(&geometry());
        for slot in 0..10 {
            let (mut client, socket) = bench.pair();
            bench.driver.receive(key(slot, 1), socket);
            let chunk = Chunk::Own(vec![slot as u8; 16 << 20]);
            bench.driver.send(key(slot, 1), socket, chunk, 0);
            client.write_all(b"unread").unwrap();
            before.lock().unwrap().push((client, socket));
        }
        bench.poll();
        // Some of it submitted, some only queued, buffers lent out.
        let (client, socket) = bench.pair();
        bench.driver.receive(key(99, 1), socket);
        drop(client);
    }
    // The kernel no longer writes to or reads from memory that is gone: what is allocated
    // there now stays as it is, while the peers read all that was sent and write more.
    let mut canary = vec![vec![0xEE_u8; 16 << 20]; 10];
    let clients = before.into_inner().unwrap();
    for (slot, (mut client, socket)) in clients.into_iter().enumerate() {
        assert!(
            descriptor_is_open(socket),
            "sockets are the shard's to close"
        );
        let _ = client.write_all(&[0x11; 4096]);
        client.set_nonblocking(true).unwrap();
        let mut chunk = [0; 65_536];
        let end = Instant::now() + PATIENCE;
        while let Ok(count @ 1..) = client.read(&mut chunk) {
            assert!(chunk[..count].iter().all(|&byte| byte == slot as u8));
            assert!(Instant::now() < end);
        }
        assert!(client.as_raw_fd() >= 0);
    }
    for bytes in &mut canary {
        assert!(bytes.iter().all(|&byte| byte == 0xEE));
        bytes.clear();
    }
}
