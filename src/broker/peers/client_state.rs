//! What a connection has at the broker besides its transport: subscriptions, services, its will,
//! its pending queue, its session. It is created with the first of these, and with a session it
//! outlives the connection.

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

/// The codecs a connection is counted under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::broker) struct Wants {
    pub(in crate::broker) json: bool,
    pub(in crate::broker) protobuf: bool,
}

#[derive(Default)]
pub(crate) struct ClientState {
    pub(crate) subscriptions: Vec<Membership>,
    pub(crate) servings: Vec<Membership>,
    pub(crate) will: Option<Will>,
    /// The codecs that its subscriptions want.
    pub(in crate::broker) wants: Wants,
    /// Publications waiting for the outbox.
    pub(crate) pending: PendingQueue,
    /// Group messages that were sent to it, but may not have arrived.
    pub(crate) trail: Trail,
    /// Covers all of it: see `cost_bytes`.
    pub(crate) charge: Charge,
    /// Groups and services know it as stalled.
    pub(in crate::broker) stalled: bool,
    /// The slow-consumer policy has acted since the pending queue was last empty.
    pub(in crate::broker) told_slow: bool,
    /// Some entries of the pending queue were added for an earlier connection of the session, which
    /// may have had other rights.
    pub(in crate::broker) pending_before: bool,
    /// It serves, or has served.
    pub(in crate::broker) has_served: bool,
    /// Unanswered requests forwarded to it.
    pub(in crate::broker) forwarded_open: u32,
    /// The id of the last one.
    pub(in crate::broker) forwarded_last: LastId,
    pub(in crate::broker) durable: Option<Box<DurableSession>>,
}

/// The PUBLISH to make if the connection ends without a CLOSE.
pub(crate) struct Will {
    /// The whole message, without CRC.
    pub(in crate::broker) message: Box<[u8]>,
    /// If its topic has a schema.
    pub(in crate::broker) translation: Option<Box<Translation>>,
    /// Covers both.
    pub(crate) charge: Charge,
}

/// One SUBSCRIBE or SERVE in force, as the router knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(in crate::broker) filter: FilterId,
    /// The number of the group, or of the service's server set.
    pub(in crate::broker) number: Option<Key>,
}

/// What a session consists of: its key, and what its client has not acknowledged.
pub(crate) struct DurableSession {
    pub(in crate::broker) key: [u8; SESSION_KEY_BYTES],
    /// The session's owner: no one else can resume it.
    pub(in crate::broker) principal: Option<Box<str>>,
    pub(in crate::broker) log: ReplayLog,
    /// More waited for it than the limit allows: from then on its key counts as unknown.
    pub(in crate::broker) lapsed: bool,
    /// Which PUBLISHes were accepted: they are not delivered again.
    pub(in crate::broker) receipts: Receipts,
}

impl Will {
    /// Bytes charged for it.
    pub(in crate::broker) fn bytes(&self) -> usize {
        let translation = self.translation.as_ref();
        self.message.len() + translation.map_or(0, |one| one.payload_bytes())
    }
}

impl DurableSession {
    /// More waits than the limit allows: the session can no longer be resumed. What it keeps stays
    /// until its transport has ended, which may still send it; after that other members get it.
    pub(in crate::broker) fn lapse(&mut self) {
        self.lapsed = true;
    }
}

impl ClientState {
    /// It holds nothing worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        self.subscriptions.is_empty()
            && self.servings.is_empty()
            && self.will.is_none()
            && self.pending.is_empty()
            && self.forwarded_open == 0
            && self.durable.is_none()
    }

    /// Bytes of waiting messages it holds up, counting shared ones in full.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        let logged = self.durable.as_ref().map_or(0, |one| one.log.bytes());
        self.pending.cost_bytes() + self.trail.held_bytes() + logged
    }

    /// Bytes of memory to charge for this client state and what waits in it; shared messages carry
    /// their own charge.
    pub(crate) fn cost_bytes(&self) -> usize {
        let log = self.durable.as_ref();
        self.pending.entry_bytes()
            + self.trail.cost_bytes()
            + log.map_or(0, |durable| {
                durable.log.capacity_bytes() + durable.receipts.cost_bytes()
            })
    }
}
