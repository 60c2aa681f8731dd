//! Replays: retained messages, delivered to a new subscription in slices, over several turns, as
//! its outbox drains. A `#` may match hundreds of thousands of messages: other connections of the
//! shard wait for one slice only, and a client that subscribes without reading occupies one outbox.
//!
//! ```text
//!   SUBSCRIBE ─► first slice ─► that was all: subscribed
//!                   │     └──► ready [ first come, first served ] ─► all: subscribed, OK
//!                   ▼ no room             │           ▲
//!                 parked ◄────────────────┘           │
//!                   └── the outbox has drained ───────┘
//! ```
//!
//! The subscription is made once everything has been delivered, so that no newer message precedes
//! the retained one of its topic. A message retained meanwhile is found by a later slice, or
//! delivered at once if the walk has passed its place: no retained message is missed. A message
//! that is not retained is missed, as before any SUBSCRIBE that has not been confirmed yet.
//!
//! The connection is not read from until then (`fanning`): its next operation is handled
//! afterwards. If the connection ends or its session is taken over, the replay ends too, and no
//! subscription is made: the SUBSCRIBE was not confirmed, and a client that resumes a session
//! repeats it.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::context::scheduler::Lane;
use crate::broker::mesh::confirmation::Answer;
use crate::broker::peers::transport::Stage;
use crate::broker::publish::backlog::{Replay, Replays};
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::publication::Publication;
use crate::proto::name::matches;
use crate::router::{Subscription, Walk};

/// The outcome of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Brought {
    All,
    /// The turn's share is used up.
    Some,
    /// There is no room for the next message.
    Full,
}

/// How many retained bytes a subscriber can take now.
pub(in crate::broker) struct Room {
    outbox: Place,
    log: Place,
}

#[derive(Clone, Copy)]
struct Place {
    /// It is empty: one message may be of any size.
    is_empty: bool,
    bytes: usize,
}

impl Place {
    const NONE: Place = Place {
        is_empty: false,
        bytes: 0,
    };
    const ANY: Place = Place {
        is_empty: true,
        bytes: usize::MAX,
    };

    fn has(self, bytes: usize) -> bool {
        self.is_empty || bytes <= self.bytes
    }

    fn less(self, bytes: usize) -> Place {
        Place {
            is_empty: false,
            bytes: self.bytes.saturating_sub(bytes),
        }
    }
}

impl Room {
    /// Whether there is room for the next message, of this size; if so, takes it. A message for
    /// which a session's log has no room goes to the pending queue, by reference: the client's next
    /// ACK would make room, but it cannot be handled before the replay is complete.
    pub(in crate::broker) fn take(&mut self, bytes: usize) -> bool {
        if !self.log.has(bytes) {
            self.log = Place::NONE;
            return true;
        }
        let fits = self.outbox.has(bytes);
        if fits {
            (self.outbox, self.log) = (self.outbox.less(bytes), self.log.less(bytes));
        }
        fits
    }
}

impl Broker {
    /// Delivers retained messages to a subscription that is about to be made. False: the rest
    /// follows in later turns, and then the subscription and its OK.
    pub(in crate::broker) fn replay(
        &mut self,
        id: u32,
        filter: &str,
        subscription: Subscription,
    ) -> bool {
        let mut walk = Walk::default();
        let brought = self.deliver_retained(filter, subscription, &mut walk);
        if brought == Brought::All {
            return true;
        }
        if let Some(connection) = self.connections.get_mut(subscription.connection) {
            connection.member.fanning = Fanning::Waits;
            connection.member.answers_open += 1;
        }
        let replay = Replay {
            number: self.replays.next,
            id,
            filter: filter.into(),
            subscription,
            walk,
        };
        self.replays.next += 1;
        self.put_aside(replay, brought);
        false
    }

    /// The rest follows when there is time or room.
    fn put_aside(&mut self, replay: Replay, brought: Brought) {
        let Replays { ready, parked, .. } = &mut self.replays;
        if brought == Brought::Full && !parked.contains_key(&replay.to()) {
            parked.insert(replay.to(), replay);
        } else {
            ready.insert(replay.number, replay);
        }
    }

    /// Delivers the turn's share of the replays, first come, first served.
    pub(crate) fn step_replays(&mut self) {
        if self.replays.ready.is_empty() {
            return;
        }
        self.resources.work.begin(Lane::Replay);
        while !self.resources.work.is_over()
            && let Some((_, mut replay)) = self.replays.ready.pop_first()
        {
            let to = replay.subscription;
            if !self.may_replay(to.connection) {
                self.end_replay(&replay, false);
                continue;
            }
            match self.deliver_retained(&replay.filter, to, &mut replay.walk) {
                Brought::All => self.end_replay(&replay, true),
                brought => self.put_aside(replay, brought),
            }
        }
    }

    /// A connection may have room again, or may have ended: continues its replay, if it has one.
    #[cold]
    pub(crate) fn wake_replay(&mut self, key: Key) {
        let goes_on = !self.may_replay(key) || self.replay_room(key).take(1);
        if goes_on && let Some(replay) = self.replays.parked.remove(&key) {
            self.replays.ready.insert(replay.number, replay);
        }
    }

    /// How much a subscriber can take now: what fits into its outbox behind what already waits, and
    /// into its session's log.
    pub(in crate::broker) fn replay_room(&self, key: Key) -> Room {
        let mut room = Room {
            outbox: Place::NONE,
            log: Place::ANY,
        };
        let Some(connection) = self.connections.get(key) else {
            return room;
        };
        let (member, outbox) = (&connection.member, &connection.transport.outbox);
        let waits = member
            .state
            .as_ref()
            .map_or(0, |one| one.pending.oldest_bytes());
        if member.has_pending && member.may_log(waits, &self.resources) {
            return room;
        }
        let most = self.resources.direct_bytes_max();
        room.outbox = Place {
            is_empty: outbox.is_empty(),
            bytes: most.saturating_sub(outbox.queued_bytes()),
        };
        if let Some(durable) = member.durable() {
            let most = self.resources.limits.session_buffer_bytes_max;
            room.log = match member.has_pending {
                true => Place::NONE,
                false => Place {
                    is_empty: durable.log.is_empty(),
                    bytes: most.saturating_sub(durable.log.bytes()),
                },
            };
        }
        room
    }

    /// Messages can be delivered to it.
    fn may_replay(&self, key: Key) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|one| one.transport.stage == Stage::Running && !one.is_moving())
    }

    /// Delivers a newly retained message to subscribers whose replay has passed its place.
    #[cold]
    pub(in crate::broker) fn catch_up(&mut self, publication: &mut Publication<'_>) {
        let topic = publication.envelope.name;
        let passed = |one: &&Replay| one.walk.has_passed(topic) && matches(&one.filter, topic);
        let behind = self.replays.iter().filter(passed);
        let behind: Vec<_> = behind.map(|one| one.subscription).collect();
        for subscription in behind {
            self.deliver(subscription, publication);
        }
    }

    /// Whether the connection, or its session, can still receive for its subscriptions.
    pub(in crate::broker) fn keeps_subscriptions(&self, key: Key) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|one| one.transport.stage == Stage::Running || one.member.counted)
    }

    /// A replay ends; if it is complete, the subscription is made.
    fn end_replay(&mut self, replay: &Replay, is_complete: bool) {
        let key = replay.to();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.member.answers_open -= 1;
        self.go_on(key);
        if is_complete {
            let made = self.make_subscription(&replay.filter, None, replay.subscription);
            self.answer_subscribe(key, Answer::of(replay.id, made));
            self.touch(key);
        }
    }
}
