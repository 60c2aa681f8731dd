//! The network between clients and the server: links with a delay of their own that can be
//! cut, held and cut again in the middle of a message. One thread for all of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// How the connections of a link end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    Fin,
    Reset,
}

#[derive(Clone, Copy)]
struct State {
    /// Counts the cuts so far, with how the last one ends what stands.
    cuts: u64,
    cut: Cut,
    /// Nothing passes, in either direction.
    is_held: bool,
}

struct Shared {
    upstream: SocketAddr,
    /// One way.
    delay: Duration,
    state: watch::Sender<State>,
    /// Bytes to the clients until the connection that carries the last of them is reset; none
    /// if 0.
    fuse: AtomicU64,
}

pub struct Link {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

/// Dropped, it cuts all links.
pub struct Network {
    pub links: Vec<Link>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Network {
    /// One link to the server for each delay.
    pub fn to(upstream: SocketAddr, delays: &[Duration]) -> Network {
        let mut links = Vec::new();
        let mut listeners = Vec::new();
        for &delay in delays {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let (state, _) = watch::channel(State {
                cuts: 0,
                cut: Cut::Fin,
                is_held: false,
            });
            let shared = Arc::new(Shared {
                upstream,
                delay,
                state,
                fuse: AtomicU64::new(0),
            });
            links.push(Link {
                address: listener.local_addr().unwrap(),
                shared: shared.clone(),
            });
            listeners.push((listener, shared));
        }
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async move {
                for (listener, shared) in listeners {
                    let listener = TcpListener::from_std(listener).unwrap();
                    tokio::spawn(accept(listener, shared));
                }
                let _ = ended.await;
            });
        });
        Network {
            links,
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().unwrap().join();
    }
}

impl Link {
    /// Ends all connections.
    pub fn cut(&self, cut: Cut) {
        self.shared.state.send_modify(|state| {
            state.cuts += 1;
            state.cut = cut;
        });
    }

    /// Lets nothing pass, or everything again.
    pub fn hold(&self, is_held: bool) {
        self.shared
            .state
            .send_modify(|state| state.is_held = is_held);
    }

    /// Resets whichever connection carries the byte that is so many away, towards a client.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.fuse.store(bytes, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, shared.clone()));
    }
}

/// Why a connection is carried no further.
enum Over {
    Both,
    Broken(Cut),
}

async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    // Nobody there: the client sees its connection end.
    let Ok(mut server) = TcpStream::connect(shared.upstream).await else {
        return;
    };
    let mut state = shared.state.subscribe();
    let cuts = state.borrow_and_update().cuts;
    let over = {
        let (client_in, client_out) = client.split();
        let (server_in, server_out) = server.split();
        let passing = async {
            let up = pass(client_in, server_out, &shared, false);
            let down = pass(server_in, client_out, &shared, true);
            match tokio::try_join!(up, down) {
                Ok(_) => Over::Both,
                Err(cut) => Over::Broken(cut),
            }
        };
        let cut = async {
            let _ = state.wait_for(|state| state.cuts > cuts).await;
            let cut = shared.state.borrow().cut;
            Over::Broken(cut)
        };
        tokio::select! {
            over = passing => over,
            over = cut => over,
        }
    };
    if let Over::Broken(Cut::Reset) = over {
        for stream in [&client, &server] {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Passes bytes on, each after the delay, and then the end.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    is_down: bool,
) -> Result<(), Cut> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let delay = shared.delay;
    let reading = async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer).await.map_err(|_| Cut::Reset)?;
            if count == 0 {
                return Ok(());
            }
            let bytes = buffer[..count].to_vec();
            if sender.send((Instant::now() + delay, bytes)).await.is_err() {
                return Ok(());
            }
        }
    };
    let mut state = shared.state.subscribe();
    let writing = async {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            let _ = state.wait_for(|state| !state.is_held).await;
            let fuse = shared.fuse.load(Ordering::Relaxed);
            let burns = is_down && fuse > 0;
            let count = u64::try_from(bytes.len()).unwrap();
            if burns && fuse <= count {
                shared.fuse.store(0, Ordering::Relaxed);
                let part = usize::try_from(fuse).unwrap();
                let _ = to.write_all(&bytes[..part]).await;
                // FIN, so that what was written before comes through.
                return Err(Cut::Fin);
            }
            if burns {
                shared.fuse.store(fuse - count, Ordering::Relaxed);
            }
            to.write_all(&bytes).await.map_err(|_| Cut::Reset)?;
        }
        let _ = to.shutdown().await;
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}
