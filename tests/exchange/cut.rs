//! A session whose connection is cut at every byte of a conversation, once in each direction:
//! nothing confirmed is lost, nothing comes twice.
//!
//! The conversation: connect, subscribe, publish and have it confirmed, receive, ask, serve
//! and be asked. What a cut may cost is a request that has to be made again.

use super::{PATIENCE, end, start};
use ringmail::client::{Error, Reconnect, Request, Subscription};
use ringmail::{Client, Running};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Conversations at once.
const AT_ONCE: usize = 16;
const COUNT: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Passes connections on; the first is cut when so many bytes have passed in one direction.
struct Knife {
    address: String,
    passed: [Arc<AtomicUsize>; 2],
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Knife {
    async fn new(server: SocketAddr, way: Way, after: usize) -> Knife {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let passed = [Arc::<AtomicUsize>::default(), Arc::default()];
        let connections = Arc::<AtomicUsize>::default();
        let (counts, count) = (passed.clone(), connections.clone());
        let task = tokio::spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
                let limit = |this| match is_first && way == this {
                    true => after,
                    false => usize::MAX,
                };
                let (up, down) = (limit(Way::Up), limit(Way::Down));
                let server = TcpStream::connect(server).await.unwrap();
                for socket in [&client, &server] {
                    socket.set_nodelay(true).unwrap();
                }
                let [ups, downs] = counts.clone();
                passing.spawn(async move {
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = server.into_split();
                    // Whichever direction ends first, the other goes with it.
                    tokio::select! {
                        () = pass(client_in, server_out, up, ups) => {}
                        () = pass(server_in, client_out, down, downs) => {}
                    }
                });
            }
        });
        Knife {
            address,
            passed,
            connections,
            task,
        }
    }
}

impl Drop for Knife {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes at most `limit` bytes on.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut limit: usize,
    passed: Arc<AtomicUsize>,
) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let count = count.min(limit);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        passed.fetch_add(count, Ordering::SeqCst);
        limit -= count;
        if limit == 0 {
            return;
        }
    }
}

async fn direct(server: &Running) -> Client {
    let builder = Client::builder().request_timeout(PATIENCE);
    builder
        .connect(&server.address().to_string())
        .await
        .unwrap()
}

/// Again, as long as a cut may be the reason.
async fn persistently<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }
}

/// The conversation; returns the bytes that passed each way.
async fn converse(server: SocketAddr, other: Client, way: Way, after: usize) -> [usize; 2] {
    let knife = Knife::new(server, way, after).await;
    let name = format!("{way:?}/{after}");
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(1))
        .delay_max(Duration::from_millis(8));
    let builder = Client::builder()
        .session(true)
        .reconnect(reconnect)
        .request_timeout(PATIENCE);
    // The first connection is never tried again by the client itself.
    let client = persistently(|| builder.connect(&knife.address)).await;

    let mut stream: Subscription = client.subscribe(&format!("to/{name}")).await.unwrap();
    for number in 0..COUNT {
        let topic = format!("from/{name}");
        client.publish_confirmed(&topic, [number]).await.unwrap();
    }
    for number in 0..COUNT {
        let topic = format!("to/{name}");
        other.publish_confirmed(&topic, [number]).await.unwrap();
        assert_eq!(stream.next().await.unwrap().payload, [number]);
    }
    let asked = persistently(|| client.request("$sys/echo", "x")).await;
    assert_eq!(asked.payload, b"x");
    let service = format!("svc/{name}");
    let answering = client
        .serve(
            &service,
            |request| async move { Ok(request.payload.into()) },
        )
        .await
        .unwrap();
    // An answer that was cut off is not repeated: who asks has a time for it.
    let request = Request::new(&service)
        .payload(b"y")
        .timeout(Duration::from_millis(500));
    let answer = persistently(|| other.request_with(&request)).await;
    assert_eq!(answer.payload, b"y");
    answering.end().await.unwrap();
    stream.end().await.unwrap();
    assert_eq!(client.status().lapses, 0, "the session was always resumed");
    assert!(client.take_failure().is_none());
    // A cut in the last words leaves the session to its linger.
    if let Err(error) = client.close().await {
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
    if after < usize::MAX && way == Way::Up && after < 100 {
        assert!(knife.connections.load(Ordering::SeqCst) > 1, "never cut");
    }
    knife
        .passed
        .each_ref()
        .map(|count| count.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_cut_at_any_byte_loses_nothing_confirmed_and_repeats_nothing() {
    let server = start();
    let address = server.address();
    let other = direct(&server).await;
    let listener = direct(&server).await;
    let mut heard = listener.subscribe("from/#").await.unwrap();

    let whole = converse(address, other.clone(), Way::Up, usize::MAX).await;
    assert!(whole.iter().all(|&bytes| bytes > 200), "{whole:?}");
    let cuts = [(Way::Up, whole[0]), (Way::Down, whole[1])];
    let mut cuts = cuts
        .into_iter()
        .flat_map(|(way, bytes)| (1..=bytes).map(move |after| (way, after)));
    let mut running = JoinSet::new();
    let mut conversations = 1;
    loop {
        while running.len() < AT_ONCE
            && let Some((way, after)) = cuts.next()
        {
            let conversation = converse(address, other.clone(), way, after);
            running.spawn(async move {
                let done = timeout(PATIENCE, conversation).await;
                done.unwrap_or_else(|_| panic!("{way:?} cut after {after} bytes: it hangs"));
            });
            conversations += 1;
        }
        match running.join_next().await {
            Some(done) => done.unwrap(),
            None => break,
        }
    }
    other.publish_confirmed("from/end", "").await.unwrap();
    let mut counts: HashMap<String, Vec<u8>> = HashMap::new();
    loop {
        let message = heard.next().await.unwrap();
        if message.topic == "from/end" {
            break;
        }
        counts
            .entry(message.topic)
            .or_default()
            .extend(message.payload);
    }
    assert_eq!(counts.len(), conversations);
    let wanted: Vec<u8> = (0..COUNT).collect();
    for (topic, numbers) in counts {
        assert_eq!(numbers, wanted, "{topic}");
    }
    other.close().await.unwrap();
    listener.close().await.unwrap();
    end(server);
}
