//! Access: who someone is, and what they may do.
//!
//! A credential goes in, a [`Grant`] or a [`Refused`] comes out: that it is not good, or that
//! this cannot be judged now. All of it together is an
//! [`Authority`], which never changes: a new key set or a revocation makes another one, and
//! the shards exchange it whole.
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
//! | `authority`, `denied` | all of it together; why someone is not let in |
//! | `identity` | who someone is: principal, token, roles |
//! | `rights`, `pattern` | roles, and what they let someone do; one filter of a role |
//! | `token`, `header`, `claims` | access tokens (JWT): verified, and read strictly |
//! | `keyring`, `jwks`, `algorithm` | the keys that verify them, from the configuration or a key set |
//! | `issue` | access tokens of this server's own |
//! | `ask` | what shards ask the control thread: pairs of tokens |
//! | `key`, `certificate` | API keys; clients' certificates |
//! | `revocation` | tokens that count no more |
//! | `address`, `tally` | blocks of addresses; how often each address came and failed |
//! | `bucket` | so many in a second |
//! | `json` | JSON without second meanings |
//!
//! No I/O and no clock: wall time is an argument in Unix seconds, because tokens speak of
//! it; rates run on the monotonic clock. Nothing secret is in any `Debug`, `Display` or error.
//!
//! What it does not do: fetch key sets, keep refresh tokens, end connections. That is the
//! business of `server` and `shard`.

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
