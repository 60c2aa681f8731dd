//! The sending half of a connection: its session, what waits to go out, and its station.

use super::guest::Guest;
use super::outbox::{Outbox, Writer};
use super::parcel::{Parcel, SHARED_BYTES_MIN};
use super::resource::Resources;
use super::service::Failure;
use super::station::{Durable, Station};
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{ENVELOPE_FIXED_BYTES, MESSAGE_HEADER_BYTES};
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Codec, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::{Message, encode_response};
use crate::proto::session::Session;
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
        }
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
    /// now. A log that grows beyond its bound ends the session (not the connection).
    pub(super) fn log(
        &mut self,
        message: &[u8],
        expires: Instant,
        sent: bool,
        resources: &mut Resources,
    ) {
        if !self.counted {
            return;
        }
        let most = resources.limits.session_buffer_bytes_max;
        let Some(durable) = self.durable_mut() else {
            return;
        };
        durable.log.push(message, expires, sent);
        if durable.log.bytes() > most {
            durable.lapse();
            self.counted = false;
            self.note_care();
            resources.counters.add(Counter::SessionsOverflowed, 1);
        }
        self.recharge(resources);
    }

    /// Something it asked for is unanswered.
    pub(super) fn is_owed_answers(&self) -> bool {
        self.calls_open > 0 || self.answers_open > 0
    }

    /// `careful` follows what it depends on.
    pub(super) fn note_care(&mut self) {
        self.careful = self.counted || self.shelved || self.is_narrowed();
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

    /// Whether a PUBLISH of this id was taken before: then it is only confirmed again.
    /// Otherwise it counts as taken from now on.
    #[inline]
    pub(super) fn is_repeated(&mut self, id: u32) -> bool {
        // Of a session that has overflowed, too: its client may be in the midst of repeating.
        let Some(durable) = self.durable_mut() else {
            return false;
        };
        let repeated = id <= durable.accepted_publish_id;
        durable.accepted_publish_id = durable.accepted_publish_id.max(id);
        repeated
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
