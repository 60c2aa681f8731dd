//! Who subscribes, on what terms; and who of several is chosen.

use crate::base::id::{Key, ShardId};
use crate::proto::envelope::{Codec, SlowPolicy};

/// A subscriber of this shard, and on what terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub connection: Key,
    /// `None`: the server's.
    pub policy: Option<SlowPolicy>,
    /// The codec wanted; `Bytes`: as published.
    pub codec: Codec,
}

/// A shard's members of one filter or group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub total: u32,
    /// Of them, those that are not stalled.
    pub ready: u32,
}

/// The one member that gets a message or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Local(Subscription),
    /// That shard chooses (`choose_local`); `group` is its own number.
    Remote {
        shard: ShardId,
        group: Key,
    },
}
