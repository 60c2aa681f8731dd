//! Publishing: at once, confirmed, or many in flight; and the will.
//!
//! | call | returns when | fit for |
//! |---|---|---|
//! | `publish` | the kernel has it | a reading now and then that may be lost |
//! | `publish_confirmed` | every subscriber present has it queued | what must arrive |
//! | `publish_queued`, then `flush` or `wait_confirmed` | it is buffered | thousands in a row |

use super::Client;
use crate::client::driver::Core;
use crate::client::error::Error;
use crate::client::publish::Publish;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const PUBLISH: &str = "the PUBLISH";
/// Buffered bytes that are worth a write.
const FLUSH_BYTES: usize = 32 * 1024;

impl Client {
    /// Publishes without confirmation: returns when the message is on its way.
    ///
    /// ```no_run
    /// # let mut client = ringmail::blocking::Client::connect("127.0.0.1:7411")?;
    /// client.publish("site/1/temperature", "21.5")?;
    /// # Ok::<(), ringmail::client::Error>(())
    /// ```
    ///
    /// # Errors
    /// Any error that ends the connection; and, before anything is sent, `Rejected` or
    /// `Unconfirmed` about an earlier PUBLISH whose failure has not been returned yet.
    pub fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        self.publish_with(&Publish::new(topic).payload(payload.as_ref()))
    }

    /// Publishes and waits until the server has confirmed it: every subscriber present at
    /// that moment has it queued.
    ///
    /// # Errors
    /// `Rejected` if the server refuses it, `Unconfirmed`, `Timeout`, and as [`Client::publish`].
    pub fn publish_confirmed(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let publish = Publish::new(topic).payload(payload.as_ref());
        self.publish_with(&publish.confirm(true))
    }

    /// Publishes with a codec, headers, RETAIN; waits for the confirmation if it asks for one.
    ///
    /// # Errors
    /// As [`Client::publish_confirmed`].
    pub fn publish_with(&mut self, publish: &Publish<'_>) -> Result<(), Error> {
        publish.envelope()?;
        self.keep_alive()?;
        self.hear_complaint()?;
        self.engine.wait(self.client.publish_with(publish))?;
        match publish.confirm {
            true => Ok(()),
            false => self.write_all(PUBLISH),
        }
    }

    /// Publishes without waiting: the message is buffered, and sent when enough have gathered,
    /// or by [`Client::flush`], [`Client::wait_confirmed`] or any other call. Returns the id
    /// that an error about it will name; 0 if it asks for no confirmation.
    ///
    /// ```
    /// # use ringmail::{blocking::Client, client::Publish};
    /// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
    /// # let server = ringmail::Server::builder().config(config).start()?;
    /// # let address = server.address().to_string();
    /// let mut client = Client::connect(&address)?;
    /// for reading in ["21.5", "21.6", "21.4"] {
    ///     let publish = Publish::new("site/1/temperature").payload(reading.as_bytes());
    ///     client.publish_queued(&publish.confirm(true))?;
    /// }
    /// client.wait_confirmed()?;
    /// assert_eq!(client.unconfirmed_count(), 0);
    /// # client.close()?;
    /// # server.drain();
    /// # server.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Waits only while the client holds its maximum of unsent or unconfirmed messages.
    ///
    /// # Errors
    /// As [`Client::publish`], and `Timeout` when no room was made in time.
    pub fn publish_queued(&mut self, publish: &Publish<'_>) -> Result<u32, Error> {
        let envelope = publish.envelope()?;
        self.client.ending().map_or(Ok(()), Err)?;
        self.hear_complaint()?;
        let shared = self.client.shared();
        let send = |core: &mut Core| core.publish_when_ready(envelope, publish.confirm, false);
        // Usually there is room at once, which takes neither clock nor thread.
        let mut sent = send(&mut shared.lock());
        if sent.is_none() {
            self.engine.check()?;
            let room = shared.within(PUBLISH, self.timeout(), shared.when(send));
            sent = Some(self.engine.wait(room)?);
        }
        let id = sent.unwrap_or(Ok(0))?;
        if shared.lock().conversation.unsent().len() >= FLUSH_BYTES {
            shared.wake();
        }
        Ok(id)
    }

    /// Sends what is buffered: returns when the kernel has it all.
    ///
    /// # Errors
    /// As [`Client::publish`], and `Timeout`.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.keep_alive()?;
        self.hear_complaint()?;
        self.write_all("the flush")
    }

    /// Sends what is buffered and waits until every PUBLISH that asked for it is confirmed.
    ///
    /// # Errors
    /// `Rejected` for one that the server refused: call again to wait for the others.
    /// `Unconfirmed`, `Timeout`, and any error that ends the connection.
    pub fn wait_confirmed(&mut self) -> Result<(), Error> {
        self.engine.check()?;
        let shared = self.client.shared();
        shared.wake();
        loop {
            self.hear_complaint()?;
            let count = self.unconfirmed_count();
            if count == 0 {
                return Ok(());
            }
            // Each confirmation is a sign of life: the time counts from the last one.
            let fewer = shared.when(|core| {
                let flight = &core.conversation.ledger.flight;
                (flight.len() < count).then_some(())
            });
            self.wait_sent("the confirmation", fewer)?;
        }
    }

    /// PUBLISHes that asked for confirmation and have none yet.
    pub fn unconfirmed_count(&self) -> usize {
        let core = self.client.shared().lock();
        core.conversation.ledger.flight.len()
    }

    /// What the server publishes if this client's connection ends without CLOSE; it replaces
    /// the one before.
    ///
    /// # Errors
    /// `Failed` if the server refuses it, `Timeout`, and any error that ends the connection.
    pub fn will(&mut self, publish: &Publish<'_>) -> Result<(), Error> {
        self.engine.check()?;
        self.engine.wait(self.client.will(publish))
    }

    /// Withdraws the will.
    ///
    /// # Errors
    /// As [`Client::will`].
    pub fn withdraw_will(&mut self) -> Result<(), Error> {
        self.engine.check()?;
        self.engine.wait(self.client.withdraw_will())
    }

    // ---- inside ----

    pub(super) fn timeout(&self) -> Duration {
        self.client.shared().options.request_timeout
    }

    /// The failure of an earlier PUBLISH that has not been returned yet.
    pub(super) fn hear_complaint(&self) -> Result<(), Error> {
        self.client.take_failure().map_or(Ok(()), Err)
    }

    /// Waits for what becomes of messages that have been written: without a connection that is not
    /// known.
    fn wait_sent(
        &self,
        what: &'static str,
        done: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        let (shared, is_sent) = (self.client.shared(), AtomicBool::new(true));
        let done = shared.within_of(what, self.timeout(), &is_sent, done);
        self.engine.wait(done)
    }

    /// Waits until the kernel has all that was written.
    pub(super) fn write_all(&self, what: &'static str) -> Result<(), Error> {
        let shared = self.client.shared();
        shared.wake();
        let sent = shared.when(|core| {
            let conversation = &core.conversation;
            (conversation.can_answer() && conversation.unsent().is_empty()).then_some(())
        });
        self.wait_sent(what, sent)
    }
}
