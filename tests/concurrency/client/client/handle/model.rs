//! What is claimed of the client's threads.

use super::client::Client;
use super::post::Post;
use crate::client::builder::Options;
use crate::client::driver::{self, Core};
use crate::client::status::Phase;
use crate::client::subscribe::Subscribe;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use shuttle::future::{block_on, spawn};
use shuttle::{check_pct, check_random, replay};
use std::env;
use std::future::poll_fn;
use std::task::Poll;

const SCHEDULES: usize = 3_000;
/// How many changes of task in a bad moment a fault may need.
const DEPTH: usize = 3;

pub fn run() {
    let models: [(&str, fn()); 4] = [
        ("who opens what another drops has it", dropped_and_opened),
        ("each call has one answer", calls_are_answered),
        (
            "who learns of the end finds it in the status, and who watches is told",
            the_end_is_told,
        ),
        ("what comes wakes who waits for it", what_comes_is_taken),
    ];
    let wanted = env::args().nth(1);
    for (claim, model) in models {
        if wanted.as_deref().is_some_and(|wanted| wanted != claim) {
            continue;
        }
        match env::var("SHUTTLE") {
            Ok(schedule) => replay(model, &schedule),
            Err(_) => {
                check_random(model, SCHEDULES);
                check_pct(model, SCHEDULES, DEPTH);
            }
        }
        println!("{claim}: {} schedules", 2 * SCHEDULES);
    }
}

/// A client whose connection stands, and its task.
fn connected() -> (Client, shuttle::future::JoinHandle<()>) {
    let (shared, task) = driver::start(Options::default());
    let task = spawn(task.run());
    block_on(shared.when(|core| core.conversation.is_open().then_some(()))).unwrap();
    (Client(shared), task)
}

fn part(client: &Client, task: shuttle::future::JoinHandle<()>) {
    client.0.close();
    block_on(task).unwrap();
}

async fn subscribe(client: &Client) -> Post {
    let interest = Subscribe::new("a").interest().unwrap();
    Post::open(client, MessageType::Subscribe, interest)
        .await
        .unwrap()
}

async fn publish(client: &Client) {
    let envelope = Envelope {
        name: "a",
        ..Envelope::default()
    };
    let publish = |core: &mut Core| core.publish_when_ready(envelope, true, true);
    client.0.call(publish).await.unwrap();
}

/// The next message of a subscription; `None` at the end.
async fn next(post: &Post) -> Option<()> {
    poll_fn(|cx| {
        let shared = post.client.shared();
        let mut core = shared.lock();
        let polled = core.conversation.ledger.inbox.poll(post.id, cx);
        let is_over = core.ending().is_some();
        drop(core);
        match polled {
            Poll::Ready(_) => Poll::Ready(Some(())),
            Poll::Pending if is_over => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

fn dropped_and_opened() {
    let (client, task) = connected();
    let first = block_on(subscribe(&client));
    let dropping = spawn(async move { drop(first) });
    let second = block_on(subscribe(&client));
    block_on(dropping).unwrap();
    block_on(publish(&client));
    // Its message comes before the OK to the PUBLISH: it is there.
    let mut core = client.0.lock();
    let taken = core.conversation.ledger.inbox.take(second.id, true);
    drop(core);
    assert!(taken.is_some(), "a subscription that gets nothing");
    drop(second);
    part(&client, task);
}

fn calls_are_answered() {
    let (client, task) = connected();
    let calls: Vec<_> = (0..3)
        .map(|number| {
            let client = client.clone();
            spawn(async move {
                match number {
                    0 => publish(&client).await,
                    1 => drop(subscribe(&client).await),
                    _ => {
                        let ask = |core: &mut Core| {
                            core.is_ready().then(|| Ok(core.conversation.ping(b"x")))
                        };
                        client.0.call(ask).await.map(drop).unwrap();
                    }
                }
            })
        })
        .collect();
    for call in calls {
        block_on(call).unwrap();
    }
    assert!(
        client
            .0
            .lock()
            .conversation
            .ledger
            .take_answers()
            .is_empty()
    );
    part(&client, task);
}

fn the_end_is_told() {
    let (client, task) = connected();
    let stream = block_on(subscribe(&client));
    let waits = {
        let client = client.clone();
        spawn(async move {
            assert!(next(&stream).await.is_none());
            assert_eq!(client.0.lock().status().phase, Phase::Ended);
        })
    };
    let calls = {
        let client = client.clone();
        spawn(async move {
            let ended = client.0.when(|_| None::<()>).await;
            assert!(ended.is_err());
            // What is watched may come a moment later, but it comes.
            let mut watched = client.0.status().subscribe();
            let told = watched.wait_for(|status| status.phase == Phase::Ended);
            assert!(told.await.is_ok());
        })
    };
    part(&client, task);
    block_on(waits).unwrap();
    block_on(calls).unwrap();
}

fn what_comes_is_taken() {
    let (client, task) = connected();
    let stream = block_on(subscribe(&client));
    let taking = spawn(async move {
        for _ in 0..2 {
            next(&stream).await.unwrap();
        }
        stream
    });
    block_on(async {
        publish(&client).await;
        publish(&client).await;
    });
    drop(block_on(taking).unwrap());
    part(&client, task);
}
