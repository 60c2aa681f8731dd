//! A session to be resumed, as a value: who asks for it, and whether it is known.

use crate::base::id::{Key, ShardId};
use crate::base::limits::SESSION_KEY_BYTES;

/// What a connection that resumes a session has asked for.
pub(crate) struct Resumption {
    pub(crate) key: [u8; SESSION_KEY_BYTES],
    pub(crate) received: u32,
    /// The shard that holds the session.
    pub(crate) home: ShardId,
    pub(crate) found: Found,
}

/// Whether the shard that holds a session to be resumed knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Unasked,
    Asked,
    Yes,
}

/// A shard's question to another about a session.
pub struct Seek {
    pub(crate) session: [u8; SESSION_KEY_BYTES],
    pub(crate) received: u32,
    pub(crate) principal: Option<Box<str>>,
    /// The shard that asks.
    pub(crate) shard: ShardId,
    pub(crate) connection: Key,
}
