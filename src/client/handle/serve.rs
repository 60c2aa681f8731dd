//! Answering for a service: by a handler that runs for each request, or request by request.

use super::client::Client;
use super::post::Post;
use crate::client::error::Error;
use crate::client::inbox::Key;
use crate::client::incoming::{Incoming, IncomingRequest};
use crate::client::subscribe::Serve;
use crate::proto::envelope::Codec;
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use crate::proto::outcome::{Answer, Failure, Outcome};
use futures_core::Stream;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{Notify, Semaphore};
use tokio::task::coop::poll_proceed;
use tokio::task::{JoinHandle, JoinSet};

impl Client {
    /// Serves a service from now on: `handler` runs for each request, each in its own task, at
    /// most [`Serve::concurrency_max`] at once. A handler that panics, before its first `await`
    /// or after it, fails only its own request.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
    /// # let server = ringmail::Server::builder().config(config).start()?;
    /// # let address = server.address().to_string();
    /// use ringmail::{Client, Failure};
    ///
    /// let client = Client::connect(&address).await?;
    /// let service = client
    ///     .serve("text/upper", |request| async move {
    ///         match std::str::from_utf8(&request.payload) {
    ///             Ok(text) => Ok(text.to_uppercase().into()),
    ///             Err(error) => Err(Failure::new(0x1000, error.to_string())),
    ///         }
    ///     })
    ///     .await?;
    /// let response = client.request("text/upper", "hello").await?;
    /// assert_eq!(response.payload, b"HELLO");
    /// service.end().await?;
    /// # client.close().await?;
    /// # server.drain();
    /// # server.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Invalid` for an invalid name, `Failed` if the server refuses, `Timeout`, and any error
    /// that ends the connection.
    pub async fn serve<H, F>(&self, service: &str, handler: H) -> Result<Service, Error>
    where
        H: Fn(IncomingRequest) -> F + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.serve_with(&Serve::new(service), handler).await
    }

    /// Serves a service as a member of a group, or with another bound on concurrent requests.
    ///
    /// # Errors
    /// As [`Client::serve`].
    pub async fn serve_with<H, F>(&self, serve: &Serve<'_>, handler: H) -> Result<Service, Error>
    where
        H: Fn(IncomingRequest) -> F + Send + Sync + 'static,
        F: Future<Output = Outcome> + Send + 'static,
    {
        let requests = self.requests_with(serve).await?;
        let ending = Arc::new(Notify::new());
        let room = Arc::new(Semaphore::new(serve.concurrency_max));
        let task = tokio::spawn(run(requests, Arc::new(handler), room, ending.clone()));
        Ok(Service { task, ending })
    }

    /// The requests to a service, for the caller to take and answer one by one.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = ringmail::Config::from_toml("server = { listen = '127.0.0.1:0', admin = '', shards = [0] }")?;
    /// # let server = ringmail::Server::builder().config(config).start()?;
    /// # let client = ringmail::Client::connect(&server.address().to_string()).await?;
    /// let mut requests = client.requests("text/length").await?;
    /// let asking = tokio::spawn({
    ///     let client = client.clone();
    ///     async move { client.request("text/length", "hello").await }
    /// });
    /// let request = requests.next().await.ok_or("the connection has ended")?;
    /// let length = request.payload.len().to_string();
    /// request.respond(length)?;
    /// assert_eq!(asking.await??.payload, b"5");
    /// # client.close().await?;
    /// # server.drain();
    /// # server.wait()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Client::serve`].
    pub async fn requests(&self, service: &str) -> Result<Requests, Error> {
        self.requests_with(&Serve::new(service)).await
    }

    /// The requests to a service, as a member of a group.
    ///
    /// # Errors
    /// As [`Client::serve`].
    pub async fn requests_with(&self, serve: &Serve<'_>) -> Result<Requests, Error> {
        let post = Post::open(self, MessageType::Serve, serve.interest()?).await?;
        Ok(Requests { post })
    }
}

/// Runs the handler for each request until the stream ends or it is told to end.
///
/// The handler is the user's code from its first line on: it runs in the request's task.
async fn run<H, F>(
    requests: Requests,
    handler: Arc<H>,
    room: Arc<Semaphore>,
    ending: Arc<Notify>,
) -> Result<(), Error>
where
    H: Fn(IncomingRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut running = JoinSet::new();
    // Also while all handlers are busy, so that the server is informed at once; and what has come is
    // taken meanwhile, so that the OK is not behind a full inbox.
    let mut told = pin!(async {
        ending.notified().await;
        requests.post.end().await
    });
    let mut has_ended = false;
    loop {
        while running.try_join_next().is_some() {}
        let next = async {
            let permit = room.clone().acquire_owned().await.ok()?;
            let request = match has_ended {
                false => poll_fn(|cx| requests.poll(cx)).await,
                // After the OK to UNSERVE nothing more arrives: what has arrived is answered.
                true => requests.take(),
            };
            Some((permit, request?))
        };
        let next = tokio::select! { biased;
            ended = told.as_mut(), if !has_ended => {
                ended?;
                has_ended = true;
                continue;
            }
            next = next => next,
        };
        let Some((permit, request)) = next else {
            break;
        };
        let handler = handler.clone();
        running.spawn(async move {
            let outcome = handler(request.request.clone()).await;
            drop(permit);
            let _ = request.answer(outcome);
        });
    }
    while running.join_next().await.is_some() {}
    Ok(())
}

/// A service being served. Dropping it ends it at once, and requests whose handlers are still
/// running fail; [`Service::end`] lets them finish.
#[must_use = "dropped, it ends"]
#[derive(Debug)]
pub struct Service {
    task: JoinHandle<Result<(), Error>>,
    ending: Arc<Notify>,
}

impl Service {
    /// Tells the server to send no more requests, answers those that have arrived, and returns
    /// when all are answered.
    ///
    /// # Errors
    /// `Timeout`, and any error that ends the connection.
    pub async fn end(mut self) -> Result<(), Error> {
        self.ending.notify_one();
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::ended("the service's task has ended")),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The requests to one service, in the order of arrival: a [`Stream`](futures_core::Stream), or,
/// without any other crate, [`Requests::next`]. Dropping it ends the service.
#[must_use = "dropped, it ends"]
pub struct Requests {
    post: Post,
}

impl Requests {
    /// The next request; `None` when the connection has ended for good; [`Client::ending`] has
    /// the reason.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<OpenRequest> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Ends the service and waits until the server has confirmed that. Requests that have
    /// arrived and were not taken fail.
    ///
    /// # Errors
    /// `Timeout`, and any error that ends the connection.
    pub async fn end(self) -> Result<(), Error> {
        self.post.finish().await
    }

    /// The next request that has already arrived.
    fn take(&self) -> Option<OpenRequest> {
        let shared = self.post.shared();
        let mut core = shared.lock();
        let inbox = &mut core.conversation.ledger.inbox;
        let was_full = inbox.is_full();
        let taken = inbox.take(self.post.id, true);
        drop(core);
        if was_full && taken.is_some() {
            shared.wake();
        }
        self.opened(taken?)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<OpenRequest>> {
        // Lets other tasks run now and then if one takes requests in a loop.
        let coop = ready!(poll_proceed(cx));
        let shared = self.post.shared();
        let mut core = shared.lock();
        let was_full = core.conversation.ledger.inbox.is_full();
        let polled = match core.conversation.ledger.inbox.poll(self.post.id, cx) {
            Poll::Pending if core.ending().is_some() => Poll::Ready(None),
            polled => polled.map(Some),
        };
        drop(core);
        let taken = ready!(polled);
        // Otherwise nothing has changed: a task that also waits for the driver's changes, and the
        // driver, would wake each other without end.
        if was_full {
            shared.wake();
        }
        coop.made_progress();
        Poll::Ready(taken.and_then(|taken| self.opened(taken)))
    }

    /// Such a mailbox receives only requests.
    fn opened(&self, (key, incoming): (Key, Incoming)) -> Option<OpenRequest> {
        let request = incoming.into_request()?;
        Some(OpenRequest {
            request,
            client: self.post.client.clone(),
            key: Some(key),
        })
    }
}

impl Stream for Requests {
    type Item = OpenRequest;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<OpenRequest>> {
        self.poll(cx)
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests")
            .field("service", &self.post.interest.name)
            .finish_non_exhaustive()
    }
}

/// A request waiting for its answer. Dropped without one, it fails with SERVICE_GONE.
#[must_use = "dropped, it fails"]
pub struct OpenRequest {
    request: IncomingRequest,
    client: Client,
    /// `None` once it is answered.
    key: Option<Key>,
}

impl OpenRequest {
    /// Answers it, in its own codec.
    ///
    /// If the requester has meanwhile received SERVICE_GONE (the connection broke, and there was
    /// no session), the answer is dropped.
    ///
    /// # Errors
    /// `Invalid` if it is too large (it fails with TOO_LARGE then), and any error that ends the
    /// connection.
    pub fn respond(self, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let codec = self.request.codec;
        self.respond_with(codec, payload)
    }

    /// Answers it in a codec other than the request's.
    ///
    /// # Errors
    /// As [`OpenRequest::respond`].
    pub fn respond_with(mut self, codec: Codec, payload: impl AsRef<[u8]>) -> Result<(), Error> {
        let payload = payload.as_ref(); // the caller's code, not to run under the lock
        let shared = self.client.shared().clone();
        let mut core = shared.lock();
        if let Some(error) = core.ending() {
            return Err(error);
        }
        let conversation = &mut core.conversation;
        if let Err(error) = conversation.respond(&self.request, codec, payload) {
            drop(core);
            let text = format!("the service's answer: {error}");
            self.fail_by(Code::TooLarge, &text)?;
            return Err(error);
        }
        if let Some(key) = self.key.take() {
            conversation.ledger.inbox.release(key);
        }
        drop(core);
        shared.wake();
        Ok(())
    }

    /// Answers it with a failure; the application's own codes start at 0x1000.
    ///
    /// # Errors
    /// Any error that ends the connection.
    pub fn fail(mut self, failure: Failure) -> Result<(), Error> {
        self.fail_by(Code::from_wire(failure.code), &failure.text)
    }

    /// Answers it with an answer or a failure.
    ///
    /// # Errors
    /// As [`OpenRequest::respond`].
    pub fn answer(self, outcome: Outcome) -> Result<(), Error> {
        match outcome {
            Ok(Answer { payload, codec }) => {
                let codec = codec.unwrap_or(self.request.codec);
                self.respond_with(codec, payload)
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn fail_by(&mut self, code: Code, text: &str) -> Result<(), Error> {
        let Some(key) = self.key.take() else {
            return Ok(());
        };
        let shared = self.client.shared();
        let mut core = shared.lock();
        let conversation = &mut core.conversation;
        conversation.ledger.inbox.release(key);
        conversation.respond_failed(&self.request, code, text);
        let ending = core.ending();
        drop(core);
        shared.wake();
        ending.map_or(Ok(()), Err)
    }
}

impl Deref for OpenRequest {
    type Target = IncomingRequest;

    fn deref(&self) -> &IncomingRequest {
        &self.request
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let _ = self.fail_by(Code::ServiceGone, "the service dropped the request");
    }
}

impl std::fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.request.fmt(f)
    }
}
