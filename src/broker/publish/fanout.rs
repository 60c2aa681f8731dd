//! A publication to many: delivered in slices, over turns, so that whoever else is on the
//! shard waits for one slice and not for ten thousand deliveries.
//!
//! ```text
//!   PUBLISH ─► few subscribers ─► delivered at once
//!           └► many ─► lane of its origin   own     [ batch │ batch ]   its slice a turn
//!                      (this shard, or      shard 1 [ batch ]           out of that shard's
//!                       the one it is from) shard 2 [ ]                 share of the turn
//!              RETAIN, at home here ──────► home    [ batch ]
//!
//!   batch:  one topic, its subscribers, messages 1 2 3 …
//!   slice:  some of the subscribers × all of the messages, written back to back
//! ```
//!
//! What one turn brings on a topic goes together: whoever published one goes on as long as
//! what follows joins the same batch, and waits from then on (`Fanning`). So a subscriber is
//! looked up, and sent to, once for all of them, and a delivery costs the same whether there
//! are fifty subscribers or ten thousand.
//!
//! The batches of a lane go one after the other, in the order they came; lanes take turns.
//! Another shard's are delivered where it is heard, and it is heard on in the same turn: so what
//! it has said takes as many turns as its work, however much of that are separate batches.
//! Whom a batch goes to is fixed when it begins: who subscribes later is not among them, who
//! has gone meanwhile is passed over; who has unsubscribed meanwhile may still get it. Where
//! finding them takes long, that goes by the lane, too (see `audience`). Groups are served
//! last, so that a member that is among the subscribers has it once; other shards at once.
//!
//! Order: a connection that has published to many is heard again when that is delivered, and
//! another shard likewise, each in its own lane; what has to have one order on all shards
//! (RETAIN) goes by a lane of its own at its home, whoever it is from.

use crate::base::id::{Key, ShardId};
use crate::broker::Broker;
use crate::broker::context::scheduler::Lane;
use crate::broker::context::trace::About;
use crate::broker::mesh::confirmation::{Answer, Until};
use crate::broker::publish::audience::Audience;
use crate::broker::publish::fanout_queue::{Batch, Behind, Done, Fanning, Sending, Served, Way};
use crate::broker::publish::publication::{Origin, Publication};
use crate::proto::encoded::Encoded;
use crate::proto::envelope::FLAG_RETAIN;
use bytes::Bytes;

/// Deliveries to a subscriber that was just delivered to which cost as much as its first.
const DELIVERIES_PER_UNIT: usize = 4;

impl Broker {
    /// Queues a publication.
    pub(in crate::broker) fn fan_out(
        &mut self,
        origin: Origin,
        audience: Audience<'_>,
        publication: &mut Publication<'_>,
    ) {
        // While the parsed payload, if there is one, is still at hand.
        self.translate_if_wanted(publication);
        let sending = Sending {
            origin,
            message: publication.parcel.share(&self.resources.pool.ledger),
            grown: publication.parcel.is_grown(),
            expires: publication.expires,
            number: publication.number,
            translation: publication.translation.as_ref().map(|one| one.share()),
            span: publication.span.take(),
            picks: audience.picks().into(),
            elsewhere: false,
        };
        let in_order = publication.envelope.flags & FLAG_RETAIN != 0;
        let way = self.way_of(origin, in_order);
        self.fanouts.messages += 1;
        let (topic, epoch) = (publication.envelope.name, self.router.epoch());
        let brought = match in_order && !self.replays.is_empty() {
            true => self.brought(publication),
            false => Vec::new(),
        };
        let is_alone = !brought.is_empty() || audience.is_again();
        let lane = self.fanouts.lane_mut(way);
        match lane.batches.back_mut() {
            Some(batch) if !is_alone && batch.takes(topic.as_bytes(), epoch) => {
                batch.join(sending);
            }
            _ => {
                let mut batch = self.begin_batch(topic, &audience, brought, sending);
                batch.closed = is_alone;
                batch.relays = batch.sought.is_some() && !batch.again && way == Way::Of(self.id);
                self.fanouts.push(way, batch);
            }
        }
        self.note_fanning(origin, way);
    }

    /// Subscribers whose replay is still going on, and which have just received this publication
    /// with it.
    #[cold]
    fn brought(&self, publication: &Publication<'_>) -> Vec<Key> {
        let replays = self.replays.iter();
        let mut brought: Vec<Key> = replays.map(|one| one.to()).collect();
        brought.retain(|&key| {
            let connection = self.connections.get(key);
            connection.is_some_and(|one| one.member.has_taken(publication))
        });
        brought
    }

    fn begin_batch(
        &mut self,
        topic: &str,
        audience: &Audience<'_>,
        brought: Vec<Key>,
        sending: Sending,
    ) -> Batch {
        let (list, sought) = self.seek_or_list(topic, audience, &brought);
        let mut batch = Batch {
            epoch: self.router.epoch(),
            topic: topic.into(),
            list,
            sought,
            again: audience.is_again(),
            relays: false,
            brought,
            messages: Vec::new(),
            bytes: 0,
            closed: false,
            done: 0,
            served: Served::default(),
            answers: Vec::new(),
        };
        batch.join(sending);
        batch
    }

    /// The lane for a publication; `in_order`: it belongs to the one order of retained
    /// publications.
    pub(in crate::broker) fn way_of(&self, origin: Origin, in_order: bool) -> Way {
        match origin {
            // In the order in which its home sent it.
            Origin::Link(from) => Way::Of(from),
            Origin::Home(_) => Way::Home,
            Origin::Connection(_) | Origin::Nobody if in_order => Way::Home,
            Origin::Connection(_) | Origin::Nobody => Way::Of(self.id),
        }
    }

    fn note_fanning(&mut self, origin: Origin, way: Way) {
        let batch = self.fanouts.lane_mut(way).batches.back();
        let is_open = batch.is_some_and(|batch| batch.takes(batch.topic.as_bytes(), batch.epoch));
        let fanning = match is_open && way != Way::Home {
            true => Fanning::Open,
            // A publication that follows a retained one may be in another lane.
            false => Fanning::Waits,
        };
        match origin {
            Origin::Connection(key) => {
                let before = self.connections.get_mut(key);
                let before = before.map(|one| std::mem::replace(&mut one.member.fanning, fanning));
                if before.is_some_and(|before| before != Fanning::No) {
                    self.fanouts.lane_mut(way).wait_for_last(origin);
                }
            }
            Origin::Link(from) | Origin::Home(from) => {
                self.fanouts.lane_mut(Way::Of(from)).fanning = fanning;
            }
            Origin::Nobody => {}
        }
    }

    /// Confirms a PUBLISH: at once, or once the fan-out it has just queued has been delivered.
    pub(in crate::broker) fn confirm_publish(&mut self, key: Key, id: u32, everywhere: bool) {
        let answer = Answer::published(id);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let number = self.publications;
        let is_last = |batch: &&mut Batch| {
            let last = batch.messages.last();
            last.is_some_and(|last| last.number == number)
        };
        let lanes = self.fanouts.lanes.iter_mut();
        let mut last = lanes.filter_map(|lane| lane.batches.back_mut());
        match last.find(is_last) {
            Some(batch) if connection.member.fanning != Fanning::No => {
                connection.member.answers_open += 1;
                self.fanouts.answers += 1;
                batch.answers.push(Behind {
                    connection: key,
                    answer,
                    until: Done::Published { number, everywhere },
                });
            }
            _ => self.answer(key, answer, everywhere),
        }
    }

    /// Keeps an answer to a connection until its publications to many have been delivered, if there
    /// are any; otherwise returns it.
    pub(in crate::broker) fn answer_behind(
        &mut self,
        key: Key,
        answer: Answer,
        until: Option<Until>,
    ) -> Option<Answer> {
        let of = |batch: &&mut Batch| {
            let mut origins = batch.messages.iter().map(|one| one.origin);
            origins.any(|origin| origin == Origin::Connection(key))
        };
        // Only its own lanes, never another shard's.
        let ways = [Way::Home.index(), Way::Of(self.id).index()];
        let lanes = self.fanouts.lanes.iter_mut().enumerate();
        let lanes = lanes.filter(|(index, _)| ways.contains(index));
        let mut batches = lanes.flat_map(|(_, lane)| lane.batches.iter_mut().rev());
        match (batches.find(of), self.connections.get_mut(key)) {
            (Some(batch), Some(connection)) => {
                connection.member.answers_open += 1;
                self.fanouts.answers += 1;
                let until = Done::Other(until);
                batch.answers.push(Behind {
                    connection: key,
                    answer,
                    until,
                });
                None
            }
            _ => Some(answer),
        }
    }

    /// Delivers the turn's share of what waits in the lanes of this shard and of what has its home
    /// here.
    pub(crate) fn step_fanouts(&mut self) {
        if self.fanouts.is_empty() {
            return;
        }
        let mut ways = [Way::Home, Way::Of(self.id)];
        let origins = ways.iter().filter(|&&way| self.fanouts.has_of(way)).count();
        ways.rotate_left(self.fanouts.next);
        self.fanouts.next = 1 - self.fanouts.next;
        for way in ways {
            if self.fanouts.has_of(way) {
                let index = way.index();
                self.resources.work.begin(Lane::Fanout { index, origins });
                self.step_lane(way);
            }
        }
    }

    /// Delivers what another shard has brought for many, within its share of the turn. True: it
    /// may be heard on.
    pub(in crate::broker) fn step_fanouts_of(&mut self, from: ShardId) -> bool {
        self.step_lane(Way::Of(from));
        self.fanouts.fanning(from) == Fanning::No
    }

    fn step_lane(&mut self, way: Way) {
        self.close_batches(way);
        while !self.resources.work.is_over()
            && let Some(mut batch) = self.fanouts.lane_mut(way).batches.pop_front()
        {
            if !self.find_audience(&mut batch) || !self.deliver_slice(&mut batch) {
                self.fanouts.lane_mut(way).batches.push_front(batch);
                break;
            }
            self.fanouts.waiting -= 1;
            self.finish_batch(batch);
        }
    }

    /// What was put into a lane by now is all: who did is not heard until it is delivered.
    fn close_batches(&mut self, way: Way) {
        let lane = self.fanouts.lane_mut(way);
        for batch in lane.batches.iter_mut().rev() {
            if std::mem::replace(&mut batch.closed, true) {
                continue;
            }
            for sending in &batch.messages {
                if let Origin::Connection(key) = sending.origin
                    && let Some(connection) = self.connections.get_mut(key)
                {
                    connection.member.fanning = Fanning::Waits;
                }
            }
        }
        if lane.fanning == Fanning::Open {
            lane.fanning = Fanning::Waits;
        }
    }

    /// Delivers to the next of a batch's subscribers. True: those were the last.
    fn deliver_slice(&mut self, batch: &mut Batch) -> bool {
        let messages = batch.messages.iter().map(|one| one.message.clone());
        let messages: Vec<Bytes> = messages.collect();
        let envelopes = messages
            .iter()
            .map(|message| Encoded::of(message).publication());
        let Some(envelopes) = envelopes.collect::<Option<Vec<_>>>() else {
            return true;
        };
        let shared = messages.iter().zip(&envelopes);
        let sending = batch.messages.iter_mut().zip(shared);
        let mut publications: Vec<_> = sending
            .map(|(sending, (message, envelope))| sending.publication(message, envelope))
            .collect();
        let units = 1 + publications.len() / DELIVERIES_PER_UNIT;
        while !self.resources.work.is_over()
            && let Some(&to) = batch.list.subscribers.get(batch.done)
        {
            for publication in &mut publications {
                self.deliver(to, publication);
            }
            batch.done += 1;
            self.resources.work.spend(units);
        }
        if batch.done == batch.list.subscribers.len() {
            self.serve_groups(batch, &mut publications);
        }
        for (sending, publication) in batch.messages.iter_mut().zip(publications) {
            sending.translation = publication.translation;
        }
        batch.served.messages == batch.messages.len()
    }

    /// All have it: who waited for that goes on, and is answered.
    fn finish_batch(&mut self, mut batch: Batch) {
        self.fanouts.messages -= batch.messages.len();
        self.fanouts.answers -= batch.answers.len();
        if self.fanouts.batches_of(&batch.list) == 1 {
            self.fanouts.listed_bytes -= batch.list.held_bytes();
        }
        let reached = batch.list.subscribers.len();
        for sending in &mut batch.messages {
            let (topic, bytes) = (&*batch.topic, sending.message.len());
            let about = || About::delivered(topic, bytes, reached);
            self.resources.end_span(sending.span.take(), about);
            match sending.origin {
                Origin::Connection(key) => self.go_on(key),
                // Whose lane still has something is stepped on, and then heard.
                Origin::Link(from) | Origin::Home(from) if !self.fanouts.has_of(Way::Of(from)) => {
                    self.fanouts.lane_mut(Way::Of(from)).fanning = Fanning::No;
                    self.mesh.release(from);
                }
                Origin::Link(_) | Origin::Home(_) | Origin::Nobody => {}
            }
            if let Origin::Home(from) = sending.origin {
                self.mesh.owe(from, bytes);
            }
        }
        // None of them waits for another of them.
        for behind in &batch.answers {
            if let Some(connection) = self.connections.get_mut(behind.connection) {
                connection.member.answers_open -= 1;
            }
        }
        for behind in batch.answers {
            let until = match behind.until {
                Done::Other(until) => until,
                Done::Published { number, everywhere } => {
                    let of = batch
                        .messages
                        .binary_search_by_key(&number, |one| one.number);
                    let elsewhere = of.is_ok_and(|at| batch.messages[at].elsewhere);
                    (everywhere || elsewhere).then(|| self.until_done())
                }
            };
            self.answer_in_turn(behind.connection, behind.answer, until);
            if let Some(connection) = self.connections.get_mut(behind.connection)
                && connection.heed_answers()
            {
                self.lists.make_ready(behind.connection);
            }
            self.touch(behind.connection);
        }
    }

    /// What a connection has waited for is delivered: it is read on.
    pub(in crate::broker) fn go_on(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let fanning = std::mem::take(&mut connection.member.fanning);
        if fanning != Fanning::No && !connection.member.ready {
            connection.member.ready = true;
            self.lists.make_ready(key);
        }
        self.touch(key);
    }
}
