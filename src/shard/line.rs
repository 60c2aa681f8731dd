//! The sending half of a connection: its session, what waits to go out, and its station.

use super::guest::{Bearer, Guest};
use super::outbox::{Outbox, Writer};
use super::parcel::{Parcel, SHARED_BYTES_MIN};
use super::resource::Resources;
use super::station::{Durable, Station};
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES};
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Codec, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::{Message, encode_response};
use crate::proto::outcome::Failure;
use crate::proto::session::{Session, Step};
use bytes::Bytes;

/// Bytes of a RESPONSE without CRC beside the application's payload.
const RESPONSE_BYTES_BESIDE_PAYLOAD: usize = MESSAGE_HEADER_BYTES + ENVELOPE_FIXED_BYTES;

pub(super) struct Line {
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    /// Requests of this connection that are answered later.
    pub(super) calls_open: u32,
    /// Operations that wait for their OK or ERROR.
    pub(super) answers_open: u32,
    /// The number of the last publication delivered to it.
    pub(super) taken: u64,
    /// Likewise of those delivered in slices, between which others come.
    pub(super) taken_sliced: u64,
    pub(super) station: Option<Box<Station>>,
    /// Who its peer is and what it may; none where nobody is asked and nothing is counted.
    pub(super) guest: Option<Box<Guest>>,
    /// It has a session: what it is sent from type 0x10 on is counted and logged.
    pub(super) counted: bool,
    /// Publications wait on its shelf.
    pub(super) shelved: bool,
    /// `counted`, `shelved` or with narrowed rights: it cannot simply be written to.
    pub(super) careful: bool,
    /// It has a session and no connection.
    pub(super) away: bool,
    /// What it does goes to other shards: it waits while the mesh is pressed.
    pub(super) uses_mesh: bool,
    /// It has been sent messages of groups: what the kernel takes of it is noted (`trail`).
    pub(super) trails: bool,
}

impl Line {
    pub(super) fn new(key: Key, session: Session) -> Line {
        Line {
            key,
            session,
            outbox: Outbox::default(),
            calls_open: 0,
            answers_open: 0,
            taken: 0,
            taken_sliced: 0,
            station: None,
            guest: None,
            counted: false,
            shelved: false,
            careful: false,
            away: false,
            uses_mesh: false,
            trails: false,
        }
    }

    /// Has the session handle the first of what was received.
    #[inline]
    pub(super) fn handle<'a>(&mut self, bytes: &'a [u8], resources: &mut Resources) -> Step<'a> {
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.handle(bytes, resources.now, &mut out)
    }

    // ---- who its peer is ----

    pub(super) fn guest_mut(&mut self) -> &mut Guest {
        self.guest.get_or_insert_default()
    }

    /// Who is asked what it may.
    #[inline]
    pub(super) fn bearer(&self) -> Bearer<'_> {
        Bearer {
            pass: self.guest.as_ref().and_then(|guest| guest.pass.as_ref()),
            session: &self.session,
        }
    }

    /// Whom its credential names.
    pub(super) fn principal(&self) -> Option<&str> {
        let pass = self.guest.as_ref()?.pass.as_ref()?;
        Some(&pass.identity.principal)
    }

    // ---- messages of others ----

    /// Whether the outbox takes a publication of so many bytes now: it is empty, or it has
    /// not much in it.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize, resources: &Resources) -> bool {
        let queued = self.outbox.queued_bytes();
        queued == 0 || queued + bytes <= resources.direct_bytes_max()
    }

    /// Writes a message of another connection's, with another id if one is given.
    #[inline]
    pub(super) fn write(
        &mut self,
        parcel: &mut Parcel<'_>,
        id: Option<u32>,
        resources: &mut Resources,
    ) {
        if id.is_none() && parcel.is_large() && self.session.forwards_as_it_is() {
            self.session.note_forwarded();
            return self.outbox.push_shared(parcel.share(), &mut resources.pool);
        }
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.forward(parcel.message(), id, &mut out);
    }

    /// Keeps a counted message until the client has acknowledged it; `sent`: it goes out
    /// now.
    pub(super) fn log(
        &mut self,
        message: &[u8],
        expires: Instant,
        sent: bool,
        resources: &mut Resources,
    ) {
        self.log_for(None, message, expires, sent, resources);
    }

    /// The same of a group's message.
    pub(super) fn log_for(
        &mut self,
        group: Option<Key>,
        message: &[u8],
        expires: Instant,
        sent: bool,
        resources: &mut Resources,
    ) {
        if !self.counted {
            return;
        }
        if self.away && self.is_behind(resources) {
            return self.lapse(resources);
        }
        if let Some(durable) = self.durable_mut() {
            durable.log.push_for(group, message, expires, sent);
            self.recharge(resources);
        }
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

    /// Bytes of what its session's client has not acknowledged, what it has not been sent
    /// while it is away included.
    fn unacknowledged_bytes(&self) -> usize {
        let Some(station) = &self.station else {
            return 0;
        };
        let logged = station.durable.as_ref().map_or(0, |one| one.log.bytes());
        match self.away {
            true => logged + station.shelf.bytes(),
            false => logged,
        }
    }

    /// More waits for its peer to read, or to acknowledge, than may. Publications wait on the
    /// shelf before it comes to that; this is about requests and answers.
    pub(super) fn is_behind(&self, resources: &Resources) -> bool {
        let limits = &resources.limits;
        match self.counted {
            // What is sent again after a resume may be more than an outbox holds.
            true => self.unacknowledged_bytes() > limits.unacknowledged_bytes_max(),
            false => self.outbox.queued_bytes() > limits.outbox_bytes_max,
        }
    }

    /// More waits for its session, which waits for a connection, than may: it cannot be resumed
    /// any more. What it holds stays until its transport is over: that may still bring it.
    pub(super) fn lapse(&mut self, resources: &mut Resources) {
        if let Some(durable) = self.durable_mut() {
            durable.lapse();
        }
        (self.counted, self.shelved) = (false, false);
        self.note_care();
        self.recharge(resources);
        resources.counters.add(Counter::SessionsOverflowed, 1);
    }

    /// A group's message was written: what is kept of it until its peer has it, where no log
    /// keeps it.
    pub(super) fn note_trail(
        &mut self,
        group: Key,
        parcel: &mut Parcel<'_>,
        expires: Instant,
        resources: &mut Resources,
    ) {
        self.trails = true;
        let (counted, queued) = (self.counted, self.outbox.queued_bytes());
        let trail = &mut self.station_mut().trail;
        if counted {
            return;
        }
        let before = trail.cost_bytes();
        trail.push(parcel, group, expires, queued);
        if trail.cost_bytes() != before {
            self.recharge(resources);
        }
    }

    /// Something it asked for is unanswered.
    pub(super) fn is_owed_answers(&self) -> bool {
        self.calls_open > 0 || self.answers_open > 0
    }

    /// `careful` follows what it depends on.
    pub(super) fn note_care(&mut self) {
        self.careful = self.counted || self.shelved || self.bearer().is_narrowed();
    }

    pub(super) fn station_mut(&mut self) -> &mut Station {
        self.station.get_or_insert_default()
    }

    pub(super) fn durable(&self) -> Option<&Durable> {
        self.station.as_ref()?.durable.as_deref()
    }

    pub(super) fn durable_mut(&mut self) -> Option<&mut Durable> {
        self.station.as_mut()?.durable.as_deref_mut()
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

    /// Brings what the pool is charged for the station in line with what it holds.
    pub(super) fn recharge(&mut self, resources: &mut Resources) {
        if let Some(station) = &mut self.station {
            let cost = station.cost_bytes();
            resources.pool.charge_growth(station.charged, cost);
            station.charged = cost;
        }
    }

    /// What waits for this line, in a measure of which only the order counts.
    pub(super) fn load(&self) -> u32 {
        let mut waiting = self.outbox.queued_bytes();
        if let Some(station) = &self.station {
            // A request takes a server longer than a message takes a reader.
            waiting += station.errands_open as usize * 1024 + station.shelf.bytes();
            waiting += station
                .durable
                .as_ref()
                .map_or(0, |durable| durable.log.bytes());
        }
        u32::try_from(waiting).unwrap_or(u32::MAX - 1)
    }

    // ---- messages of its own ----

    #[inline]
    pub(super) fn send(&mut self, message: &Message<'_>, resources: &mut Resources) {
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.send(message, &mut out);
    }

    /// Answers the peer's CLOSE: nothing it asked for is unanswered.
    pub(super) fn finish(&mut self, resources: &mut Resources) {
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.finish(&mut out);
    }

    /// Sends a RESPONSE, or fails the request when the peer could not take one so large.
    #[inline]
    pub(super) fn respond(
        &mut self,
        id: u32,
        codec: Codec,
        payload: &[u8],
        resources: &mut Resources,
    ) {
        if self.is_too_large(payload) {
            return self.refuse_too_large(id, resources);
        }
        self.send_response(id, 0, codec, payload, resources);
    }

    #[inline]
    fn send_response(
        &mut self,
        id: u32,
        flags: u8,
        codec: Codec,
        payload: &[u8],
        resources: &mut Resources,
    ) {
        if self.counted {
            let mut message = Vec::with_capacity(RESPONSE_BYTES_BESIDE_PAYLOAD + payload.len());
            encode_response(id, flags, codec, payload, &mut message);
            let sent = !self.away && !self.session.is_ended();
            self.log(&message, Instant::NEVER, sent, resources);
        }
        if self.away {
            // Nothing takes it from the outbox any more: the log has it.
            return;
        }
        resources.counters.add(Counter::Responses, 1);
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session
            .send_response(id, flags, codec, payload, &mut out);
    }

    /// As `respond`; a large payload is queued where it is instead of copied.
    pub(super) fn respond_shared(
        &mut self,
        id: u32,
        codec: Codec,
        payload: Bytes,
        resources: &mut Resources,
    ) {
        if payload.len() < SHARED_BYTES_MIN || self.counted || self.session.has_checksum() {
            return self.respond(id, codec, &payload, resources);
        }
        if self.is_too_large(&payload) {
            return self.refuse_too_large(id, resources);
        }
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        if self
            .session
            .send_response_head(id, 0, codec, payload.len(), &mut out)
        {
            resources.counters.add(Counter::Responses, 1);
            self.outbox.push_shared(payload, &mut resources.pool);
        }
    }

    #[inline]
    fn is_too_large(&self, payload: &[u8]) -> bool {
        let most = self.session.peer_message_bytes_max() as usize;
        payload.len() > most.saturating_sub(ENVELOPE_FIXED_BYTES)
    }

    #[cold]
    pub(super) fn refuse_too_large(&mut self, id: u32, resources: &mut Resources) {
        let failure = Failure::of(Code::TooLarge, "the answer is larger than you accept");
        self.respond_failed(id, &failure, resources);
    }

    /// Sends a RESPONSE with FAILED.
    #[cold]
    pub(super) fn respond_failed(&mut self, id: u32, failure: &Failure, resources: &mut Resources) {
        resources.counters.add(Counter::RequestsFailed, 1);
        let mut payload = failure.code.to_be_bytes().to_vec();
        payload.extend_from_slice(clip(&failure.text).as_bytes());
        self.send_response(id, FLAG_FAILED, Codec::Bytes, &payload, resources);
    }
}
