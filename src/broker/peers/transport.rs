//! The transport of a connection: the conversation with its client, which moves to another slot or
//! another shard when a session is resumed. The `Member` stays in the slot. The byte stream that
//! the conversation goes over is the shard's (`shard::stream`), and moves with it.
//!
//! ```text
//!   Running ──end(reason)──► Flushing ──all sent──► Lingering ──peer's FIN, 1 s──► Closing ──► slot freed
//!      │                        │ peer's FIN came already, or 1 s without progress     ▲   └──► Detached
//!      └──reset─────────────────┴───────────────────────────────────────────────────────┘   (a session waits)
//! ```
//!
//! A detached transport has no stream any more. It stays until another takes its place, because the
//! session continues with what its client last negotiated: the codec, the largest message, and its
//! identity.
//!
//! Nothing here touches the driver: methods change what the connection wants, and once a turn
//! `shard::reconcile` adjusts the driver's operations to match.
//!
//! Invariants: the first reason given is the one counted; a transport moves only when neither a
//! receive nor a send is in flight, because the driver knows them by the slot's key; nothing in it
//! depends on its slot.

use crate::base::clock::Instant;
use crate::base::limits::{CHUNK_BYTES, LINGER_MS};
use crate::base::reason::Reason;
use crate::broker::admission::principal::{Bearer, Principal};
use crate::broker::context::pool::Pool;
use crate::broker::context::resource::Resources;
use crate::broker::peers::outbox::{Outbox, Writer};
use crate::broker::publish::parcel::Parcel;
use crate::broker::session::seek::Resumption;
use crate::proto::error::{Code, Refusal};
use crate::proto::reassembly::Reassembly;
use crate::wire::{Notice, Session, Step};
use std::time::Duration;

/// Bytes of unhandled input at which a connection stops receiving.
pub(in crate::broker) const INPUT_BYTES_MAX: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Running,
    /// Ending: what is queued is still sent, input is dropped.
    Flushing,
    /// Our sending side is shut down; input is dropped until the peer's FIN.
    Lingering,
    /// Ended: waiting only for the driver's last completions.
    Closing,
    /// No stream any more; its session waits in the slot for another transport.
    Detached,
}

pub(crate) struct Transport {
    pub(crate) session: Session,
    pub(crate) outbox: Outbox,
    /// Who its peer is and what it may do; `None` if nothing is authenticated or counted.
    pub(crate) principal: Option<Box<Principal>>,
    pub(crate) stage: Stage,
    /// A send is in flight.
    pub(crate) sending: bool,
    /// Waiting for its outbox to drain before it handles more input.
    pub(crate) stalled: bool,
    /// Its principal waits: for the issuer, for a worker, or because it exceeded its rate.
    pub(crate) held: bool,
    /// It is ending, and its session already waits for another transport.
    pub(crate) has_left: bool,
    /// Set while it moves to the session it resumes.
    pub(crate) moving: Option<Box<Resumption>>,
    /// The peer has shut its sending side down.
    pub(crate) peer_ended: bool,
    pub(in crate::broker) established: bool,
    pub(crate) reason: Option<Reason>,
    pub(in crate::broker) input: Reassembly,
    /// The deadline of the current stage, unless `Running`.
    pub(crate) stage_deadline: Instant,
    pub(crate) opened: Instant,
}

impl Transport {
    /// How long flushing may make no progress, and how long lingering lasts at most.
    pub(crate) const STAGE_TIME: Duration = Duration::from_millis(LINGER_MS);

    pub(crate) fn new(session: Session, now: Instant) -> Transport {
        Transport {
            session,
            outbox: Outbox::default(),
            principal: None,
            stage: Stage::Running,
            sending: false,
            stalled: false,
            held: false,
            has_left: false,
            moving: None,
            peer_ended: false,
            established: false,
            reason: None,
            input: Reassembly::default(),
            stage_deadline: Instant::NEVER,
            opened: now,
        }
    }

    /// It was a session's, whose client did not come back in time.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        self.stage == Stage::Detached && self.stage_deadline <= now
    }

    // ---- who the peer is ----

    pub(crate) fn principal_mut(&mut self) -> &mut Principal {
        self.principal.get_or_insert_default()
    }

    /// Whose rights are checked.
    #[inline]
    pub(in crate::broker) fn bearer(&self) -> Bearer<'_> {
        Bearer {
            credential: self
                .principal
                .as_ref()
                .and_then(|principal| principal.credential.as_ref()),
            session: &self.session,
        }
    }

    /// The principal its credential names.
    pub(crate) fn principal_name(&self) -> Option<&str> {
        let credential = self.principal.as_ref()?.credential.as_ref()?;
        Some(&credential.identity.principal)
    }

    // ---- input ----

    /// Lets the session handle the first of the received bytes.
    #[inline]
    pub(in crate::broker) fn handle<'a>(
        &mut self,
        bytes: &'a [u8],
        resources: &mut Resources,
    ) -> Step<'a> {
        let (session, mut out) = self.session_and_out(&mut resources.pool);
        session.take(bytes, resources.now, &mut out)
    }

    /// Whether it has input to handle.
    pub(in crate::broker) fn has_input(&self) -> bool {
        self.stage == Stage::Running && (!self.input.is_empty() || self.peer_ended)
    }

    /// Keeps bytes for later. One turn may receive megabytes from a connection that has to wait (a
    /// receive is cancelled only between turns). If memory is exhausted, that is too much for one
    /// that does not read its own output meanwhile.
    pub(in crate::broker) fn keep(&mut self, bytes: &[u8], resources: &mut Resources) {
        if bytes.is_empty() {
            return;
        }
        if self.input.len() > INPUT_BYTES_MAX
            && self.outbox.queued_bytes() >= CHUNK_BYTES
            && resources.pool.is_exhausted()
        {
            let text = "this shard's memory is used up, and you send without reading";
            return self.overload(text, resources);
        }
        let mut input = std::mem::take(&mut self.input);
        Self::lend_input(&mut input, bytes, resources);
        input.keep(bytes);
        self.input = input;
        self.account_input(resources);
    }

    /// Lends a buffer for reassembly, if bytes are about to be kept and there is none.
    pub(in crate::broker) fn lend_input(
        input: &mut Reassembly,
        bytes: &[u8],
        resources: &mut Resources,
    ) {
        if input.charged() == 0 && !bytes.is_empty() {
            let chunk = resources.pool.take();
            input.note_charged(chunk.capacity());
            *input.buffer_mut() = chunk;
        }
    }

    /// Charges the growth of the reassembly buffer, or gives the buffer back if it is empty.
    #[inline]
    pub(in crate::broker) fn account_input(&mut self, resources: &mut Resources) {
        if self.input.charged() == 0 {
            return;
        }
        let capacity = self.input.capacity();
        resources.pool.count(self.input.charged(), capacity);
        self.input.note_charged(capacity);
        if self.input.is_empty() {
            resources.pool.give(std::mem::take(self.input.buffer_mut()));
            self.input.note_charged(0);
        }
    }

    pub(crate) fn drop_input(&mut self, resources: &mut Resources) {
        self.input.clear();
        self.account_input(resources);
    }

    // ---- output ----

    /// The session, and the outbox it writes to.
    #[inline]
    pub(in crate::broker) fn session_and_out<'a>(
        &'a mut self,
        pool: &'a mut Pool,
    ) -> (&'a mut Session, Writer<'a>) {
        let outbox = &mut self.outbox;
        (&mut self.session, Writer { outbox, pool })
    }

    /// Whether the outbox takes a publication of this size now: it is empty, or holds little.
    #[inline]
    pub(in crate::broker) fn has_room(&self, bytes: usize, resources: &Resources) -> bool {
        let queued = self.outbox.queued_bytes();
        queued == 0 || queued + bytes <= resources.direct_bytes_max()
    }

    /// Whether the peer accepts a message of this size, including the header. A CRC that may be
    /// added does not count.
    #[inline]
    pub(in crate::broker) fn takes(&self, bytes: usize) -> bool {
        bytes <= self.session.whole_bytes_max()
    }

    /// Writes another connection's message, under another id if one is given.
    #[inline]
    pub(in crate::broker) fn write(
        &mut self,
        parcel: &mut Parcel<'_>,
        id: Option<u32>,
        resources: &mut Resources,
    ) {
        if id.is_none() && parcel.is_large() && self.session.delivers_as_it_is() {
            self.session.note_delivered();
            let message = parcel.share(&resources.pool.ledger);
            return self.outbox.push_shared(message, &mut resources.pool);
        }
        let (session, mut out) = self.session_and_out(&mut resources.pool);
        session.deliver(parcel.message(), id, &mut out);
    }

    /// Sends the client a notice that does not end the connection.
    pub(crate) fn notify(&mut self, notice: Notice<'_>, resources: &mut Resources) {
        let (session, mut out) = self.session_and_out(&mut resources.pool);
        let ended = session.notify(notice, resources.now, &mut out);
        debug_assert!(ended.is_none(), "only a refusal can be one too many");
    }

    /// Answers the peer's CLOSE: all its requests are answered.
    pub(in crate::broker) fn finish(&mut self, resources: &mut Resources) {
        let (session, mut out) = self.session_and_out(&mut resources.pool);
        session.finish(&mut out);
    }

    // ---- time ----

    /// Handles a passed deadline. `is_read`: the connection was being read from.
    pub(crate) fn take_timeout(&mut self, is_read: bool, resources: &mut Resources) {
        self.outbox.shrink();
        match self.stage {
            Stage::Running => {
                if !is_read {
                    // The rest of a message cannot arrive.
                    self.session.restart_frame_clock(resources.now);
                }
                let principal = self.principal.as_ref();
                if principal.is_some_and(|principal| principal.has_expired(resources.now)) {
                    let text = "your credential has expired: send AUTH again before it does";
                    return self.cut_off(Code::AuthExpired, text, resources);
                }
                let (session, mut out) = self.session_and_out(&mut resources.pool);
                if let Some(reason) = session.take_timeout(resources.now, &mut out) {
                    self.end(reason, resources);
                }
            }
            Stage::Flushing | Stage::Lingering if self.stage_deadline <= resources.now => {
                self.stage = Stage::Closing;
            }
            _ => {}
        }
    }

    /// When `take_timeout` is due next.
    pub(crate) fn deadline(&self) -> Instant {
        match self.stage {
            Stage::Running => {
                let principal = self.principal.as_ref();
                let own = principal.map_or(Instant::NEVER, |principal| principal.deadline());
                self.session.timeout().min(own)
            }
            Stage::Flushing | Stage::Lingering | Stage::Detached => self.stage_deadline,
            Stage::Closing => Instant::NEVER,
        }
    }

    /// Whether the deadline may have moved to before the time the timer is set to.
    #[inline]
    pub(crate) fn may_be_due_earlier(&self) -> bool {
        self.stage != Stage::Running || self.session.is_mid_message()
    }

    // ---- its end ----

    /// Ends the connection because of something the peer did.
    pub(in crate::broker) fn refuse(
        &mut self,
        code: Code,
        text: &'static str,
        resources: &mut Resources,
    ) {
        self.refuse_with(&Refusal::new(code, text), resources);
    }

    pub(crate) fn refuse_with(&mut self, refusal: &Refusal, resources: &mut Resources) {
        let (session, mut out) = self.session_and_out(&mut resources.pool);
        if let Some(reason) = session.refuse(refusal, &mut out) {
            self.end(reason, resources);
        }
    }

    /// Ends a connection whose credential is no longer valid: what is queued is not sent. The peer
    /// gets the reason, unless the connection is in the middle of a message, which happens only if
    /// the peer does not keep up: then nothing can be written, and the send in flight is aborted
    /// too.
    pub(in crate::broker) fn cut_off(
        &mut self,
        code: Code,
        text: &'static str,
        resources: &mut Resources,
    ) {
        let between_messages = self.outbox.cut(&mut resources.pool);
        self.refuse(code, text, resources);
        if !between_messages && let Some(reason) = self.reason {
            self.abort(reason, resources);
        }
    }

    /// Ends the connection in order, with a CLOSE (an RST before it is established).
    pub(crate) fn close(
        &mut self,
        code: Code,
        text: &'static str,
        reason: Reason,
        resources: &mut Resources,
    ) {
        let (session, mut out) = self.session_and_out(&mut resources.pool);
        session.close(code, text, &mut out);
        self.end(reason, resources);
    }

    /// The server has no room for what the peer wants, whoever occupies it.
    pub(in crate::broker) fn overload(&mut self, text: &'static str, resources: &mut Resources) {
        self.close(Code::Overloaded, text, Reason::Overloaded, resources);
    }

    /// Begins the end: flush, shut down, linger, close.
    pub(crate) fn end(&mut self, reason: Reason, resources: &mut Resources) {
        self.reason.get_or_insert(reason);
        if self.stage == Stage::Running {
            self.stage = Stage::Flushing;
            // It no longer moves; its last message is sent from here.
            self.moving = None;
            self.stage_deadline = resources.now + Transport::STAGE_TIME;
        }
        self.drop_input(resources);
    }

    /// The connection is broken: nothing can be sent any more.
    pub(crate) fn abort(&mut self, reason: Reason, resources: &mut Resources) {
        self.reason.get_or_insert(reason);
        self.stage = Stage::Closing;
        self.drop_input(resources);
    }

    /// Bytes the pool counts for it, except what is in flight.
    pub(crate) fn held_bytes(&self) -> usize {
        self.input.charged() + self.outbox.held_bytes()
    }
}
