//! Services: how a REQUEST is answered by this process.
//!
//! A service is called on its shard's thread while the request is still in the receive buffer. It
//! can answer in four ways, from the cheapest to the most flexible:
//!
//! | way | when | cost |
//! |---|---|---|
//! | [`Reply::send`], [`Reply::fail`] | the answer is known | no allocation; under a microsecond |
//! | [`Reply::defer`] | something else on this shard will answer | one slot |
//! | [`Reply::spawn`] | a future answers after awaiting something | one boxed future, low shares |
//! | [`Reply::offload`] | the answer takes long computation or blocks | a worker thread, off the shards |
//!
//! Whatever a service computes inline delays all connections of its shard: anything that may take
//! more than some 100 µs belongs on a worker. A `Reply` dropped without an answer fails the request
//! with INTERNAL, so that no requester waits in vain.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::context::resource::{Current, Resources};
use crate::broker::peers::connection::Connection;
use crate::broker::request::call::{Asked, Deferred, Place};
use crate::metrics::counter::Counter;
use crate::metrics::span::Fault;
use crate::proto::envelope::{Codec, Envelope, Headers};
use crate::proto::error::{Code, Refusal};
use crate::proto::outcome::{Failure, Outcome};
use crate::proto::trace::{TraceContext, headers_with};
use std::collections::HashMap;
use std::future::Future;

/// Answers requests on one shard. A factory makes it there, so it needs no locks.
pub trait Service {
    /// Answers `request` through `reply`, now or later.
    fn call(&mut self, request: Request<'_>, reply: Reply<'_>);
}

impl<F: FnMut(Request<'_>, Reply<'_>)> Service for F {
    fn call(&mut self, request: Request<'_>, reply: Reply<'_>) {
        self(request, reply);
    }
}

/// A request, borrowed from the buffer it was received into.
///
/// It refers to the envelope rather than copying its fields: copying what has just been parsed is
/// the most expensive kind of copy, since the processor has not finished writing it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    envelope: &'a Envelope<'a>,
}

impl<'a> Request<'a> {
    /// The service name it was sent to.
    pub fn service(&self) -> &'a str {
        self.envelope.name
    }

    /// The codec of the payload, in which the answer is expected too.
    pub fn codec(&self) -> Codec {
        self.envelope.codec
    }

    pub fn headers(&self) -> Headers<'a> {
        self.envelope.headers
    }

    pub fn payload(&self) -> &'a [u8] {
        self.envelope.payload
    }

    /// The trace it belongs to, for the service's own spans and its own requests. If this server
    /// records the trace too, the parent is the server's span of this call.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::of(&self.envelope.headers)
    }
}

/// The way back to the requester. Answer once, in any of the ways above.
///
/// Two references, passed in registers; the properties of the request are in `Resources::current`,
/// where `Services::call` also sees whether an answer was given.
pub struct Reply<'a> {
    connection: &'a mut Connection,
    resources: &'a mut Resources,
}

impl Reply<'_> {
    /// Answers with a payload in the request's codec.
    #[inline]
    pub fn send(self, payload: &[u8]) {
        let codec = self.resources.current.codec;
        self.send_as(codec, payload);
    }

    /// Answers with a payload in the codec named.
    #[inline]
    pub fn send_as(self, codec: Codec, payload: &[u8]) {
        let current = &mut self.resources.current;
        current.answered = true;
        let id = current.id;
        self.connection.respond(id, codec, payload, self.resources);
    }

    /// Fails the request. Codes from 0x1000 on are the application's own.
    #[cold]
    pub fn fail(self, failure: &Failure) {
        let current = &mut self.resources.current;
        (current.answered, current.failure) = (true, Some(failure.code));
        let id = current.id;
        self.connection.respond_failed(id, failure, self.resources);
    }

    /// Detaches the answer from this call: whoever holds the [`Deferred`], on this shard, finishes
    /// it. `None`: too many calls are open, and the request has been failed with OVERLOADED or
    /// TOO_MANY_REQUESTS.
    pub fn defer(self) -> Option<Deferred> {
        let (call, resources) = self.open(Place::Shard)?;
        Some(resources.calls.deferred(call))
    }

    /// Answers with the output of a future. It runs on this shard's executor, in a task queue with
    /// low shares, and may use glommio's timers, files and channels.
    pub fn spawn(self, future: impl Future<Output = Outcome> + 'static) {
        if let Some((call, resources)) = self.open(Place::Shard) {
            let deferred = resources.calls.deferred(call);
            let answer = async move { deferred.finish(future.await) };
            resources.calls.spawn(answer);
        }
    }

    /// Answers with what `work` returns on a worker thread: for long computation or blocking.
    pub fn offload(self, work: impl FnOnce() -> Outcome + Send + 'static) {
        if let Some((call, resources)) = self.open(Place::Worker) {
            resources.calls.offload(call, work);
        }
    }
}

impl<'a> Reply<'a> {
    /// Opens a call within the limits, or fails the request.
    fn open(self, place: Place) -> Option<(Key, &'a mut Resources)> {
        let current = self.resources.current;
        let asked = (current.id, current.codec);
        let opened = (self.resources).open_call(self.connection, asked, place, current.timeout_ms);
        let call = match opened {
            Ok((call, _)) => call,
            Err(failure) => {
                self.fail(&failure);
                return None;
            }
        };
        if let Some(tracer) = &mut self.resources.tracer
            && let Some(span) = tracer.take_call()
        {
            self.resources.calls.trace(call, span);
        }
        self.resources.current.answered = true;
        self.resources.counters.add(Counter::CallsDeferred, 1);
        Some((call, self.resources))
    }
}

impl Resources {
    /// Opens a call for a REQUEST of this connection, within all limits, and sets its deadline.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS, OVERLOADED.
    pub(in crate::broker) fn open_call(
        &mut self,
        connection: &mut Connection,
        (id, codec): (u32, Codec),
        place: Place,
        timeout_ms: Option<u32>,
    ) -> Result<(Key, Instant), Failure> {
        if connection.member.calls_open >= self.limits.requests_open_max {
            let text = "too many unanswered requests on this connection";
            return Err(Failure::of(Code::TooManyRequests, text));
        }
        let asked = Asked {
            connection: connection.member.key,
            id,
            codec,
        };
        let deadline = self.now + self.limits.timeout(timeout_ms);
        let call = self.calls.open(asked, place, self.now, deadline)?;
        connection.member.calls_open += 1;
        Ok((call, deadline))
    }
}

/// The services of one shard, by name.
#[derive(Default)]
pub(crate) struct Services {
    services: Vec<(Box<str>, Box<dyn Service>)>,
    by_name: HashMap<Box<str>, usize>,
    /// The service called last, which is most likely the one called next.
    last: usize,
}

impl Services {
    /// Adds a service; it replaces an earlier one of the same name.
    pub(crate) fn add(&mut self, name: &str, service: Box<dyn Service>) {
        match self.by_name.get(name) {
            Some(&index) => self.services[index].1 = service,
            None => {
                self.by_name.insert(name.into(), self.services.len());
                self.services.push((name.into(), service));
            }
        }
    }

    /// Whether a service of this shard has this name.
    #[inline]
    pub(in crate::broker) fn has(&mut self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Passes a request to its service.
    #[inline]
    pub(in crate::broker) fn call(
        &mut self,
        request: &Envelope<'_>,
        connection: &mut Connection,
        resources: &mut Resources,
    ) {
        resources.counters.add(Counter::Requests, 1);
        let Some(service) = self.find(request.name) else {
            debug_assert!(false, "asked for a service that is not here");
            return;
        };
        let Envelope {
            id, codec, headers, ..
        } = request;
        resources.current = Current {
            id: *id,
            codec: *codec,
            timeout_ms: if headers.is_empty() {
                None
            } else {
                headers.timeout_ms()
            },
            answered: false,
            failure: None,
        };
        let reply = Reply {
            connection,
            resources,
        };
        service.call(Request { envelope: request }, reply);
        if !resources.current.answered {
            let failure = Failure::of(Code::Internal, "the service did not answer");
            resources.current.failure = Some(failure.code);
            connection.respond_failed(request.id, &failure, resources);
        }
    }

    /// The same for a sampled request: its `call` span, which ends with the answer, is the parent
    /// the service sees.
    #[cold]
    pub(in crate::broker) fn call_traced(
        &mut self,
        request: &Envelope<'_>,
        parent: &TraceContext,
        connection: &mut Connection,
        resources: &mut Resources,
    ) {
        let now = resources.now;
        let Some(tracer) = &mut resources.tracer else {
            return;
        };
        let span = tracer.begin_call(parent, request.name, connection.member.key, now);
        let mut block = Vec::new();
        let headers = headers_with(&request.headers, span.context(), &mut block);
        tracer.put_call(span);
        // Without room for another header the request keeps its own.
        let headers = headers.and_then(|()| Headers::check(&block).ok());
        let request = Envelope {
            headers: headers.unwrap_or(request.headers),
            ..*request
        };
        self.call(&request, connection, resources);
        let fault = resources.current.failure.map(Fault::Code);
        if let Some(tracer) = &mut resources.tracer
            && let Some(span) = tracer.take_call()
        {
            tracer.end_call(&span, fault, now);
        }
    }

    #[inline]
    fn find(&mut self, name: &str) -> Option<&mut dyn Service> {
        if self
            .services
            .get(self.last)
            .is_none_or(|service| &*service.0 != name)
        {
            self.last = *self.by_name.get(name)?;
        }
        Some(&mut *self.services[self.last].1)
    }
}

/// Why a request fails if its service name is invalid, or the requester may not call it.
#[cold]
pub(in crate::broker) fn refuse_name(refusal: &Refusal) -> Failure {
    Failure::of(refusal.code, &refusal.text)
}
