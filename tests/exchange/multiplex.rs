//! The async client: many requests, PUBLISHes, subscriptions and services at once over one
//! connection, and what happens when some of them are slow, dropped or cancelled.

use super::{PATIENCE, end, start};
use ringmail::client::{Code, Error, Phase, Publish, Request, Serve, Subscribe};
use ringmail::{Client, Failure, Running};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

async fn connect(server: &Running) -> Client {
    let builder = Client::builder().request_timeout(PATIENCE);
    builder
        .connect(&server.address().to_string())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_are_answered_out_of_order_each_to_its_own() {
    const COUNT: usize = 1000;
    let server = start();
    let (service, client) = (connect(&server).await, connect(&server).await);
    let mut requests = service.requests("number").await.unwrap();
    let answering = tokio::spawn(async move {
        // None is answered before all are here, and then the last first.
        let mut open = Vec::new();
        while open.len() < COUNT {
            open.push(requests.next().await.unwrap());
        }
        for request in open.into_iter().rev() {
            let answer = [b"answer to ", &request.payload[..]].concat();
            request.respond(answer).unwrap();
        }
        requests
    });
    let asking: Vec<_> = (0..COUNT)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.request("number", number.to_string()).await })
        })
        .collect();
    for (number, asked) in asking.into_iter().enumerate() {
        let answer = asked.await.unwrap().unwrap();
        assert_eq!(answer.payload, format!("answer to {number}").into_bytes());
    }
    answering.await.unwrap().end().await.unwrap();
    let error = client.request("number", "").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NoService), "{error}");
    client.close().await.unwrap();
    service.close().await.unwrap();
    end(server);
}

/// What is in the server's statistics, until it is as wanted.
async fn connections_become(client: &Client, wanted: u64) {
    let counted = timeout(PATIENCE, async {
        loop {
            let stats: serde_json::Value = client.request_json("$sys/stats", &()).await.unwrap();
            if stats["connections"] == wanted {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    });
    counted.await.expect("the server's connections");
}

#[tokio::test]
async fn a_dropped_request_is_not_waited_for_and_its_late_answer_is_nobodys() {
    let server = start();
    let (service, client) = (connect(&server).await, connect(&server).await);
    let mut requests = service.requests("slow").await.unwrap();
    {
        let mut asking = Box::pin(client.request("slow", "first"));
        let cancelled = async {
            tokio::select! {
                _ = &mut asking => panic!("nobody has answered"),
                request = requests.next() => request.unwrap(),
            }
        };
        let first = cancelled.await;
        drop(asking);
        first.respond("to the first").unwrap();
    }
    let asking = client.request("slow", "second");
    let answering = async {
        let request = requests.next().await.unwrap();
        assert_eq!(request.payload, b"second");
        request.respond("to the second").unwrap();
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap().payload, b"to the second");

    let hasty = Request::new("slow").timeout(Duration::from_millis(20));
    let error = client.request_with(&hasty).await.unwrap_err();
    let in_time = matches!(error, Error::Timeout { .. } | Error::Failed { .. });
    assert!(in_time && error.is_retryable(), "{error}");
    drop(requests);
    service.close().await.unwrap();
    client.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn messages_nobody_takes_do_not_keep_answers_waiting_until_the_inbox_is_full() {
    let server = start();
    let publisher = connect(&server).await;
    let builder = Client::builder().request_timeout(PATIENCE);
    let builder = builder.inbox_bytes_max(200_000);
    let client = builder
        .connect(&server.address().to_string())
        .await
        .unwrap();
    let mut slow = client.subscribe("flood").await.unwrap();
    let payload = vec![b'.'; 1000];
    for _ in 0..100 {
        publisher.publish("flood", &payload).await.unwrap();
    }
    publisher.publish_confirmed("flood", "end").await.unwrap();
    for _ in 0..10 {
        client.request("$sys/echo", "through").await.unwrap();
    }
    // Over the bound: answers wait behind it, and that is what a call says that gives up.
    for _ in 0..400 {
        publisher.publish("flood", &payload).await.unwrap();
    }
    publisher.publish_confirmed("flood", "end").await.unwrap();
    let hasty = Request::new("$sys/echo").timeout(Duration::from_millis(100));
    let error = loop {
        // What is on its way may not be here yet.
        if let Err(error) = client.request_with(&hasty).await {
            break error;
        }
    };
    assert!(matches!(error, Error::InboxFull { .. }), "{error}");
    let mut ends = 0;
    while ends < 2 {
        ends += usize::from(slow.next().await.unwrap().payload == b"end");
    }
    client.request("$sys/echo", "through").await.unwrap();
    client.close().await.unwrap();
    publisher.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn each_subscription_gets_what_its_filter_matches_and_a_dropped_one_ends() {
    let server = start();
    let client = connect(&server).await;
    let mut wide = client.subscribe("a/#").await.unwrap();
    let mut narrow = client.subscribe("a/b").await.unwrap();
    let mut twin = client.subscribe("a/b").await.unwrap();
    for topic in ["a/b", "a/c", "a/b"] {
        client.publish_confirmed(topic, topic).await.unwrap();
    }
    for expected in ["a/b", "a/c", "a/b"] {
        assert_eq!(wide.next().await.unwrap().topic, expected);
    }
    for stream in [&mut narrow, &mut twin] {
        for _ in 0..2 {
            assert_eq!(stream.next().await.unwrap().topic, "a/b");
        }
    }
    // The server knows one subscription: it stands until the second of the two has gone.
    drop(narrow);
    client.publish_confirmed("a/b", "still").await.unwrap();
    assert_eq!(twin.next().await.unwrap().payload, b"still");
    assert_eq!(wide.next().await.unwrap().payload, b"still");
    drop(wide);
    twin.end().await.unwrap();

    // Nothing stands any more: what is published now, a later subscription does not get.
    client.publish_confirmed("a/b", "to nobody").await.unwrap();
    let mut again = client.subscribe("a/b").await.unwrap();
    client
        .publish_confirmed("a/b", "to this one")
        .await
        .unwrap();
    assert_eq!(again.next().await.unwrap().payload, b"to this one");
    let group = Subscribe::new("a/+").group("g");
    let error = client.subscribe_with(&group).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    client.close().await.unwrap();
    assert!(again.next().await.is_none(), "it ends with the connection");
    end(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_runs_for_as_many_requests_as_it_may_and_its_failures_are_answers() {
    let server = start();
    let (serving, client) = (connect(&server).await, connect(&server).await);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let handler = {
        let (running, most, gate) = (running.clone(), most.clone(), gate.clone());
        move |request: ringmail::client::IncomingRequest| {
            let (running, most, gate) = (running.clone(), most.clone(), gate.clone());
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                running.fetch_sub(1, Ordering::SeqCst);
                match &request.payload[..] {
                    b"panic" => panic!("a handler's own"),
                    b"fail" => Err(Failure::new(0x1001, "out of paper")),
                    payload => Ok(payload.to_ascii_uppercase().into()),
                }
            }
        }
    };
    let serve = Serve::new("upper").concurrency_max(4);
    let service = serving.serve_with(&serve, handler).await.unwrap();
    let ask = |payload: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.request("upper", payload).await })
    };
    let asked: Vec<_> = (0..20).map(|_| ask("text")).collect();
    while running.load(Ordering::SeqCst) < 4 {
        sleep(Duration::from_millis(1)).await;
    }
    gate.add_permits(20);
    for asked in asked {
        assert_eq!(asked.await.unwrap().unwrap().payload, b"TEXT");
    }
    assert_eq!(most.load(Ordering::SeqCst), 4);

    gate.add_permits(2);
    let error = ask("panic").await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::ServiceGone), "{error}");
    let error = ask("fail").await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Application(0x1001)), "{error}");

    // Ending answers what has come, and takes nothing more.
    let last = ask("last");
    while running.load(Ordering::SeqCst) < 1 {
        sleep(Duration::from_millis(1)).await;
    }
    let ending = tokio::spawn(service.end());
    // One that comes before it is withdrawn is not answered until the gate opens.
    let late = Request::new("upper").timeout(Duration::from_millis(100));
    while client
        .request_with(&late)
        .await
        .err()
        .and_then(|error| error.code())
        != Some(Code::NoService)
    {}
    gate.add_permits(1000);
    ending.await.unwrap().unwrap();
    assert_eq!(last.await.unwrap().unwrap().payload, b"LAST");
    client.close().await.unwrap();
    serving.close().await.unwrap();
    end(server);
}

#[tokio::test]
async fn when_every_handle_is_dropped_no_task_is_left_and_the_server_has_its_slot_back() {
    let server = start();
    let watch = connect(&server).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    connections_become(&watch, 1).await;
    let before = metrics.num_alive_tasks();
    let started = Arc::new(Notify::new());
    {
        let client = connect(&server).await;
        let stream = client.subscribe("t").await.unwrap();
        let requests = client.requests("one").await.unwrap();
        let told = started.clone();
        let service = client.serve("two", move |_| {
            told.notify_one();
            pending()
        });
        let service = service.await.unwrap();
        let (asking, clone) = (watch.clone(), client.clone());
        let asked = tokio::spawn(async move { asking.request("two", "").await });
        started.notified().await;
        connections_become(&watch, 2).await;
        drop(client);
        clone.request("$sys/echo", "it lives").await.unwrap();
        drop((stream, requests, service, clone));
        let error = asked.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(Code::ServiceGone), "{error}");
    }
    connections_become(&watch, 1).await;
    let tasks_end = async {
        while metrics.num_alive_tasks() > before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, tasks_end).await.expect("a task is left");
    watch.close().await.unwrap();
    assert_eq!(watch.status().phase, Phase::Ended);
    assert!(watch.publish("t", "").await.is_err());
    watch.close().await.expect("closed is closed");
    end(server);
}

#[tokio::test]
async fn values_travel_as_json_and_as_protobuf() {
    let server = start();
    let client = connect(&server).await;
    let mut stream = client.subscribe("reading").await.unwrap();
    let reading = vec![21.5, 22.0];
    client.publish_json("reading", &reading).await.unwrap();
    let message = stream.next().await.unwrap();
    assert_eq!(message.json::<Vec<f64>>().unwrap(), reading);
    assert!(
        message.proto::<String>().is_err(),
        "it says that it is JSON"
    );
    let text = "a protobuf of one string".to_owned();
    client
        .publish_confirmed_proto("reading", &text)
        .await
        .unwrap();
    let message = stream.next().await.unwrap();
    assert_eq!(message.proto::<String>().unwrap(), text);

    let echoed: String = client.request_proto("$sys/echo", &text).await.unwrap();
    assert_eq!(echoed, text);
    let wrong = client.request_json::<_, u8>("$sys/echo", "text").await;
    let error = wrong.unwrap_err();
    assert!(matches!(error, Error::Payload { .. }), "{error}");
    let will = Publish::new("gone").payload(b"bye");
    client.will(&will).await.unwrap();
    client.withdraw_will().await.unwrap();
    assert!(client.ping().await.unwrap() > Duration::ZERO);
    client.close().await.unwrap();
    end(server);
}
