//! A publication to many: delivered in slices, over turns, so that whoever else is on the
//! shard waits for one slice and not for ten thousand deliveries.
//!
//! ```text
//!   PUBLISH ─► few subscribers ─► delivered at once
//!           └► many ─► queue [ front: 128 each turn │ … ] ─► all done: OK, publisher goes on
//! ```
//!
//! One at a time, in the order they came. Whom it goes to is settled when it comes: who
//! subscribes later is not among them, who has gone meanwhile is passed over; who has
//! unsubscribed meanwhile may still get it. Groups are served with the last slice, so that a
//! member that is among the subscribers has it once; other shards at once.
//!
//! Order: a connection whose publication is in the queue is not read on until that is
//! done, and neither are the other shards when theirs is; so the queue is as long as there
//! are connections at most, and what one publishes after it comes after it.

use super::backlog::{Confirmation, Fanout};
use super::confirmation::Answer;
use super::exchange::Exchange;
use super::parcel::Parcel;
use super::publication::{Origin, Publication};
use super::trace::About;
use crate::base::id::Key;
use crate::base::limits::{DELIVERIES_PER_SLICE, MESSAGE_HEADER_BYTES};
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use crate::router::Subscription;

impl Exchange {
    /// Queues a publication to these subscribers and groups.
    pub(super) fn fan_out(
        &mut self,
        origin: Origin,
        subscribers: &[Subscription],
        groups: &[Key],
        publication: &mut Publication<'_>,
    ) {
        // Here, where it may have been taken apart already.
        self.translate_if_wanted(publication);
        let mut subscribers = subscribers.to_vec();
        if !self.replays.is_empty() {
            // One who is still being brought what is retained may just have been given it.
            subscribers.retain(|one| {
                let connection = self.connections.get(one.connection);
                !connection.is_some_and(|one| one.line.has_taken(publication))
            });
        }
        self.fanouts.push_back(Fanout {
            origin,
            message: publication.parcel.share(),
            grown: publication.parcel.is_grown(),
            expires: publication.expires,
            number: publication.number,
            translation: publication.translation.as_ref().map(|one| one.share()),
            span: publication.span.take(),
            subscribers,
            groups: groups.to_vec(),
            done: 0,
            confirmation: None,
        });
        match origin {
            Origin::Connection(key) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.fanning = true;
                }
            }
            Origin::Mesh => self.mesh_waits = true,
            Origin::Nobody => {}
        }
    }

    /// Confirms a PUBLISH: at once, or when what it has just queued has been delivered.
    pub(super) fn confirm_publish(&mut self, key: Key, id: u32, everywhere: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let own = |fanout: &&mut Fanout| fanout.origin == Origin::Connection(key);
        match self.fanouts.back_mut().filter(own) {
            Some(fanout) if connection.fanning => {
                connection.line.answers_open += 1;
                fanout.confirmation = Some(Confirmation { id, everywhere });
            }
            _ => self.answer(key, Answer::published(id), everywhere),
        }
    }

    /// Delivers the turn's share of the first in the queue.
    pub(super) fn step_fanout(&mut self) {
        let Some(mut fanout) = self.fanouts.pop_front() else {
            return;
        };
        let body = &fanout.message[MESSAGE_HEADER_BYTES..];
        let Ok(envelope) = Envelope::parse(MessageType::Publish, body) else {
            debug_assert!(false, "it was parsed before it was queued");
            return;
        };
        let mut publication = Publication {
            parcel: Parcel::shared(&fanout.message).grown(fanout.grown),
            envelope: &envelope,
            expires: fanout.expires,
            number: fanout.number,
            retained: false,
            sliced: true,
            group: None,
            translation: fanout.translation.take(),
            span: None,
        };
        let end = fanout.subscribers.len();
        let slice = fanout.done..end.min(fanout.done + DELIVERIES_PER_SLICE);
        fanout.done = slice.end;
        for &subscription in &fanout.subscribers[slice] {
            self.deliver(subscription, &mut publication);
        }
        let is_last = fanout.done == end;
        let elsewhere =
            is_last && self.deliver_to_groups(fanout.origin, &fanout.groups, &mut publication);
        fanout.translation = publication.translation;
        if !is_last {
            self.fanouts.push_front(fanout);
        } else {
            if let Some(confirmation) = &mut fanout.confirmation {
                confirmation.everywhere |= elsewhere;
            }
            let (span, bytes) = (fanout.span.take(), fanout.message.len());
            self.resources
                .end_span(span, || About::delivered(envelope.name, bytes, end));
            self.finish_fanout(&fanout);
        }
    }

    fn finish_fanout(&mut self, fanout: &Fanout) {
        let key = match fanout.origin {
            Origin::Connection(key) => key,
            Origin::Mesh => {
                self.mesh_waits = false;
                return;
            }
            Origin::Nobody => return,
        };
        self.go_on(key);
        if let Some(Confirmation { id, everywhere }) = fanout.confirmation
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.line.answers_open -= 1;
            self.answer(key, Answer::published(id), everywhere);
        }
        self.touch(key);
    }

    /// What a connection has waited for is delivered: it is read on.
    pub(super) fn go_on(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut connection.fanning, false) && !connection.ready {
            connection.ready = true;
            self.ready.push_back(key);
        }
    }
}
