//! SUBSCRIBE, UNSUBSCRIBE, SERVE, UNSERVE, WILL: what a connection wants of the exchange.
//!
//! The router of this shard learns it at once, those of the others through the mesh; the
//! operation is answered when all have it.

use super::confirm::Answer;
use super::exchange::Exchange;
use super::mesh::{InterestKind, Mesh};
use super::station::{Membership, Station};
use crate::base::id::Key;
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Envelope, header};
use crate::proto::error::{Code, Refusal};
use crate::proto::message::{MessageType, strip_checksum};
use crate::proto::name::{check_filter, check_topic};
use crate::router::{Change, Subscription};

impl Exchange {
    /// Does one of the operations above and answers it.
    pub(super) fn operate(
        &mut self,
        key: Key,
        kind: MessageType,
        envelope: &Envelope<'_>,
        message: &[u8],
    ) {
        let done = match kind {
            MessageType::Subscribe => self.subscribe(key, envelope),
            MessageType::Unsubscribe => self.unsubscribe(key, envelope),
            MessageType::Serve => self.serve(key, envelope),
            MessageType::Unserve => self.unserve(key, envelope),
            _ => self.keep_will(key, envelope, message),
        };
        let answer = match done {
            Ok(()) => Answer::ok(envelope.id),
            Err(refusal) => Answer::refused(envelope.id, refusal),
        };
        self.answer(key, answer, true);
    }

    fn subscribe(&mut self, key: Key, envelope: &Envelope<'_>) -> Result<(), Refusal> {
        let filter = envelope.name;
        check_filter(filter)?;
        self.check_count(key)?;
        let group = envelope.headers.find(header::GROUP);
        let subscription = Subscription {
            connection: key,
            policy: envelope.headers.slow_policy(),
            codec: envelope.codec,
        };
        let made = self.router.subscribe(filter, group, subscription);
        let membership = Membership {
            filter: filter.into(),
            group: group.unwrap_or_default().into(),
            number: made.group,
        };
        self.mesh.tell_group(&membership, made.change);
        if made.new {
            self.resources.counters.add(Counter::Subscribed, 1);
            self.join(key, membership, |station| &mut station.subscriptions);
        }
        if group.is_none() {
            self.deliver_retained(filter, subscription);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, key: Key, envelope: &Envelope<'_>) -> Result<(), Refusal> {
        check_filter(envelope.name)?;
        let group = envelope.headers.find(header::GROUP);
        let Some((change, number)) = self.router.unsubscribe(envelope.name, group, key) else {
            let text = "there is no such subscription on this connection";
            return Err(Refusal::new(Code::NotSubscribed, text));
        };
        let gone = self.part(key, envelope.name, group, |station| {
            &mut station.subscriptions
        });
        if let Some(membership) = gone {
            self.resources.counters.add(Counter::Unsubscribed, 1);
            self.mesh.tell_group(
                &Membership {
                    number,
                    ..membership
                },
                change,
            );
        }
        Ok(())
    }

    fn serve(&mut self, key: Key, envelope: &Envelope<'_>) -> Result<(), Refusal> {
        let service = envelope.name;
        check_filter(service)?;
        if service.starts_with('$') {
            let text = "names that begin with $ are the server's";
            return Err(Refusal::new(Code::Forbidden, text));
        }
        self.check_count(key)?;
        let made = self.router.serve(service, key);
        let membership = Membership {
            filter: service.into(),
            group: Box::default(),
            number: made.group,
        };
        self.mesh.tell_servers(&membership, made.change);
        if made.new {
            self.join(key, membership, |station| {
                station.has_served = true;
                &mut station.servings
            });
        }
        Ok(())
    }

    fn unserve(&mut self, key: Key, envelope: &Envelope<'_>) -> Result<(), Refusal> {
        check_filter(envelope.name)?;
        let Some((change, number)) = self.router.unserve(envelope.name, key) else {
            let text = "this connection does not serve that";
            return Err(Refusal::new(Code::NotSubscribed, text));
        };
        let gone = self.part(key, envelope.name, None, |station| &mut station.servings);
        if let Some(membership) = gone {
            self.mesh.tell_servers(
                &Membership {
                    number,
                    ..membership
                },
                change,
            );
        }
        Ok(())
    }

    fn keep_will(
        &mut self,
        key: Key,
        envelope: &Envelope<'_>,
        message: &[u8],
    ) -> Result<(), Refusal> {
        let will = if envelope.name.is_empty() {
            None
        } else {
            check_topic(envelope.name)?;
            if envelope.name.starts_with('$') {
                let text = "names that begin with $ are the server's";
                return Err(Refusal::new(Code::Forbidden, text));
            }
            Some(message)
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let checksum = connection.line.session.has_checksum();
        let plain = will.map(|message| {
            let mut plain = Vec::with_capacity(message.len());
            match checksum {
                true => strip_checksum(message, &mut plain),
                false => plain.extend_from_slice(message),
            }
            // The PUBLISH it will be: the same envelope under the other type.
            plain[3] = MessageType::Publish as u8;
            plain.into_boxed_slice()
        });
        connection.line.station_mut().will = plain;
        connection.line.recharge(&mut self.resources);
        Ok(())
    }

    fn check_count(&self, key: Key) -> Result<(), Refusal> {
        let most = self.resources.limits.subscriptions_max as usize;
        let station = self
            .connections
            .get(key)
            .and_then(|one| one.line.station.as_ref());
        let count = station.map_or(0, |one| one.subscriptions.len() + one.servings.len());
        if count >= most {
            let text = format!("a connection has at most {most} subscriptions and services");
            return Err(Refusal::with(Code::TooManySubscriptions, text));
        }
        Ok(())
    }

    fn join(
        &mut self,
        key: Key,
        membership: Membership,
        list: impl Fn(&mut Station) -> &mut Vec<Membership>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        list(connection.line.station_mut()).push(membership);
        if connection.line.shelved {
            self.note_stalled(key, false);
            self.note_stalled(key, true);
        }
    }

    fn part(
        &mut self,
        key: Key,
        filter: &str,
        group: Option<&[u8]>,
        list: impl Fn(&mut Station) -> &mut Vec<Membership>,
    ) -> Option<Membership> {
        let connection = self.connections.get_mut(key)?;
        let list = list(connection.line.station.as_deref_mut()?);
        let same = |one: &Membership| &*one.filter == filter && one.group() == group;
        let index = list.iter().position(same)?;
        Some(list.swap_remove(index))
    }
}

impl Mesh {
    /// Tells the other shards of a change in a filter's subscribers or a group's members.
    pub(super) fn tell_group(&mut self, membership: &Membership, change: Change) {
        let Change::Tell(count) = change else { return };
        let number = membership.number;
        let kind = match number {
            Some(_) => InterestKind::Group,
            None => InterestKind::Plain,
        };
        let number = number.unwrap_or(Key {
            slot: 0,
            generation: 0,
        });
        self.tell(&membership.filter, &membership.group, kind, number, count);
    }

    /// Tells the other shards of a change in a service's servers.
    pub(super) fn tell_servers(&mut self, membership: &Membership, change: Change) {
        if let (Change::Tell(count), Some(number)) = (change, membership.number) {
            let kind = InterestKind::Servers;
            self.tell(&membership.filter, &[], kind, number, count);
        }
    }
}
