//! What a slot is at the broker, whichever transport is in it: its key, the lists of the
//! shard it is in, what it has asked, and its station. With a session it outlives its transport
//! and is there for the next one (see `resume`).
//!
//! Invariant: a flag that says "in the shard's list" is the slot's, as the lists hold keys.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::context::resource::Resources;
use crate::broker::peers::station::{Durable, Station};
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::publication::Publication;

pub(crate) struct Member {
    pub(crate) key: Key,
    /// Requests of this connection that are answered later.
    pub(in crate::broker) calls_open: u32,
    /// Operations that wait for their OK or ERROR.
    pub(crate) answers_open: u32,
    /// The number of the last publication delivered to it.
    pub(in crate::broker) taken: u64,
    /// Likewise of those delivered in slices, between which others come.
    pub(in crate::broker) taken_sliced: u64,
    pub(crate) station: Option<Box<Station>>,
    /// Where the slot's timer stands.
    pub(crate) timer: Instant,
    /// In the shard's list of connections to reconcile.
    pub(crate) touched: bool,
    /// In the shard's list of connections with input left to handle.
    pub(crate) ready: bool,
    /// In the shard's list of sessions that are being taken over: nothing more is read or sent.
    pub(crate) yields: bool,
    /// In the shard's queue for receive buffers.
    pub(crate) starved: bool,
    /// Waits for room in the mesh, or for memory, before it handles more.
    pub(crate) blocked: bool,
    /// So much of what it has asked is unanswered that it handles no more until some is.
    pub(in crate::broker) unanswered: bool,
    /// What it has published is being delivered to many, or it is being brought much that is
    /// retained: from the end of the turn on it handles no more until that is done.
    pub(crate) fanning: Fanning,
    /// It has a session: what it is sent from type 0x10 on is counted and logged.
    pub(crate) counted: bool,
    /// Publications wait on its pending queue.
    pub(crate) has_pending: bool,
    /// `counted`, `has_pending` or with narrowed rights: it cannot simply be written to.
    pub(in crate::broker) careful: bool,
    /// What it does goes to other shards: it waits while the mesh is pressed.
    pub(in crate::broker) uses_mesh: bool,
    /// How much the connection holds, if that is much (see `pressure`).
    pub(in crate::broker) weight_class: u8,
    /// It has been sent messages of groups: what the kernel takes of it is noted (`trail`).
    pub(crate) trails: bool,
}

impl Member {
    pub(in crate::broker) fn new(key: Key) -> Member {
        Member {
            key,
            calls_open: 0,
            answers_open: 0,
            taken: 0,
            taken_sliced: 0,
            station: None,
            timer: Instant::NEVER,
            touched: false,
            ready: false,
            yields: false,
            starved: false,
            blocked: false,
            unanswered: false,
            fanning: Fanning::No,
            counted: false,
            has_pending: false,
            careful: false,
            uses_mesh: false,
            weight_class: 0,
            trails: false,
        }
    }

    /// Something it asked for is unanswered.
    pub(crate) fn is_owed_answers(&self) -> bool {
        self.calls_open > 0 || self.answers_open > 0
    }

    // ---- publications ----

    /// The publication has been delivered to it, or would have been.
    pub(in crate::broker) fn has_taken(&self, publication: &Publication<'_>) -> bool {
        let taken = match publication.sliced {
            false => self.taken,
            true => self.taken_sliced,
        };
        taken == publication.number
    }

    #[inline]
    pub(in crate::broker) fn note_taken(&mut self, publication: &Publication<'_>) {
        match publication.sliced {
            false => self.taken = publication.number,
            true => self.taken_sliced = publication.number,
        }
    }

    /// Whether its session has taken a PUBLISH of this id before.
    #[inline]
    pub(in crate::broker) fn has_published(&self, id: u32) -> bool {
        // Of a session that has overflowed, too: its client may be in the midst of repeating.
        id != 0 && self.durable().is_some_and(|one| one.receipts.has(id))
    }

    /// A PUBLISH of this id is taken.
    #[inline]
    pub(in crate::broker) fn take_publish(&mut self, id: u32) {
        if id != 0
            && let Some(durable) = self.durable_mut()
        {
            durable.receipts.take(id);
        }
    }

    /// A PUBLISH of this id is refused: it may come again.
    #[cold]
    pub(in crate::broker) fn refuse_publish(&mut self, id: u32, resources: &mut Resources) {
        if let Some(durable) = self.durable_mut() {
            durable.receipts.refuse(id);
            self.recharge(resources);
        }
    }

    // ---- its station ----

    pub(in crate::broker) fn station_mut(&mut self) -> &mut Station {
        self.station.get_or_insert_default()
    }

    pub(crate) fn durable(&self) -> Option<&Durable> {
        self.station.as_ref()?.durable.as_deref()
    }

    pub(in crate::broker) fn durable_mut(&mut self) -> Option<&mut Durable> {
        self.station.as_mut()?.durable.as_deref_mut()
    }

    /// Whether its session keeps a publication of so many bytes now: it keeps nothing yet, or
    /// not much. One that does not fit waits until the client acknowledges.
    #[inline]
    pub(in crate::broker) fn may_log(&self, bytes: usize, resources: &Resources) -> bool {
        !self.counted
            || self.durable().is_none_or(|durable| {
                let most = resources.limits.session_buffer_bytes_max;
                durable.log.is_empty() || durable.log.bytes() + bytes <= most
            })
    }

    /// Brings what is charged for the station in line with what it holds.
    pub(crate) fn recharge(&mut self, resources: &mut Resources) {
        if let Some(station) = &mut self.station {
            let cost = station.cost_bytes();
            station.charge.set(&resources.pool.ledger, cost);
        }
    }
}
