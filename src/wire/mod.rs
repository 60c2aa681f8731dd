//! Layer 2: the port between a protocol and the broker. A session of any protocol takes bytes and
//! says what its client wants, an [`Operation`]; the broker has it delivered messages, answers
//! to requests, and a [`Notice`] of what became of the rest. Which bytes these are is known to
//! the session alone.
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
//! | `notice` | what it is told besides messages |
//! | `received` | the message in hand, as it came |
//! | `mcp` | MCP's session, translated |
//!
//! A message is one value on its whole way, whatever protocol its publisher speaks and its
//! subscribers do: `proto::encoded::Encoded`, which is what MCP sends. So MCP's sessions write it
//! as it is, and no message is encoded twice.
//!
//! **A protocol more** is a variant of [`Session`] and a file beside `mcp`: the compiler then
//! asks at each method of `session` what it does there.

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
