//! Layer 4: a shard. One core, one executor, one ring, its own connections: a broker
//! ([`crate::broker`]) and the sockets that its connections go over.
//!
//! | file | idea |
//! |---|---|
//! | `turn` | the turn: what happens in which order |
//! | `state` | the shard: what it holds, and what it is made of |
//! | `accept`, `connection_counts` | new connections, refusals, handing over to an emptier shard |
//! | `stream` | a socket and what of it is in flight |
//! | `tls` | records opened and sealed: a byte transform, nothing else |
//! | `reconcile` | the driver's operations brought in line with what a connection wants |
//! | `resume` | sessions taken up again: transports that move, from slot to slot and shard to shard |
//! | `backed_up` | members of groups for whom the kernel holds much |
//! | `drain`, `draining` | ending in order, all shards together |
//! | `command` | what other threads say to a shard |
//! | `list`, `listing` | which connections there are, told some a turn; ending one |
//! | `sys` | the server's own services |
//! | `gauge`, `audit` | what is held at a moment; whether that is what is charged |
//! | `executor`, `worker` | the threads: glommio's executors, and workers for long work |
//!
//! Files import each other in no circle: values stand below `state`, which holds them; chapters
//! of what a shard does stand above.
//!
//! A shard is generic over its `Driver`, synchronous, and reads no clock: the same code
//! serves on io_uring and runs under the simulation.

mod accept;
mod audit;
mod backed_up;
mod command;
mod connection_counts;
mod drain;
mod draining;
pub mod executor;
mod gauge;
mod list;
mod listing;
mod reconcile;
mod resume;
mod state;
mod stream;
pub mod sys;
pub mod tls;
mod turn;
pub mod worker;

pub use command::{Command, Inbox, Mailbox, Moved};
pub use connection_counts::ConnectionCounts;
pub use listing::{Listing, Query, Row, Seen, Sort, State};
pub use state::{Setup, Shard, slot_bytes};
pub use turn::Turn;
