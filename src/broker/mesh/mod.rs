//! The mesh: what one shard says to another, without locks and almost without allocation.
//!
//! Two single-producer, single-consumer rings connect each ordered pair of shards. Everything said
//! in a turn is written into one batch, which is pushed as a whole at the end of the turn; the
//! receiver works through it and gives the empty batch back on the second ring. So a returned batch
//! confirms that the receiver has handled everything in it (`confirm` waits for that), and its
//! memory is used again.
//!
//! ```text
//!   shard A  open batch ──turn's end──► outgoing ═══════════► incoming ──► reading   shard B
//!            spare ◄── collect ──────── returned ◄═══════════ returning ◄── done
//! ```
//!
//! A publication is one entry, however many subscribers the other shard has; small messages are
//! copied into the batch, large ones are passed by reference.
//!
//! Full rings slow who fills them, never a shard: while a link is pressed (too much of it is
//! not given back) connections whose publications, requests or responses go to other shards
//! are not read from, and the open batch goes on taking what cannot wait. How much that is, is
//! counted in units of work, not in entries: one publication may make thousands of deliveries.
//! Who sends it knows about how many (`units_at`): its interest map has every filter that the
//! peer's has, and about how many subscribe there. While a peer has more to do than it does in
//! a turn, who makes much waits (`is_pressed`); with half as much again everybody (`is_closed`).
//! So an operation is never behind more than about that. The peer is woken
//! only if it sleeps; this shard is woken for a batch that comes back only if it waits for
//! it, or is charged for it.
//!
//! Batches are charged to the shard that wrote them until they have come back, except for light
//! ones, of which a link has at most a megabyte out, and for large messages, which carry their own
//! charge (see `ledger`).
//!
//! A returned batch says how much its reader had said by then: once that has been handled too,
//! everything that the reader said before it finished the batch has been handled (SUBSCRIBE's OK
//! waits for that).
//!
//! Retained publications go through their topic's home: see `home`.
//!
//! What goes over `links` is about every neighbour, what goes over `shards` about other shards only;
//! today all neighbours are shards (`Neighbour`).
//!
//! Invariants: links stand in the order of their peers; batches of a link come back in the order
//! they were sent; at most `BATCHES_MAX` of them are out, so no push fails.

pub(crate) mod accord;
mod batch;
pub(crate) mod confirm;
pub(crate) mod confirmation;
mod home;
mod link;
pub(crate) mod neighbour;
mod passage;

pub(in crate::broker) use batch::{Call, InterestKind, Item, Reading};
pub use link::LinkSize;
pub(in crate::broker) use link::Neighbour;
pub(in crate::broker) use passage::{Cause, Ticket};

use crate::base::id::{Key, ShardId};
use crate::base::wake::Waker;
use crate::broker::context::ledger::Ledger;
use crate::broker::context::scheduler::{UNSUBSCRIBE_UNITS, node_units};
use crate::broker::mesh::accord::Accord;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Sent, Terms};
use crate::router::{Count, Elsewhere, Matches, ShardSet};
use batch::{Batch, Entry};
use bytes::Bytes;
use link::{Link, connect, shards, shards_mut};
use passage::Owed;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// What a connection may still make while a link is pressed, so that it does not wait with
/// those by which it is.
const UNITS_PRESSED: usize = 32;
/// Subscribers of a publication from which on publications are delivered in slices of several of
/// them, and what each counts then: these have to be let through, or each goes alone. Where there
/// are very many subscribers fewer go together, so that what is behind them does not wait for long.
const SLICED_MIN: usize = 256;
const SLICED_UNITS: usize = 120;
const SUBSCRIBERS_PER_UNIT: usize = 64;
/// More than any share is.
const SHARE_MAX: usize = 1 << 40;

/// All links of one shard.
#[derive(Default)]
pub struct Mesh {
    links: Vec<Link>,
    /// The shard's ledger.
    pub(crate) ledger: Ledger,
    /// The number of the batches being written.
    epoch: u64,
    pressed: bool,
    closed: bool,
    /// Bytes to charge for batches, as of the last `press`.
    held_bytes: usize,
    /// Units of work that a peer does in one turn for this shard.
    share: usize,
    /// The agreement among all shards when they shut down.
    pub(crate) accord: Arc<Accord>,
    /// Publications on their way through a home.
    homing: u64,
    /// Confirmations that other shards are owed for publications that have their home here.
    owed: VecDeque<Owed>,
}

/// Creates the links between shards, which these wakers wake, in the order of their ids.
pub fn connect_shards(wakers: &[Waker], size: LinkSize) -> Vec<Mesh> {
    let accord = Arc::new(Accord::new(wakers.len()));
    let mesh = |_| Mesh {
        accord: accord.clone(),
        share: SHARE_MAX,
        ..Mesh::default()
    };
    let mut meshes: Vec<Mesh> = wakers.iter().map(mesh).collect();
    for (i, one) in wakers.iter().enumerate() {
        for (j, other) in wakers.iter().enumerate().skip(i + 1) {
            let [one, other] = [(i, one), (j, other)]
                .map(|(index, waker)| (Neighbour::Shard(ShardId(index as u16)), waker));
            let (there, back) = connect(one, other, size);
            meshes[i].links.push(there);
            meshes[j].links.push(back);
        }
    }
    for mesh in &mut meshes {
        mesh.links.sort_by_key(|link| link.peer);
    }
    meshes
}

impl Mesh {
    /// Sets the units of work that each neighbour does for this shard in a turn.
    pub(crate) fn set_share(&mut self, units: usize) {
        self.share = units;
    }

    /// The number of neighbours.
    pub(crate) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// The number of shards, this one among them.
    pub(in crate::broker) fn shard_count(&self) -> usize {
        shards(&self.links).len() + 1
    }

    fn link_to(&self, shard: ShardId) -> Option<usize> {
        let shard = Neighbour::Shard(shard);
        self.links
            .binary_search_by_key(&shard, |link| link.peer)
            .ok()
    }

    // ---- writing ----

    /// Sends a publication to the shards that have plain subscribers for it (`plain`), to those on
    /// which a group's member was picked, and to all if it is retained; if it came from another
    /// shard, each waits for what that shard had said to it before (`cause`).
    pub(in crate::broker) fn publish(
        &mut self,
        parcel: &mut Parcel<'_>,
        plain: &Elsewhere,
        picks: &[(ShardId, Key)],
        terms: Terms,
        translated: Option<&Bytes>,
        mut cause: Option<Cause<'_>>,
    ) {
        debug_assert_eq!(
            translated.is_some(),
            matches!(terms.translation, Sent::Made(_))
        );
        let grown = parcel.is_grown();
        for (shard, link) in shards_mut(&mut self.links) {
            let after = cause
                .as_mut()
                .and_then(|cause| Some((cause.from, cause.next_for(shard)?)));
            let batch = &mut link.open;
            let first = batch.picks.len();
            let here = picks.iter().filter(|pick| pick.0 == shard);
            batch.picks.extend(here.map(|pick| pick.1));
            let picks = (batch.picks.len() - first) as u32;
            let is_plain = plain.shards.contains(shard);
            if !is_plain && !terms.retain && picks == 0 {
                continue;
            }
            batch.units += picks as usize + units_at(shard, plain);
            if let Some((from, count)) = after {
                batch.entries.push(Entry::After { from, count });
            }
            let message = match terms.retain {
                true => batch.put_retained(parcel, &self.ledger),
                false => batch.put(parcel, &self.ledger),
            };
            if let Some(translated) = translated {
                batch.put_shared(translated.clone());
            }
            batch.entries.push(Entry::Publish {
                message,
                picks,
                terms: Terms {
                    plain: is_plain,
                    grown,
                    ..terms
                },
            });
        }
        self.press();
    }

    /// An estimate of the work that a publication makes on the shard that it makes the most for.
    pub(in crate::broker) fn most_units(&self, matches: &Matches) -> usize {
        let elsewhere = &matches.elsewhere;
        let here = units_of(matches.local.len(), elsewhere.nodes);
        let there = shards(&self.links).map(|(shard, _)| units_at(shard, elsewhere));
        there.fold(here, usize::max)
    }

    /// Adds all other shards.
    pub(in crate::broker) fn add_shards_to(&self, set: &mut ShardSet) {
        for (shard, _) in shards(&self.links) {
            set.insert(shard);
        }
    }

    /// Tells all other shards what members this one has.
    pub(in crate::broker) fn tell(
        &mut self,
        filter: &str,
        group: &[u8],
        kind: InterestKind,
        number: Key,
        count: Count,
    ) {
        for (_, link) in shards_mut(&mut self.links) {
            let batch = &mut link.open;
            batch.bytes.extend_from_slice(filter.as_bytes());
            batch.bytes.extend_from_slice(group);
            batch.units += UNSUBSCRIBE_UNITS;
            batch.entries.push(Entry::Interest {
                // Names have at most 255 bytes, groups 64.
                filter_bytes: filter.len() as u8,
                group_bytes: group.len() as u8,
                kind,
                number,
                count,
            });
        }
    }

    pub(in crate::broker) fn request(
        &mut self,
        shard: ShardId,
        parcel: &mut Parcel<'_>,
        call: Call,
        servers: Key,
    ) {
        self.say(shard, |batch, ledger| {
            let message = batch.put(parcel, ledger);
            batch.units += 1;
            batch.entries.push(Entry::Request {
                message,
                call,
                servers,
            });
        });
    }

    pub(in crate::broker) fn response(
        &mut self,
        shard: ShardId,
        parcel: &mut Parcel<'_>,
        call: Key,
    ) {
        self.say(shard, |batch, ledger| {
            let message = batch.put(parcel, ledger);
            batch.units += 1;
            batch.entries.push(Entry::Response { message, call });
        });
    }

    /// Tells a shard that no one waits any more for the answer to a call of this one.
    pub(in crate::broker) fn withdraw(&mut self, shard: ShardId, call: Key) {
        self.say(shard, |batch, _| {
            batch.entries.push(Entry::Withdraw { call });
        });
    }

    /// Says something to one shard, and records what that makes of its link alone: with many shards
    /// a look at all of them would cost more than the message.
    fn say(&mut self, shard: ShardId, put: impl FnOnce(&mut Batch, &Ledger)) {
        let Some(index) = self.link_to(shard) else {
            return;
        };
        let link = &mut self.links[index];
        let charged_bytes = link.cost_bytes();
        put(&mut link.open, &self.ledger);
        self.held_bytes += link.cost_bytes() - charged_bytes;
        let is_closed = link.is_closed(self.share);
        self.closed |= is_closed;
        self.pressed |= is_closed || link.is_pressed(self.share);
    }

    /// Records that a link is pressed or closed. Only `ease` records that none is any more, and
    /// lets the connections that waited for that continue.
    fn press(&mut self) {
        let (pressed, closed) = self.measure();
        self.pressed |= pressed;
        self.closed |= closed;
    }

    /// Whether a link is pressed, or closed. Adds up what is to be charged.
    fn measure(&mut self) -> (bool, bool) {
        let (mut is_pressed, mut is_closed) = (false, false);
        self.held_bytes = 0;
        for link in &self.links {
            is_pressed |= link.is_pressed(self.share);
            is_closed |= link.is_closed(self.share);
            self.held_bytes += link.cost_bytes();
        }
        (is_pressed || is_closed, is_closed)
    }

    /// Bytes to charge for batches.
    #[inline]
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    // ---- turns ----

    /// Takes back batches that other shards have finished.
    pub(in crate::broker) fn collect(&mut self) {
        for link in &mut self.links {
            link.collect();
        }
        if self.homing > 0 {
            self.forget_gone();
        }
    }

    /// True when publishers may go on that had to wait.
    pub(in crate::broker) fn ease(&mut self) -> bool {
        let was_pressed = self.pressed;
        (self.pressed, self.closed) = self.measure();
        if was_pressed && !self.pressed {
            for link in &self.links {
                link.waits.store(false, Ordering::Relaxed);
            }
            return true;
        }
        false
    }

    /// Some peer has more to do than it does in a turn.
    pub(in crate::broker) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Who has made so many units of work has to wait. Whoever lets it must see to it that
    /// `wait` is called before this shard sleeps.
    #[inline]
    pub(in crate::broker) fn stops(&self, units: usize) -> bool {
        self.pressed && (self.closed || units >= UNITS_PRESSED)
    }

    /// Somebody waits for room: peers wake this shard when they give batches back.
    pub(in crate::broker) fn wait(&self) {
        for link in &self.links {
            link.waits.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Sends what was said this turn. `awaited`: an answer waits until it has been handled.
    pub(in crate::broker) fn flush(&mut self, awaited: bool) {
        for link in &mut self.links {
            link.flush(self.epoch, awaited);
        }
        self.epoch += 1;
        for link in &mut self.links {
            if link.open.is_empty() {
                link.open.epoch = self.epoch;
            }
        }
        self.press();
    }

    /// The epoch of what is being said now.
    pub(crate) fn mark(&self) -> u64 {
        self.epoch
    }

    /// Everything said up to `mark` has been handled by its receivers.
    #[inline]
    pub(crate) fn is_done(&self, mark: u64) -> bool {
        self.links.iter().all(|link| link.is_done(mark))
    }

    /// Everything said up to `mark` has been handled, and everything that its receivers had said
    /// before that has been handled here.
    pub(in crate::broker) fn is_heard(&self, mark: u64) -> bool {
        self.links.iter().all(|link| link.is_heard(mark))
    }

    /// This many entries of that shard have been handled here.
    pub(in crate::broker) fn has_taken(&self, shard: ShardId, count: u64) -> bool {
        let link = self.link_to(shard);
        link.is_some_and(|link| self.links[link].has_taken(count))
    }

    /// Batches that other shards have not given back yet.
    pub(crate) fn batches_out(&self) -> usize {
        self.links.iter().map(|link| link.out.len()).sum()
    }

    /// There is nothing to read, and no awaited batch is out.
    pub(crate) fn is_quiet(&self) -> bool {
        let quiet = |link: &Link| {
            link.reading.is_none()
                && link.incoming.is_empty()
                && (link.returned.is_empty() || !link.expects_return())
        };
        self.links.iter().all(quiet)
    }

    /// There are entries that have not been sent.
    pub(crate) fn has_open(&self) -> bool {
        let open = |link: &Link| !link.open.is_empty() && link.has_batches();
        self.links.iter().any(open)
    }

    // ---- reading ----

    /// The next batch of a link to read, or the one already begun.
    pub(in crate::broker) fn receive(&mut self, index: usize) -> Option<(Neighbour, Reading)> {
        // Besides this shard and the sender.
        let others = self.shard_count().saturating_sub(2);
        let link = &mut self.links[index];
        let reading = link.reading.take().or_else(|| {
            let batch = link.incoming.pop().ok()?;
            Some(Reading::new(batch, others))
        })?;
        Some((link.peer, reading))
    }

    /// The turn's share is used up; the rest of the batch waits.
    pub(in crate::broker) fn put_back(&mut self, index: usize, reading: Reading) {
        self.links[index].reading = Some(reading);
    }

    /// What has been read of a link's batch, but for the first so many entries, is still on its
    /// way to many.
    pub(in crate::broker) fn hold(&mut self, index: usize, read: u64) {
        self.links[index].hold(read);
    }

    /// What that shard has said is delivered.
    pub(in crate::broker) fn release(&mut self, shard: ShardId) {
        if let Some(link) = self.link_to(shard) {
            self.links[link].release();
        }
    }

    /// Everything in the batch has been handled: gives it back.
    pub(in crate::broker) fn give_back(&mut self, index: usize, reading: Reading) {
        self.links[index].give_back(reading.batch);
    }

    /// Ends all links: neighbours stop waiting for this shard.
    pub(crate) fn close(&mut self) {
        let links = std::mem::take(&mut self.links);
        let wakers: Vec<Waker> = links.iter().map(|link| link.waker.clone()).collect();
        drop(links);
        wakers.iter().for_each(Waker::wake);
        (self.pressed, self.closed, self.held_bytes) = (false, false, 0);
        self.homing = 0;
        self.owed.clear();
    }
}

/// An estimate of the work that a publication makes for a peer.
#[inline]
fn units_at(peer: ShardId, elsewhere: &Elsewhere) -> usize {
    units_of(elsewhere.subscribers_at(peer), elsewhere.nodes)
}

#[inline]
fn units_of(subscribers: usize, nodes: usize) -> usize {
    let deliveries = match subscribers {
        ..SLICED_MIN => subscribers,
        _ => SLICED_UNITS.max(subscribers / SUBSCRIBERS_PER_UNIT),
    };
    1 + deliveries + node_units(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::wake::Wake;
    use std::sync::atomic::AtomicU32;

    #[derive(Default)]
    struct Bell(AtomicU32);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Otherwise its answer would come when the shard wakes for another reason: a second later.
    #[test]
    fn who_waits_for_an_answer_with_all_batches_out_is_woken_when_one_is_back() {
        let bells: Vec<Arc<Bell>> = vec![Arc::default(), Arc::default()];
        let wakers: Vec<Waker> = bells.iter().map(|bell| Waker::new(bell.clone())).collect();
        let size = LinkSize::default();
        let mut meshes = connect_shards(&wakers, size);
        let (ours, theirs) = meshes.split_at_mut(1);
        let (ours, theirs) = (&mut ours[0], &mut theirs[0]);
        let (number, count) = (
            Key {
                slot: 0,
                generation: 0,
            },
            Count::default(),
        );
        let say = |mesh: &mut Mesh, awaited| {
            mesh.collect();
            mesh.tell("a", b"", InterestKind::Plain, number, count);
            mesh.flush(awaited);
        };
        for _ in 0..size.batches {
            say(ours, false);
        }
        let mark = ours.mark();
        say(ours, true);
        assert!(!ours.has_open(), "it would turn and turn for nothing");
        assert!(ours.is_quiet(), "nothing is back yet");
        for left in (0..=size.batches).rev() {
            let woken = bells[0].0.load(Ordering::SeqCst);
            let Some((_, mut reading)) = theirs.receive(0) else {
                panic!("{left} batches never came");
            };
            while reading.next().is_some() {}
            theirs.give_back(0, reading);
            let is_woken = bells[0].0.load(Ordering::SeqCst) > woken;
            assert!(is_woken || left > 0 && !ours.is_done(mark), "{left}");
            if is_woken {
                assert!(!ours.is_quiet(), "it would sleep on");
                ours.collect();
                ours.flush(!ours.is_done(mark));
            }
        }
        assert!(ours.is_done(mark) && bells[0].0.load(Ordering::SeqCst) >= 2);
    }
}
