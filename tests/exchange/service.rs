//! Services answered by handlers: what goes wrong in one is its own request's concern, one
//! that ends tells the server at once, and so does the last who wants a subscription.

use super::{PATIENCE, end, start};
use ringmail::client::{Code, Error, IncomingRequest, Serve};
use ringmail::{Client, Running};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

async fn connect(server: &Running) -> Client {
    let builder = Client::builder().request_timeout(PATIENCE);
    let connected = builder.connect(&server.address().to_string()).await;
    connected.unwrap()
}

fn asked(client: &Client, service: &'static str, payload: &'static str) -> Asked {
    let client = client.clone();
    tokio::spawn(async move { client.request(service, payload).await.map(|it| it.payload) })
}

type Asked = tokio::task::JoinHandle<Result<Vec<u8>, Error>>;

#[tokio::test]
async fn a_handler_that_panics_fails_its_request_wherever_it_does_and_no_other() {
    let server = start();
    let (serving, client) = (connect(&server).await, connect(&server).await);
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let handler = {
        let (begun, gate) = (begun.clone(), gate.clone());
        move |request: IncomingRequest| {
            assert_ne!(request.payload, b"closure", "in the closure");
            let (begun, gate) = (begun.clone(), gate.clone());
            async move {
                assert_ne!(request.payload, b"future", "in the future");
                if request.payload == b"slow" {
                    begun.fetch_add(1, SeqCst);
                    gate.acquire().await.unwrap().forget();
                }
                Ok(request.payload.into())
            }
        }
    };
    // One at a time is enough: a place that is lost would be missed.
    for concurrency in [1, 2] {
        let serve = Serve::new("p").concurrency_max(concurrency);
        let service = serving.serve_with(&serve, handler.clone()).await.unwrap();
        let slow = (concurrency > 1).then(|| asked(&client, "p", "slow"));
        while slow.is_some() && begun.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        for payload in ["closure", "future", "closure", "closure"] {
            let error = client.request("p", payload).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::ServiceGone), "{error}");
            assert_eq!(client.request("p", "good").await.unwrap().payload, b"good");
        }
        gate.add_permits(1);
        if let Some(slow) = slow {
            assert_eq!(slow.await.unwrap().unwrap(), b"slow");
        }
        service.end().await.unwrap();
    }
    serving.close().await.unwrap();
    client.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn an_answer_that_is_too_large_says_so() {
    let server = start();
    let (serving, client) = (connect(&server).await, connect(&server).await);
    let bytes = client.server().message_bytes_max as usize;
    let handler = move |_| async move { Ok(vec![0; bytes].into()) };
    let service = serving.serve("large", handler).await.unwrap();
    let error = client.request("large", "").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::TooLarge), "{error}");
    assert!(error.to_string().contains("message_bytes_max"), "{error}");
    service.end().await.unwrap();
    serving.close().await.unwrap();
    client.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn a_service_that_ends_says_so_while_its_handlers_are_busy() {
    let server = start();
    let (serving, client) = (connect(&server).await, connect(&server).await);
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let serve = Serve::new("job").concurrency_max(1);
    let handler = {
        let (begun, gate) = (begun.clone(), gate.clone());
        move |request: IncomingRequest| {
            let (begun, gate) = (begun.clone(), gate.clone());
            async move {
                begun.fetch_add(1, SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok(request.payload.into())
            }
        }
    };
    let service = serving.serve_with(&serve, handler).await.unwrap();
    let (first, second) = (asked(&client, "job", "1"), asked(&client, "job", "2"));
    while begun.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    serving.ping().await.unwrap(); // the second has come, too
    let ending = tokio::spawn(service.end());
    // Nobody is free, and yet the next request finds nobody rather than waiting.
    let gone = async {
        loop {
            let ask = client.request("job", "late");
            let late = timeout(std::time::Duration::from_millis(200), ask).await;
            // SERVICE_GONE is what one shard says until the other has told it.
            let code = late.ok().and_then(|late| late.err()?.code());
            if code == Some(Code::NoService) {
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("the server knows");
    gate.add_permits(1000);
    assert_eq!(first.await.unwrap().unwrap(), b"1");
    assert_eq!(second.await.unwrap().unwrap(), b"2");
    ending.await.unwrap().unwrap();
    serving.close().await.unwrap();
    client.close().await.unwrap();
    end(server);
}

/// Runs both at the same moment, as far as two threads can.
fn at_once<A: Send, B: Send>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            barrier.wait();
            one()
        });
        barrier.wait();
        let other = other();
        (one.join().unwrap(), other)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_what_another_drops_at_that_moment_has_it() {
    let server = start();
    let (client, other) = (connect(&server).await, connect(&server).await);
    let runtime = Handle::current();
    for _ in 0..400 {
        let old = client.subscribe("race").await.unwrap();
        let subscribe = || runtime.block_on(client.subscribe("race"));
        let opened = tokio::task::block_in_place(|| at_once(|| drop(old), subscribe));
        let mut stream = opened.1.unwrap();
        other.publish_confirmed("race", "it").await.unwrap();
        let message = timeout(PATIENCE, stream.next()).await;
        assert_eq!(message.expect("it stands").unwrap().payload, b"it");

        let old = client.requests("asked").await.unwrap();
        let serve = || runtime.block_on(client.requests("asked"));
        let opened = tokio::task::block_in_place(|| at_once(|| drop(old), serve));
        let mut requests = opened.1.unwrap();
        let asking = asked(&other, "asked", "it");
        let request = timeout(PATIENCE, requests.next()).await;
        request.expect("it stands").unwrap().respond("yes").unwrap();
        assert_eq!(asking.await.unwrap().unwrap(), b"yes");
    }
    // Of two that are dropped at once the later ends it: nothing stands any more.
    for _ in 0..200 {
        let (one, two) = (client.requests("two").await, client.requests("two").await);
        let (one, two) = (one.unwrap(), two.unwrap());
        tokio::task::block_in_place(|| at_once(|| drop(one), || drop(two)));
        client.ping().await.unwrap();
        let asking = async {
            // One shard may know it before the other does.
            while other.request("two", "").await.unwrap_err().code() != Some(Code::NoService) {}
        };
        timeout(PATIENCE, asking).await.expect("it does not stand");
    }
    client.close().await.unwrap();
    other.close().await.unwrap();
    end(server);
}
