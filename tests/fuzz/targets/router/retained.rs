//! Retained messages: published late, cleared, expired and swept, and asked for in steps.

use super::model::Model;
use super::{Bench, WORDS};
use ringmail::base::clock::Instant;
use ringmail::base::id::ShardId;
use ringmail::proto::name::{check_topic, matches};
use ringmail::router::{Kept, TOMBSTONE, Version, Walk};
use std::time::Duration;

impl Bench<'_> {
    pub(super) fn retain(&mut self) {
        let topic = self.draw.name(WORDS, 4);
        if check_topic(&topic).is_err() {
            return;
        }
        let choice = self.draw.byte();
        let now = self.now.as_nanos();
        // Within the life of a tombstone, beyond which nothing is promised.
        let earlier = Duration::from_secs(u64::from(choice & 7)).as_nanos() as u64;
        let at = Instant::from_nanos(now.saturating_sub(earlier));
        let expires = match choice >> 3 & 7 {
            0..=3 => Instant::NEVER,
            long => self.now + Duration::from_secs(u64::from(long - 4) * 3),
        };
        let shard = ShardId(u16::from(self.draw.byte() & 1));
        let version = Version { at, shard };
        let payload = self.draw.bool().then(|| self.draw.take(4).to_vec());
        let message = payload.clone();
        let message = message.map(|bytes| Kept::from(bytes::Bytes::from(bytes)));
        let is_kept = self
            .router
            .retain(&topic, version, message, expires, self.now);
        let old = self.model.retained.get(&topic);
        let is_late = old.is_some_and(|old| old.0 > version);
        assert_eq!(is_kept, !is_late, "{topic:?}");
        if is_kept {
            let entry = (version, payload.map(|payload| (payload, expires)));
            self.model.retained.insert(topic, entry);
        }
        if choice >= 192 {
            self.router.sweep_retained(self.now, 1 + self.draw.below(8));
        }
    }

    pub(super) fn check_retained(&mut self) {
        let Some(filter) = self.filter() else { return };
        let (step, refusal) = (1 + self.draw.below(5), self.draw.below(4));
        let (mut walk, mut told, mut asked) = (Walk::default(), Vec::new(), 0);
        loop {
            let (mut looks, mut is_refused) = (step, false);
            let each = |kept: &Kept, expires| {
                asked += 1;
                is_refused = refusal > 0 && asked % (refusal + 1) == 0;
                if !is_refused {
                    told.push((kept.message.to_vec(), expires));
                }
                !is_refused
            };
            let now = self.now;
            let (router, looks) = (&mut self.router, &mut looks);
            if router.retained(&filter, &mut walk, looks, now, each) {
                break;
            }
            assert!(*looks == 0 || is_refused, "it stopped with looks left");
        }
        let (mut expected, mut live, mut all) = (Vec::new(), 0, 0);
        for (topic, (_, message)) in &self.model.retained {
            let Some((payload, expires)) = message else {
                continue;
            };
            all += 1;
            if *expires > self.now {
                live += 1;
                if matches(&filter, topic) {
                    expected.push((payload.clone(), *expires));
                }
            }
        }
        expected.sort();
        told.sort();
        assert_eq!(told, expected, "{filter:?}");
        // One that has expired counts until it is found out.
        assert!((live..=all).contains(&self.router.retained_count()));
    }

    pub(super) fn forget_retained(mut self, model: &Model) {
        let version = Version {
            at: self.now,
            shard: ShardId(1),
        };
        for topic in model.retained.keys() {
            let router = &mut self.router;
            assert!(router.retain(topic, version, None, Instant::NEVER, self.now));
        }
        assert_eq!(self.router.retained_message_bytes(), 0);
        // One goes on to the last entry, the next finds none behind it, the last begins anew.
        for _ in 0..3 {
            self.router
                .sweep_retained(self.now + TOMBSTONE, model.retained.len() + 1);
        }
        let (count, bytes) = (self.router.retained_count(), self.router.retained_bytes());
        assert_eq!((count, bytes), (0, 0));
    }
}
