//! Random but valid frames, options, headers and messages, as strategies that shrink.

use super::pair::encoded;
use proptest::collection::vec;
use proptest::prelude::*;
use ringmail::proto::envelope::{Codec, Envelope, FLAG_HEADERS, Headers};
use ringmail::proto::error::Code;
use ringmail::proto::kind::{Class, Control};
use ringmail::proto::message::{Message, MessageType};
use ringmail::proto::option::Options;

/// Cases come from the seed that a failure prints; nothing is written to disk.
pub fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Debug)]
pub struct OwnedOptions {
    pub heartbeat_ms: Option<u32>,
    pub message_max: Option<u32>,
    pub features: Option<u32>,
    pub client_id: Option<String>,
    pub codec: Option<Codec>,
    pub server: Option<String>,
    pub auth: Option<u8>,
    pub shard: Option<u16>,
}

impl OwnedOptions {
    pub fn borrow(&self) -> Options<'_> {
        Options {
            heartbeat_ms: self.heartbeat_ms,
            message_max: self.message_max,
            features: self.features,
            client_id: self.client_id.as_deref(),
            codec: self.codec,
            server: self.server.as_deref(),
            auth: self.auth,
            shard: self.shard,
        }
    }
}

pub fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::Bytes), Just(Codec::Json), Just(Codec::Protobuf)]
}

pub fn option_set() -> impl Strategy<Value = OwnedOptions> {
    use proptest::option::of;
    (
        of(any::<u32>()),
        of(1..=u32::MAX),
        of(any::<u32>()),
        of("[A-Za-z0-9_.-]{1,64}"),
        of(codec()),
        of("[a-z/0-9.ü]{0,80}"),
        of(any::<u8>()),
        of(any::<u16>()),
    )
        .prop_map(
            |(heartbeat_ms, message_max, features, client_id, codec, server, auth, shard)| {
                OwnedOptions {
                    heartbeat_ms,
                    message_max,
                    features,
                    client_id,
                    codec,
                    server,
                    auth,
                    shard,
                }
            },
        )
}

/// A header block: any subset of the known keys with values they allow, in any order,
/// among keys that are reserved or the application's own, which may repeat.
pub fn header_block() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let exact = |key: u8, count: usize| vec(any::<u8>(), count).prop_map(move |v| (key, v));
    let known = (
        exact(1, 25),
        exact(2, 4),
        exact(3, 4),
        vec(any::<u8>(), 1..=64).prop_map(|v| (4, v)),
        (0u8..=4).prop_map(|policy| (5, vec![policy])),
        vec(any::<u8>(), 0..40).prop_map(|v| (6, v)),
        "\\PC{0,20}".prop_map(|text| (7, text.into_bytes())),
        exact(8, 8),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| vec![a, b, c, d, e, f, g, h]);
    let foreign = prop_oneof![Just(0u8), 15u8..=0xFF];
    let property = ("\\PC{0,5}", "\\PC{0,5}").prop_map(|(key, value)| {
        let value = [&[key.len() as u8], key.as_bytes(), value.as_bytes()].concat();
        (14u8, value)
    });
    // START and SEQ are not everybody's to send.
    let application = prop_oneof![
        "\\PC{0,9}".prop_map(|text| vec![(11u8, text.into_bytes())]),
        "[a-z/]{1,9}".prop_map(|name| vec![(12u8, name.into_bytes())]),
        vec(any::<u8>(), 0..40).prop_map(|bytes| vec![(13u8, bytes)]),
        vec(property, 0..4),
    ];
    let unknown = vec((foreign, vec(any::<u8>(), 0..40)), 0..4);
    let unknown = (unknown, application).prop_map(|(unknown, more)| [unknown, more].concat());
    (known, unknown, 0usize..=8)
        .prop_flat_map(|(known, unknown, count)| {
            let some = proptest::sample::subsequence(known, count);
            (some, Just(unknown))
        })
        .prop_map(|(mut entries, unknown)| {
            entries.extend(unknown);
            entries
        })
        .prop_shuffle()
}

pub fn block_bytes(entries: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (key, value) in entries {
        Headers::push(&mut block, *key, value);
    }
    block
}

/// Any message: hands its parts to `Message` only while encoding, so that it can be kept.
#[derive(Clone, Debug)]
pub struct OwnedMessage {
    pub kind: MessageType,
    number: u32,
    other: u32,
    byte: u8,
    key: [u8; 16],
    text: String,
    bytes: Vec<u8>,
    more: Vec<u8>,
    codec: Codec,
    entries: Vec<(u8, Vec<u8>)>,
}

impl OwnedMessage {
    pub fn with<R>(&self, read: impl FnOnce(Message<'_>) -> R) -> R {
        let block = block_bytes(&self.entries);
        let code = Code::from_wire(self.other as u16);
        let opaque = &self.bytes[..self.bytes.len().min(64)];
        let flag = self.byte & 1 != 0;
        let message = match self.kind.class() {
            Class::Control(control) => match control {
                Control::Ping => Message::Ping(opaque),
                Control::Pong => Message::Pong(opaque),
                Control::Close => Message::Close {
                    code,
                    reason: &self.text,
                },
                Control::Error => Message::Error {
                    code,
                    id: self.number,
                    fatal: flag,
                    text: &self.text,
                },
                Control::Ok => Message::Ok { id: self.number },
                Control::Auth => Message::Auth {
                    method: self.byte,
                    credential: &self.bytes,
                },
                Control::AuthOk => Message::AuthOk {
                    expires_in_s: self.number,
                    principal: &self.text,
                    access_token: &self.bytes,
                    refresh_token: &self.more,
                },
                Control::Drain => Message::Drain {
                    deadline_ms: self.number,
                    reconnect_after_ms: self.other,
                    alternative: &self.text,
                },
                Control::Ack => Message::Ack {
                    received: self.number,
                },
                Control::Session => Message::Session {
                    key: self.key,
                    received: self.number,
                },
                Control::SessionOk => Message::SessionOk {
                    key: self.key,
                    resumed: flag,
                    last_publish_id: self.number,
                },
            },
            Class::Publication | Class::Change(_) | Class::Request | Class::Response => {
                let special = match flag {
                    true => self.kind.flags() & !FLAG_HEADERS,
                    false => 0,
                };
                let carries = if block.is_empty() { 0 } else { FLAG_HEADERS };
                let is_response = self.kind.class() == Class::Response;
                let envelope = Envelope {
                    id: self.number,
                    flags: special | carries,
                    codec: self.codec,
                    name: if is_response { "" } else { &self.text },
                    headers: Headers::check(&block).unwrap(),
                    payload: &self.bytes,
                };
                Message::Envelope(self.kind, envelope)
            }
        };
        read(message)
    }

    pub fn bytes(&self, checksum: bool) -> Vec<u8> {
        self.with(|message| encoded(&message, checksum))
    }
}

pub fn message() -> impl Strategy<Value = OwnedMessage> {
    message_of(MessageType::ALL.to_vec())
}

pub fn message_of(kinds: Vec<MessageType>) -> impl Strategy<Value = OwnedMessage> {
    (
        proptest::sample::select(kinds),
        any::<(u32, u32, u8, [u8; 16])>(),
        "\\PC{0,30}",
        vec(any::<u8>(), 0..200),
        vec(any::<u8>(), 0..20),
        codec(),
        prop_oneof![Just(Vec::new()), header_block()],
    )
        .prop_map(|(kind, numbers, text, bytes, more, codec, entries)| {
            let (number, other, byte, key) = numbers;
            OwnedMessage {
                kind,
                number,
                other,
                byte,
                key,
                text,
                bytes,
                more,
                codec,
                entries,
            }
        })
}
