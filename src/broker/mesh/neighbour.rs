//! A shard's turn with respect to the mesh: taking back batches that others have finished, handling
//! what they have said, sending what this shard has to say (see `mesh`).

use crate::base::id::ShardId;
use crate::broker::Broker;
use crate::broker::context::scheduler::{Lane, UNSUBSCRIBE_UNITS};
use crate::broker::mesh::{Cause, InterestKind, Item, Neighbour, Reading};
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::publication::Translation;
use crate::metrics::counter::Counter;
use crate::proto::encoded::live_topic;

impl Broker {
    /// Takes back what other shards are done with: answers that waited for that are given,
    /// publishers that waited for room go on.
    pub(crate) fn collect_mesh(&mut self) {
        if self.mesh.link_count() == 0 {
            // An answer may still have waited for those before it.
            return self.take_confirmed();
        }
        self.mesh.collect();
        self.go_on_with_mesh();
    }

    /// Continues what waited for other shards, as far as they are done.
    fn go_on_with_mesh(&mut self) {
        self.mesh.pay();
        self.take_confirmed();
        let eased = self.mesh.ease();
        self.charge_mesh();
        if eased {
            self.unblock();
        }
    }

    /// Who waited for room in the mesh, or for memory, goes on.
    pub(in crate::broker) fn unblock(&mut self) {
        for key in self.lists.take_blocked() {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.member.blocked = false;
            if !std::mem::replace(&mut connection.member.ready, true) {
                self.lists.make_ready(key);
            }
            self.touch(key);
        }
    }

    /// Handles what other shards have said, within the share of each.
    pub(crate) fn take_mesh(&mut self) {
        let links = self.mesh.link_count();
        for index in 0..links {
            self.resources.work.begin(Lane::Link { index, links });
            let taken = self.take_link(index);
            self.resources.counters.add(Counter::MeshEntries, taken);
        }
        if links > 0 {
            self.go_on_with_mesh();
        }
    }

    /// Handles what one of them has said, and delivers what of it goes to many. Returns the number
    /// of entries.
    fn take_link(&mut self, index: usize) -> u64 {
        let mut taken = 0;
        // Its shares may be owed: then nothing of it is begun.
        while !self.resources.work.is_over()
            && let Some((peer, mut batch)) = self.mesh.receive(index)
        {
            let Neighbour::Shard(from) = peer;
            taken += self.take_entries(index, from, &mut batch);
            let waits = self.fanouts.fanning(from) != Fanning::No;
            if batch.is_done() && !waits {
                self.mesh.give_back(index, batch);
                continue;
            }
            // If it were given back, the sender would conclude that everything in it is done.
            self.mesh.put_back(index, batch);
            if !waits || !self.step_fanouts_of(from) {
                break;
            }
        }
        taken
    }

    fn take_entries(&mut self, index: usize, from: ShardId, batch: &mut Reading) -> u64 {
        let mut taken = 0;
        while !self.resources.work.is_over() && self.may_take(from, batch) {
            let before = batch.taken();
            let Some(item) = batch.next() else {
                break;
            };
            self.resources.work.spend(units(&item));
            self.take_item(from, item);
            taken += 1;
            if self.fanouts.fanning(from) != Fanning::No {
                self.mesh.hold(index, before);
            }
        }
        taken
    }

    /// Whether the next entry of a shard can be handled now.
    fn may_take(&self, from: ShardId, batch: &Reading) -> bool {
        match self.fanouts.fanning(from) {
            Fanning::No => {
                let after = batch.after();
                after.is_none_or(|(from, count)| self.mesh.has_taken(from, count))
            }
            Fanning::Open => {
                let topic = batch.publication().and_then(live_topic);
                topic.is_some_and(|topic| self.fanouts.joins(from, self.router.epoch(), topic))
            }
            Fanning::Waits => false,
        }
    }

    fn take_item(&mut self, from: ShardId, item: Item<'_>) {
        match item {
            Item::Publish {
                message,
                picks,
                terms,
                translated,
            } => {
                let translation = Translation::received(terms.translation, translated);
                let parcel = message.parcel(terms.retain);
                self.take_publication(from, parcel, picks, &terms, translation);
            }
            Item::Interest {
                filter,
                group,
                kind,
                number,
                count,
            } => match kind {
                InterestKind::Plain => self.router.note(from, filter, None, count),
                InterestKind::Group => {
                    let group = Some((group, number));
                    self.router.note(from, filter, group, count);
                }
                InterestKind::Servers => self.router.note_servers(from, filter, number, count),
            },
            Item::Request {
                message,
                call,
                servers,
            } => self.take_request(message.parcel(false), call, servers),
            Item::Response { message, call } => {
                self.take_response(&mut message.parcel(false), call);
            }
            Item::Withdraw { call } => self.withdraw_forwarded(from, call),
            Item::Home {
                message,
                terms,
                translated,
                counts,
            } => {
                let translation = Translation::received(terms.translation, translated);
                let cause = Cause { from, counts };
                self.take_home(cause, message.parcel(terms.retain), &terms, translation);
            }
            Item::After => {}
            Item::Homed { count, bytes } => self.mesh.take_homed(from, count, bytes),
        }
    }

    /// Sets the charge for the mesh to what it holds.
    #[inline]
    pub(in crate::broker) fn charge_mesh(&mut self) {
        let held = self.mesh.held_bytes();
        self.mesh_charge.set(&self.resources.pool.ledger, held);
    }

    /// Sends what this turn has to say to other shards.
    pub(crate) fn flush_mesh(&mut self) {
        if self.mesh.link_count() == 0 {
            return;
        }
        self.mesh.pay();
        let awaited = !self.confirmations.is_empty() || self.mesh.owes();
        self.mesh.flush(awaited);
        if self.mesh.ease() {
            // It was the open batch that was large enough.
            self.unblock();
        }
        self.charge_mesh();
        if self.lists.count_blocked() > 0 {
            self.mesh.wait();
        }
    }
}

/// The cost of handling an entry, apart from the work that it causes.
fn units(item: &Item<'_>) -> usize {
    match item {
        Item::Interest { .. } => UNSUBSCRIBE_UNITS,
        Item::Publish { .. }
        | Item::Request { .. }
        | Item::Response { .. }
        | Item::Withdraw { .. }
        | Item::Home { .. }
        | Item::After
        | Item::Homed { .. } => 1,
    }
}
