//! No allocation per message in the steady state: a server in this process, its shards'
//! threads watched by a counting allocator while a hundred thousand echoes go through. And nothing
//! that shards keep grows with what has come and gone, charged or not.

use ringmail::Server;
use ringmail::proto::envelope::Envelope;
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::Options;
use ringmail::server::config::Config;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts what threads named `shard-…` allocate while `COUNTING`.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
/// What they have allocated and not freed.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// One test at a time counts.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    Unknown,
    Shard,
    Other,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown) };
}

fn is_counted() -> bool {
    if !COUNTING.load(Relaxed) {
        return false;
    }
    // A thread that is ending has no locals any more; shards do not end while counting.
    let kind = THREAD.try_with(|thread| {
        if thread.get() == Thread::Unknown {
            let shard = name_begins_with_shard();
            thread.set(if shard { Thread::Shard } else { Thread::Other });
        }
        thread.get()
    });
    kind == Ok(Thread::Shard)
}

fn count(bytes: usize, freed: usize) {
    if is_counted() {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes as u64, Relaxed);
        LIVE.fetch_add(bytes as i64 - freed as i64, Relaxed);
    }
}

/// Asks the kernel: the library's own name of a thread may allocate.
fn name_begins_with_shard() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, with their end, to the address given
    // (PR_GET_NAME(2const)).
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"shard-")
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the
// contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see the block below.
        count(layout.size(), 0);
        // SAFETY: the caller keeps this function's contract, which is the callee's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see the block below.
        if is_counted() {
            LIVE.fetch_sub(layout.size() as i64, Relaxed);
        }
        // SAFETY: as above; the block came from `System`.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see the block below.
        count(size, layout.size());
        // SAFETY: as above; the block came from `System`.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONNECTIONS: usize = 50;
const DEPTH: usize = 16;

struct Peer {
    stream: TcpStream,
    batch: Vec<u8>,
    answer_bytes: usize,
}

impl Peer {
    fn greet(address: SocketAddr, payload: &[u8]) -> Peer {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut bytes = Vec::new();
        let mut payload_of_syn = Vec::new();
        Options::default().encode(&mut payload_of_syn);
        let (kind, seq) = (FrameType::Syn, 1);
        Frame {
            kind,
            seq,
            payload: &payload_of_syn,
        }
        .encode(&mut bytes);
        stream.write_all(&bytes).unwrap();
        let mut received = vec![0; 512];
        let count = loop {
            match stream.read(&mut received) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.unwrap(),
            }
        };
        let Ok(Parsed::Whole { value, .. }) = Frame::parse(&received[..count]) else {
            panic!("no SYN-ACK: {:?}", &received[..count]);
        };
        let acknowledgement = value.seq.wrapping_add(1).to_be_bytes();
        bytes.clear();
        let (kind, seq) = (FrameType::Ack, 2);
        Frame {
            kind,
            seq,
            payload: &acknowledgement,
        }
        .encode(&mut bytes);
        stream.write_all(&bytes).unwrap();

        let mut batch = Vec::new();
        for id in 0..DEPTH as u32 {
            let envelope = Envelope {
                id,
                name: "$sys/echo",
                payload,
                ..Envelope::default()
            };
            Message::Envelope(MessageType::Request, envelope).encode(false, &mut batch);
        }
        let answer_bytes = DEPTH * (8 + 7 + payload.len());
        Peer {
            stream,
            batch,
            answer_bytes,
        }
    }
}

/// Rounds of `DEPTH` echoes on every connection; each connection's come in one segment.
fn rounds(peers: &mut [Peer], count: usize) {
    let mut answers = vec![0; peers[0].answer_bytes];
    for _ in 0..count {
        for peer in peers.iter_mut() {
            peer.stream.write_all(&peer.batch).unwrap();
        }
        for peer in peers.iter_mut() {
            peer.stream.read_exact(&mut answers).unwrap();
        }
    }
}

fn allocations_of(address: SocketAddr, payload_bytes: usize) -> (u64, u64, u64) {
    let payload = vec![0x5A; payload_bytes];
    let mut peers: Vec<Peer> = (0..CONNECTIONS)
        .map(|_| Peer::greet(address, &payload))
        .collect();
    // What is made once and kept: chunks, lists, tables.
    rounds(&mut peers, 60);
    ALLOCATIONS.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    let count = 125;
    rounds(&mut peers, count);
    COUNTING.store(false, Relaxed);
    let messages = (count * CONNECTIONS * DEPTH) as u64;
    (messages, ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed))
}

/// Begins a session and goes without a word. The server keeps so few sessions that an earlier one
/// ends for it.
fn abandon(address: SocketAddr) {
    let mut peer = Peer::greet(address, b"");
    let mut message = vec![b'M', b'C', 1, 0x0A, 0, 0, 0, 20];
    message.extend([0; 20]);
    peer.stream.write_all(&message).unwrap();
    let answered = peer.stream.read(&mut [0; 64]).unwrap();
    assert!(answered > 0, "no SESSION_OK");
    // By a reset, which leaves the port free.
    let socket = socket2::SockRef::from(&peer.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn abandon_many(address: SocketAddr, count: usize) {
    const AT_A_TIME: usize = 8;
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| (0..count / AT_A_TIME).for_each(|_| abandon(address)));
        }
    });
}

#[test]
fn sessions_that_come_and_go_leave_nothing_behind() {
    /// Chunks that a pool keeps for reuse, and some spare.
    const KEPT_MAX: i64 = 32 << 10;
    let _alone = ALONE.lock();
    let config = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\nshards = [0, 1]\n\
                  [limits]\nsessions_waiting_max = 4\n";
    let running = Server::builder()
        .config(Config::from_toml(config).unwrap())
        .start()
        .unwrap();
    let address = running.address();
    COUNTING.store(true, Relaxed);
    abandon_many(address, 1600);
    let before = LIVE.load(Relaxed);
    abandon_many(address, 9600);
    let kept = LIVE.load(Relaxed) - before;
    COUNTING.store(false, Relaxed);
    println!("{kept} bytes more after 9600 sessions");
    assert!(kept < KEPT_MAX, "{kept} bytes are left of 9600 sessions");
    running.drain();
    running.wait().unwrap();
}

#[test]
fn a_hundred_thousand_echoes_allocate_next_to_nothing() {
    let _alone = ALONE.lock();
    let config = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"\"\nshards = [0, 1]\n";
    let running = Server::builder()
        .config(Config::from_toml(config).unwrap())
        .start()
        .unwrap();
    let address = running.address();
    // The counter sees shards at all: a connection's handshake allocates.
    COUNTING.store(true, Relaxed);
    drop(Peer::greet(address, b""));
    COUNTING.store(false, Relaxed);
    assert!(
        ALLOCATIONS.load(Relaxed) > 0,
        "the allocator counts nothing"
    );
    // 1 KiB messages straddle the 4 KiB receive buffers, whose tails are kept.
    for payload_bytes in [64, 1024] {
        let (messages, allocations, bytes) = allocations_of(address, payload_bytes);
        println!(
            "{payload_bytes} B: {allocations} allocations, {bytes} bytes in {messages} echoes"
        );
        assert!(
            allocations * 1000 <= messages,
            "{allocations} allocations ({bytes} bytes) in {messages} echoes of {payload_bytes} bytes"
        );
    }
    running.drain();
    running.wait().unwrap();
}
