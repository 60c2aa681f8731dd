//! The receivers of a publication in a fan-out lane, where finding them, or choosing group members,
//! takes more than one turn.
//!
//! ```text
//!   PUBLISH ─► some nodes of the trie ─► that was all: delivered, or queued for many
//!                                     └► more: queued; its lane's turns look at the others
//!   queued ─► found ─► subscribers, slice by slice ─► groups, some at a time
//! ```
//!
//! Who makes topics that visit very many filters, or are many groups', waits for that, like
//! who publishes to many, and holds up only its shard's lane. Those of other shards that want
//! such a publication get it when all have been looked at: they look for themselves, and as it
//! takes them as long they are given no more than they can do. What has one order on all
//! shards (RETAIN) goes to all of them at once.
//!
//! The receivers found for a topic are kept until someone subscribes or leaves, so that the next
//! publications on it need no search.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::context::ledger::Charge;
use crate::broker::publish::fanout_queue::{Batch, Listed, Sought};
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Origin, Publication, Terms, Translation};
use crate::router::{Elsewhere, Matches, Subscription};
use std::rc::Rc;

/// Subscribers put into a list in one unit.
pub(in crate::broker) const SUBSCRIBERS_PER_UNIT: usize = 4;

/// The receivers of a publication to many.
pub(in crate::broker) enum Audience<'a> {
    /// These, and the picked groups, if another shard has picked this one for them.
    Found {
        matches: &'a Matches,
        picks: &'a [Key],
    },
    /// Still to be found.
    Sought { picks: &'a [Key] },
    /// Members of these groups that are not among the plain subscribers, which are still to be
    /// found.
    Again { picks: &'a [Key] },
}

impl<'a> Audience<'a> {
    pub(in crate::broker) fn picks(&self) -> &'a [Key] {
        match self {
            Audience::Found { picks, .. }
            | Audience::Sought { picks }
            | Audience::Again { picks } => picks,
        }
    }

    pub(in crate::broker) fn is_again(&self) -> bool {
        matches!(self, Audience::Again { .. })
    }
}

impl Broker {
    /// Finds the receivers of a message, unless that takes long. False: it does.
    #[inline]
    pub(in crate::broker) fn find(&mut self, topic: &str, matches: &mut Matches) -> bool {
        let most = self.resources.limits.pace.match_looks;
        let is_found = self.router.find(topic, matches, most);
        self.resources.work.spend_nodes(matches.nodes);
        is_found
    }

    pub(in crate::broker) fn seek_or_list(
        &mut self,
        topic: &str,
        audience: &Audience<'_>,
        brought: &[Key],
    ) -> (Rc<Listed>, Option<Sought>) {
        let epoch = self.router.epoch();
        let Audience::Found { matches, .. } = audience else {
            let search = self.router.begin_search();
            let nobody = Rc::new(Listed::new(topic, epoch, Vec::new(), &[]));
            return (
                nobody,
                Some(Sought {
                    search,
                    charge: Charge::default(),
                }),
            );
        };
        (self.list(topic, epoch, matches, brought), None)
    }

    fn list(&mut self, topic: &str, epoch: u64, matches: &Matches, brought: &[Key]) -> Rc<Listed> {
        let (local, groups) = (&matches.local, &matches.groups);
        let list = match brought {
            [] => self.fanouts.list(topic, epoch, local, groups),
            _ => {
                let waits = |one: &&Subscription| !brought.contains(&one.connection);
                let waiting = local.iter().filter(waits).copied().collect();
                Rc::new(Listed::new(topic, epoch, waiting, groups))
            }
        };
        self.resources
            .work
            .spend(local.len() / SUBSCRIBERS_PER_UNIT);
        if self.fanouts.batches_of(&list) == 1 {
            self.fanouts.listed_bytes += list.held_bytes();
        }
        list
    }

    /// Looks for whom a batch goes to, within the turn's share. True: they are found.
    pub(in crate::broker) fn find_audience(&mut self, batch: &mut Batch) -> bool {
        let Some(mut sought) = batch.sought.take() else {
            return true;
        };
        let most = self.resources.limits.pace.match_looks;
        while !self.resources.work.is_over() {
            let (looks, is_done) = self.router.go_on(&batch.topic, &mut sought.search, most);
            self.resources.work.spend(looks);
            if is_done {
                self.take_audience(batch, sought);
                return true;
            }
        }
        let held = sought.search.held_bytes();
        sought.charge.set(&self.resources.pool.ledger, held);
        batch.sought = Some(sought);
        false
    }

    fn take_audience(&mut self, batch: &mut Batch, sought: Sought) {
        let mut matches = std::mem::take(&mut self.matches);
        self.router
            .end_search(&batch.topic, sought.search, &mut matches);
        batch.list = self.list(&batch.topic, batch.epoch, &matches, &batch.brought);
        if batch.relays && !matches.elsewhere.shards.is_empty() {
            self.relay(batch, &matches.elsewhere);
        }
        self.matches = matches;
        if batch.again {
            batch.done = batch.list.subscribers.len();
        }
    }

    /// Sends a batch's messages to the shards that want them.
    fn relay(&mut self, batch: &mut Batch, elsewhere: &Elsewhere) {
        for sending in &mut batch.messages {
            let translation = sending.translation.as_deref();
            let now = self.resources.now;
            let terms = Terms::new(translation, sending.grown, now, sending.expires);
            let translated = translation.and_then(Translation::made);
            let mut parcel = Parcel::shared(&sending.message).grown(sending.grown);
            self.mesh
                .publish(&mut parcel, elsewhere, &[], terms, translated, None);
            sending.elsewhere = true;
        }
        self.charge_mesh();
    }

    /// Delivers a batch's messages to group members, within the turn's share.
    pub(in crate::broker) fn serve_groups(
        &mut self,
        batch: &mut Batch,
        publications: &mut [Publication<'_>],
    ) {
        let most = self.resources.limits.pace.match_looks;
        let (list, brought, served) = (&batch.list, &batch.brought, &mut batch.served);
        while let Some(sending) = batch.messages.get_mut(served.messages) {
            let origin = sending.origin;
            let groups = match origin {
                Origin::Link(_) => &sending.picks,
                _ if batch.again => &sending.picks,
                Origin::Connection(_) | Origin::Home(_) | Origin::Nobody => &list.groups,
            };
            if !groups.is_empty() && self.resources.work.is_over() {
                return;
            }
            // All groups in one go: the publication's number then tells which members have it.
            let at_once = groups.len() <= most;
            let end = groups.len().min(served.groups + most);
            let given = &mut served.given;
            let had =
                |key| list.has(key) || brought.contains(&key) || !(at_once || given.insert(key));
            let publication = &mut publications[served.messages];
            let some = &groups[served.groups..end];
            let picks = &mut served.picks;
            self.deliver_to_groups(origin, some, batch.again, had, publication, picks);
            self.resources.work.spend(some.len());
            served.groups = end;
            if end == groups.len() {
                if !served.picks.is_empty() {
                    sending.elsewhere = true;
                    self.send_on(&served.picks, publication);
                }
                (served.messages, served.groups) = (served.messages + 1, 0);
                served.given.clear();
                served.picks.clear();
            }
        }
    }
}
