//! Publications to many that wait for their slices, as values: batches, in a lane for each
//! shard they are from (see `fanout`).

use super::confirmation::{Answer, Until};
use super::ledger::Charge;
use super::parcel::Parcel;
use super::publication::{Origin, Publication, Translation};
use super::trace::Open;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
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
pub(super) enum Fanning {
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
pub(super) enum Way {
    /// What is retained, and has one order for all: of this shard and, where its topic is at
    /// home here, of others.
    Home,
    /// Everything else, by the shard it is from; this one's own among them.
    Of(ShardId),
}

impl Way {
    pub(super) fn index(self) -> usize {
        match self {
            Way::Home => 0,
            Way::Of(shard) => usize::from(shard.0) + 1,
        }
    }
}

#[derive(Default)]
pub(super) struct Fanouts {
    /// By their ways.
    pub(super) lanes: Vec<OriginLane>,
    /// Batches in all lanes.
    pub(super) waiting: usize,
    /// Messages in them, answers behind them, and bytes of their lists of subscribers, each list once.
    pub(super) messages: usize,
    pub(super) answers: usize,
    pub(super) listed_bytes: usize,
    /// The lane that is next.
    pub(super) next: usize,
    /// The subscribers of the last batch that was begun: the next may have the same.
    pub(super) last: Option<Rc<Listed>>,
}

#[derive(Default)]
pub(super) struct OriginLane {
    pub(super) batches: VecDeque<Batch>,
    /// Of the other shard it is for.
    pub(super) fanning: Fanning,
}

/// Who gets what is published on a topic, as long as the router's `epoch` is that.
pub(super) struct Listed {
    pub(super) epoch: u64,
    pub(super) topic: Box<str>,
    /// Each once, by their slots.
    pub(super) subscribers: Box<[Subscription]>,
    /// Groups of which a member gets it, by this shard's numbers.
    pub(super) groups: Box<[Key]>,
}

/// Who is still being looked for.
pub(super) struct Sought {
    pub(super) search: Search,
    pub(super) charge: Charge,
}

/// Members of groups who get a batch's messages, as far as they were chosen.
#[derive(Default)]
pub(super) struct Served {
    /// Messages that are done with, and groups of the next.
    pub(super) messages: usize,
    pub(super) groups: usize,
    /// Who has had that one as a member; members of other shards that are to have it.
    pub(super) given: BTreeSet<Key>,
    pub(super) picks: Vec<(ShardId, Key)>,
}

pub(super) struct Batch {
    pub(super) epoch: u64,
    pub(super) topic: Box<str>,
    /// Nobody, as long as they are sought.
    pub(super) list: Rc<Listed>,
    pub(super) sought: Option<Sought>,
    /// The subscribers have its one message already: a group's member gets it.
    pub(super) again: bool,
    /// Other shards get it when it is known which of them want it.
    pub(super) relays: bool,
    /// Who has had its one message with what is retained.
    pub(super) brought: Vec<Key>,
    pub(super) messages: Vec<Sending>,
    pub(super) bytes: usize,
    /// It has begun, or is for subscribers of its own: nothing joins it.
    pub(super) closed: bool,
    /// How many of the subscribers have it.
    pub(super) done: usize,
    pub(super) served: Served,
    /// Given when it is delivered, in this order.
    pub(super) answers: Vec<Behind>,
}

pub(super) struct Sending {
    pub(super) origin: Origin,
    pub(super) message: Bytes,
    /// See `Parcel::grown`.
    pub(super) grown: bool,
    pub(super) expires: Instant,
    pub(super) number: u64,
    pub(super) translation: Option<Box<Translation>>,
    /// Its `deliver` span, if it is sampled.
    pub(super) span: Option<Open>,
    /// Groups for which another shard has picked this one, or whose member has gone.
    pub(super) picks: Box<[Key]>,
    /// Some were other shards' members.
    pub(super) elsewhere: bool,
}

/// An answer that has to come behind what its connection published before.
pub(super) struct Behind {
    pub(super) connection: Key,
    pub(super) answer: Answer,
    pub(super) until: Done,
}

pub(super) enum Done {
    /// Of the publication with this number: here, and elsewhere if it went there.
    Published {
        number: u64,
        everywhere: bool,
    },
    Other(Option<Until>),
}

impl Batch {
    pub(super) fn takes(&self, topic: &[u8], epoch: u64) -> bool {
        !self.closed
            && self.epoch == epoch
            && self.messages.len() < BATCH_MESSAGES_MAX
            && self.bytes < BATCH_BYTES_MAX
            && self.topic.as_bytes() == topic
    }

    pub(super) fn join(&mut self, sending: Sending) {
        self.bytes += sending.message.len();
        self.messages.push(sending);
    }
}

impl OriginLane {
    /// The last message is another of its connection's, which goes on behind that one, not
    /// behind what stands in an earlier batch.
    pub(super) fn wait_for_last(&mut self, origin: Origin) {
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
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Bytes of memory that what waits takes, its messages' aside.
    pub(super) fn cost_bytes(&self) -> usize {
        self.listed_bytes
            + self.messages * size_of::<Sending>()
            + self.answers * size_of::<Behind>()
            + self.waiting * size_of::<Batch>()
    }

    fn lane(&self, way: Way) -> Option<&OriginLane> {
        self.lanes.get(way.index())
    }

    /// Something waits in this lane.
    pub(super) fn has_of(&self, way: Way) -> bool {
        let lane = self.lane(way);
        lane.is_some_and(|lane| !lane.batches.is_empty())
    }

    /// Whether what another shard has said can be heard: nothing of it is on its way.
    pub(super) fn fanning(&self, shard: ShardId) -> Fanning {
        let lane = self.lane(Way::Of(shard));
        lane.map_or(Fanning::No, |lane| lane.fanning)
    }

    /// Whether a publication on this topic would join the last batch of a lane.
    pub(super) fn joins(&self, shard: ShardId, epoch: u64, topic: &[u8]) -> bool {
        let lane = self.lane(Way::Of(shard));
        let last = lane.and_then(|lane| lane.batches.back());
        last.is_some_and(|batch| batch.takes(topic, epoch))
    }

    pub(super) fn push(&mut self, way: Way, batch: Batch) {
        self.lane_mut(way).batches.push_back(batch);
        self.waiting += 1;
    }

    pub(super) fn lane_mut(&mut self, way: Way) -> &mut OriginLane {
        let index = way.index();
        if index >= self.lanes.len() {
            self.lanes.resize_with(index + 1, OriginLane::default);
        }
        &mut self.lanes[index]
    }

    /// Batches that go to this very list: the first and the last of them account for it.
    pub(super) fn batches_of(&self, list: &Rc<Listed>) -> usize {
        let last = self.last.as_ref();
        let is_last = last.is_some_and(|last| Rc::ptr_eq(last, list));
        Rc::strong_count(list) - usize::from(is_last)
    }

    /// Who gets what is published on a topic.
    pub(super) fn list(
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
    /// Of each connection, the first of its subscriptions counts.
    pub(super) fn new(
        topic: &str,
        epoch: u64,
        mut subscribers: Vec<Subscription>,
        groups: &[Key],
    ) -> Listed {
        subscribers.sort_by_key(|one| one.connection.slot);
        subscribers.dedup_by_key(|one| one.connection);
        Listed {
            epoch,
            topic: topic.into(),
            subscribers: subscribers.into(),
            groups: groups.into(),
        }
    }

    /// Bytes of memory that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        size_of_val(&*self.subscribers) + size_of_val(&*self.groups)
    }
}

/// Whether a connection is among such subscribers.
pub(super) fn is_among(subscribers: &[Subscription], connection: Key) -> bool {
    let at = subscribers.binary_search_by_key(&connection.slot, |one| one.connection.slot);
    at.is_ok_and(|at| subscribers[at].connection == connection)
}

impl Sending {
    pub(super) fn publication<'a>(
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
