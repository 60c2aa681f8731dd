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
//! | `protocol` | which protocols there are, and what tells them apart |
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
//! **To add a protocol**, add a variant to [`Protocol`] and to [`Session`], and a file beside `mcp`.
//! The compiler then asks for its first byte, its name in ALPN and what it is told where TLS is
//! required, and in each method of `session`. It cannot ask where MCP alone is assumed today:
//!
//! - `shard::accept` makes an MCP session before a byte has come, and may refuse in it: a session
//!   has to be undecided until then, as the stream is where it may be TLS;
//! - `shard::tls::records::decide` looks at the first byte only where TLS is configured, and nobody
//!   looks at the ALPN name that a client has chosen;
//! - [`Settings`] are MCP's (made in `server::plan`), and so are [`Step`] and [`Event`]: they become
//!   enums, or the port's own;
//! - [`Received`] holds MCP's bytes: `encoded` is where another protocol's are translated;
//! - one event is one [`Operation`];
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
mod protocol;
mod received;
mod session;

pub use crate::proto::session::{Event, Settings, Step};

pub use crate::proto::kind::Change;
pub use notice::Notice;
pub use operation::Operation;
pub use protocol::Protocol;
pub use received::Received;
pub use session::Session;
