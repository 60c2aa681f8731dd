//! Who may connect, who it is, what it may do, and how much it may send.
//!
//! | file | idea |
//! |---|---|
//! | `addresses` | which addresses may come, and how often |
//! | `authentication` | AUTH: a credential becomes a principal, or is refused |
//! | `authenticator` | who tells who somebody is |
//! | `principal` | who a client is, and what that may do |
//! | `rate` | how much a client may send |

pub(crate) mod addresses;
pub(crate) mod authentication;
pub(crate) mod authenticator;
pub(crate) mod principal;
pub(crate) mod rate;
