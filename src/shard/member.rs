//! What a slot is at the broker, whichever transport is in it: its key, the lists of the
//! shard it is in, what it has asked, and its station. With a session it outlives its transport
//! and is there for the next one (see `resume`).
//!
//! Invariant: a flag that says "in the shard's list" is the slot's, as the lists hold keys.

use super::fanout_queue::Fanning;
use super::publication::Publication;
use super::resource::Resources;
use super::station::{Durable, Station};
use crate::base::clock::Instant;
use crate::base::id::Key;

pub(super) struct Member {
    pub(super) key: Key,
    /// Requests of this connection that are answered later.
    pub(super) calls_open: u32,
    /// Operations that wait for their OK or ERROR.
    pub(super) answers_open: u32,
    /// The number of the last publication delivered to it.
    pub(super) taken: u64,
    /// Likewise of those delivered in slices, between which others come.
    pub(super) taken_sliced: u64,
    pub(super) station: Option<Box<Station>>,
    /// Where the slot's timer stands.
    pub(super) timer: Instant,
    /// In the shard's list of connections to reconcile.
    pub(super) touched: bool,
    /// In the shard's list of connections with input left to handle.
    pub(super) ready: bool,
    /// In the shard's list of sessions that are being taken over: nothing more is read or sent.
    pub(super) yields: bool,
    /// In the shard's queue for receive buffers.
    pub(super) starved: bool,
    /// Waits for room in the mesh, or for memory, before it handles more.
    pub(super) blocked: bool,
    /// So much of what it has asked is unanswered that it handles no more until some is.
    pub(super) unanswered: bool,
    /// What it has published is being delivered to many, or it is being brought much that is
    /// retained: from the end of the turn on it handles no more until that is done.
    pub(super) fanning: Fanning,
    /// It has a session: what it is sent from type 0x10 on is counted and logged.
    pub(super) counted: bool,
    /// Publications wait on its pending queue.
    pub(super) has_pending: bool,
    /// `counted`, `has_pending` or with narrowed rights: it cannot simply be written to.
    pub(super) careful: bool,
    /// What it does goes to other shards: it waits while the mesh is pressed.
    pub(super) uses_mesh: bool,
    /// How much the connection holds, if that is much (see `pressure`).
    pub(super) weight_class: u8,
    /// It has been sent messages of groups: what the kernel takes of it is noted (`trail`).
    pub(super) trails: bool,
}

impl Member {
    pub(super) fn new(key: Key) -> Member {
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
    pub(super) fn is_owed_answers(&self) -> bool {
        self.calls_open > 0 || self.answers_open > 0
    }

    // ---- publications ----

    /// The publication has been delivered to it, or would have been.
    pub(super) fn has_taken(&self, publication: &Publication<'_>) -> bool {
        let taken = match publication.sliced {
            false => self.taken,
            true => self.taken_sliced,
        };
        taken == publication.number
    }

    #[inline]
    pub(super) fn note_taken(&mut self, publication: &Publication<'_>) {
        match publication.sliced {
            false => self.taken = publication.number,
            true => self.taken_sliced = publication.number,
        }
    }

    /// Whether its session has taken a PUBLISH of this id before.
    #[inline]
    pub(super) fn has_published(&self, id: u32) -> bool {
        // Of a session that has overflowed, too: its client may be in the midst of repeating.
        id != 0 && self.durable().is_some_and(|one| one.receipts.has(id))
    }

    /// A PUBLISH of this id is taken.
    #[inline]
    pub(super) fn take_publish(&mut self, id: u32) {
        if id != 0
            && let Some(durable) = self.durable_mut()
        {
            durable.receipts.take(id);
        }
    }

    /// A PUBLISH of this id is refused: it may come again.
    #[cold]
    pub(super) fn refuse_publish(&mut self, id: u32, resources: &mut Resources) {
        if let Some(durable) = self.durable_mut() {
            durable.receipts.refuse(id);
            self.recharge(resources);
        }
    }

    // ---- its station ----

    pub(super) fn station_mut(&mut self) -> &mut Station {
        self.station.get_or_insert_default()
    }

    pub(super) fn durable(&self) -> Option<&Durable> {
        self.station.as_ref()?.durable.as_deref()
    }

    pub(super) fn durable_mut(&mut self) -> Option<&mut Durable> {
        self.station.as_mut()?.durable.as_deref_mut()
    }

    /// Whether its session keeps a publication of so many bytes now: it keeps nothing yet, or
    /// not much. One that does not fit waits until the client acknowledges.
    #[inline]
    pub(super) fn may_log(&self, bytes: usize, resources: &Resources) -> bool {
        !self.counted
            || self.durable().is_none_or(|durable| {
                let most = resources.limits.session_buffer_bytes_max;
                durable.log.is_empty() || durable.log.bytes() + bytes <= most
            })
    }

    /// Brings what is charged for the station in line with what it holds.
    pub(super) fn recharge(&mut self, resources: &mut Resources) {
        if let Some(station) = &mut self.station {
            let cost = station.cost_bytes();
            station.charge.set(&resources.pool.ledger, cost);
        }
    }
}
