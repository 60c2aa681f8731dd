//! Layer 0: plain pieces that everything else is built from. Imports nothing of ours.

pub mod clock;
pub mod exit;
pub mod id;
pub mod limits;
pub mod page;
pub mod reason;
pub mod slab;
pub mod top;
pub mod wheel;
