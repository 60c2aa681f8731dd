//! Publications to many that wait for their slices, as values: batches, in a lane for each
//! shard they are from (see `fanout`).

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::slot_set::SlotSet;
use crate::broker::context::ledger::Charge;
use crate::broker::context::trace::Open;
use crate::broker::mesh::confirmation::{Answer, Until};
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Origin, Publication, Translation};
use crate::proto::envelope::Envelope;
use crate::router::{Search, Subscription};
use bytes::Bytes;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// Messages and bytes of one batch: what a turn's chunk takes of each subscriber's.
const BATCH_MESSAGES_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 16_384;
/// Whether a connection, or another shard, is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fanning {
    /// Nothing of it is on its way to many.
    #[default]
    No,
    /// This turn's is, and may be joined by more of the same topic.
    Open,
    /// It is not heard until that is delivered.
    Waits,
}

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Way {
    /// What is retained, and has one order for all: of this shard and, where its topic is at
    /// home here, of others.
    Home,
    /// Everything else, by the shard it is from; this one's own among them.
    Of(ShardId),
}

impl Way {
    pub(in crate::broker) fn index(self) -> usize {
        match self {
            Way::Home => 0,
            Way::Of(shard) => usize::from(shard.0) + 1,
        }
    }
}

#[derive(Default)]
pub(crate) struct Fanouts {
    /// By their ways.
    pub(in crate::broker) lanes: Vec<OriginLane>,
    /// Batches in all lanes.
    pub(in crate::broker) waiting: usize,
    /// Messages in them, answers behind them, and bytes of their lists of subscribers, each list once.
    pub(in crate::broker) messages: usize,
    pub(in crate::broker) answers: usize,
    pub(in crate::broker) listed_bytes: usize,
    /// The lane that is next.
    pub(in crate::broker) next: usize,
    /// The subscribers of the last batch that was begun: the next may have the same.
    pub(in crate::broker) last: Option<Rc<Listed>>,
}

#[derive(Default)]
pub(in crate::broker) struct OriginLane {
    pub(in crate::broker) batches: VecDeque<Batch>,
    /// Of the other shard it is for.
    pub(in crate::broker) fanning: Fanning,
}

/// The receivers of publications on a topic, valid for one `epoch` of the router.
pub(in crate::broker) struct Listed {
    pub(in crate::broker) epoch: u64,
    pub(in crate::broker) topic: Box<str>,
    /// Each connection once; ordered by slot if there are groups, whose members are looked up here.
    pub(in crate::broker) subscribers: Box<[Subscription]>,
    /// Groups of which one member gets it, by this shard's numbers.
    pub(in crate::broker) groups: Box<[Key]>,
}

/// Who is still being looked for.
pub(in crate::broker) struct Sought {
    pub(in crate::broker) search: Search,
    pub(in crate::broker) charge: Charge,
}

/// Progress in choosing the group members that get a batch's messages.
#[derive(Default)]
pub(in crate::broker) struct Served {
    /// Messages completed, and groups completed for the next message.
    pub(in crate::broker) messages: usize,
    pub(in crate::broker) groups: usize,
    /// Connections that have received that message as a member; picked members on other shards.
    pub(in crate::broker) given: BTreeSet<Key>,
    pub(in crate::broker) picks: Vec<(ShardId, Key)>,
}

pub(in crate::broker) struct Batch {
    pub(in crate::broker) epoch: u64,
    pub(in crate::broker) topic: Box<str>,
    /// Empty until the subscribers have been found.
    pub(in crate::broker) list: Rc<Listed>,
    pub(in crate::broker) sought: Option<Sought>,
    /// The subscribers already have its only message: a group member gets it.
    pub(in crate::broker) again: bool,
    /// Other shards get it once it is known which of them want it.
    pub(in crate::broker) relays: bool,
    /// Connections that have received its only message with their retained messages.
    pub(in crate::broker) brought: Vec<Key>,
    pub(in crate::broker) messages: Vec<Sending>,
    pub(in crate::broker) bytes: usize,
    /// It has begun, or is for subscribers of its own: nothing joins it.
    pub(in crate::broker) closed: bool,
    /// How many of the subscribers have it.
    pub(in crate::broker) done: usize,
    pub(in crate::broker) served: Served,
    /// Answers to give once it is delivered, in this order.
    pub(in crate::broker) answers: Vec<Behind>,
}

pub(in crate::broker) struct Sending {
    pub(in crate::broker) origin: Origin,
    pub(in crate::broker) message: Bytes,
    /// See `Parcel::grown`.
    pub(in crate::broker) grown: bool,
    pub(in crate::broker) expires: Instant,
    pub(in crate::broker) number: u64,
    pub(in crate::broker) translation: Option<Box<Translation>>,
    /// Its `deliver` span, if it is sampled.
    pub(in crate::broker) span: Option<Open>,
    /// Groups for which another shard has picked this one, or whose chosen member has left.
    pub(in crate::broker) picks: Box<[Key]>,
    /// Members on other shards were among its receivers.
    pub(in crate::broker) elsewhere: bool,
}

/// An answer that must follow what its connection published before.
pub(in crate::broker) struct Behind {
    pub(in crate::broker) connection: Key,
    pub(in crate::broker) answer: Answer,
    pub(in crate::broker) until: Done,
}

pub(in crate::broker) enum Done {
    /// The publication with this number is delivered: here, and elsewhere if it was sent there.
    Published {
        number: u64,
        everywhere: bool,
    },
    Other(Option<Until>),
}

impl Batch {
    pub(in crate::broker) fn takes(&self, topic: &[u8], epoch: u64) -> bool {
        !self.closed
            && self.epoch == epoch
            && self.messages.len() < BATCH_MESSAGES_MAX
            && self.bytes < BATCH_BYTES_MAX
            && self.topic.as_bytes() == topic
    }

    pub(in crate::broker) fn join(&mut self, sending: Sending) {
        self.bytes += sending.message.len();
        self.messages.push(sending);
    }
}

impl OriginLane {
    /// The last message is another of its connection's, which goes on behind that one, not
    /// behind what stands in an earlier batch.
    pub(in crate::broker) fn wait_for_last(&mut self, origin: Origin) {
        let is_own = |one: &&mut Sending| one.origin == origin;
        let mut batches = self.batches.iter_mut().rev();
        let last = batches.next().map(|batch| batch.messages.iter_mut());
        if last.is_some_and(|messages| messages.filter(is_own).count() > 1) {
            return;
        }
        for batch in batches {
            let mut is_in = false;
            for one in batch.messages.iter_mut().filter(is_own) {
                (one.origin, is_in) = (Origin::Nobody, true);
            }
            if is_in {
                return;
            }
        }
    }
}

impl Fanouts {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes of memory of the queue, without its messages.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.listed_bytes
            + self.messages * size_of::<Sending>()
            + self.answers * size_of::<Behind>()
            + self.waiting * size_of::<Batch>()
    }

    fn lane(&self, way: Way) -> Option<&OriginLane> {
        self.lanes.get(way.index())
    }

    /// Something waits in this lane.
    pub(in crate::broker) fn has_of(&self, way: Way) -> bool {
        let lane = self.lane(way);
        lane.is_some_and(|lane| !lane.batches.is_empty())
    }

    /// Whether what another shard has said can be heard: nothing of it is on its way.
    pub(in crate::broker) fn fanning(&self, shard: ShardId) -> Fanning {
        let lane = self.lane(Way::Of(shard));
        lane.map_or(Fanning::No, |lane| lane.fanning)
    }

    /// Whether a publication on this topic would join the last batch of a lane.
    pub(in crate::broker) fn joins(&self, shard: ShardId, epoch: u64, topic: &[u8]) -> bool {
        let lane = self.lane(Way::Of(shard));
        let last = lane.and_then(|lane| lane.batches.back());
        last.is_some_and(|batch| batch.takes(topic, epoch))
    }

    pub(in crate::broker) fn push(&mut self, way: Way, batch: Batch) {
        self.lane_mut(way).batches.push_back(batch);
        self.waiting += 1;
    }

    pub(in crate::broker) fn lane_mut(&mut self, way: Way) -> &mut OriginLane {
        let index = way.index();
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, OriginLane::default);
        }
        &mut self.lanes[index]
    }

    /// Batches with this very list: the first and the last of them account for it.
    pub(in crate::broker) fn batches_of(&self, list: &Rc<Listed>) -> usize {
        let last = self.last.as_ref();
        let is_last = last.is_some_and(|last| Rc::ptr_eq(last, list));
        Rc::strong_count(list) - usize::from(is_last)
    }

    /// The receivers of publications on a topic.
    pub(in crate::broker) fn list(
        &mut self,
        topic: &str,
        epoch: u64,
        subscribers: &[Subscription],
        groups: &[Key],
    ) -> Rc<Listed> {
        let is_last = |last: &&Rc<Listed>| last.epoch == epoch && *last.topic == *topic;
        if let Some(last) = self.last.as_ref().filter(is_last) {
            return last.clone();
        }
        let list = Rc::new(Listed::new(topic, epoch, subscribers.to_vec(), groups));
        self.last = Some(list.clone());
        list
    }
}

impl Listed {
    /// Of each connection, only the first subscription counts.
    pub(in crate::broker) fn new(
        topic: &str,
        epoch: u64,
        mut subscribers: Vec<Subscription>,
        groups: &[Key],
    ) -> Listed {
        let mut seen = SlotSet::new();
        subscribers.retain(|one| seen.insert(one.connection.slot));
        if !groups.is_empty() {
            subscribers.sort_unstable_by_key(|one| one.connection.slot);
        }
        Listed {
            epoch,
            topic: topic.into(),
            subscribers: subscribers.into(),
            groups: groups.into(),
        }
    }

    /// Bytes of memory it holds.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        size_of_val(&*self.subscribers) + size_of_val(&*self.groups)
    }

    /// Whether a connection is among the subscribers.
    pub(in crate::broker) fn has(&self, connection: Key) -> bool {
        let all = &self.subscribers;
        if self.groups.is_empty() {
            // Another shard has picked a group that was not found here.
            return all.iter().any(|one| one.connection == connection);
        }
        let at = all.binary_search_by_key(&connection.slot, |one| one.connection.slot);
        at.is_ok_and(|at| all[at].connection == connection)
    }
}

impl Sending {
    pub(in crate::broker) fn publication<'a>(
        &mut self,
        message: &'a Bytes,
        envelope: &'a Envelope<'a>,
    ) -> Publication<'a> {
        Publication {
            parcel: Parcel::shared(message).grown(self.grown),
            envelope,
            expires: self.expires,
            number: self.number,
            retained: false,
            sliced: true,
            group: None,
            translation: self.translation.take(),
            span: None,
        }
    }
}
