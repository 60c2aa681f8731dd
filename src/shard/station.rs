//! What a connection has at the exchange beside its socket: subscriptions, services, its
//! will, what waits for it, its session. It is made with the first of these, and with a
//! session it outlives the connection.

use super::log::Log;
use super::schema::{Translation, Wants};
use super::shelf::Shelf;
use super::trail::Trail;
use crate::base::id::Key;
use crate::base::limits::{SESSION_KEY_BYTES, SUBSCRIPTION_BYTES};
use crate::router::FilterId;

#[derive(Default)]
pub(super) struct Station {
    pub(super) subscriptions: Vec<Membership>,
    pub(super) servings: Vec<Membership>,
    pub(super) will: Option<Will>,
    /// What codecs its subscriptions want.
    pub(super) wants: Wants,
    /// Publications that wait for the outbox.
    pub(super) shelf: Shelf,
    /// Messages of groups that have been sent to it, and perhaps not got.
    pub(super) trail: Trail,
    /// Bytes that the pool is charged for: see `cost_bytes`.
    pub(super) charged: usize,
    /// Groups and services know it as stalled.
    pub(super) stalled: bool,
    /// The slow-consumer policy has acted since the shelf was last empty.
    pub(super) told_slow: bool,
    /// It serves, or has.
    pub(super) has_served: bool,
    /// Requests forwarded to it and not answered.
    pub(super) errands_open: u32,
    pub(super) durable: Option<Box<Durable>>,
}

/// The PUBLISH to make if the connection ends without CLOSE.
pub(super) struct Will {
    /// Whole, without CRC.
    pub(super) message: Box<[u8]>,
    /// Where its topic has a schema.
    pub(super) translation: Option<Box<Translation>>,
}

/// One SUBSCRIBE or SERVE in force, as the router knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) filter: FilterId,
    /// The number of the group, or of the service's servers.
    pub(super) number: Option<Key>,
}

/// What makes a session last: its key, and what its client has not acknowledged.
pub(super) struct Durable {
    pub(super) key: [u8; SESSION_KEY_BYTES],
    /// Whose it is: nobody else resumes it.
    pub(super) principal: Option<Box<str>>,
    pub(super) log: Log,
    /// It has overflowed: its key is unknown from then on.
    pub(super) lapsed: bool,
    /// The highest id of a PUBLISH that was delivered: not delivered again.
    pub(super) accepted_publish_id: u32,
    /// The highest id that was confirmed.
    pub(super) confirmed_publish_id: u32,
}

impl Will {
    fn bytes(&self) -> usize {
        let translation = self.translation.as_ref();
        self.message.len() + translation.map_or(0, |one| one.payload_bytes())
    }
}

impl Durable {
    /// The session cannot be resumed any more: its log has overflowed. While it is `away` the
    /// log stays until the session is dissolved, which follows at once: groups have other
    /// members.
    pub(super) fn lapse(&mut self, away: bool) {
        self.lapsed = true;
        if !away {
            self.log = Log::new();
        }
    }
}

impl Station {
    /// Nothing in it that is worth keeping.
    pub(super) fn is_idle(&self) -> bool {
        self.subscriptions.is_empty()
            && self.servings.is_empty()
            && self.will.is_none()
            && self.shelf.is_empty()
            && self.errands_open == 0
            && self.durable.is_none()
    }

    /// Bytes of memory to be charged for what stands and waits here.
    pub(super) fn cost_bytes(&self) -> usize {
        let log = self.durable.as_ref();
        let memberships = self.subscriptions.len() + self.servings.len();
        self.shelf.cost_bytes()
            + self.trail.cost_bytes()
            + log.map_or(0, |durable| durable.log.capacity_bytes())
            + self.will.as_ref().map_or(0, Will::bytes)
            + memberships * SUBSCRIPTION_BYTES
    }
}
