//! Options of SYN and SYN-ACK: `kind u8, length u8, value` (PROTOCOL.md §1).
//!
//! Both directions share one set and one parser: a kind that only the other side sends is
//! checked like any known kind, then ignored.

use super::envelope::Codec;
use super::error::Refusal;
use super::output::Output;
use crate::base::limits::CLIENT_ID_BYTES_MAX;

macro_rules! kinds {
    ($($name:ident = $kind:literal;)*) => {
        $(const $name: u8 = $kind;)*

        /// The kinds this version knows, with their names in PROTOCOL.md.
        pub const KINDS: &[(u8, &str)] = &[$(($name, stringify!($name)),)*];
    };
}

kinds! {
    HEARTBEAT_MS = 1;
    MESSAGE_MAX = 2;
    FEATURES = 3;
    CLIENT_ID = 4;
    CODEC = 5;
    SERVER = 6;
    AUTH = 7;
    SHARD = 8;
}

/// FEATURES bit 0: every message ends in a CRC.
pub const FEATURE_CHECKSUM: u32 = 1;

/// AUTH bits of a SYN-ACK: the methods the server accepts.
pub const AUTH_JWT: u8 = 1;
pub const AUTH_API_KEY: u8 = 2;
pub const AUTH_REFRESH: u8 = 4;
/// In addition: a client may continue without AUTH.
pub const AUTH_OPTIONAL: u8 = 0x80;

/// The options of a SYN or SYN-ACK, borrowed from the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// Milliseconds; `None` and 0 both leave the interval to the server.
    pub heartbeat_ms: Option<u32>,
    /// Bytes of the largest payload this side accepts.
    pub message_max: Option<u32>,
    pub features: Option<u32>,
    pub client_id: Option<&'a str>,
    pub codec: Option<Codec>,
    pub server: Option<&'a str>,
    pub auth: Option<u8>,
    pub shard: Option<u16>,
}

impl<'a> Options<'a> {
    /// Parses an option list.
    ///
    /// # Errors
    /// MALFORMED for an option past the end, a known kind twice, with a wrong length or a
    /// value out of range. Unknown kinds are skipped.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Options<'a>, Refusal> {
        let mut options = Options::default();
        while let [kind, length, rest @ ..] = bytes {
            let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
                return Err(Refusal::malformed(
                    "an option runs past the end of the frame",
                ));
            };
            options.take(*kind, value)?;
            bytes = rest;
        }
        if bytes.is_empty() {
            Ok(options)
        } else {
            Err(Refusal::malformed("an option without a length"))
        }
    }

    fn take(&mut self, kind: u8, value: &'a [u8]) -> Result<(), Refusal> {
        match kind {
            HEARTBEAT_MS => once(&mut self.heartbeat_ms, be_u32(value)),
            MESSAGE_MAX => once(
                &mut self.message_max,
                be_u32(value).filter(|&bytes| bytes > 0),
            ),
            FEATURES => once(&mut self.features, be_u32(value)),
            CLIENT_ID => once(&mut self.client_id, client_id(value)),
            CODEC => once(&mut self.codec, byte(value).and_then(Codec::from_wire)),
            SERVER => once(&mut self.server, std::str::from_utf8(value).ok()),
            AUTH => once(&mut self.auth, byte(value)),
            SHARD => once(
                &mut self.shard,
                value.try_into().ok().map(u16::from_be_bytes),
            ),
            _ => Ok(()),
        }
    }

    /// Writes the options that are present, in the order of their kinds.
    pub fn encode(&self, out: &mut impl Output) {
        let mut put = |kind: u8, value: &[u8]| {
            debug_assert!(value.len() <= usize::from(u8::MAX));
            out.put(&[kind, value.len() as u8]);
            out.put(value);
        };
        if let Some(ms) = self.heartbeat_ms {
            put(HEARTBEAT_MS, &ms.to_be_bytes());
        }
        if let Some(bytes) = self.message_max {
            put(MESSAGE_MAX, &bytes.to_be_bytes());
        }
        if let Some(bits) = self.features {
            put(FEATURES, &bits.to_be_bytes());
        }
        if let Some(id) = self.client_id {
            put(CLIENT_ID, id.as_bytes());
        }
        if let Some(codec) = self.codec {
            put(CODEC, &[codec as u8]);
        }
        if let Some(server) = self.server {
            put(SERVER, server.as_bytes());
        }
        if let Some(methods) = self.auth {
            put(AUTH, &[methods]);
        }
        if let Some(shard) = self.shard {
            put(SHARD, &shard.to_be_bytes());
        }
    }
}

/// Whether `text` may be a CLIENT_ID: 1..64 of A–Z a–z 0–9 `_` `-` `.`
pub fn is_client_id(text: &str) -> bool {
    client_id(text.as_bytes()).is_some()
}

fn once<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Refusal> {
    if place.is_some() {
        return Err(Refusal::malformed("an option appears twice"));
    }
    match value {
        Some(value) => *place = Some(value),
        None => {
            return Err(Refusal::malformed(
                "an option's length or value is out of range",
            ));
        }
    }
    Ok(())
}

fn be_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn byte(value: &[u8]) -> Option<u8> {
    match value {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn client_id(value: &[u8]) -> Option<&str> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=CLIENT_ID_BYTES_MAX).contains(&value.len()) && value.iter().all(allowed) {
        std::str::from_utf8(value).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::error::Code;

    fn refused(bytes: &[u8]) -> bool {
        Options::parse(bytes).is_err_and(|refusal| refusal.code == Code::Malformed)
    }

    #[test]
    fn each_known_kind_has_its_length_and_is_given_once() {
        let lengths = [(1, 4), (2, 4), (3, 4), (5, 1), (7, 1), (8, 2)];
        for (kind, length) in lengths {
            let option = |count: u8| {
                let mut bytes = vec![kind, count];
                bytes.extend(vec![1; usize::from(count)]);
                bytes
            };
            assert!(Options::parse(&option(length)).is_ok(), "kind {kind}");
            assert!(refused(&option(length - 1)));
            assert!(refused(&option(length + 1)));
            assert!(refused(&option(length).repeat(2)));
        }
        assert!(refused(&[6, 1, b'a', 6, 1, b'b']));
        assert!(refused(&[6, 1, 0xFF]));
    }

    #[test]
    fn values_out_of_range_are_malformed() {
        assert!(refused(&[2, 4, 0, 0, 0, 0]), "a MESSAGE_MAX of 0");
        assert!(refused(&[5, 1, 3]), "codec 3");
        assert!(refused(&[4, 0]), "an empty CLIENT_ID");
        assert!(Options::parse(&[1, 4, 0, 0, 0, 0]).is_ok(), "heartbeat 0");
    }

    #[test]
    fn a_client_id_is_1_to_64_of_its_characters() {
        assert!(is_client_id("a") && is_client_id(&"Z9_-.".repeat(12)));
        assert!(is_client_id(&"x".repeat(64)));
        assert!(!is_client_id("") && !is_client_id(&"x".repeat(65)));
        for wrong in ["a b", "a/b", "a+", "#", "ü", "a\0", "a:"] {
            assert!(!is_client_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_list_that_ends_within_an_option_is_malformed() {
        let list = [200, 2, 7, 7, 5, 1, 1];
        for count in 0..=list.len() {
            let whole = [0, 4, 7].contains(&count);
            assert_eq!(!refused(&list[..count]), whole, "{count}");
        }
    }
}
