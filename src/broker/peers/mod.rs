//! Slots: a `Member` and its `Transport`; and the lists of connections to look at again.
//!
//! | file | idea |
//! |---|---|
//! | `connection` | a slot: methods that need both its halves |
//! | `member` | the slot as the broker sees it, whichever transport is in it |
//! | `client_state` | what a member has: subscriptions, services, will, pending queue, session |
//! | `transport` | the conversation with the current peer, and the stages of its end |
//! | `outbox` | what is queued to be sent |
//! | `lists` | connections to look at again, and when |
//! | `pause` | when a connection stops handling its input |
//! | `holders`, `pressure` | who holds most memory, and what is done about it when memory runs out |
//! | `slow` | reports of slow consumers |

pub(crate) mod client_state;
pub(crate) mod connection;
pub(crate) mod holders;
pub(crate) mod lists;
pub(crate) mod member;
pub(crate) mod outbox;
pub(crate) mod pause;
pub(crate) mod pressure;
pub(crate) mod slow;
pub(crate) mod transport;
