//! Connecting again without a session: what is restored, what is told, and when it ends.

use crate::peer::{Heard, Peer, settings};
use ringmail::blocking::{Builder, Client};
use ringmail::client::{Code, Error, Incoming, Publish, Reconnect, Request, Subscribe, header};
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::AUTH_API_KEY;
use ringmail::proto::session::Settings;
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Where the peer's script has failed the test ends, which would wait forever.
pub const ATTEMPTS: u32 = 1000;

fn quick() -> Builder {
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(5))
        .delay_max(Duration::from_millis(40))
        .attempts_max(ATTEMPTS);
    Client::builder().reconnect(reconnect)
}

/// Waits until the client knows that its connection has ended. Its peer takes no other one
/// until then: while this thread has no time the client would have that already.
pub fn notice(client: &Client) {
    while client.is_connected() {
        std::thread::yield_now();
    }
}

fn lost() -> Incoming {
    Incoming::Reconnected { resumed: false }
}

#[test]
fn what_stood_is_asked_for_again_and_receive_tells_the_gap() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.confirm(MessageType::Subscribe, "t");
        served.confirm(MessageType::Subscribe, "u");
        served.confirm(MessageType::Unsubscribe, "u");
        served.confirm(MessageType::Subscribe, "jobs");
        served.confirm(MessageType::Serve, "svc");
        served.confirm(MessageType::Will, "gone");
        served.publish("t", b"before");
        drop(served);

        let mut served = door.establish();
        served.confirm(MessageType::Subscribe, "t");
        let asked = served.confirm(MessageType::Subscribe, "jobs");
        assert_eq!(asked.headers, [(header::GROUP, b"g".to_vec())]);
        served.confirm(MessageType::Serve, "svc");
        let asked = served.confirm(MessageType::Will, "gone");
        assert_eq!(asked.payload, b"bye");
        served.publish("t", b"after");
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    client.subscribe("u").unwrap();
    client.unsubscribe("u").unwrap();
    client
        .subscribe_with(&Subscribe::new("jobs").group("g"))
        .unwrap();
    client.serve("svc").unwrap();
    client.will(&Publish::new("gone").payload(b"bye")).unwrap();
    let told: Vec<_> = (0..3).map(|_| client.receive().unwrap()).collect();
    assert_eq!(told[1], lost());
    let payloads = [0, 2].map(|i| told[i].clone().into_message().unwrap().payload);
    assert_eq!(payloads, [b"before".to_vec(), b"after".to_vec()]);
    assert!(client.is_connected());
    client.close().unwrap();
}

#[test]
fn unconfirmed_publishes_of_a_broken_connection_are_an_error_and_are_not_repeated() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.operation(MessageType::Publish);
        served.operation(MessageType::Publish);
        drop(served);
        let mut served = door.establish();
        served.confirm(MessageType::Publish, "c");
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    for topic in ["a", "b"] {
        client
            .publish_queued(&Publish::new(topic).confirm(true))
            .unwrap();
    }
    match client.wait_confirmed().unwrap_err() {
        Error::Unconfirmed { topic, count, .. } => assert_eq!((topic.as_str(), count), ("a", 2)),
        other => panic!("{other}"),
    }
    client.wait_confirmed().unwrap();
    client.publish_confirmed("c", "").unwrap();
    client.close().unwrap();
}

#[test]
fn a_publish_that_waits_when_the_connection_breaks_says_that_it_may_have_arrived() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.operation(MessageType::Publish);
        drop(served);
        door.establish().part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    let error = client.publish_confirmed("a", "").unwrap_err();
    assert!(
        matches!(error, Error::Unconfirmed { count: 1, .. }),
        "{error}"
    );
    assert!(error.is_retryable());
    assert_eq!(client.receive().unwrap(), lost());
    client.close().unwrap();
}

#[test]
fn a_request_that_waits_when_the_connection_breaks_fails_and_the_next_is_answered() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.request();
        drop(served);
        let mut served = door.establish();
        let asked = served.request();
        assert_eq!(asked.payload, b"second");
        served.answer(&asked);
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    let error = client.request("$sys/echo", "first").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    client.request("$sys/echo", "second").unwrap();
    client.close().unwrap();
}

#[test]
fn an_operation_cut_before_its_ok_is_repeated() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.operation(MessageType::Subscribe);
        drop(served);
        let mut served = door.establish();
        served.confirm(MessageType::Subscribe, "t");
        served.operation(MessageType::Unsubscribe);
        drop(served);
        let mut served = door.establish();
        served.confirm(MessageType::Subscribe, "t"); // restored: it was not ended
        served.confirm(MessageType::Unsubscribe, "t");
        drop(served);
        door.establish().part(); // nothing to restore
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    client.unsubscribe("t").unwrap();
    for _ in 0..3 {
        assert_eq!(client.receive().unwrap(), lost());
    }
    client.close().unwrap();
}

#[test]
fn a_subscription_confirmed_too_late_for_its_call_is_restored_all_the_same() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        let asked = served.operation(MessageType::Subscribe);
        let echoed = served.request(); // the client has given up on the first
        served.send(&Message::Ok { id: asked.id });
        served.answer(&echoed);
        drop(served);
        let mut served = door.establish();
        served.confirm(MessageType::Subscribe, "t");
        served.part();
    });
    let mut client = quick()
        .request_timeout(Duration::from_millis(100))
        .connect(&peer.address)
        .unwrap();
    let error = client.subscribe("t").unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let patient = Request::new("$sys/echo").timeout(Duration::from_secs(20));
    client.request_with(&patient).unwrap();
    assert_eq!(client.receive().unwrap(), lost());
    client.close().unwrap();
}

#[test]
fn what_the_server_refuses_to_restore_is_told_and_not_asked_for_again() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.confirm(MessageType::Subscribe, "t");
        drop(served);
        let mut served = door.establish();
        let asked = served.operation(MessageType::Subscribe);
        served.send(&Message::Error {
            code: Code::Forbidden,
            id: asked.id,
            fatal: false,
            text: "not any more",
        });
        drop(served);
        door.establish().part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        match client.receive() {
            Ok(event) => told.push(event == lost()),
            Err(error) => {
                assert_eq!(error.code(), Some(Code::Forbidden), "{error}");
                told.push(false);
            }
        }
    }
    told.sort_unstable();
    assert_eq!(told, [false, true, true]);
    client.close().unwrap();
}

#[test]
fn a_request_of_a_broken_connection_is_not_answered_on_the_next() {
    let (noticed, is_noticed) = channel();
    let peer = Peer::open(move |door| {
        let mut served = door.establish();
        served.confirm(MessageType::Serve, "svc");
        served.deliver(MessageType::Request, 5, "svc", b"old");
        let asked = served.request();
        served.answer(&asked);
        served.deliver(MessageType::Request, 6, "svc", b"old too");
        drop(served);
        is_noticed.recv().unwrap();
        let mut served = door.establish();
        served.confirm(MessageType::Serve, "svc");
        served.deliver(MessageType::Request, 5, "svc", b"new");
        let answer = served.operation(MessageType::Response);
        assert_eq!((answer.id, &answer.payload[..]), (5, &b"to new"[..]));
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.serve("svc").unwrap();
    let old = client.receive().unwrap().into_request().unwrap();
    client.request("$sys/echo", "").unwrap();
    notice(&client);
    client.respond(&old, "to old").unwrap();
    noticed.send(()).unwrap();
    let mut next = client.receive().unwrap();
    if let Incoming::Request(request) = &next {
        // It had been handed over before the end was noticed: its answer goes nowhere either.
        assert_eq!(request.payload, b"old too");
        next = client.receive().unwrap();
    }
    assert_eq!(next, lost());
    client.respond(&old, "to old").unwrap();
    let new = client.receive().unwrap().into_request().unwrap();
    client.respond(&new, "to new").unwrap();
    client.close().unwrap();
}

/// A credential that the server cannot judge now, or not for what others showed, is shown
/// again; one that it has judged is not.
#[test]
fn a_credential_that_could_not_be_judged_is_shown_again() {
    let refused = |code, text| Message::Error {
        code,
        id: 0,
        fatal: true,
        text,
    };
    let settings = Settings {
        auth_methods: AUTH_API_KEY,
        ..settings()
    };
    let (subscribed, is_subscribed) = channel();
    let peer = Peer::open_with(settings, move |door| {
        let shown = || {
            let mut served = door.establish();
            assert_eq!(served.hear(), Heard::Message(MessageType::Auth));
            served
        };
        for stands in [true, false, false, true, false] {
            let mut served = shown();
            if stands {
                served.session.authenticate();
                served.send(&Message::AuthOk {
                    expires_in_s: 0,
                    principal: "a",
                    access_token: b"",
                    refresh_token: b"",
                });
                served.confirm(MessageType::Subscribe, "t");
                // Of the first; the second is the client's own doing.
                let is_first = is_subscribed.recv().is_ok();
                if !is_first {
                    served.publish("t", b"last");
                }
            } else {
                served.send(&refused(Code::Unavailable, "not now"));
            }
        }
        shown().send(&refused(Code::RateLimited, "wait"));
        shown().send(&refused(Code::AuthFailed, "no"));
    });
    let mut client = quick().api_key("a.secret").connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    subscribed.send(()).unwrap();
    drop(subscribed);
    // What has come comes first, though all is over when it is taken.
    while client.keep_alive().is_ok() {
        std::thread::yield_now();
    }
    assert_eq!(client.receive().unwrap(), lost());
    let last = client.receive().unwrap().into_message().unwrap();
    assert_eq!(last.payload, b"last");
    let error = client.receive().unwrap_err();
    assert_eq!(error.code(), Some(Code::AuthFailed), "{error}");
}

#[test]
fn attempts_are_bounded_where_asked_and_the_last_failure_is_told() {
    let peer = Peer::run(|mut served| {
        served.establish();
    });
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(1))
        .attempts_max(3);
    let mut client = Client::builder()
        .reconnect(reconnect)
        .connect(&peer.address)
        .unwrap();
    let error = client.receive().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    let error = client.publish("t", "").unwrap_err();
    assert!(
        matches!(error, Error::Connect { .. }),
        "it is still the reason: {error}"
    );
}

#[test]
fn an_outage_longer_than_a_call_is_told_by_why_connecting_fails() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.request();
    });
    let mut client = quick()
        .request_timeout(Duration::from_millis(300))
        .connect(&peer.address)
        .unwrap();
    assert!(client.request("$sys/echo", "").is_err());
    let error = client.publish("t", "").unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert_eq!(
        client.receive_timeout(Duration::from_millis(20)).unwrap(),
        None
    );
    assert!(!client.is_connected());
}

#[test]
fn a_refusal_for_good_is_not_tried_again_and_one_for_now_is() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.request();
        drop(served);
        for code in [Code::TooManyConnections, Code::AddressDenied] {
            let mut served = door.accept();
            let refusal = ringmail::client::Refusal::new(code, "no");
            let mut out = Vec::new();
            served.session.refuse(&refusal, &mut out);
            served.write(&out);
            while served.hear() != Heard::Eof {}
        }
    });
    let mut client = quick().connect(&peer.address).unwrap();
    assert!(client.request("$sys/echo", "").is_err());
    let error = client.receive().unwrap_err();
    assert_eq!(error.code(), Some(Code::AddressDenied), "{error}");
}

#[test]
fn the_first_connection_is_not_retried() {
    // Nobody listens there.
    let address = "127.0.0.1:1";
    let error = quick().connect(address).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[test]
fn a_drain_sends_the_client_elsewhere_after_everything_has_come() {
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let second = Peer::run(move |mut served| {
        served.establish();
        told.recv().expect("the first server said CLOSE before");
        served.confirm(MessageType::Subscribe, "t");
        served.confirm(MessageType::Publish, "new");
        served.part();
    });
    let alternative = second.address.clone();
    let first = Peer::run(move |mut served| {
        served.establish();
        served.confirm(MessageType::Subscribe, "t");
        let asked = served.operation(MessageType::Publish);
        served.send(&Message::Drain {
            deadline_ms: 10_000,
            reconnect_after_ms: 1,
            alternative: &alternative,
        });
        served.publish("t", b"late");
        served.send(&Message::Ok { id: asked.id });
        served.publish("t", b"last");
        let mut out = Vec::new();
        served.session.close(Code::Draining, "going down", &mut out);
        tell.send(()).unwrap();
        served.write(&out);
        // Nothing new is asked of a server that drains.
        let heard = served.hear();
        assert!(matches!(heard, Heard::Ended(_) | Heard::Eof), "{heard:?}");
    });
    let mut client = quick().connect(&first.address).unwrap();
    client.subscribe("t").unwrap();
    client.publish_confirmed("old", "").unwrap();
    client.publish_confirmed("new", "").unwrap();
    assert_eq!(client.peer().to_string(), second.address);
    let payload = |incoming: Incoming| incoming.into_message().unwrap().payload;
    assert_eq!(payload(client.receive().unwrap()), b"late");
    assert_eq!(payload(client.receive().unwrap()), b"last");
    assert_eq!(client.receive().unwrap(), lost());
    client.close().unwrap();
}

#[test]
fn who_waits_for_its_server_goes_on_trying_until_one_answers() {
    // Nobody listens yet, and no other test takes the port: theirs are of 127.0.0.1.
    let listener = TcpListener::bind("127.0.7.5:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (tell, told) = channel();
    let waiting = std::thread::spawn(move || {
        let builder = Client::builder().wait(Duration::MAX);
        tell.send(()).unwrap();
        builder.connect(&address.to_string()).unwrap().close()
    });
    told.recv().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    let _peer = Peer::at(listener, settings(), |door| {
        drop(door.accept()); // whoever answers for a server that is away
        door.refuse(Code::TooManyConnections);
        door.refuse(Code::Unavailable);
        door.establish().part();
    });
    waiting.join().unwrap().unwrap();
}

#[test]
fn waiting_ends_with_its_time_and_what_would_be_repeated_is_told_at_once() {
    let short = Duration::from_millis(20);
    for (time, at_least) in [(Duration::ZERO, 1), (short, 2)] {
        let (knock, knocks) = channel();
        let peer = Peer::open(move |door| {
            // Before the client can know of it.
            loop {
                let _served = door.accept();
                if knock.send(()).is_err() {
                    return;
                }
            }
        });
        let error = Client::builder().wait(time).connect(&peer.address);
        assert!(matches!(error, Err(Error::Connect { .. })), "{error:?}");
        let count = knocks.try_iter().count();
        assert!(count >= at_least, "{count}");
        assert!(!time.is_zero() || count == 1, "{count}");
        drop(knocks);
        std::net::TcpStream::connect(&peer.address).unwrap(); // lets the script end
    }
    let peer = Peer::open(|door| door.refuse(Code::AddressDenied));
    let error = Client::builder().wait(Duration::MAX).connect(&peer.address);
    assert_eq!(error.unwrap_err().code(), Some(Code::AddressDenied));
}
