//! The desk: shards submit their requests here, and get the answers from here.

use super::issuer::Issuer;
use super::revocations::RevocationRegistry;
use super::wanted::Wanted;
use crate::auth::Denied;
use crate::auth::ask::{Answer, Ask, Desk};
use crate::base::clock::unix_seconds;
use crate::base::id::ShardId;
use crate::shard::{Command, Mailbox};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The most asks answered together, in one change of the store.
const ASKS_PER_CHANGE: usize = 256;

/// Where shards submit their asks.
pub(super) struct Counter {
    pub(super) ask: mpsc::Sender<Ask>,
    pub(super) wanted: Arc<Wanted>,
}

impl Desk for Counter {
    fn post(&self, ask: Ask) -> Result<(), Ask> {
        self.ask
            .try_send(ask)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    fn want_key(&self, name: &str) {
        self.wanted.want(name);
    }
}

/// Answers the shards' asks.
pub(super) async fn answer(
    mut asked: mpsc::Receiver<Ask>,
    issuer: Option<Arc<Issuer>>,
    registry: Arc<RevocationRegistry>,
    shards: Vec<Mailbox>,
) {
    let mut asks = Vec::new();
    while asked.recv_many(&mut asks, ASKS_PER_CHANGE).await > 0 {
        let (asks, issuer, shards) = (std::mem::take(&mut asks), issuer.clone(), shards.clone());
        let authority = registry.authority();
        let work = move || {
            let answers = match issuer {
                Some(issuer) => issuer.answer(&authority, &asks, unix_seconds()),
                None => asks.iter().map(|_| Err(Denied::Refresh.into())).collect(),
            };
            for (ask, answer) in asks.iter().zip(answers) {
                deliver(&shards, ask, answer);
            }
        };
        super::blocking::blocking(work).await;
    }
    // No shard can ask any more.
    std::future::pending().await
}

fn deliver(shards: &[Mailbox], ask: &Ask, answer: Answer) {
    let ShardId(index) = ask.shard;
    if let Some(shard) = shards.get(usize::from(index)) {
        shard.post_waiting(Command::Authenticated(
            ask.key,
            ask.number,
            Box::new(answer),
        ));
    }
}
