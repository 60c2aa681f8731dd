//! Delivery: one message to one connection, whatever that connection's state.
//!
//! ```text
//!   keeps up                      ─► outbox
//!   outbox full, or others wait   ─► pending queue ── the outbox drains ──► outbox  (publications)
//!   expires, and a send in flight ─► pending queue too: what is in the outbox cannot expire
//!   session                       ─► replay log too, as it goes into the outbox
//!   replay log full               ─► pending queue ── the client acknowledges ──► outbox and log
//!   session without connection    ─► pending queue ── the client is back ──► outbox and log
//!   group message, member gone    ─► another member (`legacy`)
//! ```
//!
//! Requests and responses do not wait on the pending queue: they are bounded by the open calls, and
//! may overtake waiting publications. For a session without a connection they go to its replay log.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::CHUNK_BYTES;
use crate::broker::Broker;
use crate::broker::context::resource::Resources;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::slow::{SLOW_REPORTS_MAX, SlowReport};
use crate::broker::peers::transport::{Stage, Transport};
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::pending::{Bound, Dropped, Held, Put};
use crate::broker::publish::publication::Publication;
use crate::metrics::counter::Counter;
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{SlowPolicy, header};
use crate::proto::error::Code;
use crate::router::Subscription;

impl Broker {
    /// Delivers a publication to one subscriber, at most once.
    #[inline]
    pub(in crate::broker) fn deliver(
        &mut self,
        to: Subscription,
        publication: &mut Publication<'_>,
    ) {
        if publication.translation.is_some() && self.wants_other(to, publication) {
            return self.deliver_translated(to, publication);
        }
        let Some(Connection { member, transport }) = self.connections.get_mut(to.connection) else {
            return self.leave_to_others(publication);
        };
        let taken = match publication.sliced {
            false => &mut member.taken,
            true => &mut member.taken_sliced,
        };
        if *taken == publication.number {
            return;
        }
        *taken = publication.number;
        if transport.stage == Stage::Running
            && !member.careful
            && !publication.is_special()
            && transport.takes(publication.parcel.len())
            && transport.has_room(publication.parcel.len(), &self.resources)
        {
            transport.write(&mut publication.parcel, None, &mut self.resources);
            self.resources.counters.add(Counter::Deliveries, 1);
            if !member.touched {
                member.touched = true;
                self.lists.touch(to.connection);
            }
        } else {
            self.deliver_carefully(to, publication);
        }
    }

    /// Delivers to a subscriber that does not keep up, has a session, or is gone; or a message that
    /// may expire, or have to go to another subscriber, before its turn comes.
    #[inline(never)]
    fn deliver_carefully(&mut self, to: Subscription, publication: &mut Publication<'_>) {
        let Some(connection) = self.connections.get_mut(to.connection) else {
            return;
        };
        let resources = &mut self.resources;
        let Connection { member, transport } = connection;
        let is_running = transport.stage == Stage::Running;
        if !is_running && !member.counted {
            return self.leave_to_others(publication);
        }
        if !transport.bearer().may_receive(publication.envelope.name) {
            return resources.counters.add(Counter::DeliveriesForbidden, 1);
        }
        if !transport.takes(publication.parcel.len()) {
            return match publication.parcel.ungrown() {
                Some(message) => self.deliver_ungrown(to, publication, &message),
                None => resources.counters.add(Counter::DeliveriesTooLarge, 1),
            };
        }
        if !is_running {
            self.leave_behind(to, publication);
        } else if !member.has_pending
            && connection.takes_now(publication.parcel.len(), publication.expires, resources)
        {
            let (group, expires) = (publication.group, publication.expires);
            connection.put(&mut publication.parcel, group, expires, resources);
        } else {
            self.set_aside(to, publication);
            // While a send is in flight there is nothing to reconcile; its completion reconciles
            // the connection.
            let connection = self.connections.get(to.connection);
            let sends =
                |transport: &Transport| transport.sending && transport.stage == Stage::Running;
            if connection.is_some_and(|one| sends(&one.transport)) {
                return;
            }
        }
        self.touch(to.connection);
    }

    /// Delivers the original message to a subscriber for which its TRACEPARENT makes it too large.
    #[cold]
    fn deliver_ungrown(&mut self, to: Subscription, publication: &Publication<'_>, message: &[u8]) {
        let Some(envelope) = Encoded::of(message).publication() else {
            return;
        };
        let mut publication = Publication {
            parcel: Parcel::plain(message),
            envelope: &envelope,
            translation: None,
            span: None,
            ..*publication
        };
        self.deliver_carefully(to, &mut publication);
    }

    fn set_aside(&mut self, to: Subscription, publication: &mut Publication<'_>) {
        let policy = to.policy.unwrap_or(self.resources.limits.slow_policy);
        let now = self.resources.now;
        let Some(connection) = self.connections.get_mut(to.connection) else {
            return;
        };
        let held = Held {
            message: publication.parcel.share(&self.resources.pool.ledger),
            expires: publication.expires,
            since: now,
            policy,
            retained: publication.retained,
            group: publication.group,
        };
        let bytes = held.message.len();
        let is_late = !(connection.transport.has_room(bytes, &self.resources)
            && connection.member.may_log(bytes, &self.resources));
        let queued = connection.transport.outbox.queued_bytes();
        let is_keyed = policy == SlowPolicy::LatestPerKey;
        let key = is_keyed.then(|| publication.latest_key(&mut self.latest_key));
        let presses = self.holders.is_among_largest(connection.weight() + bytes);
        let bound = connection.pending_bound(presses, &self.resources);
        let is_away = connection.transport.has_left;
        let state = connection.member.state_mut();
        let (put, dropped) = state.pending.put(held, key, &bound, now);
        let age = state.pending.oldest_age(now);
        let waiting = queued + state.pending.bytes();
        let acted = acted(&put, &dropped);
        let first = !is_away && acted && !std::mem::replace(&mut state.told_slow, true);
        connection.member.has_pending = true;
        connection.member.recharge(&mut self.resources);
        count_dropped(&dropped, &self.resources);
        if first && self.slow_reports.len() < SLOW_REPORTS_MAX {
            self.slow_reports.push_back(SlowReport {
                connection: to.connection,
                policy,
                bytes_queued: waiting,
                oldest_age: age,
            });
        }
        self.note_weight(to.connection);
        let Some(connection) = self.connections.get_mut(to.connection) else {
            return;
        };
        match put {
            // A client that comes back for the session learns that it is gone.
            Put::Full if is_away => {
                connection.lapse(&mut self.resources);
                self.leave_to_others(publication);
            }
            Put::Full => {
                let Connection { member, transport } = connection;
                let text = match member.may_log(publication.parcel.len(), &self.resources) {
                    true => "you do not read as fast as others publish",
                    false => "you do not acknowledge as fast as others publish",
                };
                transport.refuse(Code::SlowConsumer, text, &mut self.resources);
                self.leave_behind(to, publication);
            }
            Put::Held => {
                connection.member.careful = true;
                if is_late {
                    self.note_stalled(to.connection, true);
                }
            }
        }
    }

    /// The connection is ending or has ended: its session, if it has one, keeps the publication for
    /// the next connection.
    fn leave_behind(&mut self, to: Subscription, publication: &mut Publication<'_>) {
        let waits = |one: &Connection| one.member.counted && one.transport.has_left;
        let leaves = |one: &Connection| self.leaves_session(one);
        if self.connections.get(to.connection).is_some_and(leaves) {
            self.leave_behind_session(to.connection);
        }
        if self.connections.get(to.connection).is_some_and(waits) {
            self.set_aside(to, publication);
        } else {
            self.leave_to_others(publication);
        }
    }

    /// The outbox has drained, or the client has acknowledged: delivers from the pending queue.
    pub(crate) fn refill(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let resources = &mut self.resources;
        let now = resources.now;
        loop {
            // Checked with the message's size: one that does not fit would take a large chunk.
            let pending = &connection.member.state_mut().pending;
            let (bytes, expires) = (pending.oldest_bytes(), pending.oldest_expires());
            if !connection.takes_now(bytes, expires, resources) {
                break;
            }
            let state = connection.member.state_mut();
            let before = state.pending_before;
            let Some(held) = state.pending.next(now) else {
                break;
            };
            let bearer = connection.transport.bearer();
            if (before || bearer.is_narrowed())
                && !bearer.may_subscribe(Encoded::of(&held.message).topic())
            {
                resources.counters.add(Counter::DeliveriesForbidden, 1);
                continue;
            }
            if before && !connection.transport.takes(held.message.len()) {
                resources.counters.add(Counter::DeliveriesTooLarge, 1);
                continue;
            }
            let parcel = &mut Parcel::shared(&held.message);
            connection.put(parcel, held.group, held.expires, resources);
        }
        let state = connection.member.state_mut();
        let expired = state.pending.take_expired();
        resources
            .counters
            .add(Counter::DeliveriesExpired, u64::from(expired));
        let done = state.pending.is_empty();
        if done {
            (state.told_slow, state.pending_before) = (false, false);
            connection.member.has_pending = false;
            connection.note_care();
        }
        connection.member.recharge(resources);
        if done {
            self.note_stalled(key, false);
        }
    }
}

fn acted(put: &Put, dropped: &Dropped) -> bool {
    *put == Put::Full || dropped.oldest + dropped.newest + dropped.conflated > 0
}

pub(in crate::broker) fn count_dropped(dropped: &Dropped, resources: &Resources) {
    let counts = [
        (Counter::SlowDroppedOldest, dropped.oldest),
        (Counter::SlowDroppedNewest, dropped.newest),
        (Counter::SlowReplaced, dropped.conflated),
        (Counter::DeliveriesExpired, dropped.expired),
    ];
    for (counter, count) in counts {
        if count > 0 {
            resources.counters.add(counter, u64::from(count));
        }
    }
}

impl Connection {
    /// Whether the outbox and the session's replay log take a publication now. The outbox takes one
    /// that expires only if it goes out with the next send: otherwise, while there is memory for
    /// that, it waits on the pending queue, where its expiry is checked again.
    fn takes_now(&self, bytes: usize, expires: Instant, resources: &Resources) -> bool {
        let goes_next = || !self.transport.sending && self.transport.outbox.goes_next(bytes);
        self.transport.has_room(bytes, resources)
            && self.member.may_log(bytes, resources)
            && (expires == Instant::NEVER || goes_next() || resources.pool.is_crowded())
    }

    /// Takes another connection's REQUEST or RESPONSE, under the given id. A session without a
    /// connection keeps it until it `expires`. False: the peer does not accept so large a message.
    pub(in crate::broker) fn take_message(
        &mut self,
        parcel: &mut Parcel<'_>,
        id: u32,
        expires: Instant,
        resources: &mut Resources,
    ) -> bool {
        let is_running = self.transport.stage == Stage::Running;
        if (is_running || self.member.counted) && !self.transport.takes(parcel.len()) {
            return match parcel.ungrown() {
                Some(message) => {
                    let mut parcel = Parcel::plain(&message);
                    self.take_message(&mut parcel, id, expires, resources)
                }
                None => false,
            };
        }
        if self.member.counted {
            let message = parcel.message().with_id(id);
            self.log(&message, expires, is_running, resources);
        }
        if is_running {
            self.transport.write(parcel, Some(id), resources);
        }
        true
    }

    /// Writes a publication into the outbox, and records it where it has to be kept.
    fn put(
        &mut self,
        parcel: &mut Parcel<'_>,
        group: Option<Key>,
        expires: Instant,
        resources: &mut Resources,
    ) {
        self.log_for(group, parcel.bytes(), expires, true, resources);
        self.transport.write(parcel, None, resources);
        if let Some(group) = group {
            self.note_trail(group, parcel, expires, resources);
        }
        resources.counters.add(Counter::Deliveries, 1);
    }

    /// The bound of its pending queue. When memory runs out, the queue may not grow if `presses`:
    /// the connection is among the largest holders.
    fn pending_bound(&self, presses: bool, resources: &Resources) -> Bound {
        let (pool, limits) = (&resources.pool, &resources.limits);
        let pending = self.member.state.as_ref().map(|state| &state.pending);
        // Up to a chunk may wait for a connection that is only late: a turn with many deliveries
        // makes any connection late.
        let holds = pending.is_some_and(|pending| pending.cost_bytes() >= CHUNK_BYTES);
        let presses = presses && holds;
        if self.transport.has_left {
            let logged = self
                .member
                .durable()
                .map_or(0, |durable| durable.log.bytes());
            return Bound {
                bytes_max: limits.session_buffer_bytes_max.saturating_sub(logged),
                pressed: presses && pool.is_exhausted(),
            };
        }
        let queued = self.transport.outbox.queued_bytes();
        Bound {
            bytes_max: limits.outbox_bytes_max.saturating_sub(queued),
            pressed: presses && pool.is_crowded(),
        }
    }
}

impl Publication<'_> {
    /// The key under which LATEST_PER_KEY keeps one message: the topic and, if there is one, the
    /// KEY. The topic's length comes first and a marker precedes the KEY, so that no two keys
    /// encode alike.
    pub(in crate::broker) fn latest_key<'k>(&self, key: &'k mut Vec<u8>) -> &'k [u8] {
        let topic = self.envelope.name.as_bytes();
        key.clear();
        key.push(topic.len() as u8);
        key.extend_from_slice(topic);
        if let Some(value) = self.envelope.headers.find(header::KEY) {
            key.push(1);
            key.extend_from_slice(value);
        }
        key
    }
}
