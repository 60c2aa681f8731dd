//! A slot as the broker sees it, whichever transport is in it: its key, its flags in the shard's
//! lists, its open calls, and its client state. With a session it outlives its transport and waits
//! for the next one (see `resume`).
//!
//! Invariant: a flag for one of the shard's lists belongs to the slot, because the lists hold keys.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::context::resource::Resources;
use crate::broker::peers::client_state::{ClientState, DurableSession};
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::publication::Publication;

pub(crate) struct Member {
    pub(crate) key: Key,
    /// Requests of this connection to be answered later.
    pub(in crate::broker) calls_open: u32,
    /// Operations waiting for their OK or ERROR.
    pub(crate) answers_open: u32,
    /// The number of the last publication delivered to it.
    pub(in crate::broker) taken: u64,
    /// The same for publications delivered in slices, between which others are delivered.
    pub(in crate::broker) taken_sliced: u64,
    pub(crate) state: Option<Box<ClientState>>,
    /// The time the slot's timer is set to.
    pub(crate) timer: Instant,
    /// In the shard's list of connections to reconcile.
    pub(crate) touched: bool,
    /// In the shard's list of connections with input left to handle.
    pub(crate) ready: bool,
    /// In the shard's list of sessions being taken over: nothing more is read or sent.
    pub(crate) yields: bool,
    /// In the shard's queue for receive buffers.
    pub(crate) starved: bool,
    /// Waiting for room in the mesh, or for memory, before it handles more.
    pub(crate) blocked: bool,
    /// So many of its operations are unanswered that it handles no more until some are.
    pub(in crate::broker) unanswered: bool,
    /// Its publication is being delivered to many, or many retained messages are being delivered to
    /// it: from the end of the turn on it handles no more until that is done.
    pub(crate) fanning: Fanning,
    /// It has a session: messages to it of type 0x10 and above are counted and logged.
    pub(crate) counted: bool,
    /// Its pending queue is not empty.
    pub(crate) has_pending: bool,
    /// `counted`, `has_pending` or narrowed rights: a delivery cannot simply be written.
    pub(in crate::broker) careful: bool,
    /// Its operations go to other shards: it waits while the mesh is full.
    pub(in crate::broker) uses_mesh: bool,
    /// The class of what it holds, if that is much (see `pressure`).
    pub(in crate::broker) weight_class: u8,
    /// It has received group messages: what the kernel takes of its output is recorded (`trail`).
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
            state: None,
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

    /// Some of its requests are unanswered.
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

    /// Whether its session has accepted a PUBLISH with this id before.
    #[inline]
    pub(in crate::broker) fn has_published(&self, id: u32) -> bool {
        // Also for an overflowed session: its client may be in the middle of repeating.
        id != 0 && self.durable().is_some_and(|one| one.receipts.has(id))
    }

    /// A PUBLISH with this id is accepted.
    #[inline]
    pub(in crate::broker) fn take_publish(&mut self, id: u32) {
        if id != 0
            && let Some(durable) = self.durable_mut()
        {
            durable.receipts.take(id);
        }
    }

    /// A PUBLISH with this id is refused: it may be sent again.
    #[cold]
    pub(in crate::broker) fn refuse_publish(&mut self, id: u32, resources: &mut Resources) {
        if let Some(durable) = self.durable_mut() {
            durable.receipts.refuse(id);
            self.recharge(resources);
        }
    }

    // ---- its client state ----

    pub(in crate::broker) fn state_mut(&mut self) -> &mut ClientState {
        self.state.get_or_insert_default()
    }

    pub(crate) fn durable(&self) -> Option<&DurableSession> {
        self.state.as_ref()?.durable.as_deref()
    }

    pub(in crate::broker) fn durable_mut(&mut self) -> Option<&mut DurableSession> {
        self.state.as_mut()?.durable.as_deref_mut()
    }

    /// Whether its session keeps a publication of this size now: it keeps nothing yet, or little.
    /// One that does not fit waits until the client acknowledges.
    #[inline]
    pub(in crate::broker) fn may_log(&self, bytes: usize, resources: &Resources) -> bool {
        !self.counted
            || self.durable().is_none_or(|durable| {
                let most = resources.limits.session_buffer_bytes_max;
                durable.log.is_empty() || durable.log.bytes() + bytes <= most
            })
    }

    /// Sets the charge for the client state to what it holds.
    pub(crate) fn recharge(&mut self, resources: &mut Resources) {
        if let Some(state) = &mut self.state {
            let cost = state.cost_bytes();
            state.charge.set(&resources.pool.ledger, cost);
        }
    }
}
