//! The headers of an envelope that the protocol knows (PROTOCOL.md §2), in one table: what a value
//! has to be, which headers may repeat, and which a client may send only on some types.
//!
//! All other keys below 0x40 belong to later versions, those from 0x40 on to the application: their
//! headers are not interpreted, and may repeat.

use super::kind::MessageType;
use super::name::check_topic;
use crate::base::limits::GROUP_BYTES_MAX;

macro_rules! keys {
    ($($name:ident = $key:literal;)*) => {
        $(pub const $name: u8 = $key;)*

        /// Keys of the headers the protocol knows, with their names in PROTOCOL.md.
        pub const KEYS: &[(u8, &str)] = &[$(($name, stringify!($name)),)*];
    };
}

keys! {
    TRACEPARENT = 1;
    TIMEOUT_MS = 2;
    EXPIRES_MS = 3;
    GROUP = 4;
    SLOW_POLICY = 5;
    KEY = 6;
    SCHEMA = 7;
    TIMESTAMP_NS = 8;
    START = 9;
    SEQ = 10;
    CONTENT_TYPE = 11;
    REPLY_TO = 12;
    CORRELATION = 13;
    PROPERTY = 14;
}

/// Keys from here on are the application's own.
pub const APPLICATION: u8 = 0x40;

/// What is known of one header.
struct Known {
    key: u8,
    /// Whether this may be its value.
    allows: fn(&[u8]) -> bool,
    may_repeat: bool,
    /// The types on which a client may send it; `None`: any type; where it has no meaning it is
    /// passed on.
    client_sends_on: Option<&'static [MessageType]>,
}

const fn known(key: u8, allows: fn(&[u8]) -> bool) -> Known {
    Known {
        key,
        allows,
        may_repeat: false,
        client_sends_on: None,
    }
}

static TABLE: [Known; KEYS.len()] = [
    known(TRACEPARENT, |value| value.len() == 25),
    known(TIMEOUT_MS, |value| value.len() == 4),
    known(EXPIRES_MS, |value| value.len() == 4),
    known(GROUP, |value| (1..=GROUP_BYTES_MAX).contains(&value.len())),
    known(SLOW_POLICY, |value| matches!(value, [0..=4])),
    known(KEY, |_| true),
    known(SCHEMA, is_text),
    known(TIMESTAMP_NS, |value| value.len() == 8),
    Known {
        client_sends_on: Some(&[MessageType::Subscribe]),
        ..known(START, is_start)
    },
    Known {
        client_sends_on: Some(&[]),
        ..known(SEQ, |value| value.len() == 8)
    },
    known(CONTENT_TYPE, is_text),
    known(REPLY_TO, |value| {
        std::str::from_utf8(value).is_ok_and(|name| check_topic(name).is_ok())
    }),
    known(CORRELATION, |_| true),
    Known {
        may_repeat: true,
        ..known(PROPERTY, is_property)
    },
];

// A key is its index in the table.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const _: () = {
    let mut index = 0;
    while index < TABLE.len() {
        assert!(TABLE[index].key as usize == index + 1);
        assert!(KEYS[index].0 == TABLE[index].key);
        index += 1;
    }
};

fn find(key: u8) -> Option<&'static Known> {
    TABLE.get(usize::from(key).checked_sub(1)?)
}

/// Whether a header may have this value.
pub(super) fn allows(key: u8, value: &[u8]) -> bool {
    find(key).is_none_or(|known| (known.allows)(value))
}

/// Whether it may be given more than once.
pub(super) fn may_repeat(key: u8) -> bool {
    find(key).is_none_or(|known| known.may_repeat)
}

/// Whether a client may send it on a message of this type.
pub(super) fn client_sends(key: u8, kind: MessageType) -> bool {
    let only = find(key).and_then(|known| known.client_sends_on);
    only.is_none_or(|kinds| kinds.contains(&kind))
}

fn is_text(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok()
}

/// Whether this is a valid START: a kind and its value (everything stored, from a number, from a
/// time, the last n).
fn is_start(value: &[u8]) -> bool {
    let length = match value.first() {
        Some(1) => 0,
        Some(2 | 3) => 8,
        Some(4) => 4,
        _ => return false,
    };
    value.len() == 1 + length
}

/// Whether this is a valid property: a length, a key of that length, and a value.
fn is_property(value: &[u8]) -> bool {
    let Some((length, rest)) = value.split_first() else {
        return false;
    };
    let parts = rest.split_at_checked(usize::from(*length));
    parts.is_some_and(|(key, value)| is_text(key) && is_text(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_the_table_says() {
        type Values<'a> = &'a [&'a [u8]];
        let rows: &[(u8, Values<'_>, Values<'_>)] = &[
            (TRACEPARENT, &[&[0; 25]], &[&[0; 24], &[0; 26], b""]),
            (TIMEOUT_MS, &[&[0; 4]], &[&[0; 3], &[0; 5]]),
            (EXPIRES_MS, &[&[0; 4]], &[&[0; 3], &[0; 5]]),
            (GROUP, &[b"g", &[0xFF; 64]], &[b"", &[b'g'; 65]]),
            (SLOW_POLICY, &[&[0], &[4]], &[&[5], b"", &[0, 0]]),
            (KEY, &[b"", &[0xFF; 300]], &[]),
            (SCHEMA, &[b"", "ü".as_bytes()], &[b"\xFF"]),
            (TIMESTAMP_NS, &[&[0; 8]], &[&[0; 7], &[0; 9]]),
            (
                START,
                &[&[1], &[2; 9], b"\x03\0\0\0\0\0\0\0\0", &[4; 5]],
                &[
                    b"",
                    &[0],
                    &[1, 1],
                    &[2; 8],
                    &[2; 10],
                    &[3; 5],
                    &[4; 4],
                    &[4; 9],
                    &[5],
                ],
            ),
            (SEQ, &[&[0; 8]], &[b"", &[0; 7], &[0; 9]]),
            (CONTENT_TYPE, &[b"", b"text/plain"], &[b"\xFF"]),
            (
                REPLY_TO,
                &[b"a", b"a//b", b"/", b"$svc/x"],
                &[b"", b"a/+", b"#", b"a\0", b"\xFF", &[b'a'; 256]],
            ),
            (CORRELATION, &[b"", &[0xFF; 300]], &[]),
            (
                PROPERTY,
                &[b"\0", b"\x01kv", b"\x01k", b"\0v", "\x02ü".as_bytes()],
                &[b"", b"\x01", b"\x02k", b"\x01\xFFv", b"\x01k\xFF"],
            ),
            (0, &[b"", b"x"], &[]),
            (15, &[b"", b"x"], &[]),
            (0x40, &[b"", b"x"], &[]),
        ];
        for &(key, right, wrong) in rows {
            assert!(right.iter().all(|value| allows(key, value)), "{key}");
            for value in wrong {
                assert!(!allows(key, value), "{key}: {value:?}");
            }
        }
    }

    #[test]
    fn start_and_seq_are_refused_from_a_client_where_they_mean_nothing() {
        for &kind in MessageType::ALL {
            assert_eq!(client_sends(START, kind), kind == MessageType::Subscribe);
            assert!(!client_sends(SEQ, kind));
            let others = (0..=u8::MAX).filter(|key| ![START, SEQ].contains(key));
            assert!(others.into_iter().all(|key| client_sends(key, kind)));
        }
    }
}
