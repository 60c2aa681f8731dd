//! A token's parts and its header: parsed strictly, before any cryptography.
//!
//! A header that would make the server use another key than its own (`jku`, `jwk`, `x5u`,
//! `x5c`), or that relies on something unsupported (`crit`, `b64`, `zip`, a nested token), is
//! refused. Other members are ignored, as RFC 7515 §4 requires.

use super::algorithm::Algorithm;
use super::denied::Denied;
use super::json;
use crate::base::limits::{KEY_ID_BYTES_MAX, TOKEN_BYTES_MAX};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// `header.payload.signature`, each base64url.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) header: &'a str,
    pub(super) payload: &'a str,
    pub(super) signature: &'a str,
    /// The signed part: `header.payload`.
    pub(super) signed: &'a str,
}

/// The members of a header that the server uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Box<str>>,
}

impl<'a> Parts<'a> {
    /// # Errors
    /// More than 8 KiB, or not three parts of base64url.
    pub(super) fn split(token: &'a [u8]) -> Result<Parts<'a>, Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::TooLarge);
        }
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let token = std::str::from_utf8(token).map_err(|_| Denied::NotAToken)?;
        let (signed, signature) = token.rsplit_once('.').ok_or(Denied::NotAToken)?;
        let (header, payload) = signed.split_once('.').ok_or(Denied::NotAToken)?;
        let parts = [header, payload, signature];
        let whole = parts.iter().all(|part| !part.is_empty()) && !payload.contains('.');
        if !whole || !token.as_bytes().iter().all(known) {
            return Err(Denied::NotAToken);
        }
        Ok(Parts {
            header,
            payload,
            signature,
            signed,
        })
    }
}

/// Decodes a part. A form with non-zero trailing bits, which no encoder produces, is refused.
pub(super) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

const REFUSED: [(&str, &str); 8] = [
    ("crit", "has crit, and extensions are not supported"),
    ("b64", "has b64, which is not supported"),
    ("zip", "has zip, but signed tokens are never compressed"),
    ("jku", "carries its own keys (jku), which are never trusted"),
    ("jwk", "carries its own key (jwk), which is never trusted"),
    ("x5u", "carries its own keys (x5u), which are never trusted"),
    ("x5c", "carries its own keys (x5c), which are never trusted"),
    ("cty", "says that it wraps another token (cty)"),
];

/// Media types of an access token (RFC 7519 §5.1, RFC 9068 §4), without regard to case.
const MEDIA: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

impl Header {
    /// # Errors
    /// What is wrong with it, or an algorithm that is not accepted.
    pub(super) fn read(
        encoded: &str,
        accepts: impl Fn(Algorithm) -> bool,
    ) -> Result<Header, Denied> {
        let bytes = decode(encoded).ok_or(Denied::NotAToken)?;
        let unreadable = "is not a JSON object with unique keys";
        let members = json::parse(&bytes).map_err(|_| Denied::Header(unreadable))?;
        for (name, fault) in REFUSED {
            if members.contains_key(name) {
                return Err(Denied::Header(fault));
            }
        }
        match members.get("typ") {
            None => {}
            Some(Value::String(text)) if MEDIA.iter().any(|m| text.eq_ignore_ascii_case(m)) => {}
            Some(_) => return Err(Denied::Header("has a typ other than JWT and at+jwt")),
        }
        let key_id = match members.get("kid") {
            None => None,
            Some(Value::String(text)) if text.len() <= KEY_ID_BYTES_MAX => Some(text.as_str()),
            Some(_) => {
                return Err(Denied::Header(
                    "has a kid that is not a string of at most 256 \
                                                  bytes",
                ));
            }
        };
        let Some(Value::String(name)) = members.get("alg") else {
            return Err(Denied::Header("has no alg"));
        };
        let algorithm = Algorithm::from_name(name).filter(|known| accepts(*known));
        Ok(Header {
            algorithm: algorithm.ok_or(Denied::Algorithm)?,
            key_id: key_id.map(Into::into),
        })
    }
}
