//! A subscriber with its options, and the result of a choice among members.

use crate::base::id::{Key, ShardId};
use crate::proto::envelope::{Codec, SlowPolicy};

/// A subscriber of this shard, with its delivery options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub connection: Key,
    /// `None`: the server's default.
    pub policy: Option<SlowPolicy>,
    /// The codec it asked for; `Bytes`: as published.
    pub codec: Codec,
}

/// How many members of one filter or group a shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub total: u32,
    /// How many of them are not stalled.
    pub ready: u32,
}

/// The member that gets a message or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Local(Subscription),
    /// That shard chooses (`choose_local`); `group` is that shard's key.
    Remote {
        shard: ShardId,
        group: Key,
    },
}
