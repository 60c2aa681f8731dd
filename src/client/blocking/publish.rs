//! Publishing: at once, confirmed, or many in flight; and the will.
//!
//! | call | returns when | fit for |
//! |---|---|---|
//! | `publish` | the kernel has it | a reading now and then that may be lost |
//! | `publish_confirmed` | every subscriber present has it queued | what must arrive |
//! | `publish_queued`, then `flush` or `wait_confirmed` | it is buffered | thousands in a row |

use super::Client;
use super::stream::Stream;
use super::turn::Deadline;
use crate::client::conversation::Conversation;
use crate::client::error::Error;
use crate::client::publish::Publish;
use crate::client::registry::Change;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;

/// Buffered bytes that are worth a write.
const FLUSH_BYTES: usize = 32 * 1024;
/// Buffered bytes above which publishing waits for the kernel.
const UNSENT_BYTES_MAX: usize = 1 << 20;

impl Client {
    /// Publishes, unconfirmed: returns when it is on its way.
    ///
    /// ```no_run
    /// # let mut client = ringmail::blocking::Client::connect("127.0.0.1:7411")?;
    /// client.publish("site/1/temperature", "21.5")?;
    /// # Ok::<(), ringmail::client::Error>(())
    /// ```
    ///
    /// # Errors
    /// What ends the connection; and, before anything is sent, `Rejected` or `Unconfirmed`
    /// about an earlier PUBLISH whose failure nobody has been told yet.
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
        let what = "the PUBLISH";
        let deadline = Deadline::within(self.builder.request_timeout);
        let envelope = publish.envelope()?;
        self.begin()?;
        self.hear_complaint()?;
        self.stand(what, &deadline)?;
        let id = self.conversation.publish(envelope, publish.confirm)?;
        if id == 0 {
            return self.write_all(what, &deadline);
        }
        self.wait(what, &deadline, |conversation| {
            let flight = &conversation.ledger.flight;
            (!flight.contains(id)).then_some(())
        })?;
        match self.conversation.ledger.take_complaint_about(id) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Publishes without waiting: it is buffered, and sent when enough has gathered, or by
    /// [`Client::flush`], [`Client::wait_confirmed`] or any other call. Returns the id that
    /// an error about it will name; 0 if it asks for no confirmation.
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
    /// Waits only while the unsent or unconfirmed ones are as many as the client keeps.
    ///
    /// # Errors
    /// As [`Client::publish`], and `Timeout` when no room was made in time.
    pub fn publish_queued(&mut self, publish: &Publish<'_>) -> Result<u32, Error> {
        let what = "the PUBLISH";
        let envelope = publish.envelope()?;
        self.check()?;
        self.hear_complaint()?;
        if !self.has_room(publish.confirm) {
            let deadline = Deadline::within(self.builder.request_timeout);
            self.begin()?;
            self.stand(what, &deadline)?;
            self.wait(what, &deadline, |conversation| {
                has_room(conversation, publish.confirm).then_some(())
            })?;
            self.hear_complaint()?;
        }
        let id = self.conversation.publish(envelope, publish.confirm)?;
        if self.conversation.unsent().len() >= FLUSH_BYTES {
            // Confirmations are taken as they come, or the server could not send them.
            self.begin()?;
            self.write_out()?;
        }
        Ok(id)
    }

    /// Sends what is buffered: returns when the kernel has it all.
    ///
    /// # Errors
    /// As [`Client::publish`], and `Timeout`.
    pub fn flush(&mut self) -> Result<(), Error> {
        let deadline = Deadline::within(self.builder.request_timeout);
        self.begin()?;
        self.hear_complaint()?;
        self.write_all("the flush", &deadline)
    }

    /// Sends what is buffered and waits until every PUBLISH that asked for it is confirmed.
    ///
    /// # Errors
    /// `Rejected` for one that the server refused: the others are waited for by calling
    /// again. `Unconfirmed`, `Timeout`, and what ends the connection.
    pub fn wait_confirmed(&mut self) -> Result<(), Error> {
        self.begin()?;
        loop {
            self.hear_complaint()?;
            let count = self.unconfirmed_count();
            if count == 0 {
                return Ok(());
            }
            // Each confirmation is a sign of life: the time counts from the last one.
            let deadline = Deadline::within(self.builder.request_timeout);
            self.wait("the confirmation", &deadline, |conversation| {
                (conversation.ledger.flight.len() < count).then_some(())
            })?;
        }
    }

    /// PUBLISHes that asked for confirmation and have none yet.
    pub fn unconfirmed_count(&self) -> usize {
        self.conversation.ledger.flight.len()
    }

    /// What the server publishes if this client's connection ends without CLOSE; it replaces
    /// the one before.
    ///
    /// # Errors
    /// `Failed` if the server refuses it, `Timeout`, and what ends the connection.
    pub fn will(&mut self, publish: &Publish<'_>) -> Result<(), Error> {
        let envelope = publish.envelope()?;
        let change = Change::will(&envelope);
        self.operate("the WILL", MessageType::Will, envelope, change)
    }

    /// Withdraws the will.
    ///
    /// # Errors
    /// As [`Client::will`].
    pub fn withdraw_will(&mut self) -> Result<(), Error> {
        let (envelope, change) = (Envelope::default(), Change::Will(None));
        self.operate("the WILL", MessageType::Will, envelope, change)
    }

    // ---- inside ----

    fn has_room(&self, confirm: bool) -> bool {
        self.conversation.is_open() && has_room(&self.conversation, confirm)
    }

    /// The failure of an earlier PUBLISH that nobody was told yet.
    pub(super) fn hear_complaint(&mut self) -> Result<(), Error> {
        match self.conversation.ledger.take_complaint() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Waits until the kernel has all that was written.
    pub(super) fn write_all(
        &mut self,
        what: &'static str,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        self.write_out()?;
        self.wait(what, deadline, |conversation| {
            let is_sent = conversation.can_answer() && conversation.unsent().is_empty();
            is_sent.then_some(())
        })?;
        // Under TLS the last of it may still wait for the socket.
        while self.stream.as_ref().is_some_and(Stream::has_unsent) {
            self.turn(what, deadline)?;
        }
        Ok(())
    }
}

fn has_room(conversation: &Conversation, confirm: bool) -> bool {
    conversation.unsent().len() < UNSENT_BYTES_MAX
        && !(confirm && conversation.ledger.flight.is_full())
}
