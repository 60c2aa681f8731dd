//! Access: who a client is, and what it may do.
//!
//! A credential goes in, a [`Grant`] or a [`Refused`] comes out: the credential is invalid, or
//! it cannot be checked now. Everything together is an [`Authority`], which is immutable: a new
//! key set or a revocation makes a new one, and the shards replace theirs.
//!
//! ```text
//!   AUTH ──► Authority::check ──┬─ token ── header, keyring, signature, claims ──┐
//!                               └─ key ──── SHA-256, compared in constant time ──┤
//!                                                                                ▼
//!   PUBLISH, SUBSCRIBE, REQUEST, SERVE ◄── Rights::may_… ◄── roles ◄── Grant, unless revoked
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `authority`, `denied` | all of it together; why a client is not admitted |
//! | `identity` | a client: principal, token, roles |
//! | `rights`, `pattern` | roles and what they permit; one filter of a role |
//! | `token`, `header`, `claims` | access tokens (JWT): verified, and read strictly |
//! | `keyring`, `jwks`, `algorithm` | the keys that verify them, from the configuration or a key set |
//! | `issue` | access tokens of this server's own |
//! | `ask` | what shards ask the control thread: pairs of tokens |
//! | `key`, `certificate` | API keys; clients' certificates |
//! | `revocation` | revoked tokens |
//! | `address`, `tally` | blocks of addresses; how often each address came and failed |
//! | `bucket` | rate limits |
//! | `json` | unambiguous JSON |
//!
//! No I/O and no clock: wall time is an argument in Unix seconds, because tokens use it; rates
//! use the monotonic clock. No `Debug`, `Display` or error contains a secret.
//!
//! What it does not do: fetch key sets, store refresh tokens, end connections. `server` and
//! `shard` do that.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::cast_possible_truncation
    )
)]

pub mod address;
pub mod ask;
pub mod authority;
pub mod bucket;
pub mod certificate;
pub mod identity;
pub mod issue;
pub mod key;
pub mod keyring;
pub mod revocation;
pub mod rights;
pub mod tally;
pub mod token;

mod algorithm;
mod claims;
mod denied;
mod header;
mod json;
mod jwks;
mod pattern;

#[cfg(test)]
mod tests;

pub use authority::{Authority, Method};
pub use denied::{Denied, Refused, Unjudged};
pub use identity::{Grant, Identity};
pub use rights::{Rights, Roles, Who};
