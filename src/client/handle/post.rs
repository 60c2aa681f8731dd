//! What a subscription and a service have in common: a mailbox on this side, and its registration
//! at the server.
//!
//! Several may share one subscription at the server (same filter, same group): it ends with the
//! last of them.

use super::client::Client;
use crate::client::driver::Shared;
use crate::client::error::Error;
use crate::client::inbox::{BoxId, Takes};
use crate::client::registry::Change;
use crate::client::subscribe::Interest;
use crate::proto::message::MessageType;
use std::sync::Arc;

/// A mailbox and its registration at the server. Dropping it ends both.
pub(super) struct Post {
    pub(super) client: Client,
    pub(super) id: BoxId,
    pub(super) interest: Interest,
    /// UNSUBSCRIBE or UNSERVE.
    ended_by: MessageType,
}

impl Post {
    /// Opens a mailbox and registers for it at the server.
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
        let post = Post {
            client: client.clone(),
            id,
            interest,
            ended_by,
        };
        let change = Change::Interest(post.interest.clone());
        let envelope = post.interest.envelope(0);
        let stands = client.operate(what, kind, envelope, &change);
        let choked = client.shared().when(|core| {
            let inbox = &core.conversation.ledger.inbox;
            inbox.is_choked_by(post.id).then(|| inbox.bytes())
        });
        tokio::select! { biased;
            stands = stands => stands?,
            // What has come for it fills the inbox: its OK is behind that, and nobody takes it.
            bytes = choked => return Err(Error::InboxFull { bytes: bytes? }),
        }
        Ok(post)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.client.shared()
    }

    /// Ends the registration at the server, unless another mailbox shares it, and waits for the
    /// confirmation; what arrived before can still be taken.
    pub(super) async fn end(&self) -> Result<(), Error> {
        let (kind, interest) = (self.ended_by, &self.interest);
        let is_last = (self.shared().lock().conversation).resign(self.id, kind, interest);
        self.ended(is_last).await
    }

    /// As [`Post::end`], and nothing more is taken: what waits is not in the way of the OK.
    pub(super) async fn finish(&self) -> Result<(), Error> {
        let (kind, interest) = (self.ended_by, &self.interest);
        let is_last = (self.shared().lock().conversation).leave(self.id, kind, interest);
        self.ended(is_last).await
    }

    async fn ended(&self, is_last: bool) -> Result<(), Error> {
        let (kind, interest) = (self.ended_by, &self.interest);
        let what = if kind == MessageType::Unserve {
            "the UNSERVE"
        } else {
            "the UNSUBSCRIBE"
        };
        let shared = self.shared();
        shared.wake();
        if !is_last {
            return Ok(());
        }
        let ended = shared.when(|core| {
            let withdrawals = &core.conversation.ledger.withdrawals;
            (!withdrawals.contains(kind, interest)).then_some(())
        });
        let timeout = shared.options.request_timeout;
        shared.within(what, timeout, ended).await
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        // Checked and changed under one lock: another mailbox for the same registration is opened
        // either before or after both.
        let mut core = self.shared().lock();
        let conversation = &mut core.conversation;
        conversation.leave(self.id, self.ended_by, &self.interest);
        drop(core);
        self.shared().wake();
    }
}
