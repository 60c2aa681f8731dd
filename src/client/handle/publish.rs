//! Publishing, confirmed or not; and the will.

use super::client::Client;
use crate::client::driver::Core;
use crate::client::error::Error;
use crate::client::publish::Publish;
use crate::client::registry::Change;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::task::consume_budget;

const PUBLISH: &str = "the PUBLISH";

impl Client {
    /// Publishes without confirmation: returns when the message is queued for sending. If it is
    /// lost with its connection, nobody is told; if the server refuses it,
    /// [`Client::take_failure`] says so.
    ///
    /// Waits only while there is no connection, or while 256 KiB wait to be sent.
    ///
    /// # Errors
    /// `Invalid` for a message that no server would accept, `Timeout`, and any error that ends
    /// the connection.
    pub async fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.publish_with(&Publish::new(topic).payload(payload.as_ref()))
            .await
    }

    /// Publishes and waits until the server has confirmed it: every subscriber present at
    /// that moment has it queued. With a session, the client repeats it over as many connections
    /// as that takes, and the server delivers it once.
    ///
    /// Dropping the future does not undo a PUBLISH that was already sent.
    ///
    /// # Errors
    /// `Rejected` if the server refuses it, `Unconfirmed` if the connection breaks and there
    /// is no session, `Timeout`, and as [`Client::publish`].
    pub async fn publish_confirmed(
        &self,
        topic: &str,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let publish = Publish::new(topic).payload(payload.as_ref());
        self.publish_with(&publish.confirm(true)).await
    }

    /// Publishes with a codec, headers, RETAIN; waits for the confirmation if it asks for
    /// one.
    ///
    /// # Errors
    /// As [`Client::publish_confirmed`].
    pub async fn publish_with(&self, publish: &Publish<'_>) -> Result<(), Error> {
        let envelope = publish.envelope()?;
        let shared = self.shared();
        let timeout = shared.options.request_timeout;
        let confirm = publish.confirm;
        let send = |core: &mut Core| core.publish_when_ready(envelope, confirm, confirm);
        if confirm {
            let is_sent = AtomicBool::new(false);
            let confirmed = shared.call(|core| {
                let sent = send(core)?;
                is_sent.store(sent.is_ok(), Relaxed);
                Some(sent)
            });
            let confirmed = shared.within_of(PUBLISH, timeout, &is_sent, confirmed);
            return confirmed.await.map(drop);
        }
        // Lets other tasks run now and then if one publishes in a loop.
        consume_budget().await;
        // Usually there is room at once, which takes no clock.
        let mut sent = send(&mut shared.lock());
        if sent.is_none() {
            let room = shared.when(send);
            sent = Some(shared.within(PUBLISH, timeout, room).await?);
        }
        shared.wake();
        sent.map_or(Ok(()), |sent| sent.map(drop))
    }

    /// What the server publishes if this client's connection ends without CLOSE; it replaces
    /// the one before.
    ///
    /// # Errors
    /// `Failed` if the server refuses it, `Timeout`, and any error that ends the connection.
    pub async fn will(&self, publish: &Publish<'_>) -> Result<(), Error> {
        let envelope = publish.envelope()?;
        let change = Change::will(&envelope);
        self.operate("the WILL", MessageType::Will, envelope, &change)
            .await
    }

    /// Withdraws the will.
    ///
    /// # Errors
    /// As [`Client::will`].
    pub async fn withdraw_will(&self) -> Result<(), Error> {
        let (envelope, change) = (Envelope::default(), Change::Will(None));
        self.operate("the WILL", MessageType::Will, envelope, &change)
            .await
    }
}
