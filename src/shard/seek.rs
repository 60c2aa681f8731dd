//! A session that is to be resumed, as a value: who asks for it, and whether it is known.

use crate::base::id::{Key, ShardId};
use crate::base::limits::SESSION_KEY_BYTES;

/// What a connection that resumes a session asked for.
pub(super) struct Resumption {
    pub(super) key: [u8; SESSION_KEY_BYTES],
    pub(super) received: u32,
    /// The shard of that session.
    pub(super) home: ShardId,
    pub(super) found: Found,
}

/// Whether the shard of a session that is to be resumed knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Unasked,
    Asked,
    Yes,
}

/// What one shard asks another about a session.
pub struct Seek {
    pub(super) session: [u8; SESSION_KEY_BYTES],
    pub(super) received: u32,
    pub(super) principal: Option<Box<str>>,
    /// Who asks.
    pub(super) shard: ShardId,
    pub(super) connection: Key,
}
