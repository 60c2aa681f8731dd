//! Slots: a `Member` and the `Transport` in it; and the lists of whom to look at again.

pub(crate) mod connection;
pub(crate) mod holders;
pub(crate) mod lists;
pub(crate) mod member;
pub(crate) mod outbox;
pub(crate) mod pause;
pub(crate) mod pressure;
pub(crate) mod slow;
pub(crate) mod station;
pub(crate) mod transport;
