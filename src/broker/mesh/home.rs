//! The path through a topic's home: the shard, chosen by a hash of the topic's name, that brings
//! the retained publications of all shards into one order.
//!
//! ```text
//!   A  PUBLISH ── Home ──► H  retains, delivers ── Publish ──► A, C, …
//!   A  OK ◄────── Homed ── H  ◄──────────── batches come back ┘
//! ```
//!
//! Whatever a connection publishes on that topic afterwards takes the same path, until all of it is
//! confirmed; after that, a direct publication can no longer overtake it. Conversely, what the
//! connection had published directly may still be on its way from A to C when the home's
//! publication reaches C: so A tells the home how much it has said to each other shard, and C
//! handles no publication of the home before it has handled that much of A's (`After`). A shard
//! waits only for what was said earlier, so there are no cycles of waiting.
//!
//! The home takes all that comes at once, whether or not its own links are pressed: waiting
//! there, two homes could wait for each other. Instead what is on its way through a home, and
//! not confirmed, is bounded at the shard it comes from: a link with too much of it is pressed.

use crate::base::id::{Key, ShardId};
use crate::broker::mesh::batch::{Batch, Entry};
use crate::broker::mesh::link::shards;
use crate::broker::mesh::passage::{Home, Owed, Ticket, cost};
use crate::broker::mesh::{Link, Mesh};
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::Terms;
use bytes::Bytes;

impl Mesh {
    // ---- the publisher's shard ----

    /// Something is on its way through a home.
    #[inline]
    pub(crate) fn is_homing(&self) -> bool {
        self.homing > 0
    }

    /// The home of a topic on another shard; `None`: it is this shard, `own`.
    pub(in crate::broker) fn home(&self, own: ShardId, topic: &str) -> Option<Home> {
        if self.links.is_empty() {
            return None;
        }
        let hash = crc32fast::hash(topic.as_bytes());
        let shards = self.shard_count() as u64;
        let shard = ShardId(((u64::from(hash) * shards) >> 32) as u16);
        let link = self.link_to(shard);
        debug_assert_eq!(link.is_none(), shard == own, "{shards} shards");
        let link = link?;
        // A shard that has ended cannot be a home: until this one ends too, it is the home itself.
        (!self.links[link].is_gone()).then_some(Home { link, topic: hash })
    }

    /// Whether a publication of this connection on this topic is on its way through that home.
    pub(in crate::broker) fn has_homing(&self, home: Home, by: Key) -> bool {
        let passage = &self.links[home.link].passage;
        passage.last.contains_key(&(by, home.topic))
    }

    /// Sends a publication to its home, which delivers it. `units`: the work that this makes on one
    /// shard.
    pub(in crate::broker) fn send_home(
        &mut self,
        home: Home,
        by: Key,
        parcel: &mut Parcel<'_>,
        terms: Terms,
        translated: Option<&Bytes>,
        units: usize,
    ) -> Ticket {
        let mut counts = std::mem::take(&mut self.links[home.link].open.counts);
        let others = shards(&self.links).enumerate();
        let others = others.filter(|(index, _)| *index != home.link);
        counts.extend(others.map(|(_, (_, link))| link.said()));
        let link = &mut self.links[home.link];
        let batch: &mut Batch = &mut link.open;
        batch.counts = counts;
        let grown = parcel.is_grown();
        let message = match terms.retain {
            true => batch.put_retained(parcel, &self.ledger),
            false => batch.put(parcel, &self.ledger),
        };
        if let Some(translated) = translated {
            batch.put_shared(translated.clone());
        }
        batch.entries.push(Entry::Home {
            message,
            terms: Terms { grown, ..terms },
        });
        let number = link.passage.enter(by, home.topic, parcel.len(), units);
        self.homing += 1;
        self.press();
        Ticket {
            link: home.link,
            number,
        }
    }

    /// A home confirms that `count` more publications have been delivered everywhere.
    pub(in crate::broker) fn take_homed(&mut self, from: ShardId, count: u32, bytes: usize) {
        if let Some(link) = self.link_to(from) {
            let passage = &mut self.links[link].passage;
            // If it has ended since, all of them have been given up.
            let count = u64::from(count).min(passage.left());
            passage.leave(count, bytes);
            self.homing -= count;
        }
    }

    /// Whether the home has confirmed this publication.
    pub(in crate::broker) fn is_homed(&self, ticket: Ticket) -> bool {
        let link = self.links.get(ticket.link);
        link.is_none_or(|link| link.passage.done >= ticket.number)
    }

    /// Gives up publications that were on their way through homes that have ended.
    pub(in crate::broker) fn forget_gone(&mut self) {
        for link in &mut self.links {
            let left = link.passage.left();
            if left > 0 && link.is_gone() {
                link.passage.leave(left, usize::MAX);
                self.homing -= left;
            }
        }
    }

    // ---- the home ----

    /// Another shard's publication has been delivered here and sent on to others: its shard gets a
    /// confirmation once all of them have it.
    pub(in crate::broker) fn owe(&mut self, to: ShardId, bytes: usize) {
        let Some(link) = self.link_to(to) else {
            return;
        };
        let (mark, bytes) = (self.epoch, cost(bytes));
        match self.owed.back_mut() {
            Some(last) if (last.mark, last.link) == (mark, link) => {
                last.count += 1;
                last.bytes += bytes;
            }
            _ => self.owed.push_back(Owed {
                mark,
                link,
                count: 1,
                bytes,
            }),
        }
    }

    /// Some confirmations are still owed.
    pub(crate) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Sends the confirmations that have become due. The publisher's own shard has the publication
    /// by then: it was sent earlier on the same link.
    pub(in crate::broker) fn pay(&mut self) {
        while let Some(&Owed {
            mark,
            link: to,
            count,
            bytes,
        }) = self.owed.front()
        {
            let mut others = self.links.iter().enumerate();
            if !others.all(|(index, link): (usize, &Link)| index == to || link.is_done(mark)) {
                return;
            }
            self.owed.pop_front();
            let entry = Entry::Homed { count, bytes };
            self.links[to].open.entries.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Instant;
    use crate::base::wake::{Wake, Waker};
    use crate::broker::mesh::passage::PASSAGE_BYTES_MAX;
    use crate::broker::mesh::{Cause, Item, LinkSize, Neighbour, connect_shards};
    use crate::broker::publish::publication::Sent;
    use crate::router::{Count, Elsewhere, Matches, Router};
    use std::sync::Arc;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    const TERMS: Terms = Terms {
        plain: false,
        retain: true,
        again: false,
        grown: false,
        translation: Sent::None,
        at: Instant::ZERO,
        expires: Instant::NEVER,
    };
    const BY: Key = Key {
        slot: 7,
        generation: 1,
    };

    fn meshes(count: usize) -> Vec<Mesh> {
        let wakers: Vec<Waker> = (0..count).map(|_| Waker::new(Arc::new(Nobody))).collect();
        connect_shards(&wakers, LinkSize::default())
    }

    fn say(mesh: &mut Mesh, text: &[u8], cause: Option<Cause<'_>>) {
        let nobody = Elsewhere::new();
        mesh.publish(&mut Parcel::plain(text), &nobody, &[], TERMS, None, cause);
    }

    /// Handles what link `index` brings, as far as possible, and records it in `told`.
    fn take(mesh: &mut Mesh, index: usize, told: &mut Vec<String>) {
        while let Some((peer, mut batch)) = mesh.receive(index) {
            let Neighbour::Shard(from) = peer;
            while (batch.after()).is_none_or(|(shard, count)| mesh.has_taken(shard, count))
                && let Some(item) = batch.next()
            {
                match item {
                    Item::Publish { message, .. } => {
                        let parcel = message.parcel(true);
                        told.push(String::from_utf8_lossy(parcel.bytes()).into_owned());
                    }
                    Item::Home {
                        message, counts, ..
                    } => {
                        let parcel = message.parcel(true);
                        say(mesh, parcel.bytes(), Some(Cause { from, counts }));
                        mesh.owe(from, parcel.len());
                    }
                    Item::Homed { count, bytes } => mesh.take_homed(from, count, bytes),
                    _ => {}
                }
            }
            if !batch.is_done() {
                return mesh.put_back(index, batch);
            }
            mesh.give_back(index, batch);
        }
    }

    fn turn(mesh: &mut Mesh, told: &mut Vec<String>) {
        mesh.collect();
        mesh.pay();
        for index in 0..mesh.link_count() {
            take(mesh, index, told);
        }
        mesh.pay();
        mesh.flush(true);
    }

    #[test]
    fn each_topic_has_one_home_and_each_shard_some_topics() {
        let meshes = meshes(5);
        let mut homes = [0; 5];
        for topic in 0..1000 {
            let topic = format!("site/{topic}/state");
            let at_home = |(own, mesh): &(usize, &Mesh)| {
                let home = mesh.home(ShardId(*own as u16), &topic);
                home.is_none()
            };
            let mut at = meshes.iter().enumerate().filter(at_home);
            homes[at.next().expect("a home").0] += 1;
            assert_eq!(at.count(), 0);
        }
        assert!(homes.iter().all(|count| *count > 100), "{homes:?}");
    }

    /// From shard 0 to shard 2, directly and through shard 1.
    #[test]
    fn what_went_directly_before_is_not_overtaken_by_way_of_the_home() {
        let mut meshes = meshes(3);
        let topic = (0..)
            .map(|n| format!("t{n}"))
            .find(|topic| meshes[1].home(ShardId(1), topic).is_none())
            .expect("a topic of shard 1");
        let home = meshes[0].home(ShardId(0), &topic).expect("elsewhere");
        say(&mut meshes[0], b"direct", None);
        let mut parcel = Parcel::plain(b"by way of");
        let ticket = meshes[0].send_home(home, BY, &mut parcel, TERMS, None, 1);
        assert!(meshes[0].is_homing() && meshes[0].has_homing(home, BY));
        meshes[0].flush(true);
        say(&mut meshes[0], b"later", None);

        let mut told = [const { Vec::new() }; 3];
        turn(&mut meshes[1], &mut told[1]);
        // Shard 2 hears the home first.
        take(&mut meshes[2], 1, &mut told[2]);
        assert!(told[2].is_empty(), "{told:?}");
        take(&mut meshes[2], 0, &mut told[2]);
        turn(&mut meshes[2], &mut told[2]);
        assert_eq!(told[2], ["direct", "by way of"]);
        assert!(!meshes[0].is_homed(ticket));
        // The publisher's shard gets it too, and then the home's confirmation.
        turn(&mut meshes[1], &mut told[1]);
        turn(&mut meshes[0], &mut told[0]);
        assert_eq!(told[0], ["by way of"]);
        assert!(meshes[0].is_homed(ticket) && !meshes[0].is_homing());
        assert!(!meshes[0].has_homing(home, BY));
    }

    #[test]
    fn publishers_wait_while_much_is_on_its_way_and_not_for_a_home_that_has_ended() {
        let mut meshes = meshes(2);
        let topic = (0..)
            .map(|n| format!("t{n}"))
            .find(|topic| meshes[0].home(ShardId(0), topic).is_some())
            .expect("a topic of shard 1");
        let home = meshes[0].home(ShardId(0), &topic).expect("elsewhere");
        let large = vec![0; PASSAGE_BYTES_MAX / 2];
        let mut told = Vec::new();
        for round in 0..2 {
            let mut tickets = Vec::new();
            for count in 1..=3 {
                let mut parcel = Parcel::plain(&large);
                tickets.push(meshes[0].send_home(home, BY, &mut parcel, TERMS, None, 1));
                assert_eq!(meshes[0].stops(0), count > 1);
            }
            meshes[0].flush(true);
            if round == 0 {
                turn(&mut meshes[1], &mut told);
            } else {
                drop(meshes.pop());
            }
            turn(&mut meshes[0], &mut told);
            assert!(meshes[0].ease(), "round {round}");
            assert!(tickets.iter().all(|&ticket| meshes[0].is_homed(ticket)));
            assert!(!meshes[0].is_homing());
        }
        assert!(meshes[0].home(ShardId(0), &topic).is_none());
    }

    /// In work, not in entries: one of them may make much on a peer. What goes through a home
    /// counts as well.
    #[test]
    fn who_makes_more_than_a_peer_does_in_a_turn_waits_until_it_is_done() {
        const SHARE: usize = 1000;
        let mut router = Router::new(ShardId(0));
        let count = Count {
            total: 64,
            ready: 64,
        };
        router.note(ShardId(1), "t", None, count);
        let mut matches = Matches::new();
        assert!(router.find("t", &mut matches, usize::MAX));
        let mut meshes = meshes(2);
        let topic = (0..).map(|n| format!("t{n}"));
        let mut at = topic.filter_map(|topic| meshes[0].home(ShardId(0), &topic));
        let home = at.next().expect("a topic of shard 1");
        for by_home in [false, true] {
            meshes[0].set_share(SHARE);
            let say = |mesh: &mut Mesh| {
                let mut parcel = Parcel::plain(b"to many");
                if by_home {
                    let units = mesh.most_units(&matches);
                    mesh.send_home(home, BY, &mut parcel, TERMS, None, units);
                } else {
                    mesh.publish(&mut parcel, &matches.elsewhere, &[], TERMS, None, None);
                }
            };
            let mut said = [0; 2];
            while !meshes[0].stops(0) {
                let pressed = usize::from(meshes[0].stops(usize::MAX));
                say(&mut meshes[0]);
                said[pressed] += 1;
                assert!(said[0] + said[1] < 100, "{said:?}");
            }
            // 65 units each, and half of a share, or a fourth, in one batch.
            let expected = if by_home { [4, 4] } else { [8, 8] };
            assert_eq!(said, expected, "then who says little has to wait, too");
            meshes[0].flush(true);
            assert!(!meshes[0].ease());
            let mut told = Vec::new();
            turn(&mut meshes[1], &mut told);
            turn(&mut meshes[0], &mut told);
            assert!(meshes[0].ease(), "by home: {by_home}");
        }
    }

    /// What SUBSCRIBE's OK waits for.
    #[test]
    fn who_hears_that_all_is_done_has_heard_what_was_said_before() {
        let mut meshes = meshes(2);
        let mut told = Vec::new();
        say(&mut meshes[0], b"asks", None);
        let mark = meshes[0].mark();
        meshes[0].flush(true);
        // The other shard says something in the turn in which it handles that.
        say(&mut meshes[1], b"before", None);
        take(&mut meshes[1], 0, &mut told);
        say(&mut meshes[1], b"behind", None);
        meshes[0].collect();
        assert!(meshes[0].is_done(mark) && !meshes[0].is_heard(mark));
        meshes[1].flush(true);
        meshes[0].collect();
        assert!(
            !meshes[0].is_heard(mark),
            "it has come, and nobody has read it"
        );
        take(&mut meshes[0], 0, &mut told);
        assert!(meshes[0].is_heard(mark));
        assert_eq!(told, ["asks", "before", "behind"]);
    }
}
