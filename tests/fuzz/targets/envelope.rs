//! Frames, options, messages, header blocks and trace contexts: whatever is read is written as it
//! came, and what is made of a message is another that says just that.

use super::Draw;
use crate::pair::{encoded, frame, options, raw};
use ringmail::proto::encoded::{self as view, Encoded};
use ringmail::proto::envelope::{Envelope, Headers, header};
use ringmail::proto::frame::{Frame, Parsed};
use ringmail::proto::message::{Header, Message, MessageType, open};
use ringmail::proto::name::{check_filter, check_topic, matches};
use ringmail::proto::option::Options;
use ringmail::proto::trace::{Carried, TraceContext, headers_with};

/// Payloads in the corpus are short: so are those that are taken.
const LENGTH_MAX: u32 = 1 << 20;

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let choice = draw.byte();
    match choice & 3 {
        0 => message(draw.rest(), choice & 4 != 0),
        1 => {
            let kind = *draw.pick(MessageType::ALL);
            body(kind, draw.rest());
        }
        2 => {
            let mut bytes = draw.rest().to_vec();
            if choice & 4 != 0 {
                mend(&mut bytes);
            }
            link(&bytes);
        }
        _ => {
            let block = draw.piece();
            headers(block, draw.rest());
        }
    }
}

/// Bytes as they come from a peer.
fn message(bytes: &[u8], checksum: bool) {
    let Ok(Some(header)) = Header::parse(bytes, LENGTH_MAX) else {
        return;
    };
    let Some(message) = bytes.get(..header.message_bytes()) else {
        return;
    };
    let Ok(body) = open(message, checksum) else {
        return;
    };
    self::body(header.kind, body);
    if checksum {
        let mut scratch = Vec::new();
        let plain = Encoded::received(message, true, &mut scratch).bytes();
        assert_eq!(plain, raw(header.kind as u8, body));
        assert_eq!(Encoded::copied(message, true), plain);
    }
}

fn body(kind: MessageType, body: &[u8]) {
    let Ok(message) = Message::parse(kind, body) else {
        return;
    };
    assert_eq!(message.kind(), kind);
    // What follows an OK's id is skipped.
    let written = match kind {
        MessageType::Ok => &body[..4],
        _ => body,
    };
    let plain = encoded(&message, false);
    assert_eq!(plain, raw(kind as u8, written));
    assert_eq!(message.body_len(), written.len());
    let summed = encoded(&message, true);
    assert_eq!(open(&summed, true), Ok(written));
    if let Message::Envelope(_, envelope) = message {
        views(kind, &envelope, &plain);
    }
}

/// What is told of a message, and made of it, without taking it apart.
fn views(kind: MessageType, envelope: &Envelope<'_>, bytes: &[u8]) {
    let whole = Encoded::of(bytes);
    assert_eq!((whole.kind(), whole.id()), (Some(kind), Some(envelope.id)));
    assert_eq!(whole.envelope(), Some(*envelope));
    assert_eq!(whole.has_failed(), envelope.failed());
    assert_eq!(envelope.encoded_len(), whole.body_bytes());
    assert_eq!(&*envelope.to_body(), &bytes[8..]);
    let renumbered = whole.with_id(!envelope.id);
    assert!(view::is_alike(bytes, &renumbered));
    let other = Encoded::of(&renumbered).envelope();
    assert_eq!(
        other,
        Some(Envelope {
            id: !envelope.id,
            ..*envelope
        })
    );
    let context = TraceContext::of(&envelope.headers);
    assert_eq!(whole.trace(), context);
    carry(*envelope, whole);
    let (topic, filter) = (envelope.name, envelope.name);
    if check_topic(topic).is_ok() {
        assert!(check_filter(filter).is_ok() && matches(filter, topic));
    }
}

/// A trace put into a message and taken out again.
fn carry(envelope: Envelope<'_>, whole: Encoded<'_>) {
    let context = TraceContext {
        trace_id: [7; 16],
        parent_id: [9; 8],
        flags: 1,
    };
    let mut traced = Vec::new();
    let Some(carried) = whole.with_trace(&context, &mut traced) else {
        return;
    };
    let traced = Encoded::of(&traced);
    assert_eq!(traced.trace(), Some(context));
    let after = traced.envelope().expect("it was made here");
    let others = |headers: Headers<'_>| {
        let entries = headers
            .iter()
            .filter(|(key, _)| *key != header::TRACEPARENT);
        entries
            .map(|(key, value)| (key, value.to_vec()))
            .collect::<Vec<_>>()
    };
    assert_eq!(others(after.headers), others(envelope.headers));
    assert_eq!(
        (after.name, after.payload),
        (envelope.name, envelope.payload)
    );
    match carried {
        Carried::Replaced => assert_eq!(traced.len(), whole.len()),
        Carried::Added => {
            let without = traced.without_trace().expect("it has one");
            let without = Encoded::of(&without).envelope().expect("it was made here");
            assert_eq!(others(without.headers), others(envelope.headers));
            assert_eq!(without.payload, envelope.payload);
        }
    }
}

/// Gives a frame the CRC that it should have.
fn mend(bytes: &mut [u8]) {
    let Some(&[.., high, low]) = bytes.first_chunk::<9>() else {
        return;
    };
    let end = 13 + usize::from(u16::from_be_bytes([high, low]));
    if let Some(whole) = bytes.get_mut(..end) {
        whole[9..13].fill(0);
        let crc = crc32fast::hash(whole);
        whole[9..13].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The link phase.
fn link(bytes: &[u8]) {
    if let Ok(Parsed::Whole { used, value }) = Frame::parse(bytes) {
        let Frame { kind, seq, payload } = value;
        assert_eq!(frame(kind, seq, payload), bytes[..used]);
        // Less is never refused, and never more than is there.
        for length in 0..used {
            let begun = Frame::parse(&bytes[..length]);
            assert!(matches!(begun, Ok(Parsed::Incomplete { need }) if need > length));
        }
        let _ = value.rst_refusal();
    }
    if let Ok(read) = Options::parse(bytes) {
        let written = options(&read);
        assert_eq!(Options::parse(&written), Ok(read));
    }
}

fn headers(block: &[u8], rest: &[u8]) {
    let Ok(headers) = Headers::check(block) else {
        return;
    };
    let mut again = Vec::new();
    for (key, value) in headers.iter() {
        Headers::push(&mut again, key, value);
        let first = headers.iter().find(|entry| entry.0 == key);
        assert_eq!(headers.find(key), first.map(|entry| entry.1));
    }
    assert_eq!(again, block);
    if let Some(context) = TraceContext::parse(rest) {
        assert_eq!(context.to_bytes()[..], *rest);
        assert_eq!(context.to_string().len(), 55);
        let mut traced = Vec::new();
        if headers_with(&headers, &context, &mut traced).is_some() {
            let traced = Headers::check(&traced).expect("it was made here");
            assert_eq!(TraceContext::of(&traced), Some(context));
        }
    }
}
