//! What the users of one client do, and what each of them may expect: actors beside each other, each
//! of which notes what it asked for and what came of it.

use super::super::server::ms;
use super::network::Net;
use ringmail::Client;
use ringmail::client::{
    Builder, Code, Error, IncomingRequest, Phase, Service, Status, Subscription,
};
use ringmail::{Answer, Failure};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// What may be said of an operation after its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    NotDone,
    Unknown,
}

/// By the table of [`Error`].
pub fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(
            Error::Invalid { .. }
            | Error::Connect { .. }
            | Error::Tls { .. }
            | Error::Credential { .. }
            | Error::Failed { .. }
            | Error::Rejected { .. },
        ) => Outcome::NotDone,
        Err(_) => Outcome::Unknown,
    }
}

/// What has happened, by all actors.
#[derive(Default)]
pub struct Log {
    /// The last number that the witness has begun to publish on `in/a`.
    pub begun: u64,
    /// What became of each PUBLISH, by topic, in order; and what the witness saw of each topic.
    pub published: HashMap<String, Vec<(u64, Outcome)>>,
    pub seen: HashMap<String, Vec<u64>>,
    /// How often a handler was called for each request.
    pub handled: Arc<Mutex<HashMap<u64, usize>>>,
    /// How many calls ended well, how many messages arrived.
    pub done: u64,
    pub taken: u64,
}

/// How the users of a run use the client.
#[derive(Clone, Debug)]
pub struct Habits {
    pub session: bool,
    pub reconnect: bool,
    pub request_timeout: Duration,
    /// How often a call is given up, in 100; and the longest pause between two.
    pub gives_up: u8,
    pub pause: Duration,
}

pub struct Life {
    pub seed: u64,
    pub habits: Habits,
    pub builder: Builder<Client>,
    pub net: Net,
    client: RefCell<Option<Client>>,
    pub log: RefCell<Log>,
    /// No new work is begun.
    pub stopping: Cell<bool>,
    numbers: Cell<u64>,
    /// In some actor, whose panic nobody else sees.
    has_failed: Cell<bool>,
    /// The calls that have not ended.
    pub waiting: RefCell<Vec<String>>,
    /// By clients that have ended: how often they were connected, and how often without what was before.
    pub connections: Cell<u64>,
    pub lapses: Cell<u64>,
}

pub fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("a number"))
}

impl Life {
    pub fn new(seed: u64, habits: Habits, builder: Builder<Client>, net: Net) -> Rc<Life> {
        Rc::new(Life {
            seed,
            habits,
            builder,
            net,
            client: RefCell::new(None),
            log: RefCell::default(),
            stopping: Cell::new(false),
            numbers: Cell::new(1 << 32),
            has_failed: Cell::new(false),
            waiting: RefCell::default(),
            connections: Cell::new(0),
            lapses: Cell::new(0),
        })
    }

    pub fn fail(&self, what: impl std::fmt::Display) -> ! {
        self.has_failed.set(true);
        panic!("seed {}: {what}; {:?}", self.seed, self.habits)
    }

    fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// The client there is; waits for one.
    pub async fn client(&self) -> Client {
        loop {
            let client = self.client.borrow().clone();
            match client {
                Some(client) if client.status().phase != Phase::Ended => return client,
                _ => sleep(ms(5)).await,
            }
        }
    }

    pub fn take_client(&self) -> Option<Client> {
        self.client.borrow_mut().take()
    }

    pub fn check(&self) {
        assert!(!self.has_failed.get(), "seed {}: see above", self.seed);
    }

    pub fn note(&self, status: Status) {
        self.connections
            .set(self.connections.get() + status.connections);
        self.lapses.set(self.lapses.get() + status.lapses);
    }

    /// Connects, and again whenever the client has ended.
    pub async fn keep(self: Rc<Self>) {
        loop {
            match self.builder.connect("server:1").await {
                Ok(client) => {
                    let mut status = client.watch();
                    *self.client.borrow_mut() = Some(client);
                    let ended = status.wait_for(|status| status.phase == Phase::Ended);
                    let _ = ended.await;
                    self.note(*status.borrow());
                }
                Err(error) => {
                    if !error.is_retryable() {
                        self.fail(format_args!("not to be retried: {error}"));
                    }
                    sleep(ms(20)).await;
                }
            }
        }
    }

    /// A call, sometimes given up: `None`. It ends within its timeout.
    async fn call<T>(
        &self,
        what: &str,
        rng: &mut fastrand::Rng,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        let begun = Instant::now();
        if rng.u8(..100) < self.habits.gives_up {
            let patience = Duration::from_micros(rng.u64(..20_000));
            return timeout(patience, call).await.ok();
        }
        self.waiting.borrow_mut().push(what.to_owned());
        let result = call.await;
        let ended = self.waiting.borrow().iter().position(|it| it == what);
        self.waiting.borrow_mut().swap_remove(ended.unwrap());
        let took = begun.elapsed();
        if took > self.habits.request_timeout.saturating_add(ms(3)) {
            self.fail(format_args!("{what} took {took:?}"));
        }
        self.log.borrow_mut().done += u64::from(result.is_ok());
        Some(result)
    }

    async fn pause(&self, rng: &mut fastrand::Rng) {
        let micros = self.habits.pause.as_micros() as u64;
        sleep(Duration::from_micros(rng.u64(..=micros))).await;
    }

    // ---- the actors ----

    /// Publishes numbers on a topic of its own, confirmed.
    pub async fn publish(self: Rc<Self>, topic: String, mut rng: fastrand::Rng) {
        for n in 1.. {
            self.pause(&mut rng).await;
            if self.stopping.get() {
                return;
            }
            let client = self.client().await;
            let payload = u64::to_be_bytes(n);
            let call = client.publish_confirmed(&topic, payload);
            let result = self.call("a PUBLISH", &mut rng, call).await;
            let outcome = result.map_or(Outcome::Unknown, |result| outcome(&result));
            let mut log = self.log.borrow_mut();
            log.published
                .entry(topic.clone())
                .or_default()
                .push((n, outcome));
        }
    }

    /// Publishes numbers on a topic of its own, without confirmation.
    pub async fn publish_on(self: Rc<Self>, topic: String, mut rng: fastrand::Rng) {
        for n in 1.. {
            self.pause(&mut rng).await;
            if self.stopping.get() {
                return;
            }
            let client = self.client().await;
            let payload = u64::to_be_bytes(n);
            let call = client.publish(&topic, payload);
            self.call("an unconfirmed PUBLISH", &mut rng, call).await;
        }
    }

    /// Asks services of the server's, and one that nobody serves.
    pub async fn ask(self: Rc<Self>, mut rng: fastrand::Rng) {
        while !self.stopping.get() {
            self.pause(&mut rng).await;
            let client = self.client().await;
            let services = ["$sys/echo", "later", "worker", "nobody", ""];
            let service = services[rng.usize(..services.len())];
            if service.is_empty() {
                self.call("a PING", &mut rng, client.ping()).await;
                continue;
            }
            let payload = self.number().to_be_bytes();
            let call = client.request(service, payload);
            match self.call("a request", &mut rng, call).await {
                Some(Ok(_)) if service == "nobody" => self.fail("nobody has answered"),
                Some(Ok(answer)) if answer.payload != payload => {
                    self.fail(format_args!("{service}: another's answer"));
                }
                Some(Err(Error::Failed { code, text })) => {
                    let expected = match service {
                        "nobody" => code == Code::NoService,
                        _ => matches!(code, Code::RequestTimeout | Code::Draining),
                    };
                    if !expected {
                        self.fail(format_args!("{service}: {code} {text}"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Subscribes to what the witness publishes, takes some of it, and leaves; again and again.
    pub async fn listen(self: Rc<Self>, mut rng: fastrand::Rng) {
        while !self.stopping.get() {
            self.pause(&mut rng).await;
            let client = self.client().await;
            let call = client.subscribe("in/a");
            let Some(Ok(stream)) = self.call("a SUBSCRIBE", &mut rng, call).await else {
                continue;
            };
            let mut listener = Listener::new(&self, stream, &client);
            for _ in 0..rng.usize(..60) {
                let patience = Duration::from_micros(rng.u64(..50_000));
                if let Ok(false) = timeout(patience, listener.take(&self)).await {
                    break;
                }
                if rng.u8(..8) == 0 {
                    self.pause(&mut rng).await;
                }
            }
            if rng.bool() {
                self.call("an UNSUBSCRIBE", &mut rng, listener.stream.end())
                    .await;
            }
        }
    }

    pub async fn serve_on(&self, client: &Client, service: &str) -> Result<Service, Error> {
        let handled = self.log.borrow().handled.clone();
        let handler = move |request| handle(&handled, request);
        client.serve(service, handler).await
    }

    /// Serves, now and then anew.
    pub async fn serve(self: Rc<Self>, service: String, mut rng: fastrand::Rng) {
        while !self.stopping.get() {
            let client = self.client().await;
            let call = self.serve_on(&client, &service);
            let Some(Ok(service)) = self.call("a SERVE", &mut rng, call).await else {
                continue;
            };
            sleep(ms(rng.u64(..2000))).await;
            if rng.bool() {
                let _ = timeout(ms(rng.u64(..500)), service.end()).await;
            }
        }
    }
}

/// Requests that [`handle`] panics over, and that it answers.
pub const PANICS: u64 = 7_000_000_000_000;
pub const ANSWERED: u64 = PANICS + 1;

/// Answers with what was asked; some fail, and some panic before there is a future.
fn handle(
    handled: &Mutex<HashMap<u64, usize>>,
    request: IncomingRequest,
) -> impl Future<Output = Result<Answer, Failure>> + Send + use<> {
    let n = number(&request.payload);
    *handled.lock().unwrap().entry(n).or_default() += 1;
    if n.is_multiple_of(7) {
        // Without a word on standard error.
        std::panic::resume_unwind(Box::new("as it should"));
    }
    async move {
        sleep(Duration::from_micros(n % 5000)).await;
        match n % 5 {
            0 => Err(Failure::new(0x8001, "as it should")),
            _ => Ok(Answer::from(request.payload)),
        }
    }
}

/// One subscription to `in/a`, and what it may expect.
pub struct Listener {
    client: Client,
    pub stream: Subscription,
    /// The last one taken; before the first, 0.
    last: u64,
    /// What was begun before the subscription stood, up to this, may be missing; nothing behind it,
    /// but for one hole each time that what was before is lost.
    begun: u64,
    losses: u64,
    holes: u64,
    has_session: bool,
}

impl Listener {
    pub fn new(life: &Life, stream: Subscription, client: &Client) -> Listener {
        let has_session = life.habits.session;
        Listener {
            client: client.clone(),
            stream,
            last: 0,
            begun: life.log.borrow().begun,
            losses: losses(client.status(), has_session),
            holes: 0,
            has_session,
        }
    }

    /// Takes the next message; false: there will be none.
    pub async fn take(&mut self, life: &Life) -> bool {
        let Some(message) = self.stream.next().await else {
            return false;
        };
        let n = number(&message.payload);
        let (last, begun) = (self.last, self.begun);
        let status = self.client.status();
        if n <= last {
            life.fail(format_args!("{n} behind {last}: {status:?}"));
        }
        if n > last.max(begun) + 1 {
            self.holes += 1;
            let losses = losses(status, self.has_session) - self.losses;
            if self.holes > losses {
                life.fail(format_args!(
                    "{n} behind {last}, {begun}: a hole; {losses} {status:?}"
                ));
            }
        }
        self.last = n;
        life.log.borrow_mut().taken += 1;
        true
    }

    pub fn last(&self) -> u64 {
        self.last
    }
}

/// How often what was before may have been lost.
fn losses(status: Status, has_session: bool) -> u64 {
    match has_session {
        true => status.lapses,
        // What a new connection brings comes before it is said to stand.
        false => status.connections + u64::from(status.phase != Phase::Open),
    }
}
