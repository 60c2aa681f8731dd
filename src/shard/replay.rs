//! Replays: what is retained, delivered to a new subscription in slices, over turns; a `#`
//! may match hundreds of thousands of messages, and whoever else is on the shard waits for
//! one slice.
//!
//! ```text
//!   SUBSCRIBE ─► first slice ─► that was all: subscribed
//!                            └► queue [ first come, first served ] ─► all: subscribed, OK
//! ```
//!
//! The subscription is made when everything has been delivered, so that nothing newer comes
//! before what was retained of its topic. What is retained meanwhile is found by the slices
//! to come, or is delivered at once where their place is passed: nothing retained is missed.
//! A message that is not retained is, as before any SUBSCRIBE that is not yet confirmed.
//!
//! The connection is not read on until then (`fanning`): what it asks for next comes after
//! it. If it ends, so does the replay; one of a session goes on into its log.

use super::backlog::Replay;
use super::confirmation::Answer;
use super::exchange::Exchange;
use super::fanout_queue::Fanning;
use super::publication::Publication;
use super::scheduler::Lane;
use super::transport::Stage;
use crate::base::id::Key;
use crate::proto::name::matches;
use crate::router::{Subscription, Walk};

impl Exchange {
    /// Delivers what is retained to a subscription that is about to be made. False: the rest
    /// comes in later turns, and then the subscription and its OK.
    pub(super) fn replay(&mut self, id: u32, filter: &str, subscription: Subscription) -> bool {
        let mut walk = Walk::default();
        if self.deliver_retained(filter, subscription, &mut walk) {
            return true;
        }
        if let Some(connection) = self.connections.get_mut(subscription.connection) {
            connection.member.fanning = Fanning::Waits;
            connection.member.answers_open += 1;
        }
        self.replays.push_back(Replay {
            id,
            filter: filter.into(),
            subscription,
            walk,
        });
        false
    }

    /// Delivers the turn's share of the replays, first come, first served.
    pub(super) fn step_replays(&mut self) {
        if self.replays.is_empty() {
            return;
        }
        self.resources.work.begin(Lane::Replay);
        while !self.resources.work.is_over()
            && let Some(mut replay) = self.replays.pop_front()
        {
            let to = replay.subscription;
            let is_over = !self.keeps_subscriptions(to.connection)
                || self.deliver_retained(&replay.filter, to, &mut replay.walk);
            if is_over {
                self.finish_replay(&replay);
            } else {
                self.replays.push_front(replay);
            }
        }
    }

    /// Delivers what has just been retained to those whose replay has passed its place.
    #[cold]
    pub(super) fn catch_up(&mut self, publication: &mut Publication<'_>) {
        let topic = publication.envelope.name;
        let passed = |one: &&Replay| one.walk.has_passed(topic) && matches(&one.filter, topic);
        let behind = self.replays.iter().filter(passed);
        let behind: Vec<_> = behind.map(|one| one.subscription).collect();
        for subscription in behind {
            self.deliver(subscription, publication);
        }
    }

    /// A connection, or the session of one, that what it subscribes to may still be sent to.
    pub(super) fn keeps_subscriptions(&self, key: Key) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|one| one.transport.stage == Stage::Running || one.member.counted)
    }

    fn finish_replay(&mut self, replay: &Replay) {
        let key = replay.subscription.connection;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.member.answers_open -= 1;
        self.go_on(key);
        let made = self.make_subscription(&replay.filter, None, replay.subscription);
        self.answer_subscribe(key, Answer::of(replay.id, made));
        self.touch(key);
    }
}
