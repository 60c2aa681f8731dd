//! Publishing: at once, confirmed, or many in flight; and the will.
//!
//! | call | returns when | fit for |
//! |---|---|---|
//! | `publish` | the kernel has it | a reading now and then that may be lost |
//! | `publish_confirmed` | every subscriber present has it queued | what must arrive |
//! | `publish_queued`, then `flush` or `wait_confirmed` | it is buffered | thousands in a row |

use super::Client;
use crate::client::error::Error;
use crate::client::publish::Publish;

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
        let _ = publish;
        todo!()
    }

    /// Publishes without waiting: it is buffered, and sent when enough has gathered, or by
    /// [`Client::flush`], [`Client::wait_confirmed`] or any other call. Returns the id that
    /// an error about it will name; 0 if it asks for no confirmation.
    ///
    /// Waits only while the unsent or unconfirmed ones are as many as the client keeps.
    ///
    /// # Errors
    /// As [`Client::publish`], and `Timeout` when no room was made in time.
    pub fn publish_queued(&mut self, publish: &Publish<'_>) -> Result<u32, Error> {
        let _ = publish;
        todo!()
    }

    /// Sends what is buffered: returns when the kernel has it all.
    ///
    /// # Errors
    /// As [`Client::publish`], and `Timeout`.
    pub fn flush(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Sends what is buffered and waits until every PUBLISH that asked for it is confirmed.
    ///
    /// # Errors
    /// `Rejected` for one that the server refused: the others are waited for by calling
    /// again. `Unconfirmed`, `Timeout`, and what ends the connection.
    pub fn wait_confirmed(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// PUBLISHes that asked for confirmation and have none yet.
    pub fn unconfirmed_count(&self) -> usize {
        todo!()
    }

    /// What the server publishes if this client's connection ends without CLOSE; it replaces
    /// the one before.
    ///
    /// # Errors
    /// `Failed` if the server refuses it, `Timeout`, and what ends the connection.
    pub fn will(&mut self, publish: &Publish<'_>) -> Result<(), Error> {
        let _ = publish;
        todo!()
    }

    /// Withdraws the will.
    ///
    /// # Errors
    /// As [`Client::will`].
    pub fn withdraw_will(&mut self) -> Result<(), Error> {
        todo!()
    }
}
