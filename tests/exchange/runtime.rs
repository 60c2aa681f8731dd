//! A client and the runtime under it: others run beside it, and when the runtime ends, calls
//! say so and what was published has gone.

use super::{PATIENCE, connect, end, receive, start};
use ringmail::client::{Error, Incoming, Phase, Reconnect};
use ringmail::{Client, Pool};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use tokio::runtime::{Builder, Runtime};

fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.worker_threads(1).enable_all().build().unwrap())
}

#[test]
fn when_its_runtime_has_ended_every_call_says_so_at_once() {
    let server = start();
    for runtime in runtimes() {
        let builder = Client::builder().request_timeout(PATIENCE);
        let address = server.address().to_string();
        let client = runtime.block_on(builder.connect(&address)).unwrap();
        drop(runtime);
        let [other, _] = runtimes();
        other.block_on(async {
            let errors = [
                client.publish("t", "").await.unwrap_err(),
                client.publish_confirmed("t", "").await.unwrap_err(),
                client.request("$sys/echo", "").await.unwrap_err(),
                client.ping().await.unwrap_err(),
                client.subscribe("t").await.unwrap_err(),
                client.requests("t").await.unwrap_err(),
                client.withdraw_will().await.unwrap_err(),
                client.close().await.unwrap_err(),
                client.ending().unwrap(),
            ];
            for error in errors {
                assert!(matches!(error, Error::Io { .. }), "{error}");
                assert!(error.to_string().contains("runtime"), "{error}");
            }
            assert_eq!(client.status().phase, Phase::Ended);
        });
    }
    end(server);
}

#[test]
fn what_was_published_goes_though_client_and_runtime_end_at_once() {
    let server = start();
    let mut check = connect(&server);
    check.subscribe("last").unwrap();
    let address = server.address().to_string();
    for (runtime, case) in runtimes().into_iter().zip([0, 2]) {
        for is_held in [false, true] {
            let case = case + u8::from(is_held);
            let client = runtime.block_on(async {
                let client = Client::connect(&address).await.unwrap();
                for number in 0..100u8 {
                    client.publish("last", [case, number]).await.unwrap();
                }
                is_held.then_some(client)
            });
            if let Some(client) = client {
                drop(client); // outside of the runtime
            }
        }
        drop(runtime);
    }
    let mut next = [0; 4];
    while next != [100; 4] {
        println!("{next:?}");
        let Incoming::Message(message) = receive(&mut check) else {
            panic!("a message was expected");
        };
        let [case, number] = *message.payload else {
            panic!("{message:?}");
        };
        assert_eq!(number, next[usize::from(case)], "{next:?}");
        next[usize::from(case)] += 1;
    }
    check.close().unwrap();
    end(server);
}

/// Set by a task that runs when the others let it.
fn bell() -> Arc<AtomicBool> {
    let rung = Arc::new(AtomicBool::new(false));
    let ring = rung.clone();
    tokio::spawn(async move { ring.store(true, SeqCst) });
    rung
}

/// Less than fills a buffer, and more than a task may do in one go.
const COUNT: usize = 1000;

#[tokio::test]
async fn a_loop_of_calls_that_need_not_wait_lets_other_tasks_run() {
    let server = start();
    let address = server.address().to_string();
    let client = Client::connect(&address).await.unwrap();
    let mut stream = client.subscribe("t").await.unwrap();
    client.publish_confirmed("t", "first").await.unwrap();
    stream.next().await.unwrap();

    let rung = bell();
    let mut count = 0;
    while !rung.load(SeqCst) {
        client.publish("t", "").await.unwrap();
        count += 1;
        assert!(count < COUNT, "publish");
    }
    for _ in count..COUNT {
        client.publish("t", "").await.unwrap();
    }
    client.publish_confirmed("t", "").await.unwrap();
    client.ping().await.unwrap(); // all are here
    let rung = bell();
    for taken in 0.. {
        if rung.load(SeqCst) {
            break;
        }
        assert!(taken < COUNT, "next");
        stream.next().await.unwrap();
    }
    drop(stream);

    let pool = Pool::open(&address).unwrap();
    drop(pool.acquire().await.unwrap());
    let rung = bell();
    for acquired in 0.. {
        if rung.load(SeqCst) {
            break;
        }
        assert!(acquired < COUNT, "acquire");
        drop(pool.acquire().await.unwrap());
    }
    pool.close().await;
    client.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn closing_while_the_server_is_away_waits_for_nothing() {
    let server = start();
    let client = Client::builder()
        .reconnect(Reconnect::default())
        .connect(&server.address().to_string())
        .await
        .unwrap();
    end(server);
    let mut status = client.watch();
    let lost = status.wait_for(|status| status.phase == Phase::Lost).await;
    let _ = lost.unwrap();
    // What would be waited for passes at once now, and is seen by the clock.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let closed = client.close().await;
    assert!(closed.is_err(), "there was nobody to say it to");
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(client.status().phase, Phase::Ended);
}
