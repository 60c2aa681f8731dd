//! Distributes the latest authority to every shard, in order, and reports when all have it.
//!
//! A shard that lags behind gets only the latest one: each authority is complete, so one that
//! was replaced before it was delivered can be skipped. A shard that has ended counts as up to
//! date.

use crate::auth::Authority;
use crate::broker::Completion;
use crate::shard::{Command, Mailbox};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Counts authorities: the higher, the later.
type Version = u64;

pub struct Broadcaster {
    news: watch::Sender<(Version, Arc<Authority>)>,
    /// The version that each shard has.
    heard: Vec<watch::Receiver<Version>>,
}

/// Delivers authorities to one shard: see [`Courier::run`].
pub struct Courier {
    mailbox: Mailbox,
    news: watch::Receiver<(Version, Arc<Authority>)>,
    heard: watch::Sender<Version>,
}

/// Some shards did not get it in time. They will get it later.
#[derive(Debug)]
pub struct Late;

impl Broadcaster {
    /// A broadcaster to shards that have `authority` already, and a courier for each.
    pub fn new(authority: Arc<Authority>, shards: &[Mailbox]) -> (Broadcaster, Vec<Courier>) {
        let (news, _) = watch::channel((0, authority));
        let courier = |mailbox: &Mailbox| Courier {
            mailbox: mailbox.clone(),
            news: news.subscribe(),
            heard: watch::channel(0).0,
        };
        let couriers: Vec<Courier> = shards.iter().map(courier).collect();
        let heard = couriers
            .iter()
            .map(|courier| courier.heard.subscribe())
            .collect();
        (Broadcaster { news, heard }, couriers)
    }

    /// The authority in force.
    pub fn authority(&self) -> Arc<Authority> {
        self.news.borrow().1.clone()
    }

    /// Replaces the authority by the result of `change`; the couriers deliver it. Returns the
    /// version to wait for with [`Broadcaster::heard`].
    pub fn put(&self, change: impl FnOnce(&Authority) -> Authority) -> Version {
        let mut version = 0;
        self.news.send_modify(|(latest, authority)| {
            *latest += 1;
            *authority = Arc::new(change(authority));
            version = *latest;
        });
        version
    }

    /// Waits until every shard has that version or a later one.
    ///
    /// # Errors
    /// If one does not have it by then.
    pub async fn heard(&self, version: Version, by: Duration) -> Result<(), Late> {
        let all = async {
            for heard in &self.heard {
                // A courier ends only with the control thread, as does this task.
                let _ = heard.clone().wait_for(|has| *has >= version).await;
            }
        };
        timeout(by, all).await.map_err(|_| Late)
    }
}

impl Courier {
    /// Delivers each new authority, forever.
    pub async fn run(mut self) {
        while self.news.changed().await.is_ok() {
            let (version, authority) = self.news.borrow_and_update().clone();
            let (tell, told) = oneshot::channel();
            // No one waits any more while the thread is ending.
            let told_shard = Completion::new(move || tell.send(()).unwrap_or(()));
            if let Err(command) = self.mailbox.post(Command::Authority(authority, told_shard)) {
                let mailbox = self.mailbox.clone();
                super::blocking::blocking(move || mailbox.post_waiting(command)).await;
            }
            // Dropped without completion: the shard has ended.
            let _ = told.await;
            self.heard.send_replace(version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::ApiKeys;
    use crate::auth::keyring::Keyring;
    use crate::auth::rights::Roles;
    use crate::auth::token::Requirements;
    use crate::base::wake::{Wake, Waker};
    use crate::broker::mailbox;

    fn authority() -> Arc<Authority> {
        let roles = Roles::new([]).expect("no roles");
        let requirements = Requirements::default();
        let keys = ApiKeys::default();
        Arc::new(Authority::new(
            roles,
            Keyring::default(),
            requirements,
            keys,
        ))
    }

    struct Asleep;

    impl Wake for Asleep {
        fn wake(&self) {}
    }

    fn waker() -> Waker {
        Waker::new(Arc::new(Asleep))
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn an_ended_shard_is_not_waited_for() {
        let (mailbox, inbox) = mailbox(waker());
        drop(inbox);
        let (broadcaster, mut couriers) = Broadcaster::new(authority(), &[mailbox]);
        let version = broadcaster.put(Authority::clone);
        let courier = couriers.pop().expect("a courier");
        tokio::select! {
            () = courier.run() => panic!("a courier does not end"),
            heard = broadcaster.heard(version, SOON) => assert!(heard.is_ok()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_take_it_is_late() {
        let (mailbox, _inbox) = mailbox(waker());
        let (broadcaster, mut couriers) = Broadcaster::new(authority(), &[mailbox]);
        let version = broadcaster.put(Authority::clone);
        let courier = couriers.pop().expect("a courier");
        tokio::select! {
            () = courier.run() => panic!("a courier does not end"),
            heard = broadcaster.heard(version, SOON) => assert!(heard.is_err()),
        }
    }
}
