//! Access tokens: JSON Web Tokens, signed (RFC 7519, with the advice of RFC 8725).
//!
//! ```text
//!   header ──► strictly read ──► a key of that algorithm and name
//!                                     │
//!   header.payload ──► signature verified by it ──► payload ──► strictly read ──► claims
//! ```
//!
//! The signature is the business of `jsonwebtoken`; everything around it is ours, because
//! that library ignores `crit` and `typ`, takes tokens without `aud` or `iss`, and reads the
//! clock. What is verified and what is read are the same bytes.

pub use super::claims::{Claims, Requirements};
use super::denied::Denied;
use super::header::{Header, Parts, decode};
use super::keyring::Keyring;

/// A token whose signature and claims hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub claims: Claims,
    /// The name of the key that verified it; if that has none, the name the token gave.
    pub key_id: Option<Box<str>>,
}

/// Verifies a token as it stands at `now_unix`.
///
/// # Errors
/// What is wrong with it: nothing of the token is in it.
pub fn verify(
    token: &[u8],
    keyring: &Keyring,
    required: &Requirements,
    now_unix: u64,
) -> Result<Verified, Denied> {
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, keyring)?;
    let key = keyring.verify(&header, parts.signed.as_bytes(), parts.signature)?;
    let key_id = key.id.clone().or(header.key_id);
    let payload = decode(parts.payload).ok_or(Denied::NotAToken)?;
    let claims = Claims::read(&payload, required, now_unix)?;
    Ok(Verified { claims, key_id })
}
