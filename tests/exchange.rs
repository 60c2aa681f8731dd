//! Clients that exchange messages through a real server on two shards: publishing,
//! subscribing, serving, and what survives when connections are cut in between.
//!
//! The server runs in this process; connections that are to break lead through a proxy.

#[path = "exchange/budget.rs"]
mod budget;
#[path = "exchange/credential.rs"]
mod credential;
#[path = "exchange/cut.rs"]
mod cut;
#[path = "exchange/lasting.rs"]
mod lasting;
#[path = "exchange/multiplex.rs"]
mod multiplex;
#[path = "exchange/proxy.rs"]
mod proxy;
#[path = "exchange/runtime.rs"]
mod runtime;
#[path = "exchange/service.rs"]
mod service;

use proxy::Proxy;
use ringmail::blocking::{Builder, Client};
use ringmail::client::{
    Code, Codec, Error, Incoming, Message, Publish, Reconnect, Subscribe, header,
};
use ringmail::{Config, Running, Server};
use std::net::TcpListener;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for what should not come to have come.
const A_WHILE: Duration = Duration::from_millis(100);

fn start() -> Running {
    let text =
        "[server]\nlisten = '127.0.0.1:0'\nadmin = ''\nshards = [0, 1]\ndrain_timeout_ms = 3000\n";
    let config = Config::from_toml(text).unwrap();
    Server::builder().config(config).start().unwrap()
}

fn end(server: Running) {
    server.drain();
    server.wait().unwrap();
}

fn connect(server: &Running) -> Client {
    Client::connect(&server.address().to_string()).unwrap()
}

/// A client on this shard.
fn connect_on(server: &Running, shard: u16) -> Client {
    let mut others = Vec::new();
    loop {
        let client = connect(server);
        if client.server().shard == shard {
            return client;
        }
        others.push(client); // kept for now, so that the next goes elsewhere
        assert!(others.len() < 200, "no connection to shard {shard}");
    }
}

fn quick() -> Builder {
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(5))
        .delay_max(Duration::from_millis(50));
    Client::builder()
        .request_timeout(PATIENCE)
        .reconnect(reconnect)
}

fn receive(client: &mut Client) -> Incoming {
    let incoming = client.receive_timeout(PATIENCE).unwrap();
    incoming.expect("nothing came")
}

fn message(client: &mut Client) -> Message {
    match receive(client) {
        Incoming::Message(message) => message,
        other => panic!("a message was expected, not {other:?}"),
    }
}

fn nothing_more(client: &mut Client) {
    assert_eq!(client.receive_timeout(A_WHILE).unwrap(), None);
}

/// More subscribers than a shard delivers to at once, on each of two shards.
#[test]
fn many_subscribers_get_every_message_once_in_order_and_then_it_is_confirmed() {
    let server = start();
    let mut many: Vec<Client> = (0..640).map(|_| connect(&server)).collect();
    for (index, client) in many.iter_mut().enumerate() {
        client.subscribe("news/today").unwrap();
        if index % 3 == 0 {
            client.subscribe("news/#").unwrap();
        }
    }
    for shard in [0, 1] {
        let count = many.iter().filter(|client| client.server().shard == shard);
        assert!(count.count() > 256, "the test asks for a fan-out in slices");
    }
    let mut publishers = [connect_on(&server, 0), connect_on(&server, 1)];
    for number in 0..20u8 {
        for (of, publisher) in (0..).zip(&mut publishers) {
            publisher.publish("news/today", [of, number]).unwrap();
        }
    }
    for (of, publisher) in (0..).zip(&mut publishers) {
        publisher.publish_confirmed("news/today", [of, 20]).unwrap();
    }
    for client in &mut many {
        let mut next = [0, 0];
        for _ in 0..42 {
            let message = message(client);
            let [of, number] = *message.payload else {
                panic!("{message:?}");
            };
            assert_eq!(number, next[usize::from(of)]);
            next[usize::from(of)] += 1;
        }
    }
    many.iter_mut().step_by(64).for_each(nothing_more);
    drop((many, publishers));
    end(server);
}

#[test]
fn two_devices_on_two_cores_exchange_the_same_bytes() {
    let server = start();
    let mut display = connect_on(&server, 0);
    let mut sensor = connect_on(&server, 1);
    display.subscribe("site/+/temperature").unwrap();
    let publish = Publish::new("site/1/temperature")
        .payload(br#"{"celsius":21.5}"#)
        .codec(Codec::Json)
        .schema("site.Reading")
        .header(0x40, b"own");
    sensor.publish_with(&publish.clone().confirm(true)).unwrap();
    sensor.publish_confirmed("site/1/humidity", "40").unwrap();
    sensor.publish("site/2/temperature", "20").unwrap();

    let first = message(&mut display);
    assert_eq!(first.topic, "site/1/temperature");
    assert_eq!(first.payload, br#"{"celsius":21.5}"#);
    assert_eq!((first.codec, first.retain), (Codec::Json, false));
    let headers: Vec<_> = first.headers().iter().collect();
    assert_eq!(
        headers,
        [(header::SCHEMA, &b"site.Reading"[..]), (0x40, &b"own"[..])]
    );
    assert_eq!(message(&mut display).topic, "site/2/temperature");

    display.unsubscribe("site/+/temperature").unwrap();
    sensor.publish_with(&publish.confirm(true)).unwrap();
    nothing_more(&mut display);
    let error = display.unsubscribe("site/+/temperature").unwrap_err();
    assert_eq!(error.code(), Some(Code::NotSubscribed));
    display.close().unwrap();
    sensor.close().unwrap();
    end(server);
}

#[test]
fn a_refused_publish_names_its_topic_and_the_others_are_confirmed() {
    let server = start();
    let mut client = connect(&server);
    for topic in ["a", "$sys/mine", "b"] {
        client
            .publish_queued(&Publish::new(topic).confirm(true))
            .unwrap();
    }
    match client.wait_confirmed().unwrap_err() {
        Error::Rejected { topic, .. } => assert_eq!(topic, "$sys/mine"),
        other => panic!("{other}"),
    }
    client.wait_confirmed().unwrap();
    client.close().unwrap();
    end(server);
}

#[test]
fn each_message_goes_to_one_member_of_a_group() {
    const COUNT: usize = 500;
    let server = start();
    let subscribe = Subscribe::new("jobs/#").group("workers");
    let mut workers: Vec<_> = (0..3).map(|i| connect_on(&server, i % 2)).collect();
    for worker in &mut workers {
        worker.subscribe_with(&subscribe).unwrap();
    }
    let mut publisher = connect(&server);
    for i in 0..COUNT {
        let topic = format!("jobs/{i}");
        publisher
            .publish_queued(&Publish::new(&topic).confirm(true))
            .unwrap();
    }
    publisher.wait_confirmed().unwrap();
    let mut topics = Vec::new();
    for worker in &mut workers {
        while let Some(incoming) = worker.receive_timeout(A_WHILE).unwrap() {
            topics.push(incoming.into_message().unwrap().topic);
        }
    }
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), COUNT);
    for worker in &mut workers {
        worker.unsubscribe_with(&subscribe).unwrap();
    }
    end(server);
}

#[test]
fn a_retained_message_waits_for_subscribers_until_it_is_cleared() {
    let server = start();
    let mut publisher = connect(&server);
    let retained = Publish::new("site/1/state").retain(true).confirm(true);
    publisher
        .publish_with(&retained.clone().payload(b"on"))
        .unwrap();
    let mut late = connect(&server);
    late.subscribe("site/#").unwrap();
    let message = message(&mut late);
    assert_eq!((&message.payload[..], message.retain), (&b"on"[..], true));
    publisher.publish_with(&retained).unwrap();
    let mut later = connect(&server);
    later.subscribe("site/#").unwrap();
    nothing_more(&mut later);
    end(server);
}

#[test]
fn a_will_is_published_for_who_vanishes_and_not_for_who_leaves() {
    let server = start();
    let mut heir = connect(&server);
    heir.subscribe("gone/#").unwrap();
    let proxy = Proxy::to(server.address());
    for (topic, vanishes) in [("gone/1", true), ("gone/2", false)] {
        let mut client = Client::connect(&proxy.address()).unwrap();
        client.will(&Publish::new(topic).payload(b"bye")).unwrap();
        if vanishes {
            proxy.cut();
            let will = message(&mut heir);
            assert_eq!(
                (will.topic.as_str(), &will.payload[..]),
                (topic, &b"bye"[..])
            );
        } else {
            client.close().unwrap();
            nothing_more(&mut heir);
        }
    }
    end(server);
}

#[test]
fn a_service_of_one_client_answers_another() {
    let server = start();
    let mut service = connect_on(&server, 0);
    service.serve("text/+").unwrap();
    let address = server.address().to_string();
    let asking = std::thread::spawn(move || {
        let mut client = Client::connect(&address).unwrap();
        let answer = client.request("text/upper", "hello").unwrap();
        assert_eq!(answer.payload, b"HELLO");
        let error = client.request("text/fail", "x").unwrap_err();
        assert_eq!(error.code(), Some(Code::Application(0x1001)));
        let error = client.request("text/leave", "x").unwrap_err();
        assert_eq!(error.code(), Some(Code::ServiceGone));
        let error = client.request("text/upper", "x").unwrap_err();
        assert_eq!(error.code(), Some(Code::NoService));
        client.close().unwrap();
    });
    loop {
        let request = receive(&mut service).into_request().unwrap();
        match request.service.as_str() {
            "text/upper" => {
                let answer = request.payload.to_ascii_uppercase();
                service.respond(&request, answer).unwrap();
            }
            "text/fail" => {
                let code = Code::Application(0x1001);
                service.respond_failed(&request, code, "no").unwrap();
            }
            _ => break,
        }
    }
    service.close().unwrap();
    asking.join().unwrap();
    end(server);
}

#[test]
fn without_a_session_the_client_subscribes_again_and_tells_the_gap() {
    let server = start();
    let proxy = Proxy::to(server.address());
    let mut display = quick().connect(&proxy.address()).unwrap();
    display.subscribe("t").unwrap();
    let mut sensor = connect(&server);
    sensor.publish_confirmed("t", "before").unwrap();
    assert_eq!(message(&mut display).payload, b"before");
    proxy.cut();
    let lost = Incoming::Reconnected { resumed: false };
    assert_eq!(receive(&mut display), lost);
    sensor.publish_confirmed("t", "after").unwrap();
    assert_eq!(message(&mut display).payload, b"after");
    end(server);
}

#[test]
fn a_session_gets_what_was_published_while_its_connection_was_cut() {
    let server = start();
    let proxy = Proxy::to(server.address());
    let mut display = quick().session(true).connect(&proxy.address()).unwrap();
    display.subscribe("t").unwrap();
    let mut sensor = connect(&server);
    let (mut next, mut resumed) = (0, 0);
    for round in 0..20 {
        for i in 0..50 {
            let payload = (round * 50 + i).to_string();
            let publish = Publish::new("t").payload(payload.as_bytes()).confirm(true);
            sensor.publish_queued(&publish).unwrap();
            if i == 25 {
                proxy.cut();
            }
        }
        sensor.wait_confirmed().unwrap();
        while next < (round + 1) * 50 {
            match receive(&mut display) {
                Incoming::Message(message) => {
                    assert_eq!(message.payload, next.to_string().as_bytes());
                    next += 1;
                }
                Incoming::Reconnected { resumed: true } => resumed += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(resumed > 0);
    display.close().unwrap();
    end(server);
}

#[test]
fn a_publish_whose_ok_was_lost_is_repeated_and_delivered_once() {
    let server = start();
    let mut display = connect(&server);
    display.subscribe("t").unwrap();
    let proxy = Proxy::to(server.address());
    let mut sensor = quick().session(true).connect(&proxy.address()).unwrap();
    sensor.publish_confirmed("t", "0").unwrap();
    proxy.mute(true);
    for payload in ["1", "2", "3"] {
        let publish = Publish::new("t").payload(payload.as_bytes()).confirm(true);
        sensor.publish_queued(&publish).unwrap();
    }
    sensor.flush().unwrap();
    // They are delivered, their confirmations are not.
    for expected in [b"0", b"1", b"2", b"3"] {
        assert_eq!(message(&mut display).payload, expected);
    }
    assert_eq!(sensor.unconfirmed_count(), 3);
    proxy.cut();
    proxy.mute(false);
    sensor.wait_confirmed().unwrap();
    nothing_more(&mut display);
    assert_eq!(
        receive(&mut sensor),
        Incoming::Reconnected { resumed: true }
    );
    sensor.close().unwrap();
    end(server);
}

#[test]
fn two_sessions_whose_connections_are_cut_all_the_time_lose_and_repeat_nothing() {
    const COUNT: u32 = 3000;
    let server = start();
    let (near, far) = (Proxy::to(server.address()), Proxy::to(server.address()));
    let mut display = quick().session(true).connect(&near.address()).unwrap();
    display.subscribe("t").unwrap();
    let address = far.address();
    let publishing = std::thread::spawn(move || {
        let mut sensor = quick().session(true).connect(&address).unwrap();
        for i in 0..COUNT {
            let payload = i.to_string();
            let publish = Publish::new("t").payload(payload.as_bytes()).confirm(true);
            sensor.publish_queued(&publish).unwrap();
            if i % 50 == 0 {
                sensor.wait_confirmed().unwrap();
            }
        }
        sensor.wait_confirmed().unwrap();
        // All is confirmed; a cut may meet the last words.
        match sensor.close() {
            Ok(()) | Err(Error::Io { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    });
    let (mut next, mut cuts) = (0, 0);
    let began = Instant::now();
    while next < COUNT {
        match receive(&mut display) {
            Incoming::Message(message) => {
                assert_eq!(message.payload, next.to_string().as_bytes());
                next += 1;
                if next % 97 == 0 && cuts < 30 {
                    [&near, &far][cuts % 2].cut();
                    cuts += 1;
                }
            }
            Incoming::Reconnected { resumed } => assert!(resumed),
            other => panic!("{other:?}"),
        }
        assert!(began.elapsed() < 4 * PATIENCE, "{next} of {COUNT}");
    }
    publishing.join().unwrap();
    while let Some(incoming) = display.receive_timeout(A_WHILE).unwrap() {
        assert_eq!(incoming, Incoming::Reconnected { resumed: true });
    }
    assert!(cuts > 10);
    end(server);
}

#[test]
fn a_session_that_lingered_too_long_is_begun_anew_and_receive_tells() {
    let text =
        "[server]\nlisten = '127.0.0.1:0'\nadmin = ''\nshards = [0, 1]\n[session]\nlinger_ms = 1\n";
    let config = Config::from_toml(text).unwrap();
    let server = Server::builder().config(config).start().unwrap();
    let proxy = Proxy::to(server.address());
    let reconnect = Reconnect::default().delay_base(Duration::from_millis(1));
    let mut display = quick()
        .reconnect(reconnect)
        .session(true)
        .connect(&proxy.address())
        .unwrap();
    display.subscribe("t").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    proxy.lead_to(nobody.unwrap());
    proxy.cut();
    std::thread::sleep(A_WHILE); // for the linger to pass
    proxy.lead_to(server.address());
    let lost = Incoming::Reconnected { resumed: false };
    assert_eq!(receive(&mut display), lost);
    connect(&server).publish_confirmed("t", "after").unwrap();
    assert_eq!(message(&mut display).payload, b"after");
    end(server);
}

#[test]
fn a_drain_loses_nothing_confirmed_and_the_client_goes_on_elsewhere() {
    let (old, new) = (start(), start());
    let proxy = Proxy::to(old.address());
    let mut display = quick().session(true).connect(&proxy.address()).unwrap();
    display.subscribe("t").unwrap();
    let mut sensor = quick().session(true).connect(&proxy.address()).unwrap();
    for i in 0..100u32 {
        sensor.publish_confirmed("t", i.to_string()).unwrap();
    }
    proxy.lead_to(new.address());
    old.drain();
    for i in 0..100u32 {
        assert_eq!(message(&mut display).payload, i.to_string().as_bytes());
    }
    let lost = Incoming::Reconnected { resumed: false };
    assert_eq!(receive(&mut display), lost);
    sensor.publish_confirmed("t", "new").unwrap();
    assert_eq!(message(&mut display).payload, b"new");
    old.wait().unwrap();
    end(new);
}
