//! Who may connect, who they are, what they may do, and how much they may send.
//!
//! | file | idea |
//! |---|---|
//! | `addresses` | which addresses may connect, and how often |
//! | `authentication` | AUTH: a credential makes a principal, or is refused |
//! | `authenticator` | how a shard authenticates its clients |
//! | `principal` | who a client is, and what it may do |
//! | `rate` | how much a client may send |

pub(crate) mod addresses;
pub(crate) mod authentication;
pub(crate) mod authenticator;
pub(crate) mod principal;
pub(crate) mod rate;
