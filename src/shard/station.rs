//! What a connection has at the broker beside its socket: subscriptions, services, its
//! will, what waits for it, its session. It is made with the first of these, and with a
//! session it outlives the connection.

use super::forwarded::LastId;
use super::ledger::Charge;
use super::pending::PendingQueue;
use super::publication::Translation;
use super::receipt::Receipts;
use super::replay_log::ReplayLog;
use super::trail::Trail;
use crate::base::id::Key;
use crate::base::limits::SESSION_KEY_BYTES;
use crate::router::FilterId;

/// The codecs that a connection is counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) json: bool,
    pub(super) protobuf: bool,
}

#[derive(Default)]
pub(super) struct Station {
    pub(super) subscriptions: Vec<Membership>,
    pub(super) servings: Vec<Membership>,
    pub(super) will: Option<Will>,
    /// What codecs its subscriptions want.
    pub(super) wants: Wants,
    /// Publications that wait for the outbox.
    pub(super) pending: PendingQueue,
    /// Messages of groups that have been sent to it, and perhaps not got.
    pub(super) trail: Trail,
    /// For all of it: see `cost_bytes`.
    pub(super) charge: Charge,
    /// Groups and services know it as stalled.
    pub(super) stalled: bool,
    /// The slow-consumer policy has acted since the pending queue was last empty.
    pub(super) told_slow: bool,
    /// Some of what is on the pending queue was put there for an earlier connection of the session,
    /// whose rights may have been others.
    pub(super) pending_before: bool,
    /// It serves, or has.
    pub(super) has_served: bool,
    /// Requests forwarded to it and not answered.
    pub(super) forwarded_open: u32,
    /// The id of the last of those.
    pub(super) forwarded_last: LastId,
    pub(super) durable: Option<Box<Durable>>,
}

/// The PUBLISH to make if the connection ends without CLOSE.
pub(super) struct Will {
    /// Whole, without CRC.
    pub(super) message: Box<[u8]>,
    /// Where its topic has a schema.
    pub(super) translation: Option<Box<Translation>>,
    /// For both.
    pub(super) charge: Charge,
}

/// One SUBSCRIBE or SERVE in force, as the router knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) filter: FilterId,
    /// The number of the group, or of the service's servers.
    pub(super) number: Option<Key>,
}

/// What makes a session last: its key, and what its client has not acknowledged.
pub(super) struct Durable {
    pub(super) key: [u8; SESSION_KEY_BYTES],
    /// Whose it is: nobody else resumes it.
    pub(super) principal: Option<Box<str>>,
    pub(super) log: ReplayLog,
    /// More waits for it than may: its key is unknown from then on.
    pub(super) lapsed: bool,
    /// Which PUBLISHes were taken: they are not delivered again.
    pub(super) receipts: Receipts,
}

impl Will {
    /// Bytes that are charged for it.
    pub(super) fn bytes(&self) -> usize {
        let translation = self.translation.as_ref();
        self.message.len() + translation.map_or(0, |one| one.payload_bytes())
    }
}

impl Durable {
    /// The session cannot be resumed any more: more waits for it than may. What it keeps stays
    /// until its transport is over, which may still bring it; then it is other members'.
    pub(super) fn lapse(&mut self) {
        self.lapsed = true;
    }
}

impl Station {
    /// Nothing in it that is worth keeping.
    pub(super) fn is_idle(&self) -> bool {
        self.subscriptions.is_empty()
            && self.servings.is_empty()
            && self.will.is_none()
            && self.pending.is_empty()
            && self.forwarded_open == 0
            && self.durable.is_none()
    }

    /// Bytes that it holds up of what waits, what it shares with others in full.
    pub(super) fn held_bytes(&self) -> usize {
        let logged = self.durable.as_ref().map_or(0, |one| one.log.bytes());
        self.pending.cost_bytes() + self.trail.held_bytes() + logged
    }

    /// Bytes of memory to be charged for what stands and waits here; messages that others may
    /// hold as well carry their own charge.
    pub(super) fn cost_bytes(&self) -> usize {
        let log = self.durable.as_ref();
        self.pending.entry_bytes()
            + self.trail.cost_bytes()
            + log.map_or(0, |durable| {
                durable.log.capacity_bytes() + durable.receipts.cost_bytes()
            })
    }
}
