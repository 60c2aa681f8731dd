//! `src/proto`, as far as the client stands on it.

#[path = "../../../src/proto/body.rs"]
mod body;
#[path = "../../../src/proto/budget.rs"]
pub mod budget;
#[path = "../../../src/proto/encoded.rs"]
pub mod encoded;
#[path = "../../../src/proto/envelope.rs"]
pub mod envelope;
#[path = "../../../src/proto/error.rs"]
pub mod error;
#[path = "../../../src/proto/frame.rs"]
pub mod frame;
#[path = "../../../src/proto/header.rs"]
pub mod header;
#[path = "../../../src/proto/kind.rs"]
pub mod kind;
#[path = "../../../src/proto/message.rs"]
pub mod message;
#[path = "../../../src/proto/name.rs"]
pub mod name;
#[path = "../../../src/proto/option.rs"]
pub mod option;
#[path = "../../../src/proto/outcome.rs"]
pub mod outcome;
#[path = "../../../src/proto/output.rs"]
pub mod output;
#[path = "../../../src/proto/reassembly.rs"]
pub mod reassembly;
#[path = "../../../src/proto/session/mod.rs"]
pub mod session;
#[path = "../../../src/proto/trace.rs"]
pub mod trace;
