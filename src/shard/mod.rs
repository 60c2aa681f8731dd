//! Layer 3: a shard. One core, one executor, one ring, its own connections.
//!
//! | file | idea |
//! |---|---|
//! | `turn` | the turn: what happens in which order |
//! | `state` | the shard: what it holds, and what it is made of |
//! | `accept`, `connection_counts` | new connections, refusals, handing over to an emptier shard |
//! | `admission`, `access`, `authenticator`, `principal`, `rate` | who may come, who it is, what it may do, how much it may send |
//! | `connection`, `member`, `transport` | one connection: its slot and session, its socket and the stages to its end |
//! | `broker`, `dispatch` | received bytes become messages, a message goes to whom it is for |
//! | `publish`, `deliver`, `parcel`, `publication` | PUBLISH: from one connection to many; its bytes and itself as values |
//! | `fanout` | a publication to many, in slices |
//! | `group`, `trail` | a group's message: to which member, and whether that has got it |
//! | `legacy` | wills, and what a gone member had not got |
//! | `retain`, `home`, `replay` | each topic's last message; one order of them; much of that to one, in slices |
//! | `subscribe`, `station` | what a connection wants of the broker, and has there |
//! | `schema`, `conform`, `check`, `finding` | payloads by schema: refused, translated; long ones by a worker |
//! | `backlog` | fan-outs, replays and what the gone have left, as later turns go on with them |
//! | `forward`, `forwarded` | REQUESTs that connections answer |
//! | `durable`, `replay_log`, `resume`, `seek` | sessions: lasting, moving, taken over |
//! | `mesh`, `neighbour`, `confirm`, `confirmation` | what shards say to each other; answers that wait for all of them |
//! | `slow` | what is told of slow consumers |
//! | `reconcile` | the driver's operations brought in line with what a connection wants |
//! | `tls` | records opened and sealed: a byte transform, nothing else |
//! | `outbox`, `pool`, `ledger` | what goes out, the memory for it, and what all memory is charged to |
//! | `holders`, `pressure` | who holds most of it, and what becomes of that when there is too much |
//! | `pending` | what waits for a slow subscriber, and what is dropped then |
//! | `replay_log` | what a session's client has not acknowledged |
//! | `receipt` | which of a session's PUBLISHes were taken |
//! | `service`, `call`, `sys` | who answers requests, now or later |
//! | `sample`, `gauge`, `entropy` | where a message's time goes; what is held at a moment; random numbers |
//! | `trace`, `arrival` | what is sampled; spans of it |
//! | `drain`, `draining`, `accord` | ending in order, all shards together |
//! | `command`, `mailbox` | what other threads say to a shard, and how |
//! | `list`, `listing` | which connections there are, told some a turn; ending one |
//! | `executor`, `worker` | the threads: glommio's executors, and workers for long work |
//!
//! Files import each other in no circle: values and what they can by themselves stand below
//! `broker` and `state`, which hold them; chapters of what those two do stand above.
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
