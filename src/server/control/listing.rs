//! Asks every shard for its connections and topics, and merges the answers.
//!
//! One listing at a time: a shard works on at most one, however many clients ask. A shard that has
//! ended has no connections, so it is left out.

use crate::base::id::{Key, ShardId};
use crate::broker::ReplyTo;
use crate::metrics::topics::{Busy, Tally, merge};
use crate::shard::{Command, Listing, Mailbox, Query, Row, Seen};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

/// The most time a listing may take, including the wait for its turn.
const ANSWER_MAX: Duration = Duration::from_secs(10);

pub struct Lister {
    shards: Vec<Mailbox>,
    /// Held by the one listing in progress.
    turn: Mutex<()>,
}

/// A shard did not answer in time.
#[derive(Debug, PartialEq, Eq)]
pub struct Late;

/// The busiest topics of all shards.
pub struct Busiest {
    /// The busiest first.
    pub topics: Vec<Busy>,
    /// Messages published in the time covered, on all topics.
    pub messages: u64,
    /// The largest stride of all shards: one message in this many is sampled.
    pub stride: u32,
    pub covered: Duration,
}

impl Lister {
    pub fn new(shards: Vec<Mailbox>) -> Lister {
        Lister {
            shards,
            turn: Mutex::new(()),
        }
    }

    /// The first connections of all shards, in the requested order.
    ///
    /// # Errors
    /// A shard did not answer in time.
    pub async fn connections(&self, query: &Query) -> Result<Seen, Late> {
        let listing = |tell| Listing::Connections(Box::new(query.clone()), tell);
        let mut all = Seen::default();
        for seen in self.ask(listing).await? {
            all.total += seen.total;
            all.sessions_waiting += seen.sessions_waiting;
            all.rows.extend(seen.rows);
        }
        query.sort(&mut all.rows);
        drop_twins(&mut all);
        all.rows.truncate(query.most);
        Ok(all)
    }

    /// The `most` busiest topics.
    ///
    /// # Errors
    /// A shard did not answer in time.
    pub async fn topics(&self, most: usize) -> Result<Busiest, Late> {
        let tallies: Vec<Box<Tally>> = self.ask(Listing::Topics).await?;
        let sketches = tallies.iter().flat_map(|tally| &tally.sketches);
        Ok(Busiest {
            topics: merge(sketches, most),
            messages: tallies.iter().map(|tally| tally.messages).sum(),
            stride: tallies.iter().map(|tally| tally.stride).max().unwrap_or(1),
            covered: tallies
                .iter()
                .map(|tally| tally.covered)
                .max()
                .unwrap_or_default(),
        })
    }

    /// Ends a connection. False: no connection has this key, or it is ending already.
    ///
    /// # Errors
    /// The shard did not answer in time.
    pub async fn kick(&self, shard: ShardId, key: Key) -> Result<bool, Late> {
        let Some(mailbox) = self.shards.get(shard.index()) else {
            return Ok(false);
        };
        let kick = async {
            let (tell, told) = oneshot::channel();
            post(mailbox, Command::Kick(key, teller(tell))).await;
            told.await.unwrap_or(false)
        };
        timeout(ANSWER_MAX, kick).await.map_err(|_| Late)
    }

    /// Asks all shards at once; returns the answers of those that have not ended.
    async fn ask<T: Send + 'static>(
        &self,
        listing: impl Fn(ReplyTo<T>) -> Listing,
    ) -> Result<Vec<T>, Late> {
        let ask = async {
            let _turn = self.turn.lock().await;
            let mut asked = Vec::with_capacity(self.shards.len());
            for mailbox in &self.shards {
                let (tell, told) = oneshot::channel();
                post(mailbox, Command::Listing(listing(teller(tell)))).await;
                asked.push(told);
            }
            let mut answers = Vec::with_capacity(asked.len());
            for told in asked {
                answers.extend(told.await);
            }
            answers
        };
        timeout(ANSWER_MAX, ask).await.map_err(|_| Late)
    }
}

/// Removes duplicates: a connection that moved between shards meanwhile may have been listed by
/// both.
fn drop_twins(seen: &mut Seen) {
    let mut known = HashSet::new();
    let before = seen.rows.len();
    seen.rows.retain(|row: &Row| match row.address {
        Some(address) => known.insert((address, row.opened)),
        None => true,
    });
    seen.total -= (before - seen.rows.len()) as u64;
}

fn teller<T: Send + 'static>(tell: oneshot::Sender<T>) -> ReplyTo<T> {
    // The requester may have stopped waiting.
    ReplyTo::new(move |answer| drop(tell.send(answer)))
}

async fn post(mailbox: &Mailbox, command: Command) {
    if let Err(command) = mailbox.post(command) {
        let mailbox = mailbox.clone();
        super::blocking::blocking(move || mailbox.post_waiting(command)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Instant;
    use crate::base::wake::{Wake, Waker};
    use crate::broker::mailbox;
    use crate::shard::{Sort, State};
    use std::net::SocketAddr;
    use std::sync::Arc;

    struct Asleep;

    impl Wake for Asleep {
        fn wake(&self) {}
    }

    fn waker() -> Waker {
        Waker::new(Arc::new(Asleep))
    }

    fn row(shard: u16, slot: u32, port: u16, opened: u64) -> Row {
        Row {
            shard: ShardId(shard),
            key: Key {
                slot,
                generation: 0,
            },
            address: (port > 0).then(|| SocketAddr::from(([127, 0, 0, 1], port))),
            principal: None,
            client_id: None,
            opened: Instant::from_nanos(opened),
            age: Duration::ZERO,
            messages_in: 0,
            bytes_in: 0,
            messages_out: 0,
            bytes_out: 0,
            queued_bytes: u64::from(slot % 3),
            oldest_queued: Duration::ZERO,
            round_trip: None,
            session: false,
            state: State::Open,
        }
    }

    #[test]
    fn a_connection_seen_on_two_shards_is_listed_once() {
        let rows = vec![
            row(0, 1, 7, 5),
            row(0, 2, 8, 5),
            row(1, 1, 7, 5),
            // Another one from the same port later, and two without an address.
            row(1, 2, 7, 6),
            row(1, 3, 0, 5),
            row(1, 4, 0, 5),
        ];
        let mut seen = Seen {
            total: 6,
            sessions_waiting: 0,
            rows,
        };
        drop_twins(&mut seen);
        assert_eq!((seen.total, seen.rows.len()), (5, 5));
        assert!(seen.rows.iter().filter(|row| row.key.slot == 1).count() == 1);
    }

    #[test]
    fn rows_of_all_shards_are_in_one_order_and_its_reverse() {
        let mut rows: Vec<Row> = (0..12).map(|n| row(n % 2, u32::from(n), n, 0)).collect();
        for sort in [Sort::Queued, Sort::Id] {
            let mut query = Query {
                sort,
                ..Query::default()
            };
            query.sort(&mut rows);
            let ids = |rows: &[Row]| rows.iter().map(|row| row.key.slot).collect::<Vec<_>>();
            let up = ids(&rows);
            let by = |row: &Row| match sort {
                Sort::Id => (0, row.shard, row.key),
                _ => (row.queued_bytes, row.shard, row.key),
            };
            assert!(rows.is_sorted_by_key(by), "{up:?}");
            query.descending = true;
            query.sort(&mut rows);
            let down: Vec<u32> = up.into_iter().rev().collect();
            assert_eq!(ids(&rows), down);
        }
    }

    #[test]
    fn the_order_of_ages_is_that_of_opening_whenever_each_shard_looked() {
        let mut late = row(0, 1, 1, 200);
        late.age = Duration::from_nanos(50);
        let mut early = row(1, 1, 2, 100);
        early.age = Duration::from_nanos(10);
        let mut query = Query {
            sort: Sort::Age,
            ..Query::default()
        };
        let mut rows = vec![early, late];
        query.sort(&mut rows);
        assert_eq!(rows[0].opened.as_nanos(), 200, "the youngest first");
        query.descending = true;
        query.sort(&mut rows);
        assert_eq!(rows[0].opened.as_nanos(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_has_ended_is_left_out_and_one_that_hangs_is_late() {
        let (gone, inbox) = mailbox(waker());
        drop(inbox);
        let lister = Lister::new(vec![gone.clone()]);
        let seen = lister.connections(&Query::default()).await;
        assert_eq!(seen.map(|seen| seen.total), Ok(0));
        let key = Key {
            slot: 0,
            generation: 0,
        };
        assert_eq!(lister.kick(ShardId(0), key).await, Ok(false));
        assert_eq!(lister.kick(ShardId(1), key).await, Ok(false), "no such");
        let (hangs, _inbox) = mailbox(waker());
        let lister = Lister::new(vec![gone, hangs]);
        assert_eq!(lister.topics(1).await.map(|_| ()), Err(Late));
        assert_eq!(lister.kick(ShardId(1), key).await, Err(Late));
    }
}
