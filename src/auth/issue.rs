//! Access tokens that this server issues: HS256, short-lived, each with its own id (`jti`) by
//! which it can be revoked.
//!
//! The header names the key. The name is derived from the secret by HMAC, so that tokens signed
//! with a former secret can be told from forged ones; it reveals nothing about a strong secret.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

/// The claims of a new token. Empty ones are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewToken<'a> {
    /// A valid principal (`identity::is_principal`): otherwise no server accepts the token.
    pub subject: &'a str,
    pub roles: &'a [Box<str>],
    /// `auth.jwt.issuer` and `.audience`, if they are configured: otherwise this server
    /// would not accept it.
    pub issuer: &'a str,
    pub audience: &'a str,
    /// Unix seconds.
    pub issued_at: u64,
    pub expires: u64,
}

/// A new token. Its `Debug` shows no token.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    pub token: String,
    /// Its `jti`.
    pub token_id: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Issued");
        shown.field("token_id", &self.token_id);
        shown.finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("the system provides no random numbers: {0}; check that getrandom(2) is allowed")]
    Random(#[from] getrandom::Error),
    #[error("the token could not be signed: {0}; check auth.issuer.signing_secret")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    iss: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    aud: &'a str,
    sub: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'a [Box<str>],
}

const TOKEN_ID_BYTES: usize = 16;

/// Creates and signs a token.
///
/// # Errors
/// If random numbers or the signature cannot be made.
pub fn issue(secret: &[u8], new: NewToken<'_>) -> Result<Issued, IssueError> {
    let mut random = [0; TOKEN_ID_BYTES];
    getrandom::fill(&mut random)?;
    let token_id = URL_SAFE_NO_PAD.encode(random);
    issue_numbered(secret, new, token_id)
}

/// The same with the given id (`jti`), which no other token may have.
///
/// # Errors
/// If the signature cannot be made.
pub fn issue_numbered(
    secret: &[u8],
    new: NewToken<'_>,
    token_id: String,
) -> Result<Issued, IssueError> {
    let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some(key_id(secret));
    let body = Body {
        iss: new.issuer,
        aud: new.audience,
        sub: new.subject,
        iat: new.issued_at,
        exp: new.expires,
        jti: &token_id,
        roles: new.roles,
    };
    let token = jsonwebtoken::encode(&header, &body, &EncodingKey::from_secret(secret))?;
    Ok(Issued { token, token_id })
}

/// The name of a secret, as a token's `kid` has it.
pub fn key_id(secret: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, b"ringmail: the name of this key");
    let (name, _) = tag.as_ref().split_at(6);
    format!("ringmail-{}", URL_SAFE_NO_PAD.encode(name))
}
