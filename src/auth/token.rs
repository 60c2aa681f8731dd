//! Access tokens: JSON Web Tokens, signed (RFC 7519, with the advice of RFC 8725).
//!
//! ```text
//!   header ──► strictly read ──► a key of that algorithm and name
//!                                     │
//!   header.payload ──► signature verified by it ──► payload ──► strictly read ──► claims
//! ```
//!
//! `jsonwebtoken` verifies the signature; everything around it is ours, because that library
//! ignores `crit` and `typ`, accepts tokens without `aud` or `iss`, and reads the clock. The
//! bytes verified are the bytes parsed.

pub use super::claims::{Claims, Requirements};
use super::denied::{Denied, Refused};
use super::header::{Header, Parts, decode};
use super::keyring::Keyring;

/// A token whose signature and claims are valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub claims: Claims,
    /// The name of the key that verified it; if that has none, the name the token gave.
    pub key_id: Option<Box<str>>,
}

/// Verifies a token at `now_unix`.
///
/// # Errors
/// What is wrong with it, or that it cannot be checked yet. Contains nothing of the token.
pub fn verify(
    token: &[u8],
    keyring: &Keyring,
    required: &Requirements,
    now_unix: u64,
) -> Result<Verified, Refused> {
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, |known| keyring.accepts(known))?;
    let claims = || {
        let payload = decode(parts.payload).ok_or(Denied::NotAToken)?;
        Claims::read(&payload, required, now_unix)
    };
    match keyring.verify(&header, parts.signed.as_bytes(), parts.signature) {
        Ok(key) => Ok(Verified {
            claims: claims()?,
            key_id: key.id.clone().or(header.key_id),
        }),
        // A token that no key could make valid need not be presented again.
        Err(Refused::Unjudged(unjudged)) => {
            Err(claims().map_or_else(Refused::from, |_| unjudged.into()))
        }
        Err(denied) => Err(denied),
    }
}

/// The key name in a token, however invalid the token is; empty: none.
pub fn named_key(token: &[u8], keyring: &Keyring) -> Box<str> {
    let header = Parts::split(token)
        .and_then(|parts| Header::read(parts.header, |known| keyring.accepts(known)));
    header
        .ok()
        .and_then(|header| header.key_id)
        .unwrap_or_default()
}
