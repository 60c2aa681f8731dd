//! Layer 4: a shard. One core, one executor, one ring, its own connections: a broker
//! ([`crate::broker`]) and the sockets of its connections.
//!
//! | file | idea |
//! |---|---|
//! | `turn` | the turn: what happens in which order |
//! | `state` | the shard's state, and what it is made from |
//! | `accept`, `connection_counts` | new connections, refusals, handing over to an emptier shard |
//! | `stream` | a socket and what is in flight on it |
//! | `tls` | records opened and sealed: purely a byte transform |
//! | `reconcile` | adjusts the driver's operations to what a connection wants |
//! | `resume` | resuming sessions: transports that move between slots and shards |
//! | `backed_up` | group members for which the kernel holds much unsent data |
//! | `drain`, `draining` | orderly shutdown, all shards together |
//! | `command` | commands from other threads |
//! | `list`, `listing` | listing connections, some a turn; ending one |
//! | `sys` | the server's own services |
//! | `gauge`, `audit` | what is held at a moment; whether it matches what is charged |
//! | `executor`, `worker` | the threads: glommio's executors, and workers for long work |
//!
//! There are no import cycles: values are below `state`, which holds them; the files that implement
//! what a shard does are above it.
//!
//! A shard is generic over its `Driver`, synchronous, and reads no clock: the same code serves on
//! io_uring and runs in the simulation.

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
