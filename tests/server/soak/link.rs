//! A way to the server that breaks and stalls, again and again; and an echo that is no server,
//! whose round trips say how fast the machine is at the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long a connection lives, and how long it then may carry nothing before it breaks.
const LIFE_MS: std::ops::Range<u64> = 300..2000;
const STALL_MS: u64 = 500;

/// Dropped, it breaks what is open, and nobody is at its address any more.
pub struct Link {
    pub address: SocketAddr,
    _carriers: JoinSet<()>,
}

impl Link {
    pub async fn to(server: SocketAddr, breaks: Arc<AtomicU64>) -> std::io::Result<Link> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut carriers = JoinSet::new();
        carriers.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(carry(client, server, breaks.clone()));
                while open.try_join_next().is_some() {}
            }
        });
        Ok(Link {
            address,
            _carriers: carriers,
        })
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, breaks: Arc<AtomicU64>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let life = Duration::from_millis(fastrand::u64(LIFE_MS));
    let both_ways = copy_bidirectional(&mut client, &mut server);
    if tokio::time::timeout(life, both_ways).await.is_err() {
        if fastrand::bool() {
            tokio::time::sleep(Duration::from_millis(STALL_MS)).await;
        }
        breaks.fetch_add(1, Relaxed);
    }
}

/// Sends back all that comes.
pub async fn echo() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                    if stream.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    Ok(address)
}
