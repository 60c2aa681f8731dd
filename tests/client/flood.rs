//! Servers that bring more than anybody takes: what a client keeps is bounded in each stage of
//! a connection, and whatever is behind a flood is reached once the flood was taken.

use crate::peer::{Door, Peer, Served};
use ringmail::blocking::Client;
use ringmail::client::{Error, Incoming, Reconnect};
use ringmail::proto::envelope::Envelope;
use ringmail::proto::message::{Message, MessageType};
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Far more than sockets have room for.
const MESSAGES: usize = 1000;
const MESSAGE_BYTES: usize = 64 << 10;
/// What a client may keep here, and more than the kernel keeps between the two.
const INBOX_BYTES: usize = 1 << 20;
const KEPT_MAX: usize = 32 << 20;

fn messages(served: &mut Served, kind: MessageType, bytes: usize) -> Vec<u8> {
    let payload = vec![7; bytes];
    let mut out = Vec::new();
    let envelope = Envelope {
        id: 1,
        name: "t",
        payload: &payload,
        ..Envelope::default()
    };
    served
        .session
        .send(&Message::Envelope(kind, envelope), &mut out);
    out
}

/// Writes it so often; told is how many bytes have gone whenever none goes any more.
fn flood(served: &mut Served, message: &[u8], times: usize, told: &Sender<usize>) {
    let timeout = Some(Duration::from_millis(300));
    served.stream.set_write_timeout(timeout).unwrap();
    let mut sent = 0;
    while sent < message.len() * times {
        let rest = &message[sent % message.len()..];
        match served.stream.write(rest) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if told.send(sent).is_err() {
                    return;
                }
            }
            Err(_) => return, // it has gone
        }
    }
    let _ = told.send(sent);
    served.stream.set_write_timeout(None).unwrap();
}

/// How many bytes have gone when none goes any more: told so often in a row, since whoever
/// reads may only be slow.
fn stuck(told: &Receiver<usize>) -> usize {
    let (mut sent, mut times) = (0, 0);
    while times < 5 {
        let now = told.recv().unwrap_or(sent);
        times = if now == sent { times + 1 } else { 0 };
        sent = now;
    }
    sent
}

fn restored(door: &Door, told: &Sender<usize>) {
    let mut served = door.establish();
    served.confirm(MessageType::Subscribe, "t");
    drop(served);
    let mut served = door.establish();
    let asked = served.operation(MessageType::Subscribe);
    let message = messages(&mut served, MessageType::Publish, MESSAGE_BYTES);
    flood(&mut served, &message, MESSAGES, told);
    served.send(&Message::Ok { id: asked.id });
    served.part();
}

#[test]
fn a_connection_that_is_being_restored_brings_no_more_than_is_taken() {
    let (tell, told) = channel();
    let peer = Peer::open(move |door| restored(&door, &tell));
    let reconnect = Reconnect::default().delay_max(Duration::from_millis(40));
    let mut client = Client::builder()
        .reconnect(reconnect)
        .inbox_bytes_max(INBOX_BYTES)
        .request_timeout(Duration::from_secs(60))
        .connect(&peer.address)
        .unwrap();
    client.subscribe("t").unwrap();
    let sent = stuck(&told);
    assert!(sent < KEPT_MAX, "{sent} bytes were read, and nothing taken");
    // Nobody takes anything while a call waits: it says so.
    let error = client.request("$sys/echo", "").unwrap_err();
    assert!(matches!(error, Error::InboxFull { .. }), "{error}");
    let mut count = 0;
    while count < MESSAGES {
        match client.receive().unwrap() {
            Incoming::Message(message) => {
                assert_eq!(message.payload.len(), MESSAGE_BYTES);
                count += 1;
            }
            Incoming::Reconnected { resumed } => assert!(!resumed && count == 0),
            other => panic!("{other:?}"),
        }
    }
    client.close().unwrap();
}

#[test]
fn requests_nobody_serves_are_not_declined_faster_than_the_server_reads() {
    const REQUESTS: usize = 2_000_000;
    const REQUEST_BYTES: usize = 16; // header, envelope and the name
    let (tell, told) = channel();
    let peer = Peer::run(move |mut served| {
        served.establish();
        let message = messages(&mut served, MessageType::Request, 0);
        assert_eq!(message.len(), REQUEST_BYTES);
        flood(&mut served, &message, REQUESTS, &tell);
    });
    let client = Client::connect(&peer.address).unwrap();
    let sent = stuck(&told);
    let whole = REQUESTS * REQUEST_BYTES;
    assert!(
        sent < whole / 2,
        "{sent} bytes were read, and no answer taken"
    );
    drop((told, client));
}
