//! Listings: the control thread's queries about all connections of a shard, and its ending of one
//! of them.
//!
//! ```text
//!   Listing ─► walk: some hundreds of slots a turn, the best kept in a bounded heap
//!          ─► look: each of those again, if it still exists, some hundreds a turn
//!          ─► reply
//! ```
//!
//! A shard whose slots are all in use keeps serving meanwhile: the work per turn is bounded, and of
//! each connection seen only a rank and a key are kept. Connections that come or go during the walk
//! may or may not be seen. A connection that resumes a session moves to that session's slot, which
//! gives it another key; the code that merges the shards' answers recognizes it by `opened` and its
//! address. A session without a connection is counted, but not listed.

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::limits::LISTED_CONNECTIONS_MAX;
use crate::base::reason::Reason;
use crate::base::top::Top;
use crate::broker::context::scheduler::{LISTING_UNITS, Lane};
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::Stage;
use crate::proto::error::Code;
use crate::ring::driver::Driver;
use crate::shard::listing::{Listing, Query, Rank, Row, Seen, Sort, State, Walk, nanos, seniority};
use crate::shard::state::Shard;
use crate::shard::stream::Stream;
use std::net::SocketAddr;
use std::time::Duration;

impl Query {
    fn matches(&self, connection: &Connection) -> bool {
        let is = |wanted: &Option<Box<str>>, has: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| has == Some(wanted))
        };
        is(&self.principal, connection.transport.principal_name())
            && is(&self.client_id, connection.transport.session.client_id())
    }

    fn rank(&self, key: Key, connection: &Connection, stream: &Stream, now: Instant) -> Rank {
        let value = match self.sort {
            Sort::Queued => connection.queued_bytes(),
            Sort::Age => seniority(connection.transport.opened),
            Sort::In => stream.bytes_in,
            Sort::Out => stream.bytes_out,
            Sort::Oldest => nanos(connection.oldest_queued(now)),
            Sort::RoundTrip => connection.transport.session.round_trip().map_or(0, nanos),
            Sort::Id => 0,
        };
        match self.descending {
            true => (value, key.slot, key.generation),
            // The smallest values rank highest.
            false => (!value, !key.slot, !key.generation),
        }
    }

    fn key(&self, (_, slot, generation): Rank) -> Key {
        match self.descending {
            true => Key { slot, generation },
            false => Key {
                slot: !slot,
                generation: !generation,
            },
        }
    }
}

impl<D: Driver> Shard<D> {
    /// Accepts a listing: it is answered now or in one of the next turns.
    pub(super) fn begin_listing(&mut self, listing: Listing) {
        match listing {
            Listing::Connections(query, tell) => {
                let most = query.most.min(LISTED_CONNECTIONS_MAX);
                self.listings.push_back(Walk {
                    top: Top::new(most),
                    query,
                    tell,
                    slot: 0,
                    end: self.broker.connections.slots(),
                    picked: None,
                    seen: Seen::default(),
                });
            }
            Listing::Topics(tell) => {
                let now = self.broker.resources.now;
                tell.tell(Box::new(self.broker.topics.tally(now)));
            }
        }
    }

    /// Continues the oldest listing, as far as the turn's share allows.
    pub(super) fn step_listing(&mut self) {
        let Some(walk) = self.listings.front_mut() else {
            return;
        };
        let work = &mut self.broker.resources.work;
        work.begin(Lane::Listing);
        let (connections, now) = (&self.broker.connections, self.broker.resources.now);
        if walk.picked.is_none() {
            while walk.slot < walk.end && !work.is_over() {
                work.spend(LISTING_UNITS);
                let key = connections.key_of(walk.slot);
                walk.slot += 1;
                if let Some((key, one)) = key.and_then(|key| Some((key, connections.get(key)?))) {
                    walk.take(key, one, self.streams.of(key.slot), now);
                }
            }
            if walk.slot == walk.end {
                let top = std::mem::replace(&mut walk.top, Top::new(0)).into_sorted();
                walk.picked = Some(top.into_iter().map(|rank| walk.query.key(rank)).collect());
            }
            return;
        }
        while !work.is_over()
            && let Some(key) = walk.picked.as_mut().and_then(Vec::pop)
        {
            work.spend(LISTING_UNITS);
            // The connection may have ended, and left its session there.
            if let Some(one) = connections.get(key)
                && one.transport.stage != Stage::Detached
            {
                let stream = self.streams.of(key.slot);
                let address = self.driver.peer(stream.socket);
                let row = one.row(self.id, key, stream, address, now);
                walk.seen.rows.push(row);
            }
        }
        if walk.picked.as_ref().is_some_and(Vec::is_empty)
            && let Some(walk) = self.listings.pop_front()
        {
            walk.tell.tell(walk.seen);
        }
    }

    /// Ends a connection for an operator. False: no connection has this key, or it is already
    /// ending. As after a broken connection, its session stays for a client that comes back;
    /// without a session its will is published.
    pub(super) fn kick(&mut self, key: Key) -> bool {
        let broker = &mut self.broker;
        let Some(Connection { transport, .. }) = broker.connections.get_mut(key) else {
            return false;
        };
        if transport.stage != Stage::Running {
            return false;
        }
        let text = "an operator closed this connection";
        let resources = &mut broker.resources;
        transport.close(Code::Shutdown, text, Reason::Kicked, resources);
        broker.touch(key);
        true
    }
}

impl Walk {
    fn take(&mut self, key: Key, connection: &Connection, stream: &Stream, now: Instant) {
        if connection.transport.stage == Stage::Detached {
            self.seen.sessions_waiting += 1;
        } else if self.query.matches(connection) {
            self.seen.total += 1;
            let rank = self.query.rank(key, connection, stream, now);
            self.top.offer(rank);
        }
    }
}

impl Connection {
    /// Bytes in its outbox and on its pending queue.
    fn queued_bytes(&self) -> u64 {
        let state = self.member.state.as_ref();
        let has_pending = state.map_or(0, |state| state.pending.bytes());
        (self.transport.outbox.queued_bytes() + has_pending) as u64
    }

    /// How long the oldest of them has waited, at least.
    fn oldest_queued(&self, now: Instant) -> Duration {
        let state = self.member.state.as_ref();
        let has_pending = state.map_or(Duration::ZERO, |state| state.pending.oldest_age(now));
        let outbox = &self.transport.outbox;
        match self.transport.sending && !outbox.is_empty() {
            true => has_pending.max(outbox.sending_age(now)),
            false => has_pending,
        }
    }

    fn state(&self) -> State {
        if self.transport.stage != Stage::Running {
            State::Closing
        } else if !self.transport.session.is_established() {
            State::Handshake
        } else if !self.transport.session.is_authenticated() {
            State::Authenticating
        } else if self.is_moving() {
            State::Resuming
        } else if self.member.has_pending || self.transport.stalled {
            State::Slow
        } else {
            State::Open
        }
    }

    fn row(
        &self,
        shard: ShardId,
        key: Key,
        stream: &Stream,
        address: Option<SocketAddr>,
        now: Instant,
    ) -> Row {
        Row {
            shard,
            key,
            address,
            principal: self.transport.principal_name().map(Box::from),
            client_id: self.transport.session.client_id().map(Box::from),
            opened: self.transport.opened,
            age: now.since(self.transport.opened),
            messages_in: self.transport.session.messages_in(),
            bytes_in: stream.bytes_in,
            messages_out: self.transport.session.messages_out(),
            bytes_out: stream.bytes_out,
            queued_bytes: self.queued_bytes(),
            oldest_queued: self.oldest_queued(now),
            round_trip: self.transport.session.round_trip(),
            session: self.member.durable().is_some(),
            state: self.state(),
        }
    }
}
