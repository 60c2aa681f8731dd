//! What each lane of a turn may do before the next one is due: one currency, and a share for
//! each lane.
//!
//! ```text
//!   turn:  input │ links: shard, shard, … │ endings │ fan-outs: own, shard, … │ replays │ poll
//!          ─────   ──────────────────────   ───────   ───────────────────────   ───────
//!          each ends with its share, or with its work; then the next lane has its own
//! ```
//!
//! Work is counted in units of about 100 ns, what one delivery takes. A lane's share is its
//! own: whatever other lanes have to do, it is not used up by them, so each that has work
//! moves in every turn. A lane without work leaves the turn shorter, and the next begins
//! sooner: that is how what it leaves goes to the others.
//!
//! The step that passes the end of a share is finished: a turn is bounded by all shares, one
//! such step of each lane, and `UNITS_BEYOND` for each connection that has sent something.

/// What a connection may still do in a turn whose share of input is used up: it is heard, a
/// little.
pub(super) const UNITS_BEYOND: usize = 8;
/// Nodes of the router's tries that are looked at in one unit.
const NODES_PER_UNIT: usize = 4;

/// Whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What this shard's connections send, a unit for each message and what it makes. Beyond
    /// the share each is heard for `UNITS_BEYOND`.
    Input,
    /// What one other shard has said, of so many others.
    Link { links: usize },
    /// Publications to many, of one shard out of so many that have some.
    Fanout { origins: usize },
    /// What is retained, for new subscriptions.
    Replay,
    /// Taking connections that end out of what they are part of.
    Ending,
}

/// What it takes to end one subscription, and to tell other shards of it.
pub(super) const UNSUBSCRIBE_UNITS: usize = 4;

impl Lane {
    /// Units in one turn.
    const fn share(self) -> usize {
        match self {
            Lane::Input => 8192,
            Lane::Link { links } => share_of(4096, links),
            Lane::Fanout { origins } => share_of(1024, origins),
            Lane::Replay => 512,
            Lane::Ending => 2048,
        }
    }
}

/// One of `count` shares, each enough to be worth its turn.
const fn share_of(units: usize, count: usize) -> usize {
    match units.checked_div(count) {
        Some(share) if share < 128 => 128,
        Some(share) => share,
        None => units,
    }
}

/// How large the steps are in which a shard does its work. Tests make them smaller, so that
/// more of it happens between two steps.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Shares of the lanes are these parts of a hundred.
    pub percent: usize,
    /// Subscribers from which on a publication to them goes by a lane.
    pub fanout_min: usize,
    /// Retained messages looked at for a new subscription at a time, most of which may be
    /// delivered: about a tenth of a millisecond's worth.
    pub retained_looks: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            percent: 100,
            fanout_min: 256,
            retained_looks: 256,
        }
    }
}

/// Turns in which the ends of connections wait for what earlier ones have taken, at most.
const OWED_SHARES_MAX: usize = 4;

/// The account of the lane whose turn it is.
pub(super) struct Work {
    percent: usize,
    left: usize,
    spent: usize,
    /// What the ends of connections have taken beyond their shares: of one with a thousand
    /// subscriptions, which is one step. Less is left for them in the turns that follow.
    owed: usize,
}

impl Work {
    pub(super) fn new(pace: Pace) -> Work {
        Work {
            percent: pace.percent,
            left: 0,
            spent: 0,
            owed: 0,
        }
    }

    /// This lane's turn begins.
    pub(super) fn begin(&mut self, lane: Lane) {
        self.left = (lane.share() * self.percent / 100).max(1);
    }

    /// The turn of the ends of connections begins: see `owed`.
    pub(super) fn begin_endings(&mut self) {
        self.begin(Lane::Ending);
        let paid = self.owed.min(self.left);
        (self.owed, self.left) = (self.owed - paid, self.left - paid);
    }

    /// A connection that had so many subscriptions has ended.
    pub(super) fn spend_ending(&mut self, subscriptions: usize) {
        let units = subscriptions * UNSUBSCRIBE_UNITS;
        let beyond = self.owed + units.saturating_sub(self.left);
        self.owed = beyond.min(OWED_SHARES_MAX * Lane::Ending.share());
        self.spend(units);
    }

    #[inline]
    pub(super) fn spend(&mut self, units: usize) {
        self.spent = self.spent.wrapping_add(units);
        self.left = self.left.saturating_sub(units);
    }

    /// So many nodes of tries were looked at.
    #[inline]
    pub(super) fn spend_nodes(&mut self, nodes: usize) {
        self.spend(nodes / NODES_PER_UNIT);
    }

    /// The lane's share is used up.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Units spent since `before` was said by this.
    #[inline]
    pub(super) fn spent_since(&self, before: usize) -> usize {
        self.spent.wrapping_sub(before)
    }

    #[inline]
    pub(super) fn spent(&self) -> usize {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_endings_take_beyond_their_share_is_missing_to_those_that_follow() {
        let mut work = Work::new(Pace::default());
        let share = Lane::Ending.share();
        work.begin_endings();
        work.spend_ending(share * 5 / 2 / UNSUBSCRIBE_UNITS);
        let mut idle = 0;
        loop {
            work.begin_endings();
            if !work.is_over() {
                break;
            }
            idle += 1;
        }
        assert_eq!(idle, 1);
        work.spend_ending(share / 4 / UNSUBSCRIBE_UNITS);
        assert!(!work.is_over(), "half of a share was still owed");
        work.spend_ending(share / 4 / UNSUBSCRIBE_UNITS);
        assert!(work.is_over());
    }

    #[test]
    fn a_share_is_used_up_by_its_own_lane_only() {
        let mut work = Work::new(Pace::default());
        work.begin(Lane::Input);
        let before = work.spent();
        work.spend(1_000_000);
        assert!(work.is_over());
        assert_eq!(work.spent_since(before), 1_000_000);
        for lane in [
            Lane::Link { links: 1 },
            Lane::Link { links: 1000 },
            Lane::Fanout { origins: 0 },
            Lane::Replay,
            Lane::Ending,
        ] {
            work.begin(lane);
            assert!(!work.is_over(), "{lane:?}");
            work.spend(127);
            assert!(!work.is_over(), "{lane:?}");
        }
    }
}
