//! What the server sends to the client: subscriptions, services, and receiving.

use super::Client;
use crate::client::conversation::Conversation;
use crate::client::error::Error;
use crate::client::incoming::{Incoming, IncomingRequest};
use crate::client::registry::Change;
use crate::client::subscribe::{Interest, Serve, Subscribe};
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use std::time::Duration;

const RESPONSE: &str = "the RESPONSE";
/// How many messages are taken from the inbox between two acknowledgements.
const TAKEN_EVERY: u32 = 64;

impl Client {
    /// Subscribes to all topics that `filter` matches (`+`: one level, `#` at the end: any
    /// number), and waits until the subscription is in effect on every shard.
    ///
    /// # Errors
    /// `Invalid` for an invalid filter, `Failed` if the server refuses, `Timeout`, `InboxFull`,
    /// and any error that ends the connection.
    pub fn subscribe(&mut self, filter: &str) -> Result<(), Error> {
        self.subscribe_with(&Subscribe::new(filter))
    }

    /// Subscribes with a group, a codec or a policy for when this client is slow.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn subscribe_with(&mut self, subscribe: &Subscribe<'_>) -> Result<(), Error> {
        self.register(
            "the SUBSCRIBE",
            MessageType::Subscribe,
            &subscribe.interest()?,
        )
    }

    /// Ends a subscription made without a group.
    ///
    /// # Errors
    /// As [`Client::subscribe`]; `Failed` with NOT_SUBSCRIBED if there was none.
    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), Error> {
        self.unsubscribe_with(&Subscribe::new(filter))
    }

    /// Ends the subscription with this filter and group.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub fn unsubscribe_with(&mut self, subscribe: &Subscribe<'_>) -> Result<(), Error> {
        self.register(
            "the UNSUBSCRIBE",
            MessageType::Unsubscribe,
            &subscribe.identity()?,
        )
    }

    /// Serves a service from now on: [`Client::receive`] returns its requests.
    ///
    /// ```
    /// # use ringmail::{blocking::Client, client::Incoming};
    /// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
    /// # let server = ringmail::Server::builder().config(config).start()?;
    /// # let address = server.address().to_string();
    /// let mut service = Client::connect(&address)?;
    /// service.serve("text/upper")?;
    /// let asking = std::thread::spawn(move || {
    ///     let mut client = Client::connect(&address)?;
    ///     client.request("text/upper", "hello")
    /// });
    /// if let Incoming::Request(request) = service.receive()? {
    ///     let answer = request.payload.to_ascii_uppercase();
    ///     service.respond(&request, answer)?;
    /// }
    /// assert_eq!(asking.join().unwrap()?.payload, b"HELLO");
    /// # service.close()?;
    /// # server.drain();
    /// # server.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn serve(&mut self, service: &str) -> Result<(), Error> {
        self.serve_with(&Serve::new(service))
    }

    /// Serves a service as a member of a group.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn serve_with(&mut self, serve: &Serve<'_>) -> Result<(), Error> {
        self.register("the SERVE", MessageType::Serve, &serve.interest()?)
    }

    /// Stops serving a service.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub fn unserve(&mut self, service: &str) -> Result<(), Error> {
        self.unserve_with(&Serve::new(service))
    }

    /// Stops serving the service with this name and group.
    ///
    /// # Errors
    /// As [`Client::unsubscribe`].
    pub fn unserve_with(&mut self, serve: &Serve<'_>) -> Result<(), Error> {
        self.register("the UNSERVE", MessageType::Unserve, &serve.interest()?)
    }

    /// Answers a request, in its own codec.
    ///
    /// If the requester has meanwhile received SERVICE_GONE (the connection broke, and there was
    /// no session), the answer is dropped.
    ///
    /// # Errors
    /// `Invalid` if it is too large, and any error that ends the connection.
    pub fn respond(
        &mut self,
        request: &IncomingRequest,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        self.respond_with(request, request.codec, payload)
    }

    /// Answers a request in a codec other than the request's.
    ///
    /// # Errors
    /// As [`Client::respond`].
    pub fn respond_with(
        &mut self,
        request: &IncomingRequest,
        codec: Codec,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        let payload = payload.as_ref(); // the caller's code, not to run under the lock
        self.stand_to_answer(|conversation| conversation.respond(request, codec, payload))
    }

    /// Answers a request with a failure; the application's own codes are
    /// `Code::Application(0x1000)` and above.
    ///
    /// # Errors
    /// As [`Client::respond`].
    pub fn respond_failed(
        &mut self,
        request: &IncomingRequest,
        code: Code,
        text: &str,
    ) -> Result<(), Error> {
        self.stand_to_answer(|conversation| {
            conversation.respond_failed(request, code, text);
            Ok(())
        })
    }

    /// Waits for the next message, request or notice of a reconnect, however long it takes.
    ///
    /// ```no_run
    /// # use ringmail::{blocking::Client, client::Incoming};
    /// # let mut client = Client::builder().session(true).connect("127.0.0.1:7411")?;
    /// loop {
    ///     match client.receive()? {
    ///         Incoming::Message(message) => println!("{}: {:?}", message.topic, message.payload),
    ///         Incoming::Request(request) => client.respond(&request, "done")?,
    ///         Incoming::Reconnected { resumed: false } => eprintln!("something may be missing"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), ringmail::client::Error>(())
    /// ```
    ///
    /// With a session, calling it again acknowledges what it returned before.
    ///
    /// # Errors
    /// Any error that ends the connection for good; `Rejected` and `Unconfirmed` about a
    /// PUBLISH, after which receiving continues.
    pub fn receive(&mut self) -> Result<Incoming, Error> {
        let received = self.receive_within(None)?;
        received.ok_or_else(Error::silent) // without a timeout there is no None
    }

    /// Waits for at most `timeout`; `None` if nothing has arrived. With zero it returns only
    /// what is already there.
    ///
    /// # Errors
    /// As [`Client::receive`].
    pub fn receive_timeout(&mut self, timeout: Duration) -> Result<Option<Incoming>, Error> {
        self.receive_within(Some(timeout))
    }

    // ---- inside ----

    /// `None`: forever.
    fn receive_within(&mut self, timeout: Option<Duration>) -> Result<Option<Incoming>, Error> {
        self.engine.check()?;
        let (shared, all) = (self.client.shared(), self.all);
        let mut was_full = false;
        let mut is_behind = true;
        let received = shared.when(|core| {
            // Behind a full inbox nothing arrives until something is taken from it, and after the
            // end nothing does.
            let is_open = core.conversation.can_answer()
                || core.conversation.is_paused()
                || core.ending().is_some();
            let ledger = &mut core.conversation.ledger;
            if let Some(error) = ledger.take_complaint() {
                return Some(Err(error));
            }
            was_full = ledger.inbox.is_full();
            let taken = ledger.inbox.take(all, is_open);
            if taken.is_none() && ledger.wants_session && is_behind {
                // Everything before has been handled: an ACK is due.
                is_behind = false;
                shared.wake();
            }
            taken.map(|(_, incoming)| Ok(incoming))
        });
        let received = match timeout {
            None => Ok(self.engine.wait(received)),
            Some(timeout) => {
                let received = async { tokio::time::timeout(timeout, received).await };
                self.engine.wait(received)
            }
        };
        self.taken_count = self.taken_count.wrapping_add(1);
        if was_full || self.taken_count.is_multiple_of(TAKEN_EVERY) {
            shared.wake();
        }
        received.map_or(Ok(None), |received| received?.map(Some))
    }

    /// Answers once the answer has somewhere to go: without a session the requests of a
    /// broken connection have been failed by the server.
    fn stand_to_answer(
        &mut self,
        mut answer: impl FnMut(&mut Conversation) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.keep_alive()?;
        let shared = self.client.shared();
        let answered = shared.when(|core| {
            let conversation = &mut core.conversation;
            let stands = conversation.can_answer();
            if !stands && !conversation.ledger.wants_session {
                return Some(Ok(false));
            }
            stands.then(|| answer(conversation).map(|()| true))
        });
        let answered = self
            .engine
            .wait(shared.within(RESPONSE, self.timeout(), answered))?;
        match answered? {
            true => self.write_all(RESPONSE),
            false => Ok(()),
        }
    }

    fn register(
        &mut self,
        what: &'static str,
        kind: MessageType,
        interest: &Interest,
    ) -> Result<(), Error> {
        self.engine.check()?;
        let change = Change::Interest(interest.clone());
        let envelope = interest.envelope(0);
        let operation = self.client.operate(what, kind, envelope, &change);
        self.engine.wait(operation)
    }
}
