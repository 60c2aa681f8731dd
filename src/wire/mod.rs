//! Layer 2: the port between protocols and the broker. A session of any protocol turns bytes into
//! [`Operation`]s, which say what its client wants; the broker gives it messages to deliver,
//! answers to requests, and a [`Notice`] of the outcome of everything else. Only the session knows
//! the bytes.
//!
//! ```text
//!   bytes ─► Session::take ─► Step ─► operation ─► broker ─┬─► deliver, respond ─┐
//!                                                          ├─► notify            ├─► bytes
//!                                                          └─► refuse, close ────┘
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `session` | a client's session, whichever protocol it speaks |
//! | `operation` | what a client asks for |
//! | `notice` | what a client is told besides messages and answers |
//! | `received` | the message being handled, as received |
//! | `mcp` | MCP's session, translated |
//!
//! A message has one representation all the way, whatever protocols its publisher and its
//! subscribers speak: `proto::encoded::Encoded`, which is MCP's own encoding. So MCP sessions write
//! it unchanged, and no message is encoded twice.
//!
//! **To add a protocol**, add a variant to [`Session`] and a file beside `mcp`. The compiler then
//! lists the methods of `session` that have to handle it. It cannot list these, which assume MCP
//! today:
//!
//! - `Session::accept` makes an MCP session before a byte has come: it needs a variant that has not
//!   been decided yet, as the stream has one for TLS;
//! - [`Step`] and [`Event`] are MCP's: they become enums, and `operation`, `kind` and `live_topic`
//!   match on them;
//! - [`Received`] holds MCP's bytes: `encoded` is where another protocol's are translated;
//! - `shard::tls::records::decide` tells protocols apart by the first byte, but only where TLS is
//!   configured, and never inside TLS, whose ALPN is MCP's;
//! - `Session::full` is MCP's refusal, and one event is one [`Operation`];
//! - [`Operation::Resume`] finds a session by a key that names its shard, [`Operation::Acknowledge`]
//!   counts: others find theirs by a client's id, and acknowledge one message each.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

mod mcp;
mod notice;
mod operation;
mod received;
mod session;

pub use crate::proto::session::{Event, Settings, Step};

pub use crate::proto::kind::Change;
pub use notice::Notice;
pub use operation::Operation;
pub use received::Received;
pub use session::Session;
