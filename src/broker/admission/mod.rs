//! Who may connect, who it is, what it may do, and how much it may send.

pub(crate) mod addresses;
pub(crate) mod authentication;
pub(crate) mod authenticator;
pub(crate) mod principal;
pub(crate) mod rate;
