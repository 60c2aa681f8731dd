//! SUBSCRIBE, UNSUBSCRIBE, SERVE, UNSERVE, WILL.
//!
//! This shard's router learns of the change at once, the other shards' routers through the mesh;
//! the operation is answered when all of them have it.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::context::ledger::Charge;
use crate::broker::context::scheduler::UNSUBSCRIBE_UNITS;
use crate::broker::mesh::confirmation::Answer;
use crate::broker::mesh::{InterestKind, Mesh};
use crate::broker::peers::client_state::{ClientState, Membership, Will};
use crate::broker::peers::transport::Transport;
use crate::broker::publish::finding::Purpose;
use crate::broker::publish::publication::Translation;
use crate::broker::publish::route::refuse_reserved;
use crate::broker::publish::schema::is_long;
use crate::metrics::counter::Counter;
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Codec, Envelope, header};
use crate::proto::error::{Code, Refusal};
use crate::proto::name::{check_filter, check_topic};
use crate::router::{Change, FilterId, Subscribed, Subscription};
use crate::wire::Received;

/// The fraction of its memory that a shard may use for the interest map: three quarters.
const INTEREST_SHARE: (usize, usize) = (3, 4);

/// Subscriptions that are removed in one step when a connection ends.
const LEAVES_AT_ONCE: usize = 64;

/// When an operation is complete and can be answered.
pub(in crate::broker) enum Done {
    Now,
    /// Once a worker has checked the will, or many retained messages have been delivered.
    Later,
    /// The subscription is made: the answer waits until everything that other shards sent before
    /// they knew of it has arrived.
    Subscribed,
}

impl Broker {
    /// Carries out one of these operations and answers it.
    pub(in crate::broker) fn change(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
        change: impl FnOnce(&mut Broker) -> Result<Done, Refusal>,
    ) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.member.uses_mesh = true;
        }
        self.resources.work.spend(UNSUBSCRIBE_UNITS);
        match change(self) {
            Ok(Done::Later) => {}
            Ok(Done::Subscribed) => self.answer_subscribe(key, Answer::ok(envelope.id)),
            Ok(Done::Now) => self.answer(key, Answer::ok(envelope.id), true),
            Err(refusal) => self.answer(key, Answer::refused(envelope.id, refusal), true),
        }
    }

    pub(in crate::broker) fn subscribe(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
    ) -> Result<Done, Refusal> {
        let filter = envelope.name;
        check_filter(filter)?;
        self.check_right(key, |transport| transport.bearer().may_subscribe(filter))?;
        let group = envelope.headers.find(header::GROUP);
        self.check_count(key, |broker, state| {
            let made = broker.router.subscription(filter, group);
            made.is_some_and(|(filter, number)| {
                let one = Membership { filter, number };
                state.subscriptions.contains(&one)
            })
        })?;
        let subscription = Subscription {
            connection: key,
            policy: envelope.headers.slow_policy(),
            codec: envelope.codec,
        };
        if group.is_none() && !self.replay(envelope.id, filter, subscription) {
            return Ok(Done::Later);
        }
        self.make_subscription(filter, group, subscription)?;
        Ok(Done::Subscribed)
    }

    /// Makes a subscription after its retained messages have been delivered. Meanwhile the
    /// connection may have ended, or its rights may have been narrowed.
    pub(in crate::broker) fn make_subscription(
        &mut self,
        filter: &str,
        group: Option<&[u8]>,
        subscription: Subscription,
    ) -> Result<(), Refusal> {
        let key = subscription.connection;
        if !self.keeps_subscriptions(key) {
            return Ok(());
        }
        self.check_right(key, |transport| transport.bearer().may_subscribe(filter))?;
        let codec = match subscription.codec {
            Codec::Bytes => self.codec_of(key),
            codec => codec,
        };
        self.note_wanted(key, codec);
        let made = self.router.subscribe(filter, group, subscription);
        self.mesh
            .tell_members(filter, group.unwrap_or_default(), made.group, made.change);
        if made.new {
            self.resources.counters.add(Counter::Subscribed, 1);
            self.join(key, &made, |state| &mut state.subscriptions);
        }
        Ok(())
    }

    pub(in crate::broker) fn unsubscribe(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
    ) -> Result<Done, Refusal> {
        let filter = envelope.name;
        check_filter(filter)?;
        let group = envelope.headers.find(header::GROUP);
        let ended = self.router.subscription(filter, group);
        let ended = ended.and_then(|(id, number)| {
            let (change, _) = self.router.unsubscribe_id(id, number, key)?;
            Some((id, number, change))
        });
        let (id, number, change) =
            ended.ok_or_else(|| none("no such subscription on this connection"))?;
        self.resources.counters.add(Counter::Unsubscribed, 1);
        self.mesh
            .tell_members(filter, group.unwrap_or_default(), number, change);
        self.part(key, id, number, |state| &mut state.subscriptions);
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(state) = &mut connection.member.state
            && state.subscriptions.is_empty()
        {
            let wants = std::mem::take(&mut state.wants);
            self.forget_wanted(wants);
        }
        Ok(Done::Now)
    }

    pub(in crate::broker) fn serve(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
    ) -> Result<Done, Refusal> {
        let service = envelope.name;
        check_filter(service)?;
        refuse_reserved(service)?;
        self.check_right(key, |transport| transport.bearer().may_serve(service))?;
        self.check_count(key, |broker, state| {
            let made = broker.router.service(service);
            made.is_some_and(|filter| state.servings.iter().any(|one| one.filter == filter))
        })?;
        let made = self.router.serve(service, key);
        self.mesh.tell_servers(service, made.group, made.change);
        if made.new {
            self.join(key, &made, |state| {
                state.has_served = true;
                &mut state.servings
            });
        }
        Ok(Done::Now)
    }

    pub(in crate::broker) fn unserve(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
    ) -> Result<Done, Refusal> {
        let service = envelope.name;
        check_filter(service)?;
        let ended = self.router.service(service);
        let ended = ended.and_then(|id| {
            let (change, number) = self.router.unserve_id(id, key)?;
            Some((id, number, change))
        });
        let (id, number, change) =
            ended.ok_or_else(|| none("this connection does not serve that service"))?;
        self.mesh.tell_servers(service, number, change);
        self.part(key, id, number, |state| &mut state.servings);
        Ok(Done::Now)
    }

    /// Removes all subscriptions and services of a connection from the router.
    pub(in crate::broker) fn leave_all(&mut self, key: Key, state: &mut ClientState) {
        let subscriptions = std::mem::take(&mut state.subscriptions);
        let servings = std::mem::take(&mut state.servings);
        self.leave(key, &subscriptions, &servings);
    }

    /// The same for a connection that ends, some at a time: within the share of the lane, and no
    /// more than other shards, which are told, have time for. True: all are removed. If not, call it
    /// again in a later turn. Its session can no longer be resumed.
    pub(crate) fn leave_some(&mut self, key: Key) -> bool {
        loop {
            let connection = self.connections.get_mut(key);
            let Some(state) = connection.and_then(|one| one.member.state.as_deref_mut()) else {
                return true;
            };
            if state.subscriptions.is_empty() && state.servings.is_empty() {
                return true;
            }
            if let Some(durable) = &mut state.durable {
                durable.lapse();
            }
            if self.mesh.is_pressed() && !self.draining {
                return false;
            }
            let some = |list: &mut Vec<Membership>| {
                list.split_off(list.len().saturating_sub(LEAVES_AT_ONCE))
            };
            let (subscriptions, servings) =
                (some(&mut state.subscriptions), some(&mut state.servings));
            let is_last = state.subscriptions.is_empty() && state.servings.is_empty();
            self.leave(key, &subscriptions, &servings);
            if self.resources.work.is_over() {
                return is_last;
            }
        }
    }

    /// Removes these subscriptions and services of a connection from the router; the caller updates
    /// the connection's own lists.
    pub(in crate::broker) fn leave(
        &mut self,
        key: Key,
        subscriptions: &[Membership],
        servings: &[Membership],
    ) {
        let (mut filter, mut group) = (String::new(), Vec::new());
        let count = subscriptions.len() + servings.len();
        self.resources.work.spend(count * UNSUBSCRIBE_UNITS);
        self.memberships -= count;
        for &Membership { filter: id, number } in subscriptions {
            filter.clear();
            self.router.filter_name(id, &mut filter);
            group.clear();
            let name = number.and_then(|number| self.router.group_name(number));
            group.extend_from_slice(name.map_or(&[], |name| name.1));
            if let Some((change, _)) = self.router.unsubscribe_id(id, number, key) {
                self.resources.counters.add(Counter::Unsubscribed, 1);
                self.mesh.tell_members(&filter, &group, number, change);
            }
        }
        for &Membership { filter: id, number } in servings {
            filter.clear();
            let name = number.and_then(|number| self.router.group_name(number));
            filter.push_str(name.map_or("", |name| name.0));
            if let Some((change, _)) = self.router.unserve_id(id, key) {
                self.mesh.tell_servers(&filter, number, change);
            }
        }
    }

    /// Tells groups and services that a member is stalled, or is so no longer.
    pub(crate) fn note_stalled(&mut self, key: Key, stalled: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(state) = connection.member.state.as_deref_mut() else {
            return;
        };
        let stalled = stalled || state.trail.backed_up;
        if std::mem::replace(&mut state.stalled, stalled) == stalled {
            return;
        }
        let subscriptions = state.subscriptions.iter().map(|one| (one, false));
        let servings = state.servings.iter().map(|one| (one, true));
        for (membership, serves) in subscriptions.chain(servings) {
            let Some(number) = membership.number else {
                continue;
            };
            let change = self.router.set_stalled(number, key, stalled);
            let Some((filter, group)) = self.router.group_name(number) else {
                continue;
            };
            match serves {
                true => self.mesh.tell_servers(filter, Some(number), change),
                false => self.mesh.tell_members(filter, group, Some(number), change),
            }
        }
    }

    pub(in crate::broker) fn keep_will(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
        message: Received<'_>,
    ) -> Result<Done, Refusal> {
        if envelope.name.is_empty() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.member.state_mut().will = None;
            }
            return Ok(Done::Now);
        }
        check_topic(envelope.name)?;
        refuse_reserved(envelope.name)?;
        self.check_right(key, |transport| {
            transport.bearer().may_publish(envelope.name)
        })?;
        let translation = match self.schema_of(envelope) {
            None => None,
            Some(id) if is_long(envelope) => {
                self.have_checked(key, Purpose::KeepWill, id, envelope, message);
                return Ok(Done::Later);
            }
            Some(id) => {
                let translation = self.check_payload(id, envelope)?;
                Some(self.translate_will(translation, envelope))
            }
        };
        let mut scratch = Vec::new();
        self.put_will(key, message.encoded(&mut scratch), translation);
        Ok(Done::Now)
    }

    /// Stores a will that may be published as it is; `message` is the whole message, without CRC.
    pub(in crate::broker) fn put_will(
        &mut self,
        key: Key,
        message: Encoded<'_>,
        translation: Option<Box<Translation>>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut will = Will {
            message: message.published(),
            translation,
            charge: Charge::default(),
        };
        let bytes = will.bytes();
        will.charge.set(&self.resources.pool.ledger, bytes);
        connection.member.state_mut().will = Some(will);
    }

    /// The codec a connection prefers.
    fn codec_of(&self, key: Key) -> Codec {
        let connection = self.connections.get(key);
        connection.map_or(Codec::Bytes, |one| one.transport.session.codec())
    }

    fn check_right(&self, key: Key, may: impl FnOnce(&Transport) -> bool) -> Result<(), Refusal> {
        match self.connections.get(key) {
            Some(connection) if !may(&connection.transport) => Err(self.forbid()),
            _ => Ok(()),
        }
    }

    /// Whether the connection may have one more; `stands`: it would not be one more.
    fn check_count(
        &self,
        key: Key,
        stands: impl Fn(&Broker, &ClientState) -> bool,
    ) -> Result<(), Refusal> {
        let most = self.resources.limits.subscriptions_max as usize;
        let state = self
            .connections
            .get(key)
            .and_then(|one| one.member.state.as_ref());
        let count = state.map_or(0, |one| one.subscriptions.len() + one.servings.len());
        if count >= most && !state.is_some_and(|state| stands(self, state)) {
            let text =
                format!("too many subscriptions and services on this connection (max {most})");
            return Err(Refusal::with(Code::TooManySubscriptions, text));
        }
        if self.interest_bytes()
            > self.resources.pool.bytes_max() / INTEREST_SHARE.1 * INTEREST_SHARE.0
        {
            let text = "subscriptions and services take as much of this shard's memory as they \
                        may: end some, or raise limits.outbox_bytes_shard_max";
            return Err(Refusal::new(Code::Overloaded, text));
        }
        Ok(())
    }

    fn join(
        &mut self,
        key: Key,
        made: &Subscribed,
        list: impl Fn(&mut ClientState) -> &mut Vec<Membership>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        self.memberships += 1;
        let state = connection.member.state_mut();
        list(state).push(Membership {
            filter: made.filter,
            number: made.group,
        });
        let stalled = std::mem::replace(&mut state.stalled, false);
        connection.member.recharge(&mut self.resources);
        if stalled {
            // Tell the new group or service too.
            self.note_stalled(key, true);
        }
    }

    fn part(
        &mut self,
        key: Key,
        filter: FilterId,
        number: Option<Key>,
        list: impl Fn(&mut ClientState) -> &mut Vec<Membership>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let list = list(connection.member.state_mut());
        let gone = Membership { filter, number };
        if let Some(index) = list.iter().position(|one| *one == gone) {
            list.swap_remove(index);
            self.memberships -= 1;
        }
        connection.member.recharge(&mut self.resources);
    }
}

/// Why an UNSUBSCRIBE or UNSERVE is refused.
#[cold]
fn none(text: &'static str) -> Refusal {
    Refusal::new(Code::NotSubscribed, text)
}

impl Mesh {
    /// Announces a change in a filter's subscribers, or in a group's members, to the other shards.
    fn tell_members(&mut self, filter: &str, group: &[u8], number: Option<Key>, change: Change) {
        let Change::Tell(count) = change else { return };
        const NONE: Key = Key {
            slot: 0,
            generation: 0,
        };
        match number {
            Some(number) => self.tell(filter, group, InterestKind::Group, number, count),
            None => self.tell(filter, group, InterestKind::Plain, NONE, count),
        }
    }

    /// Announces a change in a service's servers to the other shards.
    fn tell_servers(&mut self, service: &str, number: Option<Key>, change: Change) {
        if let (Change::Tell(count), Some(number)) = (change, number) {
            self.tell(service, &[], InterestKind::Servers, number, count);
        }
    }
}
