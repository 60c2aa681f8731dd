//! A TCP proxy that a test can cut, mute and point elsewhere: what a network does to a
//! connection, on command.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

struct Shared {
    upstream: Mutex<SocketAddr>,
    streams: Mutex<Vec<TcpStream>>,
    /// What the server says is read and dropped.
    muted: AtomicBool,
    ended: AtomicBool,
}

/// Dropped, it cuts all connections and accepts none.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn to(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            streams: Mutex::default(),
            muted: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Proxy {
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends all connections, in both directions and without a word of the protocol.
    pub fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on (or no more) nothing of what the server says comes through. A connection
    /// that missed something must be cut before it is heard again.
    pub fn mute(&self, muted: bool) {
        self.shared.muted.store(muted, Ordering::SeqCst);
    }

    /// Where new connections go.
    pub fn lead_to(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().unwrap() = upstream;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address); // wakes the thread
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.cut();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        // Nobody there: the client sees its connection end.
        let Ok(server) = TcpStream::connect(*shared.upstream.lock().unwrap()) else {
            continue;
        };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let mut streams = shared.streams.lock().unwrap();
        streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        drop(streams);
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || pass(from, to, None));
        let shared = shared.clone();
        std::thread::spawn(move || pass(server, client, Some(shared)));
    }
}

/// Passes bytes on until either side ends, and the end too.
fn pass(mut from: TcpStream, mut to: TcpStream, mutable: Option<Arc<Shared>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let is_muted = |shared: &Arc<Shared>| shared.muted.load(Ordering::SeqCst);
        if !mutable.as_ref().is_some_and(is_muted) && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
