//! Who answers a request: here, as another shard knows it, and while servers come and go.

use super::model::check_choice;
use super::{Bench, OWN, WORDS};
use ringmail::proto::name::check_topic;
use ringmail::router::{Choice, Router, ServerSearch};

impl Bench<'_> {
    pub(super) fn check_services(&mut self) {
        let service = self.draw.name(WORDS, 4);
        if check_topic(&service).is_err() {
            return;
        }
        let (nodes_max, rng) = (self.draw.below(4), &mut self.rng);
        let mut sought = |router: &Router| {
            let mut search = ServerSearch::default();
            while !router.seek_server(&service, &mut search, rng, nodes_max).1 {}
            router.found_server(&search, rng, |key| key.slot)
        };
        let (choice, other) = (sought(&self.router), sought(&self.mirror));
        let circles = self.model.services(&service);
        check_choice(&circles, choice);
        let serving = circles.iter().filter(|circle| !circle.own.is_empty());
        let mut serving = serving.peekable();
        assert_eq!(other.is_some(), serving.peek().is_some(), "{service:?}");
        if let Some(Choice::Remote { shard, group }) = other {
            assert_eq!(shard, OWN);
            let rng = &mut self.rng;
            let one = self
                .router
                .choose_local_server(group, rng, |key| key.slot)
                .expect("it was told");
            let who = one.connection.slot;
            assert!(serving.any(|circle| circle.may_choose(who)), "{who}");
        }
    }

    /// A search for a server that goes on while they come and go.
    pub(super) fn seek(&mut self) {
        let Some((service, mut search)) = self.seeking.take() else {
            let service = self.draw.name(WORDS, 4);
            self.seeking = Some((service, ServerSearch::default()));
            return;
        };
        let nodes_max = self.draw.below(4);
        let (router, rng) = (&self.router, &mut self.rng);
        if !router.seek_server(&service, &mut search, rng, nodes_max).1 {
            self.seeking = Some((service, search));
            return;
        }
        if let Some(Choice::Local(one)) = router.found_server(&search, rng, |key| key.slot) {
            let who = one.connection.slot;
            let circles = self.model.services(&service);
            assert!(
                circles.iter().any(|circle| circle.may_choose(who)),
                "{who} does not serve {service:?}"
            );
        }
    }
}
