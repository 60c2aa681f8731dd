//! A client without a socket, for this crate's tests (feature `sim`): its conversation, driven as
//! the driver drives it, with bytes and time as arguments. Who holds it plays the server.
//!
//! It exists because fuzzing needs thousands of conversations a second, and each the same again.
//! It has no credential to fetch and no TLS.

use super::address::Address;
use super::builder::Options;
use super::conversation::Conversation;
use super::credential::{Credential, Source};
use super::inbox::{BoxId, Key, Takes};
use super::incoming::{Incoming, IncomingRequest};
use super::link::Link;
use super::reconnect::{Reconnect, Schedule};
use super::registry::Change;
use super::subscribe::{Interest, Serve, Subscribe};
use crate::base::clock::Instant;
use crate::proto::envelope::{Codec, Envelope};
use crate::proto::error::Code;
use crate::proto::message::MessageType;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The sequence number of each SYN.
pub const SEQ: u32 = 0x0102_0304;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What begins and ends one.
const SUBSCRIPTION: [MessageType; 2] = [MessageType::Subscribe, MessageType::Unsubscribe];
const SERVICE: [MessageType; 2] = [MessageType::Serve, MessageType::Unserve];

/// What the client asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    pub session: bool,
    pub checksum: bool,
    pub reconnect: bool,
    pub credential: bool,
    pub inbox_bytes_max: usize,
}

/// What is known of a mailbox from outside.
#[derive(Clone, Copy, Debug)]
pub struct Mailbox<'a> {
    pub id: u64,
    pub filter: &'a str,
    /// Each message of a group goes to one mailbox.
    pub is_shared: bool,
    /// It takes requests, not messages.
    pub serves: bool,
}

pub struct Harness {
    options: Options,
    conversation: Conversation,
    boxes: Vec<(BoxId, MessageType, Interest)>,
    /// Taken and not answered.
    requests: Vec<(Key, IncomingRequest)>,
    /// Reading was paused when it was last looked at.
    was_paused: bool,
    /// Calls that wait, and the answers that came to each.
    calls: BTreeMap<u32, usize>,
    /// How often it has connected.
    connections: usize,
}

impl Harness {
    pub fn new(wish: Wish, now: Instant) -> Harness {
        let reconnect = Reconnect::default().attempts_max(4);
        let credential = || Source::Fixed(Credential::Token("a.b.c".into()));
        let options = Options {
            session: wish.session,
            checksum: wish.checksum,
            reconnect: wish.reconnect.then_some(reconnect.clone()),
            source: wish.credential.then(credential),
            inbox_bytes_max: wish.inbox_bytes_max,
            message_bytes_max: 64 << 10,
            ..Options::default()
        };
        let home = Address {
            host: "home".to_owned(),
            port: 7411,
            secure: false,
        };
        let comes_back = wish.reconnect || wish.session;
        let schedule = comes_back.then(|| Schedule::new(reconnect, home, 1));
        let link = link(&options, now);
        Harness {
            conversation: Conversation::new(link, &options, schedule),
            options,
            boxes: Vec::new(),
            requests: Vec::new(),
            was_paused: false,
            calls: BTreeMap::new(),
            connections: 1,
        }
    }

    // ---- what the driver does ----

    /// Bytes from the server. False: nothing is read now.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> bool {
        let is_paused = self.conversation.is_paused();
        let was_paused = std::mem::replace(&mut self.was_paused, is_paused);
        if !self.conversation.is_up() || is_paused {
            return false;
        }
        if was_paused {
            self.conversation.resume(now);
        }
        self.conversation.receive(bytes, now);
        self.settle();
        true
    }

    /// Deadlines that have passed, and an attempt to connect that is due.
    pub fn tick(&mut self, now: Instant) {
        if self.conversation.retry_at().is_some_and(|at| at <= now) {
            self.conversation.connect(link(&self.options, now), now);
            self.connections += 1;
        } else if self.conversation.is_paused() {
            if self.conversation.own_timeout() <= now {
                self.conversation.handle_own_timeout(now);
            }
        } else if self.conversation.is_up() && self.conversation.timeout() <= now {
            self.conversation.handle_timeout(now);
        }
        self.conversation.acknowledge(true);
        self.settle();
    }

    /// When [`Harness::tick`] has something to do; `NEVER` once it is over.
    pub fn due(&self) -> Instant {
        match self.conversation.retry_at() {
            Some(at) => at,
            None if !self.conversation.is_up() => Instant::NEVER,
            None if self.conversation.is_paused() => self.conversation.own_timeout(),
            None => self.conversation.timeout(),
        }
    }

    /// The stream broke.
    pub fn lose(&mut self, now: Instant) {
        if self.conversation.is_up() {
            self.conversation.lose(now);
        }
        self.settle();
    }

    /// What is written and was not taken, which is taken.
    pub fn take_written(&mut self) -> Vec<u8> {
        let written = self.conversation.unsent().to_vec();
        self.conversation.advance(written.len());
        written
    }

    fn settle(&mut self) {
        for (id, _) in self.conversation.ledger.take_answers() {
            if let Some(answers) = self.calls.get_mut(&id) {
                *answers += 1;
            }
        }
    }

    // ---- what callers do, while the connection is open ----

    /// Nothing, if this is not a filter, or overlaps with one in a group.
    pub fn subscribe(&mut self, filter: &str, group: Option<&str>) {
        let mut subscribe = Subscribe::new(filter);
        if let Some(group) = group {
            subscribe = subscribe.group(group);
        }
        let others = self.conversation.ledger.inbox.subscriptions();
        if let Ok(interest) = subscribe.interest()
            && interest.check_beside(others).is_ok()
        {
            let takes = Takes::Messages(interest.clone());
            self.open(takes, SUBSCRIPTION, interest);
        }
    }

    pub fn serve(&mut self, service: &str) {
        if let Ok(interest) = Serve::new(service).interest() {
            let takes = Takes::Requests(interest.clone());
            self.open(takes, SERVICE, interest);
        }
    }

    fn open(&mut self, takes: Takes, kinds: [MessageType; 2], interest: Interest) {
        let [kind, ended_by] = kinds;
        if !self.conversation.is_open() {
            return;
        }
        let ledger = &mut self.conversation.ledger;
        ledger.withdrawals.cancel(ended_by, &interest);
        let id = ledger.inbox.open(takes);
        let change = Change::Interest(interest.clone());
        self.ask(kind, interest.envelope(0), change);
        self.boxes.push((id, ended_by, interest));
    }

    /// Ends one of the subscriptions and services.
    pub fn leave(&mut self, at: usize) {
        if !self.boxes.is_empty() {
            let (id, kind, interest) = self.boxes.remove(at % self.boxes.len());
            self.conversation.leave(id, kind, &interest);
        }
    }

    pub fn request(&mut self, service: &str, payload: &[u8]) {
        let envelope = Envelope {
            name: service,
            payload,
            ..Envelope::default()
        };
        self.ask(MessageType::Request, envelope, Change::None);
    }

    fn ask(&mut self, kind: MessageType, envelope: Envelope<'_>, change: Change) {
        if self.conversation.is_open()
            && let Ok(id) = self.conversation.ask(kind, envelope, change)
        {
            self.calls.insert(id, 0);
        }
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], is_awaited: bool) {
        let envelope = Envelope {
            name: topic,
            payload,
            ..Envelope::default()
        };
        if self.conversation.is_open()
            && !self.conversation.ledger.flight.is_full()
            && let Ok(id) = self.conversation.publish(envelope, true, is_awaited)
            && is_awaited
        {
            self.calls.insert(id, 0);
        }
    }

    pub fn ping(&mut self) {
        if self.conversation.is_open() {
            let id = self.conversation.ping(b"ping");
            self.calls.insert(id, 0);
        }
    }

    /// A caller gives up.
    pub fn forget(&mut self, at: usize) {
        let id = self.calls.keys().nth(at % self.calls.len().max(1)).copied();
        if let Some(id) = id {
            self.calls.remove(&id);
            self.conversation.ledger.forget(id);
        }
    }

    /// Takes what has come next for a mailbox; of a message, topic and payload are returned. False:
    /// there is nothing.
    pub fn take(&mut self, id: u64) -> (bool, Option<(String, Vec<u8>)>) {
        let state = &self.conversation;
        let is_open = state.is_open() || state.is_paused() || state.is_over();
        match self.conversation.ledger.inbox.take(id, is_open) {
            None => (false, None),
            Some((key, Incoming::Request(request))) => {
                self.requests.push((key, request));
                (true, None)
            }
            Some((_, Incoming::Message(message))) => (true, Some((message.topic, message.payload))),
            Some((_, Incoming::Reconnected { .. })) => (true, None),
        }
    }

    /// Answers the oldest request taken, well or not.
    pub fn answer(&mut self, payload: Option<&[u8]>) {
        if self.requests.is_empty() {
            return;
        }
        let (key, request) = self.requests.remove(0);
        self.conversation.ledger.inbox.release(key);
        match payload {
            None => {
                let (code, text) = (Code::Internal, "it failed");
                self.conversation.respond_failed(&request, code, text);
            }
            Some(payload) => {
                // Too large for this server: its requester waits in vain.
                let _ = self.conversation.respond(&request, Codec::Bytes, payload);
            }
        }
    }

    pub fn close(&mut self, now: Instant) {
        self.conversation.close(CLOSE_TIMEOUT, now);
        self.settle();
    }

    // ---- what can be seen ----

    pub fn connections(&self) -> usize {
        self.connections
    }

    pub fn mailboxes(&self) -> impl Iterator<Item = Mailbox<'_>> {
        self.boxes.iter().map(|(id, ended_by, interest)| Mailbox {
            id: *id,
            filter: &interest.name,
            is_shared: interest.group.is_some(),
            serves: *ended_by == SERVICE[1],
        })
    }

    /// Messages of the session that have been counted, and which session of this client it is.
    pub fn counted(&self) -> (u32, u32) {
        let ledger = &self.conversation.ledger;
        (ledger.inbox.received(), ledger.epoch)
    }

    pub fn is_up(&self) -> bool {
        self.conversation.is_up()
    }

    pub fn is_open(&self) -> bool {
        self.conversation.is_open()
    }

    pub fn is_over(&self) -> bool {
        self.conversation.is_over()
    }

    pub fn is_paused(&self) -> bool {
        self.conversation.is_paused()
    }

    pub fn has_checksum(&self) -> bool {
        self.conversation.link().server().has_checksum()
    }

    pub fn inbox_bytes(&self) -> usize {
        self.conversation.ledger.inbox.bytes()
    }

    pub fn unsent_bytes(&self) -> usize {
        self.conversation.unsent().len()
    }

    /// Why it is over, in words.
    pub fn ending(&self) -> Option<String> {
        self.conversation.ending().map(|error| error.to_string())
    }

    /// The most answers that one call had.
    pub fn answers_most(&self) -> usize {
        self.calls.values().copied().max().unwrap_or_default()
    }
}

fn link(options: &Options, now: Instant) -> Link {
    // The options are this file's: they are in range.
    let Ok(settings) = options.settings() else {
        unreachable!("options are in range");
    };
    let settings = Arc::new(settings);
    Link::new(settings, &options.hello(), SEQ, now)
}
