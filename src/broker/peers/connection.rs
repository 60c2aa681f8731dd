//! One connection: a slot with a `Member` and a `Transport`. Methods that need one half are with
//! that half; here are those that need both: answers, and messages both written and logged.
//!
//! ```text
//!   slot   [ member: client state, lists, open calls │ transport: session, outbox ]
//! ```
//!
//! What is done with a connection's messages is the broker's business; this file holds its state.
//!
//! Invariants: bytes are handled only while `Running` and while the outbox has room for the
//! answers; a slot is freed only when neither a receive nor a send is in flight.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::broker::context::resource::Resources;
use crate::broker::peers::member::Member;
use crate::broker::peers::transport::{INPUT_BYTES_MAX, Stage, Transport};
use crate::broker::publish::parcel::{Parcel, SHARED_BYTES_MIN};
use crate::metrics::counter::Counter;
use crate::metrics::histogram::Timing;
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Codec, FLAG_FAILED};
use crate::proto::error::Code;
use crate::proto::outcome::{Failure, Outcome};
use bytes::Bytes;

pub(crate) struct Connection {
    pub(crate) member: Member,
    pub(crate) transport: Transport,
}

impl Connection {
    /// A slot for a transport: a new one, or one from another slot or shard.
    pub(crate) fn new(key: Key, transport: Transport) -> Connection {
        let mut connection = Connection {
            member: Member::new(key),
            transport,
        };
        connection.note_care();
        connection
    }

    /// Puts another transport into the slot and returns the previous one. The member stays.
    pub(crate) fn take_over(&mut self, transport: Transport) -> Transport {
        // The deadline has changed, wherever the timer is set.
        self.member.timer = Instant::NEVER;
        std::mem::replace(&mut self.transport, transport)
    }

    /// Its transport is about to move, or to make room for another.
    pub(crate) fn is_moving(&self) -> bool {
        self.transport.moving.is_some() || self.member.yields
    }

    /// Updates `careful` from what it depends on.
    pub(in crate::broker) fn note_care(&mut self) {
        let Connection { member, transport } = self;
        member.careful = member.counted || member.has_pending || transport.bearer().is_narrowed();
    }

    // ---- receiving ----

    /// Whether the driver should receive more now.
    pub(crate) fn wants_receive(&self) -> bool {
        let transport = &self.transport;
        match transport.stage {
            Stage::Running => {
                let backlog = self.member.ready && transport.input.len() > INPUT_BYTES_MAX;
                !transport.peer_ended && !self.waits() && !backlog
            }
            Stage::Flushing | Stage::Lingering => !transport.peer_ended && !self.member.yields,
            Stage::Closing | Stage::Detached => false,
        }
    }

    #[inline]
    pub(in crate::broker) fn note_established(&mut self, resources: &mut Resources) {
        let transport = &mut self.transport;
        if !transport.established && transport.session.is_established() {
            transport.established = true;
            // The heartbeat's deadline, which may be earlier, replaces the handshake's.
            self.member.timer = Instant::NEVER;
            resources.counters.add(Counter::Established, 1);
            let took = resources.now.since(transport.opened);
            resources.histograms.record(Timing::Handshake, took);
            resources.note_arrival(self.member.key);
        }
    }

    // ---- answers to its calls ----

    /// A deferred call of this connection is complete; `id` and `codec` are the request's.
    pub(crate) fn answer(
        &mut self,
        id: u32,
        codec: Codec,
        outcome: Outcome,
        resources: &mut Resources,
    ) {
        self.check_answers(resources);
        match outcome {
            Ok(answer) => {
                let codec = answer.codec.unwrap_or(codec);
                self.respond_shared(id, codec, answer.payload, resources);
            }
            Err(failure) => self.respond_failed(id, &failure, resources),
        }
        self.close_call(resources);
    }

    /// Another connection's RESPONSE answers a call.
    pub(in crate::broker) fn take_response(
        &mut self,
        parcel: &mut Parcel<'_>,
        id: u32,
        resources: &mut Resources,
    ) {
        self.check_answers(resources);
        match self.take_message(parcel, id, Instant::NEVER, resources) {
            true => resources.count_response(parcel.message()),
            false => self.refuse_too_large(id, resources),
        }
        self.close_call(resources);
    }

    /// Ends a connection whose answers pile up. Checked before the next answer is added, so that a
    /// single answer larger than the bound is still sent.
    pub(in crate::broker) fn check_answers(&mut self, resources: &mut Resources) {
        if self.transport.stage == Stage::Running && self.is_behind(resources) {
            let text = match self.member.counted {
                true => "your answers pile up faster than you acknowledge them",
                false => "your answers pile up faster than you read them",
            };
            self.transport.refuse(Code::SlowConsumer, text, resources);
        }
    }

    /// A deferred call's deadline has passed: its requester gets REQUEST_TIMEOUT now.
    pub(crate) fn time_out_call(&mut self, id: u32, resources: &mut Resources) {
        let failure = Failure::of(Code::RequestTimeout, "the service did not answer in time");
        self.respond_failed(id, &failure, resources);
        self.close_call(resources);
    }

    fn close_call(&mut self, resources: &mut Resources) {
        self.member.calls_open -= 1;
        self.finish_if_done(resources);
    }

    /// If every request is answered and no input is left unhandled, carries out what waited for
    /// that: the end after a CLOSE or a FIN.
    pub(in crate::broker) fn finish_if_done(&mut self, resources: &mut Resources) {
        let waits = self.member.is_owed_answers() || self.is_paused();
        let transport = &mut self.transport;
        if transport.stage != Stage::Running || waits {
            return;
        }
        if transport.session.is_peer_closing() {
            transport.finish(resources);
            transport.end(Reason::PeerClose, resources);
        } else if transport.peer_ended {
            transport.end(Reason::PeerEof, resources);
        }
    }

    /// Sends a RESPONSE, or fails the request if the peer does not accept so large a message.
    #[inline]
    pub(in crate::broker) fn respond(
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
        if self.member.counted {
            let message = Encoded::response(id, flags, codec, payload);
            // As in `take_message`: behind what has waited since the connection began to end.
            let is_running = self.transport.stage == Stage::Running;
            let sent = is_running && !self.transport.session.is_ended();
            self.log(&message, Instant::NEVER, sent, resources);
            if !is_running {
                // It does not go out before those: the log has it.
                return;
            }
        }
        if self.transport.has_left {
            // Nothing is sent from the outbox any more.
            return;
        }
        resources.counters.add(Counter::Responses, 1);
        let (session, mut out) = self.transport.session_and_out(&mut resources.pool);
        session.respond(id, flags, codec, payload, &mut out);
    }

    /// Like `respond`; a large payload is queued where it is instead of copied.
    pub(in crate::broker) fn respond_shared(
        &mut self,
        id: u32,
        codec: Codec,
        payload: Bytes,
        resources: &mut Resources,
    ) {
        let as_it_is = self.transport.session.delivers_as_it_is();
        if payload.len() < SHARED_BYTES_MIN || self.member.counted || !as_it_is {
            return self.respond(id, codec, &payload, resources);
        }
        if self.is_too_large(&payload) {
            return self.refuse_too_large(id, resources);
        }
        let (session, mut out) = self.transport.session_and_out(&mut resources.pool);
        if session.respond_head(id, codec, payload.len(), &mut out) {
            resources.counters.add(Counter::Responses, 1);
            let payload = resources.pool.ledger.share(payload);
            let outbox = &mut self.transport.outbox;
            outbox.push_shared(payload, &mut resources.pool);
        }
    }

    #[inline]
    fn is_too_large(&self, payload: &[u8]) -> bool {
        !self.transport.session.accepts_response(payload.len())
    }

    #[cold]
    pub(in crate::broker) fn refuse_too_large(&mut self, id: u32, resources: &mut Resources) {
        let failure = Failure::of(Code::TooLarge, "the answer is larger than you accept");
        self.respond_failed(id, &failure, resources);
    }

    /// Sends a RESPONSE with FAILED.
    #[cold]
    pub(in crate::broker) fn respond_failed(
        &mut self,
        id: u32,
        failure: &Failure,
        resources: &mut Resources,
    ) {
        resources.counters.add(Counter::RequestsFailed, 1);
        let payload = failure.to_payload();
        self.send_response(id, FLAG_FAILED, Codec::Bytes, &payload, resources);
    }

    // ---- what is kept for the client ----

    /// Logs a counted message until the client has acknowledged it; `sent`: it is also being sent
    /// now.
    pub(in crate::broker) fn log(
        &mut self,
        message: &[u8],
        expires: Instant,
        sent: bool,
        resources: &mut Resources,
    ) {
        self.log_for(None, message, expires, sent, resources);
    }

    /// The same for a group's message.
    pub(in crate::broker) fn log_for(
        &mut self,
        group: Option<Key>,
        message: &[u8],
        expires: Instant,
        sent: bool,
        resources: &mut Resources,
    ) {
        if !self.member.counted {
            return;
        }
        if self.transport.has_left && self.is_behind(resources) {
            return self.lapse(resources);
        }
        if let Some(durable) = self.member.durable_mut() {
            durable.log.push_for(group, message, expires, sent);
            self.member.recharge(resources);
        }
    }

    /// Bytes that its session's client has not acknowledged, including what waits unsent while the
    /// client is away.
    fn unacknowledged_bytes(&self) -> usize {
        let Some(state) = &self.member.state else {
            return 0;
        };
        let logged = state.durable.as_ref().map_or(0, |one| one.log.bytes());
        match self.transport.has_left {
            true => logged + state.pending.bytes(),
            false => logged,
        }
    }

    /// More waits for its peer to read or to acknowledge than the limit allows. Publications move
    /// to the pending queue long before; this concerns requests and answers.
    pub(in crate::broker) fn is_behind(&self, resources: &Resources) -> bool {
        let limits = &resources.limits;
        match self.member.counted {
            // What is sent again after a resume may exceed an outbox's limit.
            true => self.unacknowledged_bytes() > limits.unacknowledged_bytes_max(),
            false => self.transport.outbox.queued_bytes() > limits.outbox_bytes_max,
        }
    }

    /// More waits for a session without a connection than the limit allows: the session can no
    /// longer be resumed. What it holds stays until its transport has ended, which may still send
    /// it.
    pub(in crate::broker) fn lapse(&mut self, resources: &mut Resources) {
        if let Some(durable) = self.member.durable_mut() {
            durable.lapse();
        }
        (self.member.counted, self.member.has_pending) = (false, false);
        self.note_care();
        self.member.recharge(resources);
        resources.counters.add(Counter::SessionsOverflowed, 1);
    }

    /// A group's message was written: unless the log keeps it, the trail does until the peer has
    /// it.
    pub(in crate::broker) fn note_trail(
        &mut self,
        group: Key,
        parcel: &mut Parcel<'_>,
        expires: Instant,
        resources: &mut Resources,
    ) {
        let queued = self.transport.outbox.queued_bytes();
        let member = &mut self.member;
        member.trails = true;
        let counted = member.counted;
        let trail = &mut member.state_mut().trail;
        if counted {
            return;
        }
        let before = trail.cost_bytes();
        trail.push(parcel, group, expires, queued, &resources.pool.ledger);
        if trail.cost_bytes() != before {
            member.recharge(resources);
        }
    }

    /// Its load, for choosing among the members of a group or the servers of a service. Only the
    /// order of the values matters.
    pub(in crate::broker) fn load(&self) -> u32 {
        if self.transport.stage != Stage::Running {
            return u32::MAX;
        }
        let mut waiting = self.transport.outbox.queued_bytes();
        if let Some(state) = &self.member.state {
            // A request occupies a server longer than a message does a reader.
            waiting += state.forwarded_open as usize * 1024 + state.pending.bytes();
            waiting += state
                .durable
                .as_ref()
                .map_or(0, |durable| durable.log.bytes());
        }
        u32::try_from(waiting).unwrap_or(u32::MAX - 1)
    }
}
