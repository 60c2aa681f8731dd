//! Sessions against a scripted server: counts, acknowledgements, resuming, what is repeated,
//! and what happens when the server does not know the session any more.

use crate::peer::{Heard, Peer, Served};
use crate::reconnect::{ATTEMPTS, notice};
use ringmail::blocking::{Builder, Client};
use ringmail::client::{Code, Error, Incoming, Publish, Reconnect};
use ringmail::proto::message::{Message, MessageType};
use std::sync::mpsc::channel;
use std::time::Duration;

const NONE: [u8; 16] = [0; 16];
const FIRST: [u8; 16] = [1; 16];
const SECOND: [u8; 16] = [2; 16];

fn quick() -> Builder {
    let reconnect = Reconnect::default()
        .delay_base(Duration::from_millis(5))
        .delay_max(Duration::from_millis(40))
        .attempts_max(ATTEMPTS);
    Client::builder().session(true).reconnect(reconnect)
}

fn begun(key: [u8; 16]) -> Message<'static> {
    Message::SessionOk {
        key,
        resumed: false,
        last_publish_id: 0,
    }
}

fn resumed(key: [u8; 16], last_publish_id: u32) -> Message<'static> {
    Message::SessionOk {
        key,
        resumed: true,
        last_publish_id,
    }
}

fn unknown(served: &mut Served, key: [u8; 16], received: u32) {
    let text = "";
    served.join(
        key,
        received,
        &Message::Error {
            code: Code::SessionUnknown,
            id: 0,
            fatal: false,
            text,
        },
    );
}

fn payload(client: &mut Client) -> Vec<u8> {
    client.receive().unwrap().into_message().unwrap().payload
}

#[test]
fn a_message_is_acknowledged_when_the_next_is_requested() {
    let (acked, ack) = channel();
    let peer = Peer::run(move |mut served| {
        served.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.confirm(MessageType::Subscribe, "t");
        served.publish("t", b"1");
        served.publish("t", b"2");
        loop {
            match served.hear() {
                Heard::Ack(count) => acked.send(count).unwrap(),
                Heard::Closed { .. } => return served.finish(),
                other => panic!("{other:?}"),
            }
        }
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    assert_eq!(payload(&mut client), b"1");
    client.ping().ok(); // PONG is the session's own
    assert!(ack.try_recv().is_err(), "it is still being worked on");
    assert_eq!(payload(&mut client), b"2");
    assert_eq!(
        client.receive_timeout(Duration::from_millis(20)).unwrap(),
        None
    );
    let mut last = 0;
    while last < 2 {
        last = ack.recv().unwrap();
    }
    client.close().unwrap();
}

#[test]
fn a_resumed_session_goes_on_where_it_was() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.confirm(MessageType::Subscribe, "t");
        served.publish("t", b"1");
        served.publish("t", b"2");
        drop(served);

        let mut served = door.establish();
        // Both were read, taken or not; the answer of the request counts too.
        served.join(FIRST, 2, &resumed(FIRST, 0));
        served.publish("t", b"3");
        let asked = served.request();
        served.answer(&asked);
        drop(served);

        let mut served = door.establish();
        served.join(FIRST, 4, &resumed(FIRST, 0));
        served.publish("t", b"4");
        loop {
            match served.hear() {
                Heard::Ack(_) => {}
                Heard::Closed { .. } => return served.finish(),
                other => panic!("{other:?}"),
            }
        }
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    let whole = Incoming::Reconnected { resumed: true };
    assert_eq!(payload(&mut client), b"1");
    assert_eq!(payload(&mut client), b"2");
    assert_eq!(client.receive().unwrap(), whole);
    client.request("$sys/echo", "").unwrap();
    assert_eq!(payload(&mut client), b"3");
    assert_eq!(client.receive().unwrap(), whole);
    assert_eq!(payload(&mut client), b"4");
    client.close().unwrap();
}

#[test]
fn publishes_without_an_answer_are_repeated_under_their_ids_and_what_was_refused_is_told() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.join(NONE, 0, &begun(FIRST));
        let asked: Vec<_> = (0..3)
            .map(|_| served.operation(MessageType::Publish))
            .collect();
        drop(served); // lost: OK, ERROR, OK
        let mut served = door.establish();
        served.join(FIRST, 0, &resumed(FIRST, asked[2].id));
        assert_eq!(served.confirm(MessageType::Publish, "t/0"), asked[0]);
        assert_eq!(served.operation(MessageType::Publish), asked[1]);
        served.send(&Message::Error {
            code: Code::Overloaded,
            id: asked[1].id,
            fatal: false,
            text: "",
        });
        assert_eq!(served.confirm(MessageType::Publish, "t/2"), asked[2]);
        let next = served.confirm(MessageType::Publish, "next");
        assert!(next.id > asked[2].id);
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    for topic in ["t/0", "t/1", "t/2"] {
        let publish = Publish::new(topic)
            .payload(b"kept")
            .retain(true)
            .header(0x40, b"own");
        client.publish_queued(&publish.confirm(true)).unwrap();
    }
    let error = client.wait_confirmed().unwrap_err();
    assert!(
        matches!(error, Error::Rejected { ref topic, .. } if topic == "t/1"),
        "{error}"
    );
    client.wait_confirmed().unwrap();
    client.publish_confirmed("next", "").unwrap();
    client.close().unwrap();
}

/// `Connect` would say that none of it was done.
#[test]
fn what_became_of_messages_on_their_way_is_not_known_without_a_connection() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.operation(MessageType::Publish);
    });
    let client = quick().request_timeout(Duration::from_millis(20));
    let mut client = client.connect(&peer.address).unwrap();
    let publish = Publish::new("t").confirm(true);
    client.publish_queued(&publish).unwrap();
    for waits_for_confirmation in [true, false] {
        // Until the client knows that nobody is there any more.
        let error = loop {
            let outcome = match waits_for_confirmation {
                true => client.wait_confirmed(),
                false => client.flush(),
            };
            match outcome {
                Ok(()) | Err(Error::Timeout { .. }) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}

#[test]
fn an_unknown_session_is_begun_anew_and_everything_is_asked_for_again() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.confirm(MessageType::Subscribe, "t");
        served.publish("t", b"1");
        let asked = served.operation(MessageType::Publish);
        drop(served);

        let mut served = door.establish();
        unknown(&mut served, FIRST, 1);
        served.join(NONE, 0, &begun(SECOND));
        served.confirm(MessageType::Subscribe, "t");
        assert_eq!(served.confirm(MessageType::Publish, "p").id, asked.id);
        served.publish("t", b"2");
        drop(served);

        let mut served = door.establish();
        // The count began anew, too.
        served.join(SECOND, 1, &resumed(SECOND, asked.id));
        loop {
            match served.hear() {
                Heard::Ack(1) => {}
                Heard::Closed { .. } => return served.finish(),
                other => panic!("{other:?}"),
            }
        }
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    client.publish_confirmed("p", "").unwrap();
    assert_eq!(payload(&mut client), b"1");
    let lost = Incoming::Reconnected { resumed: false };
    assert_eq!(client.receive().unwrap(), lost);
    assert_eq!(payload(&mut client), b"2");
    let whole = Incoming::Reconnected { resumed: true };
    assert_eq!(client.receive().unwrap(), whole);
    client.close().unwrap();
}

#[test]
fn a_request_taken_before_the_cut_can_be_answered_after_resuming() {
    let (noticed, is_noticed) = channel();
    let peer = Peer::open(move |door| {
        let mut served = door.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.confirm(MessageType::Serve, "svc");
        served.deliver(MessageType::Request, 9, "svc", b"");
        drop(served);
        is_noticed.recv().unwrap();
        let mut served = door.establish();
        served.join(FIRST, 1, &resumed(FIRST, 0));
        assert_eq!(served.operation(MessageType::Response).id, 9);
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.serve("svc").unwrap();
    let asked = client.receive().unwrap().into_request().unwrap();
    notice(&client);
    noticed.send(()).unwrap();
    client.respond(&asked, "answer").unwrap();
    client.close().unwrap();
}

#[test]
fn an_unsubscribe_whose_ok_was_lost_is_done() {
    let peer = Peer::open(|door| {
        let mut served = door.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.confirm(MessageType::Subscribe, "t");
        served.operation(MessageType::Unsubscribe); // done, but its OK is lost
        drop(served);
        let mut served = door.establish();
        served.join(FIRST, 0, &resumed(FIRST, 0));
        let asked = served.operation(MessageType::Unsubscribe);
        served.send(&Message::Error {
            code: Code::NotSubscribed,
            id: asked.id,
            fatal: false,
            text: "",
        });
        served.part();
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    client.unsubscribe("t").unwrap();
    client.close().unwrap();
}

#[test]
fn a_session_taken_over_by_another_client_is_over() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.join(NONE, 0, &begun(FIRST));
        served.confirm(MessageType::Subscribe, "t");
        let refusal = ringmail::client::Refusal::new(Code::SessionTaken, "");
        let mut out = Vec::new();
        served.session.refuse(&refusal, &mut out);
        served.write(&out);
    });
    let mut client = quick().connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    let error = client.receive().unwrap_err();
    assert_eq!(error.code(), Some(Code::SessionTaken), "{error}");
}

#[test]
fn a_server_that_has_no_sessions_for_this_client_is_told_at_once() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.join(
            NONE,
            0,
            &Message::Error {
                code: Code::Forbidden,
                id: 0,
                fatal: false,
                text: "no sessions here",
            },
        );
        while served.hear() != Heard::Eof {}
    });
    let error = quick().connect(&peer.address).unwrap_err();
    match error {
        Error::Failed { code, text } => {
            assert_eq!((code, text.as_str()), (Code::Forbidden, "no sessions here"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn without_a_session_nothing_is_acknowledged() {
    let peer = Peer::run(|mut served| {
        served.establish();
        served.confirm(MessageType::Subscribe, "t");
        served.publish("t", b"1");
        served.publish("t", b"2");
        served.part();
    });
    let mut client = Client::connect(&peer.address).unwrap();
    client.subscribe("t").unwrap();
    assert_eq!(payload(&mut client), b"1");
    assert_eq!(payload(&mut client), b"2");
    assert_eq!(
        client.receive_timeout(Duration::from_millis(20)).unwrap(),
        None
    );
    client.close().unwrap();
}
