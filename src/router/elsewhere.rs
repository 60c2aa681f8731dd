//! What a match says of the other shards: which of them get a message, and about how much that
//! makes there. Each shard holds the whole interest map, so it knows this without asking.

use super::shard_set::ShardSet;
use crate::base::id::ShardId;

/// Which other shards get a message, and what that makes them do.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Those with subscribers. Not those that have only members of groups.
    pub shards: ShardSet,
    /// Nodes of their tries that they look at: as many as were looked at in this one.
    pub nodes: usize,
    /// Filters that match of which some of them have subscribers.
    pub(super) filters: usize,
    /// Where there are many of one filter, about how many.
    pub(super) crowds: Vec<(ShardId, u32)>,
}

impl Elsewhere {
    pub const fn new() -> Elsewhere {
        Elsewhere {
            shards: ShardSet::new(),
            nodes: 0,
            filters: 0,
            crowds: Vec::new(),
        }
    }

    /// About how many subscribers a shard has, if it has some.
    #[inline]
    pub fn subscribers_at(&self, shard: ShardId) -> usize {
        let here = self.crowds.iter().filter(|one| one.0 == shard);
        here.fold(self.filters, |sum, one| sum + one.1 as usize)
    }

    pub(super) fn clear(&mut self) {
        self.shards.clear();
        self.crowds.clear();
        (self.nodes, self.filters) = (0, 0);
    }
}
