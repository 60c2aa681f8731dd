//! Slots: a `Member` and the `Transport` in it; and the lists of whom to look at again.
//!
//! | file | idea |
//! |---|---|
//! | `connection` | a slot: what takes both its halves |
//! | `member` | what the slot is to the broker, whichever transport is in it |
//! | `station` | what a member has: subscriptions, services, will, pending queue, session |
//! | `transport` | the conversation with who is there now, and the stages to its end |
//! | `outbox` | what goes out |
//! | `lists` | whom to look at again, and when |
//! | `pause` | when a connection handles no more of what it has sent |
//! | `holders`, `pressure` | who holds most memory, and what becomes of that when there is too much |
//! | `slow` | what is told of slow consumers |

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
