//! Layer 1: the wire protocol, without I/O, clocks or threads.
//!
//! Bytes and a clock value go in; messages, bytes to send and deadlines come out. The same
//! code is the server's side and the clients'.
pub mod budget;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod message;
pub mod name;
pub mod option;
pub mod output;
pub mod reassembly;
pub mod session;
