//! Layer 1: the wire protocol, without I/O, clocks or threads.
//!
//! Bytes and the time go in; messages, bytes to send and deadlines come out. Server and clients use
//! the same code.
//!
//! `PROTOCOL.md`, beside this file, specifies what both sides send; `tests/proto/page.rs`
//! compares its tables with the ones here. Where this crate has to choose and that page is
//! silent, the choice is added to it.
//!
//! | file | idea |
//! |---|---|
//! | `frame`, `option` | the link phase: control frames, and what SYN and SYN-ACK offer |
//! | `kind`, `message`, `body` | the table of message types; headers and bodies |
//! | `envelope`, `header` | the layout of all types from 0x10 on; the headers in it |
//! | `encoded` | a message as its bytes: how it is passed on, kept and stored |
//! | `name` | topics, filters, services |
//! | `error`, `budget` | codes, refusals; how many errors one may provoke |
//! | `session` | one end of a connection as a state machine |
//! | `reassembly`, `output` | received bytes until a message is whole; where written ones go |
//! | `trace` | the TRACEPARENT header, read and replaced |
//! | `sys` | what `$sys/time`, `$sys/info` and `$sys/stats` answer |

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::string_slice))]

mod body;
pub mod budget;
pub mod encoded;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod header;
pub mod kind;
pub mod message;
pub mod name;
pub mod option;
pub mod outcome;
pub mod output;
pub mod reassembly;
pub mod session;
pub mod sys;
pub mod trace;

/// The protocol's name in ALPN (PROTOCOL.md §4).
pub const ALPN: &[u8] = b"mcp/1";
