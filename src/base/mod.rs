//! Layer 0: plain pieces that everything else is built from. Imports no other module of this crate.

pub mod chunk;
pub mod clock;
pub mod exit;
pub mod file;
pub mod id;
pub mod limits;
pub mod page;
pub mod pem;
pub mod protobuf;
pub mod reason;
pub mod slab;
pub mod slot_set;
pub mod sync;
pub mod terminal;
pub mod top;
pub mod wake;
pub mod wheel;
