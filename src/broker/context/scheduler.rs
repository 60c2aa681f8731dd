//! What each lane of a turn may do before the next one is due: one currency, and a share for
//! each lane.
//!
//! ```text
//!   turn:  input │ links: shard, shard, … │ endings │ fan-outs: own, home │ replays │ poll
//!          ─────   ──────────────────────   ───────   ───────────────────   ───────
//!          each ends with its share, or with its work; then the next lane has its own
//! ```
//!
//! Work is counted in units of about 100 ns, what one delivery takes. A lane's share is its
//! own: whatever other lanes have to do, it is not used up by them, so each that has work
//! moves in every turn. A lane without work leaves the turn shorter, and the next begins
//! sooner: that is how what it leaves goes to the others.
//!
//! The step that passes the end of a share is finished, and owed: less is left to that lane in
//! the turns that follow. So a turn is bounded by all shares and one such step of each lane,
//! however many connections there are.
//!
//! Input has a second share, of which each connection that has sent something has a little:
//! one that says little is heard beside those that fill the first. Who comes too late for both
//! is heard first in the next turn.

use crate::base::limits::{ANSWERS_OPEN_MAX, LEGACIES_PER_TURN, MESSAGES_PER_TURN};

/// What a connection may still do in a turn whose share of input is used up: it is heard, a
/// little.
pub(crate) const UNITS_BEYOND: usize = 8;
/// Nodes of the router's tries that are looked at in one unit, where they are so few that they
/// are at hand. Of very many each comes from memory, and is a unit.
const NODES_PER_UNIT: usize = 4;
const NODES_NEAR_MAX: usize = 64;

/// Whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What this shard's connections send, a unit for each message and what it makes.
    Input,
    /// Servers of requests whose names visit very many filters.
    Seek,
    /// TLS handshakes, those that have begun first.
    Handshake,
    /// What one other shard has said, of so many others, and its publications to many.
    Link { index: usize, links: usize },
    /// Deadlines of connections: heartbeats, and what has taken too long.
    Timer,
    /// Of other shards' hand-overs, workers' results and the control thread.
    Command,
    /// Connections that an operator wants to see.
    Listing,
    /// Taking connections that end out of what they are part of.
    Ending,
    /// Shutting down and closing sockets.
    Close,
    /// Wills, and what those who have gone have left to others.
    Legacy,
    /// Publications to many, of this shard's clients or of topics at home here, of so many of
    /// the two that have some.
    Fanout { index: usize, origins: usize },
    /// What is retained, for new subscriptions.
    Replay,
}

/// Completions taken in one unit, what comes of them aside.
pub(crate) const COMPLETIONS_PER_UNIT: usize = 2;
/// What it takes to end one subscription, and to tell other shards of it.
pub(in crate::broker) const UNSUBSCRIBE_UNITS: usize = 4;
/// What it takes to shut down a connection, or to close its descriptor: the kernel takes some
/// microseconds for each (12 were seen for a close on a virtual machine).
pub(crate) const CLOSE_UNITS: usize = 64;
/// What it takes to find a will, or what a gone member has left, its next receiver.
pub(in crate::broker) const LEGACY_UNITS: usize = 8;
/// What it takes to do what another shard or the control thread wants of a connection.
pub(crate) const COMMAND_UNITS: usize = 4;
/// What it takes to see to one connection whose time is up: it may send a PING.
pub(crate) const TIMER_UNITS: usize = 4;
/// What it takes to see one connection for an operator.
pub(crate) const LISTING_UNITS: usize = 2;
/// What it takes to advance a TLS handshake that has something to compute: up to a millisecond
/// (a signature with a key of 2048 bits), which everybody else on the shard waits. A turn
/// begins two of them.
pub(crate) const HANDSHAKE_UNITS: usize = 2048;
/// What it takes to see that one has not received enough to go on, as most of a flood's have
/// not.
pub(crate) const HANDSHAKE_LOOK_UNITS: usize = 64;

/// What it takes to open a TLS record, and its bytes.
pub(crate) const RECORD_UNITS: usize = 4;
pub(crate) const SEALED_BYTES_PER_UNIT: usize = 512;

impl Lane {
    /// Units in one turn.
    const fn share(self) -> usize {
        match self {
            Lane::Input => 8192,
            Lane::Seek => 2048,
            Lane::Handshake => 2 * HANDSHAKE_UNITS,
            Lane::Link { links, .. } => share_of(4096, links),
            Lane::Command => 1024,
            // Each may send a PING, which borrows a chunk until it is sent: a larger share would
            // leave thousands of chunks allocated when thousands of idle connections are due.
            Lane::Timer => 512,
            Lane::Listing => 512,
            Lane::Ending => 2048,
            Lane::Close => 2048,
            Lane::Legacy => 2048,
            Lane::Fanout { origins, .. } => share_of(2048, origins),
            Lane::Replay => 2048,
        }
    }

    /// Lanes of which there is one: the others' debts come behind theirs.
    const SINGLE: usize = 10;

    /// Whose debt it is.
    const fn account(self) -> usize {
        match self {
            Lane::Input => 0,
            Lane::Handshake => 1,
            Lane::Command => 2,
            Lane::Listing => 3,
            Lane::Ending => 4,
            Lane::Legacy => 5,
            Lane::Replay => 6,
            Lane::Seek => 7,
            Lane::Timer => 8,
            Lane::Close => 9,
            Lane::Link { index, .. } => Lane::SINGLE + 2 * index,
            Lane::Fanout { index, .. } => Lane::SINGLE + 1 + 2 * index,
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
    /// Subscribers, or groups, from which on a publication to them goes by a lane.
    pub fanout_min: usize,
    /// Retained messages looked at for a new subscription at a time, most of which may be
    /// delivered: about a tenth of a millisecond's worth.
    pub retained_looks: usize,
    /// Nodes of a trie that are looked at for a publication at a time, or groups that are
    /// chosen from: some tens of microseconds' worth. One that takes more goes by a lane.
    pub match_looks: usize,
    /// Messages of one connection in one turn.
    pub messages: u32,
    /// Answers that one connection may be waiting for; two at least.
    pub answers: u32,
    /// Messages of ended group members looked at in one turn.
    pub legacies: usize,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            percent: 100,
            fanout_min: 256,
            retained_looks: 256,
            match_looks: 512,
            messages: MESSAGES_PER_TURN,
            answers: ANSWERS_OPEN_MAX,
            legacies: LEGACIES_PER_TURN,
        }
    }
}

/// What it takes to look at so many nodes of a trie.
#[inline]
pub(in crate::broker) const fn node_units(nodes: usize) -> usize {
    match nodes {
        0..=NODES_NEAR_MAX => nodes / NODES_PER_UNIT,
        _ => nodes,
    }
}

/// Turns in which a lane waits for what it has taken in earlier ones, at most.
const OWED_SHARES_MAX: usize = 4;

/// The account of the lane whose turn it is.
pub(crate) struct Work {
    percent: usize,
    lane: Lane,
    left: usize,
    /// What is left of the second share of input.
    beyond: usize,
    spent: usize,
    /// What lanes have taken beyond their shares, by their accounts.
    owed: Vec<usize>,
}

impl Work {
    pub(crate) fn new(pace: Pace) -> Work {
        Work {
            percent: pace.percent,
            lane: Lane::Input,
            left: 0,
            beyond: 0,
            spent: 0,
            owed: Vec::new(),
        }
    }

    pub(crate) fn share(&self, lane: Lane) -> usize {
        (lane.share() * self.percent / 100).max(1)
    }

    /// This lane's turn begins.
    pub(crate) fn begin(&mut self, lane: Lane) {
        self.lane = lane;
        self.left = self.share(lane);
        self.beyond = match lane {
            Lane::Input => self.left,
            _ => 0,
        };
        if let Some(owed) = self.owed.get_mut(lane.account()) {
            let paid = self.left.min(*owed);
            (*owed, self.left) = (*owed - paid, self.left - paid);
        }
    }

    #[inline]
    pub(crate) fn spend(&mut self, units: usize) {
        self.spent = self.spent.wrapping_add(units);
        match self.left.checked_sub(units) {
            Some(left) => self.left = left,
            None => self.overspend(units),
        }
    }

    /// The share is passed.
    #[cold]
    fn overspend(&mut self, units: usize) {
        let over = units - std::mem::take(&mut self.left);
        let Some(over) = over.checked_sub(self.beyond) else {
            self.beyond -= over;
            return;
        };
        self.beyond = 0;
        let account = self.lane.account();
        if account >= self.owed.len() {
            self.owed.resize(account + 1, 0);
        }
        let most = OWED_SHARES_MAX * self.share(self.lane);
        self.owed[account] = (self.owed[account] + over).min(most);
    }

    /// So many nodes of tries were looked at.
    #[inline]
    pub(in crate::broker) fn spend_nodes(&mut self, nodes: usize) {
        self.spend(node_units(nodes));
    }

    /// The lane's share is used up.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Nobody else is heard in this turn.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.left == 0 && self.beyond == 0
    }

    /// Units spent since `before` was said by this.
    #[inline]
    pub(crate) fn spent_since(&self, before: usize) -> usize {
        self.spent.wrapping_sub(before)
    }

    #[inline]
    pub(crate) fn spent(&self) -> usize {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANES: [Lane; 12] = [
        Lane::Close,
        Lane::Input,
        Lane::Seek,
        Lane::Timer,
        Lane::Handshake,
        Lane::Command,
        Lane::Listing,
        Lane::Ending,
        Lane::Legacy,
        Lane::Replay,
        Lane::Link {
            index: 0,
            links: 1000,
        },
        Lane::Fanout {
            index: 0,
            origins: 0,
        },
    ];

    #[test]
    fn what_a_lane_takes_beyond_its_share_is_missing_to_it_in_the_turns_that_follow() {
        for lane in LANES {
            let mut work = Work::new(Pace::default());
            let share = lane.share();
            work.begin(lane);
            work.spend(share + work.beyond + share * 3 / 2);
            let mut idle = 0;
            loop {
                work.begin(lane);
                if !work.is_over() {
                    break;
                }
                idle += 1;
            }
            assert_eq!(idle, 1, "{lane:?}");
            work.spend(share / 4);
            assert!(!work.is_over(), "half of a share was still owed: {lane:?}");
            work.spend(share / 4);
            assert!(work.is_over(), "{lane:?}");
            for other in LANES.into_iter().filter(|other| *other != lane) {
                work.begin(other);
                assert_eq!(work.left, other.share(), "{other:?} owes nothing");
            }
            work.begin(lane);
            work.spend(1 << 40);
            let turns = (0..100).take_while(|_| {
                work.begin(lane);
                work.is_over()
            });
            assert_eq!(turns.count(), OWED_SHARES_MAX, "{lane:?}");
        }
    }

    #[test]
    fn a_share_is_used_up_by_its_own_lane_only() {
        let mut work = Work::new(Pace::default());
        for lane in LANES {
            work.begin(lane);
            let before = work.spent();
            work.spend(1_000_000);
            assert!(work.is_over() && work.is_closed());
            assert_eq!(work.spent_since(before), 1_000_000);
            for other in LANES.into_iter().filter(|other| *other != lane) {
                let mut work = Work {
                    owed: work.owed.clone(),
                    ..Work::new(Pace::default())
                };
                work.owed.resize(100, 0);
                work.owed[other.account()] = 0;
                work.begin(other);
                work.spend(127);
                assert!(!work.is_over(), "{other:?}");
            }
        }
    }

    /// Those that say little are heard when the share is used up, but not without end.
    #[test]
    fn input_ends_with_its_second_share() {
        let mut work = Work::new(Pace::default());
        work.begin(Lane::Input);
        work.spend(8192);
        assert!(work.is_over() && !work.is_closed());
        work.spend(8191);
        assert!(!work.is_closed());
        work.spend(1);
        assert!(work.is_closed());
    }
}
