//! The messages of a subscription, as a stream.

use super::client::Client;
use super::post::Post;
use crate::client::error::Error;
use crate::client::incoming::{Incoming, Message};
use crate::client::subscribe::Subscribe;
use crate::proto::message::MessageType;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::coop::poll_proceed;

/// How many messages are taken between two acknowledgements.
const TAKEN_EVERY: u32 = 64;

impl Client {
    /// Subscribes to all topics that `filter` matches (`+`: one level, `#` at the end: any
    /// number), and waits until the subscription is in effect on every shard.
    ///
    /// # Errors
    /// `Invalid` for an invalid filter, `Failed` if the server refuses, `Timeout`, `InboxFull`,
    /// and any error that ends the connection.
    pub async fn subscribe(&self, filter: &str) -> Result<Subscription, Error> {
        self.subscribe_with(&Subscribe::new(filter)).await
    }

    /// Subscribes with a group, a codec or a policy for when this client is slow.
    ///
    /// # Errors
    /// As [`Client::subscribe`]; `Invalid` also if the filter overlaps with another subscription
    /// of this client and one of the two is in a group: the server sends each message once, and
    /// does not say for which of them. Use another connection.
    pub async fn subscribe_with(&self, subscribe: &Subscribe<'_>) -> Result<Subscription, Error> {
        let interest = subscribe.interest()?;
        let post = Post::open(self, MessageType::Subscribe, interest).await?;
        Ok(Subscription {
            post,
            taken_count: 0,
        })
    }
}

/// The messages of one subscription, in the order of arrival: a
/// [`Stream`](futures_core::Stream), or, without any other crate, [`Subscription::next`].
///
/// Each of a client's subscriptions gets the messages that its filter matches, although the
/// server sends each message once; subscriptions of one group take turns. A retained message
/// sent for one of them also goes to the others that it matches.
///
/// Asking for the next message means that the one before has been handled: only then does the
/// client acknowledge it, if there is a session. Messages that nobody takes fill the client's
/// inbox; [`Builder::inbox_bytes_max`](crate::client::Builder::inbox_bytes_max) says what
/// follows from that. Dropping it ends the subscription.
#[must_use = "dropped, it ends"]
pub struct Subscription {
    post: Post,
    taken_count: u32,
}

impl Subscription {
    /// The next message; `None` when the connection has ended for good; [`Client::ending`] has
    /// the reason.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends the subscription and waits until the server has confirmed that. Messages that have
    /// arrived and were not taken are dropped.
    ///
    /// # Errors
    /// `Timeout`, and any error that ends the connection.
    pub async fn end(self) -> Result<(), Error> {
        self.post.finish().await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        // Lets other tasks run now and then if one takes messages in a loop.
        let coop = ready!(poll_proceed(cx));
        let shared = self.post.shared();
        let mut core = shared.lock();
        let was_full = core.conversation.ledger.inbox.is_full();
        let counts = core.conversation.ledger.wants_session;
        let polled = core.conversation.ledger.inbox.poll(self.post.id, cx);
        let polled = match polled {
            Poll::Ready((_, Incoming::Message(message))) => Poll::Ready(Some(message)),
            // Such a mailbox receives only messages.
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending if core.ending().is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        };
        drop(core);
        self.taken_count = self
            .taken_count
            .saturating_add(u32::from(polled.is_ready()));
        // What has changed nothing does not wake the driver: a task that also waits for the driver's
        // changes, and the driver, would wake each other without end.
        let is_due = match polled.is_pending() {
            true => self.taken_count > 0,
            false => self.taken_count >= TAKEN_EVERY,
        };
        if (was_full && polled.is_ready()) || (counts && is_due) {
            // What is being taken is handled only when the next is asked for: its ACK is still due then.
            self.taken_count = u32::from(polled.is_ready());
            shared.wake();
        }
        if polled.is_ready() {
            coop.made_progress();
        }
        polled
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.poll(cx)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("filter", &self.post.interest.name)
            .finish_non_exhaustive()
    }
}
