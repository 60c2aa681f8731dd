//! Requests that connections answer for other connections.
//!
//! ```text
//!   requester ─REQUEST─► call (its shard) ──► errand (the server's shard) ─REQUEST─► server
//!             ◄─RESPONSE─ call   ◄────────── errand ◄──────────────────────RESPONSE─
//! ```
//!
//! A call (see `call`) knows who asked and by when it must be answered; an errand knows
//! which server was asked, under an id of ours, and for which call. Both end at the same
//! deadline, so neither has to tell the other; an answer after that finds no errand, and is
//! dropped and counted.
//!
//! Invariant: each errand ends once: answered, overdue, or with its server.

use super::call::{Asked, Place};
use super::exchange::Exchange;
use super::member::load;
use super::mesh::Call;
use super::parcel::Parcel;
use super::service::{Failure, refuse_name};
use super::trace::About;
use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::MESSAGE_HEADER_BYTES;
use crate::base::slab::Slab;
use crate::base::wheel::Wheel;
use crate::metrics::counter::Counter;
use crate::metrics::histogram::Timing;
use crate::metrics::span::Fault;
use crate::proto::envelope::{Codec, Envelope, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::{MessageType, encode_response};
use crate::proto::name::check_topic;
use crate::proto::trace::{Carried, TraceContext, carry};
use crate::router::Choice;
use std::time::Duration;

/// Bits of an errand's id that are its slot; the others are of its generation.
const SLOT_BITS: u32 = 20;

/// A request that a connection of this shard is to answer.
#[derive(Clone, Copy)]
struct Errand {
    server: Key,
    call: Call,
}

/// The errands of one shard.
pub(super) struct Errands {
    open: Slab<Errand>,
    timers: Wheel,
}

impl Errands {
    pub(super) fn new(open_max: u32, now: Instant) -> Errands {
        Errands {
            open: Slab::new(open_max.min(1 << SLOT_BITS)),
            timers: Wheel::new(now),
        }
    }

    pub(super) fn len(&self) -> u32 {
        self.open.len()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_due()
    }

    fn open(&mut self, errand: Errand) -> Option<Key> {
        let key = self.open.insert(errand)?;
        self.timers.arm(key.slot, errand.call.deadline);
        Some(key)
    }

    fn remove(&mut self, key: Key) -> Option<Errand> {
        let errand = self.open.remove(key)?;
        self.timers.cancel(key.slot);
        Some(errand)
    }

    /// The errand that `server` answers under this id.
    fn answered(&mut self, id: u32, server: Key) -> Option<Errand> {
        let key = self.open.key_of(id & ((1 << SLOT_BITS) - 1))?;
        let is_it = wire_id(key) == id && self.open.get(key)?.server == server;
        if is_it { self.remove(key) } else { None }
    }
}

fn wire_id(errand: Key) -> u32 {
    errand.slot | errand.generation << SLOT_BITS
}

impl Exchange {
    /// Forwards a REQUEST that no service of this shard answers, or fails it.
    pub(super) fn request(&mut self, key: Key, request: &Envelope<'_>, message: &[u8]) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|one| !one.line.may_request(request.name)) {
            return self.forbid_request(key, request);
        }
        self.resources.counters.add(Counter::Requests, 1);
        let Some(choice) = self.choose_server(request.name) else {
            let failure = match check_topic(request.name) {
                Ok(()) => Failure::of(Code::NoService, "nobody answers for this service"),
                Err(refusal) => refuse_name(&refusal),
            };
            return self.fail(key, request.id, &failure);
        };
        let now = self.resources.now;
        let timeout = match request.headers.timeout_ms() {
            Some(ms) => Duration::from_millis(u64::from(ms)),
            None => self.resources.limits.request_timeout,
        };
        let deadline = now + timeout;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let line = &mut connection.line;
        if line.calls_open >= self.resources.limits.requests_open_max {
            let text = "too many unanswered requests on this connection";
            let failure = Failure::of(Code::TooManyRequests, text);
            return self.fail(key, request.id, &failure);
        }
        let asked = Asked {
            connection: key,
            id: request.id,
            codec: request.codec,
        };
        let calls = &mut self.resources.calls;
        let Some(call) = calls.open(asked, Place::Connection, now, deadline) else {
            let failure = Failure::of(Code::Overloaded, "too many calls are open");
            return self.fail(key, request.id, &failure);
        };
        line.calls_open += 1;
        self.resources.counters.add(Counter::RequestsForwarded, 1);
        let checksum = line.session.has_checksum();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut parcel = Parcel::received(message, checksum, &mut scratch);
        let call = Call {
            shard: self.id,
            key: call,
            deadline,
            grown: false,
        };
        let tracer = self.resources.tracer.as_ref();
        match tracer.and_then(|tracer| tracer.received()) {
            None => self.pass_on(choice, &mut parcel, call),
            Some(context) => {
                let asked = (key, request.name);
                self.pass_on_traced(choice, parcel, call, &context, asked);
            }
        }
        self.scratch = scratch;
    }

    /// Passes a sampled request on: from here on it carries its `call` span as parent.
    #[cold]
    fn pass_on_traced(
        &mut self,
        choice: Choice,
        parcel: Parcel<'_>,
        mut call: Call,
        parent: &TraceContext,
        (connection, service): (Key, &str),
    ) {
        let now = self.resources.now;
        let Some(tracer) = &mut self.resources.tracer else {
            return;
        };
        let span = tracer.begin_call(parent, service, connection, now);
        let mut scratch = std::mem::take(&mut tracer.scratch);
        let mut parcel = match carry(parcel.message(), span.context(), &mut scratch) {
            Some(done) => {
                call.grown = done == Carried::Added;
                Parcel::plain(&scratch).grown(call.grown)
            }
            // No room for another header: its trace ends here.
            None => parcel,
        };
        self.resources.calls.trace(call.key, span);
        self.pass_on(choice, &mut parcel, call);
        drop(parcel);
        if let Some(tracer) = &mut self.resources.tracer {
            tracer.scratch = scratch;
        }
    }

    /// Fails a REQUEST that its connection's rights do not cover.
    #[cold]
    pub(super) fn forbid_request(&mut self, key: Key, request: &Envelope<'_>) {
        self.resources.counters.add(Counter::Requests, 1);
        let refusal = match check_topic(request.name) {
            Ok(()) => self.forbid(),
            Err(refusal) => refusal,
        };
        self.fail(key, request.id, &refuse_name(&refusal));
    }

    /// Takes a request that another shard has picked a server of this one for.
    pub(super) fn take_request(&mut self, parcel: Parcel<'_>, call: Call, servers: Key) {
        let mut parcel = parcel.grown(call.grown);
        let connections = &self.connections;
        let load = |key| load(connections, key);
        let server = self
            .router
            .choose_local_server(servers, &mut self.random, load);
        // If all here have gone meanwhile, perhaps not those of other shards.
        let choice = match server {
            Some(server) => Some(Choice::Local(server)),
            None => self.router.choose(servers, &mut self.random, load),
        };
        match choice {
            Some(choice) => self.pass_on(choice, &mut parcel, call),
            None => {
                let failure = Failure::of(Code::ServiceGone, "the service has just ended");
                self.fail_call(call, &failure);
            }
        }
    }

    fn pass_on(&mut self, choice: Choice, parcel: &mut Parcel<'_>, call: Call) {
        match choice {
            Choice::Local(server) => self.forward(server.connection, parcel, call),
            Choice::Remote { shard, group } => self.mesh.request(shard, parcel, call, group),
        }
    }

    /// Gives a server a request to answer.
    fn forward(&mut self, server: Key, parcel: &mut Parcel<'_>, call: Call) {
        let Some(errand) = self.errands.open(Errand { server, call }) else {
            let failure = Failure::of(Code::Overloaded, "too many requests are being answered");
            return self.fail_call(call, &failure);
        };
        let most = self.resources.limits.outbox_bytes_max;
        let span = self.resources.begin_deliver_of(parcel.message());
        let mut failure = None;
        match self.connections.get_mut(server) {
            None => failure = Some(Failure::of(Code::ServiceGone, "the service has just ended")),
            Some(connection) if connection.line.outbox.queued_bytes() > most => {
                let text = "the service does not read its requests";
                failure = Some(Failure::of(Code::Overloaded, text));
            }
            Some(connection) => {
                let id = wire_id(errand);
                if connection.take_message(parcel, id, &mut self.resources) {
                    connection.line.station_mut().errands_open += 1;
                } else {
                    let text = "the request is larger than the service accepts";
                    failure = Some(Failure::of(Code::TooLarge, text));
                }
            }
        }
        self.resources.end_span(span, || About {
            connection: Some(server),
            kind: Some(MessageType::Request),
            bytes: parcel.len(),
            reached: usize::from(failure.is_none()),
            fault: failure.as_ref().map(|failure| Fault::Code(failure.code)),
            ..About::default()
        });
        match failure {
            None => self.touch(server),
            Some(failure) => {
                self.errands.remove(errand);
                self.fail_call(call, &failure);
            }
        }
    }

    /// Takes a server's RESPONSE to the call it answers.
    pub(super) fn respond(&mut self, server: Key, response: &Envelope<'_>, message: &[u8]) {
        let Some(errand) = self.errands.answered(response.id, server) else {
            return self.count_unasked(server);
        };
        let Some(connection) = self.connections.get_mut(server) else {
            return;
        };
        connection.line.station_mut().errands_open -= 1;
        let checksum = connection.line.session.has_checksum();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut parcel = Parcel::received(message, checksum, &mut scratch);
        let tracer = self.resources.tracer.as_ref();
        match tracer.and_then(|tracer| tracer.received()) {
            None => self.bring(errand.call, &mut parcel),
            Some(context) => self.bring_traced(errand.call, parcel, &context),
        }
        self.scratch = scratch;
    }

    fn count_unasked(&self, server: Key) {
        let serves = self.connections.get(server).is_some_and(|one| {
            let station = one.line.station.as_ref();
            station.is_some_and(|station| station.has_served)
        });
        let counter = match serves {
            true => Counter::AnswersLate,
            false => Counter::ResponsesUnasked,
        };
        self.resources.counters.add(counter, 1);
    }

    /// Brings a sampled RESPONSE: from here on it carries its `receive` span as parent.
    #[cold]
    fn bring_traced(&mut self, call: Call, parcel: Parcel<'_>, context: &TraceContext) {
        let Some(tracer) = &mut self.resources.tracer else {
            return;
        };
        let mut scratch = std::mem::take(&mut tracer.scratch);
        // It has a TRACEPARENT, which is replaced: there is room.
        let mut parcel = match carry(parcel.message(), context, &mut scratch) {
            Some(_) => Parcel::plain(&scratch),
            None => parcel,
        };
        self.bring(call, &mut parcel);
        drop(parcel);
        if let Some(tracer) = &mut self.resources.tracer {
            tracer.scratch = scratch;
        }
    }

    /// Brings a RESPONSE to the shard of its call.
    fn bring(&mut self, call: Call, parcel: &mut Parcel<'_>) {
        if call.shard == self.id {
            self.take_response(parcel, call.key);
        } else {
            self.mesh.response(call.shard, parcel, call.key);
        }
    }

    /// Answers a call with a RESPONSE that its server, here or elsewhere, gave.
    pub(super) fn take_response(&mut self, parcel: &mut Parcel<'_>, call: Key) {
        let Some(call) = self.resources.calls.take(call) else {
            return self.resources.counters.add(Counter::AnswersLate, 1);
        };
        let took = self.resources.now.since(call.began);
        self.resources.histograms.record(Timing::Call, took);
        let asked = call.asked;
        if call.span.is_some() {
            let fault = fault_of(parcel.message());
            self.resources.end_call(call.span, fault);
        }
        let span = self.resources.begin_deliver_of(parcel.message());
        let Some(connection) = self.connections.get_mut(asked.connection) else {
            return self.resources.counters.add(Counter::AnswersLate, 1);
        };
        connection.take_response(parcel, asked.id, &mut self.resources);
        self.resources.end_span(span, || About {
            connection: Some(asked.connection),
            kind: Some(MessageType::Response),
            bytes: parcel.len(),
            reached: 1,
            ..About::default()
        });
        self.touch(asked.connection);
    }

    fn fail_call(&mut self, call: Call, failure: &Failure) {
        let mut payload = failure.code.to_be_bytes().to_vec();
        payload.extend_from_slice(clip(&failure.text).as_bytes());
        let mut message = Vec::new();
        encode_response(0, FLAG_FAILED, Codec::Bytes, &payload, &mut message);
        self.bring(call, &mut Parcel::plain(&message));
    }

    /// Fails a request at once.
    fn fail(&mut self, key: Key, id: u32, failure: &Failure) {
        self.resources.note_refusal(failure.code);
        if let Some(connection) = self.connections.get_mut(key) {
            connection
                .line
                .respond_failed(id, failure, &mut self.resources);
        }
    }

    /// A server has ended: what it had to answer fails.
    pub(super) fn fail_errands(&mut self, server: Key) {
        let of_it = |(key, errand): (Key, &Errand)| (errand.server == server).then_some(key);
        let open: Vec<Key> = self.errands.open.iter().filter_map(of_it).collect();
        let failure = Failure::of(Code::ServiceGone, "the service ended before it answered");
        for key in open {
            if let Some(errand) = self.errands.remove(key) {
                self.fail_call(errand.call, &failure);
            }
        }
    }

    /// Forgets errands whose deadline has passed; their calls have been answered.
    pub(super) fn drop_overdue_errands(&mut self) {
        self.errands.timers.advance(self.resources.now);
        while let Some(slot) = self.errands.timers.pop_due() {
            let Some(key) = self.errands.open.key_of(slot) else {
                continue;
            };
            let Some(errand) = self.errands.remove(key) else {
                continue;
            };
            if let Some(connection) = self.connections.get_mut(errand.server) {
                connection.line.station_mut().errands_open -= 1;
            }
        }
    }

    fn choose_server(&mut self, service: &str) -> Option<Choice> {
        let connections = &self.connections;
        self.router
            .find_servers(service, &mut self.random, |key| load(connections, key))
    }
}

/// Why a RESPONSE says that its request failed, if it does.
#[cold]
fn fault_of(message: &[u8]) -> Option<Fault> {
    let body = &message[MESSAGE_HEADER_BYTES..];
    let response = Envelope::parse(MessageType::Response, body).ok()?;
    let code = response.payload.first_chunk::<2>();
    let code = code.map_or(Code::Internal.to_wire(), |code| u16::from_be_bytes(*code));
    response.failed().then_some(Fault::Code(code))
}
