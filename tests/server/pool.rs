//! The client's pool against a real server: shared by a thousand tasks, and a server that is
//! killed, that drains, that stands still.

use crate::harness::{Server, command_at};
use ringmail::client::{Error, PooledClient};
use ringmail::{Client, Pool};
use rustix::process::{Pid, Signal, kill_process};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// For what has to come at last.
const PATIENCE: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

fn signal(server: &Server, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// On a port that no client gets for its own end: one that dials a port of those while nobody
/// listens there may reach itself, and the server then finds it taken.
fn start_low() -> Server {
    let port = (20_000..30_000)
        .map(|at: u16| 20_000 + at.wrapping_add(std::process::id() as u16) % 10_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    start_at(&format!("127.0.0.1:{}", port.expect("a free port")))
}

/// The kernel may hold a killed server's ring, and with it the listener, a moment longer.
fn start_at(listen: &str) -> Server {
    let end = std::time::Instant::now() + PATIENCE;
    while std::net::TcpListener::bind(listen).is_err() {
        assert!(std::time::Instant::now() < end, "{listen} is never free");
        std::thread::sleep(MS);
    }
    let program = env!("CARGO_BIN_EXE_ringmail");
    Server::spawn(&mut command_at(listen, program, &[], &[]))
}

async fn echo(client: &PooledClient, text: &str) -> Result<(), Error> {
    let answer = client.request("$sys/echo", text).await?;
    assert_eq!(answer.payload, text.as_bytes(), "somebody else's answer");
    Ok(())
}

#[test]
fn a_thousand_tasks_share_what_the_server_allows() {
    run(async {
        // One more is refused, and counted by the pool.
        let mut server = Server::start(&["limits.connections_per_ip_max=5"]);
        let pool = Pool::builder()
            .connections_max(5)
            .acquire_timeout(PATIENCE)
            .open(&server.address.to_string())
            .unwrap();
        let tasks: Vec<_> = (0..1000)
            .map(|task| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    for round in 0..3 {
                        let client = pool.acquire().await.unwrap();
                        echo(&client, &format!("{task} {round}")).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let status = pool.status();
        assert_eq!((status.made, status.failed), (5, 0), "{status:?}");
        assert_eq!((status.acquired, status.idle), (3000, 5), "{status:?}");
        pool.close().await;
        assert!(matches!(pool.acquire().await, Err(Error::PoolClosed)));

        // Dropped, it says goodbye too.
        let pool = Pool::open(&server.address.to_string()).unwrap();
        let held = pool.acquire().await.unwrap();
        drop(pool.acquire().await.unwrap());
        drop(pool);
        drop(held);
        server.settle(&[("peer_close", 7)]);
        server.end();
    });
}

/// Requests until told to stop; what fails may be tried again.
async fn persist(pool: Pool, stop: Arc<AtomicBool>, task: usize) -> usize {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let result = match pool.acquire().await {
            Ok(client) => echo(&client, &format!("{task} {done}")).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => done += 1,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        assert!(pool.status().open <= 4, "{}", pool.status());
    }
    done
}

#[test]
fn a_server_killed_and_one_that_drains_are_survived_within_the_bounds() {
    run(async {
        let mut server = start_low();
        let pool = Pool::builder()
            .connections_max(4)
            .idle_min(2)
            .acquire_timeout(PATIENCE)
            .open(&server.address.to_string())
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..50)
            .map(|task| tokio::spawn(persist(pool.clone(), stop.clone(), task)))
            .collect();
        for how in [Signal::KILL, Signal::TERM, Signal::KILL] {
            // Everybody is at it.
            let before = pool.status();
            until(&pool, |now| now.acquired > before.acquired + 500).await;
            // None is made anew before the server is back, and some may be before it is known here.
            let made = pool.status().made;
            signal(&server, how);
            server.wait();
            server = start_at(&server.address.to_string());
            until(&pool, |now| now.made > made).await;
        }
        let last = pool.status();
        until(&pool, |now| now.acquired > last.acquired + 500).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            assert!(task.await.unwrap() > 0, "somebody was never served");
        }
        let status = pool.status();
        assert!(
            status.closed.dead + status.closed.draining >= 3,
            "{status:?}"
        );
        assert_eq!((status.lent, status.timed_out), (0, 0), "{status:?}");
        pool.close().await;
        assert_eq!(pool.status().open, 0);
        server.end();
    });
}

async fn until(pool: &Pool, is: impl Fn(&ringmail::client::PoolStatus) -> bool) {
    let waiting = async {
        while !is(&pool.status()) {
            tokio::time::sleep(MS).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(came.is_ok(), "never came: {:?}", pool.status());
}

#[test]
fn dead_peers_are_dropped_and_the_error_says_why_none_can_be_made() {
    run(async {
        let server = Server::start(&[]);
        let pool = Pool::builder()
            .client(Client::builder().connect_timeout(200 * MS))
            .connections_max(3)
            .check_after(10 * MS)
            .check_timeout(100 * MS)
            .acquire_timeout(2000 * MS)
            .open(&server.address.to_string())
            .unwrap();
        let (a, b, c) = tokio::join!(pool.acquire(), pool.acquire(), pool.acquire());
        drop((a.unwrap(), b.unwrap(), c.unwrap()));
        // The kernel still answers for it: nobody is told anything.
        signal(&server, Signal::STOP);
        tokio::time::sleep(20 * MS).await;
        let error = pool.acquire().await.unwrap_err();
        let Error::PoolTimeout { status, cause, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(status.closed.dead, 3, "{status:?}");
        assert!(status.open <= 3 && status.failed > 0, "{status:?}");
        let cause = cause.as_deref().expect("a cause");
        assert!(error.to_string().contains(&cause.to_string()), "{error}");
        assert!(error.is_retryable());
        signal(&server, Signal::CONT);
        let end = tokio::time::Instant::now() + PATIENCE;
        let client = loop {
            match pool.acquire().await {
                Ok(client) => break client,
                Err(error) => assert!(tokio::time::Instant::now() < end, "{error}"),
            }
        };
        echo(&client, "again").await.unwrap();
        drop(client);
        pool.close().await;
        server.end();
    });
}

#[test]
fn a_connection_that_somebody_still_uses_is_not_lent_again() {
    run(async {
        let mut server = Server::start(&[]);
        let pool = Pool::builder()
            .connections_max(1)
            .acquire_timeout(PATIENCE)
            .open(&server.address.to_string())
            .unwrap();
        let client = pool.acquire().await.unwrap();
        let mut kept = client.subscribe("a").await.unwrap();
        drop(client);
        // It ends, and says so to who kept it.
        assert!(kept.next().await.is_none());
        let client = pool.acquire().await.unwrap();
        let subscription = client.subscribe("b").await.unwrap();
        let clone = client.clone();
        drop((subscription, clone));
        drop(client);
        let status = pool.status();
        assert_eq!((status.made, status.closed.shared), (2, 1), "{status:?}");
        assert_eq!(status.idle, 1);
        pool.close().await;
        server.settle(&[("peer_close", 2)]);
        server.end();
    });
}

#[test]
fn what_no_pool_can_be_made_of_is_told_before_anything_is_dialed() {
    let open = |pool: ringmail::client::PoolBuilder, address: &str| {
        let error = pool.open(address).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        error.to_string()
    };
    let address = "127.0.0.1:7411";
    assert!(open(Pool::builder(), address).contains("runtime"));
    run(async move {
        let none = Pool::builder().connections_max(0);
        assert!(open(none, address).contains("connections_max is 0"));
        let much = Pool::builder().connections_max(2).idle_min(3);
        assert!(open(much, address).contains("idle_min (3) is more than connections_max (2)"));
        open(Pool::builder(), "nowhere");
        let named = Pool::builder().client(Client::builder().client_id("a b"));
        assert!(open(named, address).contains("client id"));
    });
}
