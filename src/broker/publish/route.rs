//! PUBLISH: from one connection to every subscriber, on this shard and on others.
//!
//! ```text
//!   PUBLISH ─► router ─┬─ subscribers here ─► deliver: the same bytes into each outbox
//!                      ├─ interested shards ─► one mesh entry each; they look up for themselves
//!                      └─ groups ─► one member: here, or by the shard it was picked on
//! ```
//!
//! A subscriber whose outbox has room gets its copy at once (a large message by reference). For one
//! that does not keep up, the message is put on its pending queue, where all such subscribers share
//! one copy and the slow policy acts (see `pending`); what is in an outbox is never taken back.
//!
//! Invariant: what one connection publishes on one topic reaches each subscriber in that order: it
//! takes the same path each time, and every queue on that path is FIFO. A retained publication goes
//! through its topic's home (`home`), and so do those that follow it.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::broker::Broker;
use crate::broker::context::trace::{About, Open};
use crate::broker::mesh::Cause;
use crate::broker::mesh::confirmation::Answer;
use crate::broker::peers::client_state::Will;
use crate::broker::peers::transport::Transport;
use crate::broker::publish::audience::Audience;
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::finding::Purpose;
use crate::broker::publish::home::Reach;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Origin, Publication, SchemaId, Terms, Translation};
use crate::broker::publish::schema::is_long;
use crate::metrics::counter::Counter;
use crate::metrics::span::SpanName;
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Envelope, FLAG_RETAIN};
use crate::proto::error::{Code, Refusal};
use crate::proto::name::check_topic;
use crate::proto::trace::{Carried, TraceContext};
use crate::router::{Matches, Version};
use crate::wire::Received;
use std::time::Duration;

impl Broker {
    /// Handles a client's PUBLISH; `message` is all of it, as received.
    #[inline]
    pub(in crate::broker) fn publish(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
        message: Received<'_>,
    ) {
        self.resources.counters.add(Counter::Publishes, 1);
        let id = envelope.id;
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if connection.member.has_published(id) {
            // Even if it would be refused now.
            return self.answer(key, Answer::ok(id), true);
        }
        if let Err(refusal) = self.check_publish(&connection.transport, envelope, message.len()) {
            if refusal.code == Code::Overloaded {
                self.sweep_retained();
            }
            return self.answer(key, Answer::unpublished(id, refusal), false);
        }
        let mut translation = None;
        if let Some(schema) = self.schema_of(envelope) {
            translation = self.check_published(key, schema, envelope, message);
            if translation.is_none() {
                return;
            }
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.member.uses_mesh = true;
        connection.member.take_publish(id);
        let mut scratch = std::mem::take(&mut self.scratch);
        let parcel = Parcel::of(message.encoded(&mut scratch));
        let tracer = self.resources.tracer.as_ref();
        let origin = Origin::Connection(key);
        let reach = match tracer.and_then(|tracer| tracer.received()) {
            None => self.route(origin, key, envelope, parcel, None, translation),
            Some(context) => self.route_traced(origin, key, &context, parcel, translation),
        };
        self.scratch = scratch;
        if id != 0 {
            self.confirm_reach(key, id, reach);
        }
    }

    /// Checks the payload of a PUBLISH on a topic with a schema. `None`: it is refused, or a worker
    /// checks it and it continues later.
    #[inline(never)]
    fn check_published(
        &mut self,
        key: Key,
        schema: SchemaId,
        envelope: &Envelope<'_>,
        message: Received<'_>,
    ) -> Option<Box<Translation>> {
        let checked = match is_long(envelope) {
            false => self.check_payload(schema, envelope).map(Some),
            true => {
                self.have_checked(key, Purpose::Publish, schema, envelope, message);
                Ok(None)
            }
        };
        checked.unwrap_or_else(|refusal| {
            self.answer(key, Answer::unpublished(envelope.id, refusal), false);
            None
        })
    }

    /// Continues a PUBLISH that a worker has checked; its connection may have ended meanwhile.
    pub(in crate::broker) fn publish_parcel(
        &mut self,
        origin: Origin,
        key: Key,
        envelope: &Envelope<'_>,
        parcel: Parcel<'_>,
        translation: Option<Box<Translation>>,
        context: Option<TraceContext>,
    ) {
        let id = envelope.id;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.member.uses_mesh = true;
            connection.member.take_publish(id);
        }
        let reach = match context {
            None => self.route(origin, key, envelope, parcel, None, translation),
            Some(context) => self.route_traced(origin, key, &context, parcel, translation),
        };
        if id != 0 {
            self.confirm_reach(key, id, reach);
        }
    }

    /// Publishes the will of a connection that has ended without a CLOSE.
    pub(in crate::broker) fn publish_will(&mut self, key: Key, will: Will) {
        let Will {
            message,
            translation,
            charge: _charge,
        } = will;
        let message = &*message;
        if let Some(envelope) = Encoded::of(message).publication() {
            self.resources.counters.add(Counter::Wills, 1);
            let is_traced = self.resources.tracer.is_some();
            let context = TraceContext::of(&envelope.headers).filter(TraceContext::is_sampled);
            match context.filter(|_| is_traced) {
                None => {
                    let parcel = Parcel::plain(message);
                    self.route(Origin::Nobody, key, &envelope, parcel, None, translation)
                }
                Some(context) => {
                    let parcel = Parcel::plain(message);
                    self.route_traced(Origin::Nobody, key, &context, parcel, translation)
                }
            };
        }
    }

    #[inline]
    fn check_publish(
        &self,
        transport: &Transport,
        envelope: &Envelope<'_>,
        bytes: usize,
    ) -> Result<(), Refusal> {
        check_topic(envelope.name)?;
        refuse_reserved(envelope.name)?;
        if !transport.bearer().may_publish(envelope.name) {
            return Err(self.forbid());
        }
        let keeps = envelope.flags & FLAG_RETAIN != 0 && !envelope.payload.is_empty();
        let most = self.resources.limits.retained_bytes_max();
        // Replaced messages that readers still hold count as well.
        let held = self.resources.pool.ledger.retained_bytes();
        let left_to_readers = held.saturating_sub(self.router.retained_message_bytes());
        if keeps && self.router.retained_bytes() + left_to_readers + bytes > most {
            let text = "memory for retained messages is used up; clear some with an empty payload";
            return Err(Refusal::new(Code::Overloaded, text));
        }
        Ok(())
    }

    /// Re-encodes a sampled publication, so that it carries its `route` span as parent from here
    /// on.
    #[cold]
    fn route_traced(
        &mut self,
        origin: Origin,
        by: Key,
        parent: &TraceContext,
        parcel: Parcel<'_>,
        translation: Option<Box<Translation>>,
    ) -> Reach {
        let now = self.resources.now;
        let Some(tracer) = &mut self.resources.tracer else {
            return Reach::Here;
        };
        let route = tracer.begin(SpanName::Route, parent, now);
        let deliver = tracer.begin(SpanName::Deliver, &route.context, now);
        let mut scratch = std::mem::take(&mut tracer.scratch);
        let (parcel, deliver) = match parcel.message().with_trace(&route.context, &mut scratch) {
            Some(done) => {
                let parcel = Parcel::plain(&scratch).grown(done == Carried::Added);
                (parcel, Some(deliver))
            }
            // There is no room for another header: its trace ends here.
            None => (parcel, None),
        };
        let message = parcel.message();
        let reach = match message.publication() {
            Some(envelope) => {
                let reach = self.route(origin, by, &envelope, parcel, deliver, translation);
                if let Some(tracer) = &mut self.resources.tracer {
                    let about = About::delivered(envelope.name, message.len(), 0);
                    tracer.end(route, about, now);
                }
                reach
            }
            None => Reach::Here,
        };
        if let Some(tracer) = &mut self.resources.tracer {
            tracer.scratch = scratch;
        }
        reach
    }

    /// Delivers a publication made by connection `by`, or has its topic's home do so.
    fn route(
        &mut self,
        origin: Origin,
        by: Key,
        envelope: &Envelope<'_>,
        parcel: Parcel<'_>,
        span: Option<Open>,
        translation: Option<Box<Translation>>,
    ) -> Reach {
        let now = self.resources.now;
        self.topics.note(envelope.name, now);
        let expires = match envelope.headers.is_empty() {
            true => None,
            false => envelope.headers.expires_ms(),
        };
        let expires = expires.map_or(Instant::NEVER, |ms| {
            now + Duration::from_millis(u64::from(ms))
        });
        let mut publication = self.publication(envelope, parcel, expires);
        publication.span = span;
        let retain = envelope.flags & FLAG_RETAIN != 0;
        if let Some(translation) = translation {
            let due = translation.is_due(retain);
            publication.translation = Some(translation);
            if due {
                self.translate(&mut publication);
            }
        }
        if (retain || self.mesh.is_homing())
            && let Some(ticket) = self.send_home(by, retain, &mut publication)
        {
            return Reach::Home(ticket);
        }
        match self.spread(origin, publication, None) {
            true => Reach::Everywhere,
            false => Reach::Here,
        }
    }

    /// Delivers a publication here and sends it to the other shards that want it, where it waits
    /// for its `cause`. True if any do.
    pub(in crate::broker) fn spread(
        &mut self,
        origin: Origin,
        mut publication: Publication<'_>,
        cause: Option<Cause<'_>>,
    ) -> bool {
        let envelope = publication.envelope;
        let (now, retain) = (self.resources.now, envelope.flags & FLAG_RETAIN != 0);
        let at = if retain { self.retain_version() } else { now };
        if retain {
            let version = Version { at, shard: self.id };
            self.retain(&mut publication, version);
        }

        let mut matches = std::mem::take(&mut self.matches);
        let is_found = self.find(envelope.name, &mut matches);
        let groups = &matches.groups;
        let sliced = match is_found {
            true => self.deliver_all(origin, &matches, groups, &mut publication),
            false => {
                self.fan_out(origin, Audience::Sought { picks: &[] }, &mut publication);
                true
            }
        };
        let mut picks = std::mem::take(&mut self.picks);
        picks.clear();
        let mut reached = matches.local.len();
        if !sliced {
            self.resources.work.spend(groups.len());
            reached += self.deliver_or_pick(groups, &mut publication, &mut picks);
        }
        if !is_found && (retain || cause.is_some()) {
            // Publications that follow must not overtake it.
            self.mesh.add_shards_to(&mut matches.elsewhere.shards);
        }
        let everywhere = retain || !matches.elsewhere.shards.is_empty() || !picks.is_empty();
        if everywhere {
            let terms = publication.terms(retain, false, at);
            let (parcel, translated) = publication.forms();
            let elsewhere = &matches.elsewhere;
            self.mesh
                .publish(parcel, elsewhere, &picks, terms, translated, cause);
        }
        if !is_found {
            // Those of what follows are told when they are known.
            matches.elsewhere.shards.clear();
        }
        (self.picks, self.matches) = (picks, matches);
        self.end_deliver(&mut publication, reached);
        everywhere && self.mesh.shard_count() > 1
    }

    /// Ends the `deliver` span of a publication, unless delivery is still going on.
    #[inline]
    fn end_deliver(&mut self, publication: &mut Publication<'_>, reached: usize) {
        let span = publication.span.take().filter(|_| reached > 0);
        let (topic, bytes) = (publication.envelope.name, publication.parcel.len());
        self.resources
            .end_span(span, || About::delivered(topic, bytes, reached));
    }

    /// Delivers another shard's publication to the subscribers here.
    pub(in crate::broker) fn take_publication(
        &mut self,
        from: ShardId,
        parcel: Parcel<'_>,
        picks: &[Key],
        terms: &Terms,
        translation: Option<Box<Translation>>,
    ) {
        let Some(envelope) = parcel.message().publication() else {
            return;
        };
        let mut publication = self.publication_of_peer(&envelope, parcel, terms, translation);
        let (mut reached, mut sliced) = (0, false);
        if terms.retain {
            let version = Version {
                at: terms.at,
                shard: from,
            };
            self.retain(&mut publication, version);
        }
        if terms.plain || terms.retain {
            let mut matches = std::mem::take(&mut self.matches);
            let origin = Origin::Link(from);
            sliced = match self.find(envelope.name, &mut matches) {
                true => self.deliver_all(origin, &matches, picks, &mut publication),
                false => {
                    self.fan_out(origin, Audience::Sought { picks }, &mut publication);
                    true
                }
            };
            reached = matches.local.len();
            self.matches = matches;
        }
        let is_many = picks.len() >= self.resources.limits.pace.fanout_min;
        if terms.again && (is_many || !self.note_plain(&publication)) {
            let audience = Audience::Again { picks };
            self.fan_out(Origin::Link(from), audience, &mut publication);
        } else if terms.again {
            for &group in picks {
                self.deliver_again(group, true, &mut publication);
            }
        } else if !sliced {
            let origin = Origin::Link(from);
            self.resources.work.spend(picks.len());
            let mut elsewhere = Vec::new();
            let publication = &mut publication;
            self.deliver_to_groups(origin, picks, false, |_| false, publication, &mut elsewhere);
            if !elsewhere.is_empty() {
                self.send_on(&elsewhere, publication);
            }
        }
        reached += picks.len();
        self.end_deliver(&mut publication, reached);
    }

    /// Delivers to the plain subscribers found. True: it takes several turns to do so, and then
    /// serves these groups.
    #[inline]
    fn deliver_all(
        &mut self,
        origin: Origin,
        matches: &Matches,
        groups: &[Key],
        publication: &mut Publication<'_>,
    ) -> bool {
        let subscribers = &matches.local;
        let is_behind = !self.fanouts.is_empty() && !subscribers.is_empty();
        let is_many = subscribers.len().max(groups.len()) >= self.resources.limits.pace.fanout_min;
        if is_many || (is_behind && self.comes_behind(origin, publication)) {
            let picks: &[Key] = match origin {
                Origin::Link(_) => groups,
                Origin::Connection(_) | Origin::Home(_) | Origin::Nobody => &[],
            };
            self.fan_out(origin, Audience::Found { matches, picks }, publication);
            return true;
        }
        self.resources.work.spend(subscribers.len());
        for &subscription in subscribers {
            self.deliver(subscription, publication);
        }
        false
    }

    /// Whether it must not overtake what is still being delivered to many: publications of the same
    /// connection or the same shard, or, if one order holds for all, anything in that lane.
    #[cold]
    fn comes_behind(&self, origin: Origin, publication: &Publication<'_>) -> bool {
        let in_order = publication.envelope.flags & FLAG_RETAIN != 0;
        let fanning = match origin {
            Origin::Connection(key) => self.connections.get(key).map(|one| one.member.fanning),
            Origin::Link(from) => Some(self.fanouts.fanning(from)),
            Origin::Home(_) | Origin::Nobody => None,
        };
        fanning.is_some_and(|fanning| fanning != Fanning::No)
            || (in_order && self.fanouts.has_of(self.way_of(origin, in_order)))
    }

    pub(in crate::broker) fn publication<'a>(
        &mut self,
        envelope: &'a Envelope<'a>,
        parcel: Parcel<'a>,
        expires: Instant,
    ) -> Publication<'a> {
        self.publications += 1;
        Publication {
            parcel,
            envelope,
            expires,
            number: self.publications,
            retained: false,
            sliced: false,
            group: None,
            translation: None,
            span: None,
        }
    }

    /// A publication sent by another shard; it continues that shard's `deliver` span.
    pub(in crate::broker) fn publication_of_peer<'a>(
        &mut self,
        envelope: &'a Envelope<'a>,
        parcel: Parcel<'a>,
        terms: &Terms,
        translation: Option<Box<Translation>>,
    ) -> Publication<'a> {
        let parcel = parcel.grown(terms.grown);
        let span = self.resources.begin_deliver(&envelope.headers);
        Publication {
            translation,
            span,
            ..self.publication(envelope, parcel, terms.expires)
        }
    }
}

/// Refuses a name that only the server itself may publish to or serve.
///
/// # Errors
/// FORBIDDEN.
pub(in crate::broker) fn refuse_reserved(name: &str) -> Result<(), Refusal> {
    if name.starts_with('$') {
        let text = "names starting with $ are reserved";
        return Err(Refusal::new(Code::Forbidden, text));
    }
    Ok(())
}
