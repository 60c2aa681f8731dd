//! What a connection has at the broker beside its socket: subscriptions, services, its
//! will, what waits for it, its session. It is made with the first of these, and with a
//! session it outlives the connection.

use crate::base::id::Key;
use crate::base::limits::SESSION_KEY_BYTES;
use crate::broker::context::ledger::Charge;
use crate::broker::publish::pending::PendingQueue;
use crate::broker::publish::publication::Translation;
use crate::broker::publish::trail::Trail;
use crate::broker::request::forwarded::LastId;
use crate::broker::session::receipt::Receipts;
use crate::broker::session::replay_log::ReplayLog;
use crate::router::FilterId;

/// The codecs that a connection is counted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Wants {
    pub(in crate::broker) json: bool,
    pub(in crate::broker) protobuf: bool,
}

#[derive(Default)]
pub(crate) struct Station {
    pub(crate) subscriptions: Vec<Membership>,
    pub(crate) servings: Vec<Membership>,
    pub(crate) will: Option<Will>,
    /// What codecs its subscriptions want.
    pub(in crate::broker) wants: Wants,
    /// Publications that wait for the outbox.
    pub(crate) pending: PendingQueue,
    /// Messages of groups that have been sent to it, and perhaps not got.
    pub(crate) trail: Trail,
    /// For all of it: see `cost_bytes`.
    pub(crate) charge: Charge,
    /// Groups and services know it as stalled.
    pub(in crate::broker) stalled: bool,
    /// The slow-consumer policy has acted since the pending queue was last empty.
    pub(in crate::broker) told_slow: bool,
    /// Some of what is on the pending queue was put there for an earlier connection of the session,
    /// whose rights may have been others.
    pub(in crate::broker) pending_before: bool,
    /// It serves, or has.
    pub(in crate::broker) has_served: bool,
    /// Requests forwarded to it and not answered.
    pub(in crate::broker) forwarded_open: u32,
    /// The id of the last of those.
    pub(in crate::broker) forwarded_last: LastId,
    pub(in crate::broker) durable: Option<Box<Durable>>,
}

/// The PUBLISH to make if the connection ends without CLOSE.
pub(crate) struct Will {
    /// Whole, without CRC.
    pub(in crate::broker) message: Box<[u8]>,
    /// Where its topic has a schema.
    pub(in crate::broker) translation: Option<Box<Translation>>,
    /// For both.
    pub(crate) charge: Charge,
}

/// One SUBSCRIBE or SERVE in force, as the router knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(in crate::broker) filter: FilterId,
    /// The number of the group, or of the service's servers.
    pub(in crate::broker) number: Option<Key>,
}

/// What makes a session last: its key, and what its client has not acknowledged.
pub(crate) struct Durable {
    pub(in crate::broker) key: [u8; SESSION_KEY_BYTES],
    /// Whose it is: nobody else resumes it.
    pub(in crate::broker) principal: Option<Box<str>>,
    pub(in crate::broker) log: ReplayLog,
    /// More waits for it than may: its key is unknown from then on.
    pub(in crate::broker) lapsed: bool,
    /// Which PUBLISHes were taken: they are not delivered again.
    pub(in crate::broker) receipts: Receipts,
}

impl Will {
    /// Bytes that are charged for it.
    pub(in crate::broker) fn bytes(&self) -> usize {
        let translation = self.translation.as_ref();
        self.message.len() + translation.map_or(0, |one| one.payload_bytes())
    }
}

impl Durable {
    /// The session cannot be resumed any more: more waits for it than may. What it keeps stays
    /// until its transport is over, which may still bring it; then it is other members'.
    pub(in crate::broker) fn lapse(&mut self) {
        self.lapsed = true;
    }
}

impl Station {
    /// Nothing in it that is worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        self.subscriptions.is_empty()
            && self.servings.is_empty()
            && self.will.is_none()
            && self.pending.is_empty()
            && self.forwarded_open == 0
            && self.durable.is_none()
    }

    /// Bytes that it holds up of what waits, what it shares with others in full.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let logged = self.durable.as_ref().map_or(0, |one| one.log.bytes());
        self.pending.cost_bytes() + self.trail.held_bytes() + logged
    }

    /// Bytes of memory to be charged for what stands and waits here; messages that others may
    /// hold as well carry their own charge.
    pub(crate) fn cost_bytes(&self) -> usize {
        let log = self.durable.as_ref();
        self.pending.entry_bytes()
            + self.trail.cost_bytes()
            + log.map_or(0, |durable| {
                durable.log.capacity_bytes() + durable.receipts.cost_bytes()
            })
    }
}
