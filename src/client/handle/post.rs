//! What a subscription and a service have in common: a mailbox on this side, and what stands
//! for it at the server.
//!
//! Several may live on one subscription of the server's (same filter, same group): it is
//! ended with the last of them.

use super::Client;
use crate::client::driver::Shared;
use crate::client::error::Error;
use crate::client::inbox::{BoxId, Takes};
use crate::client::registry::Change;
use crate::client::subscribe::Interest;
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use std::sync::Arc;

/// A mailbox, and what stands at the server for it. Dropped, both end.
pub(super) struct Post {
    pub(super) client: Client,
    pub(super) id: BoxId,
    pub(super) interest: Interest,
    /// UNSUBSCRIBE or UNSERVE, once anything may stand at the server.
    ended_by: Option<MessageType>,
}

impl Post {
    /// Opens a mailbox and asks the server for what it takes.
    pub(super) async fn open(
        client: &Client,
        kind: MessageType,
        interest: Interest,
    ) -> Result<Post, Error> {
        let serves = kind == MessageType::Serve;
        let (what, ended_by) = match serves {
            true => ("the SERVE", MessageType::Unserve),
            false => ("the SUBSCRIBE", MessageType::Unsubscribe),
        };
        let id = {
            let mut core = client.shared().lock();
            let ledger = &mut core.conversation.ledger;
            let takes = match serves {
                true => Takes::Requests(interest.clone()),
                false => {
                    interest.check_beside(ledger.inbox.subscriptions())?;
                    Takes::Messages(interest.clone())
                }
            };
            ledger.withdrawals.cancel(ended_by, &interest);
            ledger.inbox.open(takes)
        };
        let mut post = Post {
            client: client.clone(),
            id,
            interest,
            ended_by: Some(ended_by),
        };
        let change = Change::Interest(post.interest.clone());
        let envelope = post.interest.envelope(0);
        let opened = client.operate(what, kind, envelope, &change).await;
        if let Err(Error::Failed { .. } | Error::Invalid { .. }) = opened {
            post.ended_by = None;
        }
        opened.map(|()| post)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.client.shared()
    }

    /// Tells the server that nothing more is wanted, and waits until it has said so; what
    /// came before can still be taken.
    pub(super) async fn end(&mut self) -> Result<(), Error> {
        let Some(kind) = self.ended_by else {
            return Ok(());
        };
        let what = match kind == MessageType::Unserve {
            true => "the UNSERVE",
            false => "the UNSUBSCRIBE",
        };
        let is_shared = self.is_shared();
        self.ended_by = None;
        if is_shared {
            return Ok(());
        }
        let shared = self.shared();
        shared.lock().conversation.withdraw(kind, &self.interest);
        shared.wake();
        let ended = shared.when(|core| {
            let withdrawals = &core.conversation.ledger.withdrawals;
            (!withdrawals.contains(kind, &self.interest)).then_some(())
        });
        let timeout = shared.options.request_timeout;
        shared.within(what, timeout, ended).await
    }

    /// Whether another mailbox lives on the same subscription or service.
    fn is_shared(&self) -> bool {
        let core = self.shared().lock();
        let inbox = &core.conversation.ledger.inbox;
        let same = |it: &&Interest| it.is_same(&self.interest);
        let count = match self.ended_by == Some(MessageType::Unserve) {
            true => inbox.services().filter(same).count(),
            false => inbox.subscriptions().filter(same).count(),
        };
        count > 1
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        let is_shared = self.is_shared();
        let mut core = self.shared().lock();
        for left in core.conversation.ledger.inbox.close(self.id) {
            if let Some(request) = left.into_request() {
                let text = "this client does not serve it any more";
                core.conversation
                    .respond_failed(&request, Code::ServiceGone, text);
            }
        }
        if let Some(kind) = self.ended_by.filter(|_| !is_shared) {
            core.conversation.withdraw(kind, &self.interest);
        }
        drop(core);
        self.shared().wake();
    }
}
