//! Requests that connections answer for other connections.
//!
//! ```text
//!   requester ─REQUEST─► call (its shard) ──► forwarded request (the server's shard) ─REQUEST─► server
//!             ◄─RESPONSE─ call   ◄────────── forwarded request ◄──────────────────────RESPONSE─
//! ```
//!
//! A call (see `call`) knows who sent the request and by when it must be answered; a forwarded
//! request (see `forwarded`) knows which server was asked, under an id of ours, and for which call.
//! Both end at the same deadline, so neither has to notify the other; a later answer finds no
//! forwarded request, and is dropped and counted. The same happens when the requester has ended:
//! its shard withdraws the forwarded requests of its calls.
//!
//! Who asks, or answers, more than another shard has yet taken is not read from meanwhile, as
//! who publishes is not (see `mesh`).

use crate::base::id::{Key, ShardId};
use crate::base::reason::Reason;
use crate::broker::Broker;
use crate::broker::context::trace::About;
use crate::broker::mesh::Call;
use crate::broker::publish::group::load;
use crate::broker::publish::parcel::Parcel;
use crate::broker::request::call::Place;
use crate::broker::request::forwarded::Forwarded;
use crate::broker::request::service::refuse_name;
use crate::metrics::counter::Counter;
use crate::metrics::histogram::Timing;
use crate::metrics::span::Fault;
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Codec, Envelope, FLAG_FAILED};
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use crate::proto::name::check_topic;
use crate::proto::outcome::Failure;
use crate::proto::trace::{Carried, TraceContext};
use crate::router::{Choice, ServerSearch};
use crate::wire::Received;

impl Broker {
    /// Forwards a REQUEST that no service of this process answers, or fails it.
    pub(in crate::broker) fn request(
        &mut self,
        key: Key,
        request: &Envelope<'_>,
        message: Received<'_>,
    ) {
        let connection = self.connections.get(key);
        if connection.is_some_and(|one| !one.transport.bearer().may_request(request.name)) {
            return self.forbid_request(key, request);
        }
        self.resources.counters.add(Counter::Requests, 1);
        let mut search = ServerSearch::default();
        if !self.seek_server(request.name, &mut search) {
            return self.seek_later(key, request, message, search);
        }
        let Some(choice) = self.found_server(&search) else {
            return self.fail(key, request.id, &no_server(request.name, &search));
        };
        let Some(call) = self.open_call(key, request, shard_of(choice, self.id)) else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let parcel = Parcel::of(message.encoded(&mut scratch));
        let tracer = self.resources.tracer.as_ref();
        let traced = tracer.and_then(|tracer| tracer.received());
        self.pass_on_first((key, request.name), choice, parcel, call, traced);
        self.scratch = scratch;
    }

    /// Opens a call for a REQUEST that a connection on `shard` will answer, or fails the request.
    pub(in crate::broker) fn open_call(
        &mut self,
        key: Key,
        request: &Envelope<'_>,
        shard: ShardId,
    ) -> Option<Call> {
        let connection = self.connections.get_mut(key)?;
        let (asked, place) = ((request.id, request.codec), Place::Connection(shard));
        let timeout_ms = request.headers.timeout_ms();
        match self
            .resources
            .open_call(connection, asked, place, timeout_ms)
        {
            Ok((call, deadline)) => Some(Call {
                shard: self.id,
                key: call,
                deadline,
                grown: false,
            }),
            Err(failure) => {
                self.fail(key, request.id, &failure);
                None
            }
        }
    }

    /// Forwards a REQUEST of a connection of this shard; `traced`: it is sampled.
    pub(in crate::broker) fn pass_on_first(
        &mut self,
        (key, service): (Key, &str),
        choice: Choice,
        mut parcel: Parcel<'_>,
        call: Call,
        traced: Option<TraceContext>,
    ) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.member.uses_mesh |= shard_of(choice, self.id) != self.id;
        }
        self.resources.counters.add(Counter::RequestsForwarded, 1);
        match traced {
            None => self.pass_on(choice, &mut parcel, call),
            Some(context) => self.pass_on_traced(choice, parcel, call, &context, (key, service)),
        }
    }

    /// Forwards a sampled request, which carries its `call` span as parent from here on.
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
        let mut parcel = match parcel.message().with_trace(span.context(), &mut scratch) {
            Some(done) => {
                call.grown = done == Carried::Added;
                Parcel::plain(&scratch).grown(call.grown)
            }
            // There is no room for another header: its trace ends here.
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
    pub(in crate::broker) fn forbid_request(&mut self, key: Key, request: &Envelope<'_>) {
        self.resources.counters.add(Counter::Requests, 1);
        let refusal = match check_topic(request.name) {
            Ok(()) => self.forbid(),
            Err(refusal) => refusal,
        };
        self.fail(key, request.id, &refuse_name(&refusal));
    }

    /// Handles a request for which another shard has picked a server on this one.
    pub(in crate::broker) fn take_request(&mut self, parcel: Parcel<'_>, call: Call, servers: Key) {
        if call.deadline <= self.resources.now {
            // Its requester has been told, or is about to be.
            return;
        }
        let mut parcel = parcel.grown(call.grown);
        let connections = &self.connections;
        let load = |key| load(connections, key);
        let server = self
            .router
            .choose_local_server(servers, &mut self.random, load);
        // All servers here may have left meanwhile, while other shards still have some.
        let choice = match server {
            Some(server) => Some(Choice::Local(server)),
            None => self.router.choose(servers, &mut self.random, load),
        };
        match choice {
            Some(choice) => self.pass_on(choice, &mut parcel, call),
            None => {
                let failure = Failure::of(Code::ServiceGone, "the service just ended");
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

    /// Gives a request to a server, which is to answer it.
    fn forward(&mut self, server: Key, parcel: &mut Parcel<'_>, call: Call) {
        let span = self.resources.begin_deliver_of(parcel.message());
        let failure = self.put_forwarded(server, parcel, call).err();
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
            Some(failure) => self.fail_call(call, &failure),
        }
    }

    /// Opens a forwarded request and writes the REQUEST to its server.
    fn put_forwarded(
        &mut self,
        server: Key,
        parcel: &mut Parcel<'_>,
        call: Call,
    ) -> Result<(), Failure> {
        let Some(connection) = self.connections.get_mut(server) else {
            let text = "the service just ended";
            return Err(Failure::of(Code::ServiceGone, text));
        };
        if connection.is_behind(&self.resources) {
            let text = "the service does not read its requests";
            return Err(Failure::of(Code::Overloaded, text));
        }
        let state = connection.member.state_mut();
        let opened = match self.forwarded.may_have(state.forwarded_open) {
            true => {
                let last = &mut state.forwarded_last;
                self.forwarded.open(server, call, last, &mut self.random)
            }
            false => None,
        };
        let Some((entry, id)) = opened else {
            let text = "the service has too many requests to answer; try again later";
            return Err(Failure::of(Code::Overloaded, text));
        };
        state.forwarded_open += 1;
        if !connection.take_message(parcel, id, call.deadline, &mut self.resources) {
            self.close_forwarded(entry);
            let text = "the request is larger than the service accepts";
            return Err(Failure::of(Code::TooLarge, text));
        }
        Ok(())
    }

    /// Ends a forwarded request; its server, if still connected, has one less to answer.
    fn close_forwarded(&mut self, entry: Key) -> Option<Forwarded> {
        let entry = self.forwarded.remove(entry)?;
        if let Some(connection) = self.connections.get_mut(entry.server) {
            connection.member.state_mut().forwarded_open -= 1;
        }
        Some(entry)
    }

    /// The answer to a call that is open on `shard` is no longer awaited: ends its forwarded
    /// request.
    pub(in crate::broker) fn withdraw_forwarded(&mut self, shard: ShardId, call: Key) {
        if let Some(entry) = self.forwarded.of_call(shard, call) {
            self.close_forwarded(entry);
        }
    }

    /// A connection has ended and left no session in its slot: the answers to its requests are no
    /// longer awaited.
    pub(crate) fn end_calls(&mut self, requester: Key) {
        let requester_of = self.connections.get(requester);
        let reason = requester_of.and_then(|one| one.transport.reason);
        let fault = Fault::Ended(reason.unwrap_or(Reason::PeerReset));
        while let Some(ended) = self.resources.calls.end_next(requester) {
            self.resources.end_call(ended.span, Some(fault));
            match ended.place {
                Place::Connection(shard) if shard == self.id => {
                    self.withdraw_forwarded(shard, ended.call);
                }
                Place::Connection(shard) => self.mesh.withdraw(shard, ended.call),
                Place::Shard | Place::Worker => {}
            }
        }
        if let Some(connection) = self.connections.get_mut(requester) {
            connection.member.calls_open = 0;
        }
    }

    /// Handles a server's RESPONSE: passes it to the call it answers.
    pub(in crate::broker) fn respond(
        &mut self,
        server: Key,
        response: &Envelope<'_>,
        message: Received<'_>,
    ) {
        let entry = self.forwarded.answered(response.id, server);
        let Some(entry) = entry.and_then(|entry| self.close_forwarded(entry)) else {
            return self.count_unasked(server);
        };
        let Some(connection) = self.connections.get_mut(server) else {
            return;
        };
        connection.member.uses_mesh |= entry.call.shard != self.id;
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut parcel = Parcel::of(message.encoded(&mut scratch));
        let tracer = self.resources.tracer.as_ref();
        match tracer.and_then(|tracer| tracer.received()) {
            None => self.bring(entry.call, &mut parcel),
            Some(context) => self.bring_traced(entry.call, parcel, &context),
        }
        self.scratch = scratch;
    }

    fn count_unasked(&self, server: Key) {
        let serves = self.connections.get(server).is_some_and(|one| {
            let state = one.member.state.as_ref();
            state.is_some_and(|state| state.has_served)
        });
        let counter = match serves {
            true => Counter::AnswersLate,
            false => Counter::ResponsesUnasked,
        };
        self.resources.counters.add(counter, 1);
    }

    /// Passes on a sampled RESPONSE, which carries its `receive` span as parent from here on.
    #[cold]
    fn bring_traced(&mut self, call: Call, parcel: Parcel<'_>, context: &TraceContext) {
        let Some(tracer) = &mut self.resources.tracer else {
            return;
        };
        let mut scratch = std::mem::take(&mut tracer.scratch);
        // It has a TRACEPARENT, which is replaced, so there is room.
        let mut parcel = match parcel.message().with_trace(context, &mut scratch) {
            Some(_) => Parcel::plain(&scratch),
            None => parcel,
        };
        self.bring(call, &mut parcel);
        drop(parcel);
        if let Some(tracer) = &mut self.resources.tracer {
            tracer.scratch = scratch;
        }
    }

    /// Passes a RESPONSE to the shard of its call.
    fn bring(&mut self, call: Call, parcel: &mut Parcel<'_>) {
        if call.shard == self.id {
            self.take_response(parcel, call.key);
        } else {
            self.mesh.response(call.shard, parcel, call.key);
        }
    }

    /// Answers a call with the RESPONSE of its server, on this shard or another.
    pub(in crate::broker) fn take_response(&mut self, parcel: &mut Parcel<'_>, call: Key) {
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

    pub(in crate::broker) fn fail_call(&mut self, call: Call, failure: &Failure) {
        let payload = failure.to_payload();
        let message = Encoded::response(0, FLAG_FAILED, Codec::Bytes, &payload);
        self.bring(call, &mut Parcel::plain(&message));
    }

    /// Fails a request at once.
    fn fail(&mut self, key: Key, id: u32, failure: &Failure) {
        self.resources.note_refusal(failure.code);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.respond_failed(id, failure, &mut self.resources);
        }
    }

    /// A server has ended: fails the requests it had to answer.
    pub(in crate::broker) fn fail_all_forwarded(&mut self, server: Key) {
        let failure = Failure::of(Code::ServiceGone, "the service ended before it answered");
        for key in self.forwarded.of_server(server) {
            if let Some(entry) = self.forwarded.remove(key) {
                self.fail_call(entry.call, &failure);
            }
        }
    }

    /// A server has sent a message larger than we accept, and is ended for that. If the message is
    /// an answer, and enough of it has arrived to tell which request it answers, the requester gets
    /// that reason rather than the end of the server.
    #[cold]
    pub(in crate::broker) fn refuse_answer(&mut self, server: Key, id: u32) {
        let text = "the answer is larger than this server accepts";
        let failure = Failure::of(Code::TooLarge, text);
        self.fail_forwarded(server, id, &failure);
    }

    /// Fails the request with this id, which will not be sent to its server.
    pub(in crate::broker) fn fail_forwarded(&mut self, server: Key, id: u32, failure: &Failure) {
        let entry = self.forwarded.answered(id, server);
        if let Some(entry) = entry.and_then(|entry| self.close_forwarded(entry)) {
            self.fail_call(entry.call, failure);
        }
    }

    /// Drops forwarded requests whose deadline has passed; their calls have been answered.
    pub(crate) fn drop_overdue_forwarded(&mut self) {
        while let Some(entry) = self.forwarded.next_overdue(self.resources.now) {
            self.close_forwarded(entry);
        }
    }
}

/// Why a request fails whose search has ended without a server.
#[cold]
pub(in crate::broker) fn no_server(service: &str, search: &ServerSearch) -> Failure {
    match check_topic(service) {
        Err(refusal) => refuse_name(&refusal),
        Ok(()) if search.has_found() => Failure::of(Code::ServiceGone, "the service just ended"),
        Ok(()) => Failure::of(Code::NoService, "no server registered for this service"),
    }
}

/// The shard of the chosen server.
pub(in crate::broker) fn shard_of(choice: Choice, own: ShardId) -> ShardId {
    match choice {
        Choice::Local(_) => own,
        Choice::Remote { shard, .. } => shard,
    }
}

/// The reason for which a RESPONSE reports failure, if it does.
#[cold]
fn fault_of(message: Encoded<'_>) -> Option<Fault> {
    let response = message.envelope().filter(Envelope::failed)?;
    let failure = Failure::of_response(&response);
    let code = failure.map_or(Code::Internal.to_wire(), |failure| failure.code);
    Some(Fault::Code(code))
}
