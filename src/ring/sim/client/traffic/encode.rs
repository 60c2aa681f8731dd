//! Encodes a client's acts as messages, and repeats them after a reconnect.

use super::endpoint::Endpoint;
use super::model::{Model, Operation, Progress, is_up_to, next};
use super::payload::{Label, digest, encode_payload};
use super::plan::{Act, Filter, Publish, Request};
use super::record::{Published, Registration, Requested, Subject, Will};
use crate::base::clock::Instant;
use crate::proto::envelope::{Codec, Envelope, FLAG_HEADERS, FLAG_RETAIN, Headers, header};
use crate::proto::message::{Message, MessageType};
use crate::ring::sim::kernel::Kernel;

/// A client performs no further act while this much output waits to be written.
const OUT_BYTES_MAX: usize = 64 * 1024;

impl Model {
    /// Performs as many acts of the script as are due.
    pub(super) fn act(&mut self, endpoint: &mut Endpoint, kernel: &mut Kernel) {
        while self.ending.is_none() && self.next_act_at(endpoint) <= kernel.now {
            let Some(act) = self.acts.pop_front() else {
                return;
            };
            self.act_at = kernel.now + kernel.delay(self.plan.think);
            self.perform(act, endpoint, kernel.now);
        }
    }

    /// When the next act is due; `NEVER` while it waits for something other than time.
    pub(super) fn next_act_at(&self, endpoint: &Endpoint) -> Instant {
        let may = self.progress == Progress::Member
            && endpoint.session.is_open()
            && endpoint.out.len() < OUT_BYTES_MAX
            && self.unanswered.len() < self.plan.window;
        match self.acts.front() {
            Some(Act::AwaitAnswers) if !self.is_all_answered() => Instant::NEVER,
            Some(_) if may => self.act_at,
            _ => Instant::NEVER,
        }
    }

    /// Whether every operation and REQUEST of this connection is answered.
    pub(super) fn is_all_answered(&self) -> bool {
        let asked = &self.record.requested[self.requested_from..];
        self.unanswered.is_empty() && asked.iter().all(|asked| asked.answer.is_some())
    }

    fn perform(&mut self, act: Act, endpoint: &mut Endpoint, now: Instant) {
        match act {
            Act::Publish(plan) => self.publish(plan, endpoint, now),
            Act::Subscribe(filter) => self.register(filter, false, endpoint, now),
            Act::Serve(filter) => self.register(filter, true, endpoint, now),
            Act::Unsubscribe(filter) => self.deregister(filter, false, endpoint, now),
            Act::Unserve(filter) => self.deregister(filter, true, endpoint, now),
            Act::Will(plan) => self.make_will(plan, endpoint, now),
            Act::WithdrawWill => self.withdraw_will(endpoint),
            Act::Request(request) => self.request(request, endpoint, now),
            Act::Pause(time) => self.act_at = now + time,
            Act::AwaitAnswers => {}
            Act::Read(reading) => std::rc::Rc::make_mut(&mut self.plan).reading = reading,
            Act::Raw(bytes) => endpoint.out.extend_from_slice(&bytes),
            Act::Auth(token) => {
                std::rc::Rc::make_mut(&mut self.plan).token = Some(token);
                self.authenticate(endpoint);
            }
            Act::Ack(received) => endpoint.send(&Message::Ack { received }),
            Act::AckAll => self.acknowledge(endpoint),
            Act::End(ending) => self.ending = Some(ending),
        }
    }

    fn push_operation(&mut self, subject: Subject) -> u32 {
        let id = self.next_id;
        self.next_id = next(id);
        self.unanswered.push_back(Operation { id, subject });
        id
    }

    fn place(&self) -> (usize, usize) {
        let (connections, memberships) = (&self.record.connections, &self.record.memberships);
        (connections.len() - 1, memberships.len() - 1)
    }

    // ---- publishing ----

    /// Adds a message to the record; its number is its index there.
    fn compose(&mut self, plan: Publish, id: u32, is_will: bool, now: Instant) -> u32 {
        let number = self.record.published.len() as u32;
        let (connection, membership) = self.place();
        self.record.published.push(Published {
            plan,
            id,
            digest: 0,
            is_will,
            membership,
            connection,
            sent: 0,
            sent_at: now,
            confirmed_at: None,
            refused: None,
        });
        number
    }

    fn publish(&mut self, plan: Publish, endpoint: &mut Endpoint, now: Instant) {
        let number = self.record.published.len() as u32;
        let id = if plan.confirmed {
            self.push_operation(Subject::Publish(number))
        } else {
            0
        };
        self.compose(plan, id, false, now);
        self.send_message(number, id, MessageType::Publish, endpoint);
    }

    /// Sends a message of the record.
    fn send_message(&mut self, number: u32, id: u32, kind: MessageType, endpoint: &mut Endpoint) {
        let label = Label {
            sender: self.id,
            number,
        };
        let Some(published) = self.record.published.get_mut(number as usize) else {
            return;
        };
        let plan = &published.plan;
        let payload = match plan.empty {
            true => Vec::new(),
            false => encode_payload(plan.codec, label.payload(plan.bytes)),
        };
        let mut block = Vec::new();
        if let Some(expires_ms) = plan.expires_ms {
            Headers::push(&mut block, header::EXPIRES_MS, &expires_ms.to_be_bytes());
        }
        if let Some(key) = &plan.key {
            Headers::push(&mut block, header::KEY, key);
        }
        push_all(&plan.headers, &mut block);
        if plan.empty {
            label.push_header(&mut block);
        }
        let retain = if plan.retain { FLAG_RETAIN } else { 0 };
        let headers = if block.is_empty() { 0 } else { FLAG_HEADERS };
        let envelope = Envelope {
            id,
            flags: retain | headers,
            codec: plan.codec,
            name: &plan.topic,
            headers: Headers::check(&block).unwrap_or_default(),
            payload: &payload,
        };
        endpoint.send(&Message::Envelope(kind, envelope));
        published.digest = digest(&envelope);
        published.sent += 1;
    }

    fn make_will(&mut self, plan: Publish, endpoint: &mut Endpoint, now: Instant) {
        let id = self.push_will(None);
        let number = self.compose(plan, id, true, now);
        self.send_will(number, id, endpoint);
    }

    fn send_will(&mut self, number: u32, id: u32, endpoint: &mut Endpoint) {
        let wills = self.record.membership_mut().map(|last| &mut last.wills);
        if let Some(will) = wills.and_then(|wills| wills.last_mut()) {
            will.number = Some(number);
        }
        self.send_message(number, id, MessageType::Will, endpoint);
    }

    fn withdraw_will(&mut self, endpoint: &mut Endpoint) {
        let id = self.push_will(None);
        let envelope = Envelope {
            id,
            ..Envelope::default()
        };
        endpoint.send(&Message::Envelope(MessageType::Will, envelope));
    }

    fn push_will(&mut self, number: Option<u32>) -> u32 {
        let mut place = 0;
        if let Some(membership) = self.record.membership_mut() {
            place = membership.wills.len();
            membership.wills.push(Will {
                number,
                confirmed: false,
            });
        }
        self.push_operation(Subject::Will(place))
    }

    // ---- subscribing and serving ----

    fn registrations(&mut self, serving: bool) -> &mut Vec<Registration> {
        match serving {
            true => &mut self.record.services,
            false => &mut self.record.subscriptions,
        }
    }

    fn register(&mut self, filter: Filter, serving: bool, endpoint: &mut Endpoint, now: Instant) {
        let (_, membership) = self.place();
        let registrations = self.registrations(serving);
        let place = registrations.len();
        registrations.push(Registration {
            filter: filter.clone(),
            membership,
            sent: 1,
            sent_at: now,
            confirmed_at: None,
            received_before: 0,
            refused: None,
            left_at: None,
            left_confirmed_at: None,
        });
        let (kind, subject) = match serving {
            true => (MessageType::Serve, Subject::Serve(place)),
            false => (MessageType::Subscribe, Subject::Subscribe(place)),
        };
        let id = self.push_operation(subject);
        encode_filter(kind, id, &filter, endpoint);
    }

    /// Ends the registrations of this filter in this membership; sends the operation even if there
    /// is none.
    fn deregister(&mut self, filter: Filter, serving: bool, endpoint: &mut Endpoint, now: Instant) {
        let (_, membership) = self.place();
        let registrations = self.registrations(serving);
        let same = |registration: &Registration| {
            registration.membership == membership
                && registration.left_at.is_none()
                && (&registration.filter.name, &registration.filter.group)
                    == (&filter.name, &filter.group)
        };
        let mut place = usize::MAX;
        for (index, registration) in registrations
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| same(s))
        {
            registration.left_at = Some(now);
            place = index;
        }
        let (kind, subject) = match serving {
            true => (MessageType::Unserve, Subject::Unserve(place)),
            false => (MessageType::Unsubscribe, Subject::Unsubscribe(place)),
        };
        let id = self.push_operation(subject);
        encode_filter(kind, id, &filter, endpoint);
    }

    /// Registers in a new membership everything that was registered in the previous one, and sets
    /// its will again.
    pub(super) fn register_again(
        &mut self,
        will: Option<u32>,
        endpoint: &mut Endpoint,
        now: Instant,
    ) {
        let (_, membership) = self.place();
        for serving in [false, true] {
            let before = self.registrations(serving).iter();
            let before = before.filter(|registration| {
                registration.membership + 1 == membership
                    && registration.left_at.is_none()
                    && registration.refused.is_none()
            });
            let filters: Vec<Filter> = before
                .map(|registration| registration.filter.clone())
                .collect();
            for filter in filters {
                self.register(filter, serving, endpoint, now);
            }
        }
        if let Some(number) = will
            && let Some(published) = self.record.published.get(number as usize)
        {
            let plan = published.plan.clone();
            self.make_will(plan, endpoint, now);
        }
    }

    // ---- requests ----

    fn request(&mut self, request: Request, endpoint: &mut Endpoint, now: Instant) {
        let (connection, membership) = self.place();
        let number = self.record.requested.len() as u32;
        let label = Label {
            sender: self.id,
            number,
        };
        let mut block = Vec::new();
        if let Some(timeout_ms) = request.timeout_ms {
            Headers::push(&mut block, header::TIMEOUT_MS, &timeout_ms.to_be_bytes());
        }
        push_all(&request.headers, &mut block);
        let envelope = Envelope {
            id: number,
            name: &request.service,
            headers: Headers::check(&block).unwrap_or_default(),
            payload: &label.payload(request.bytes),
            ..Envelope::default()
        };
        endpoint.send(&Message::Envelope(MessageType::Request, envelope));
        self.record.requested.push(Requested {
            service: request.service,
            bytes: request.bytes,
            timeout_ms: request.timeout_ms,
            membership,
            connection,
            at: now,
            answer: None,
        });
    }

    /// Sends the RESPONSEs that are due.
    pub(super) fn answer_due(&mut self, endpoint: &mut Endpoint, now: Instant) {
        if self.progress != Progress::Member {
            return;
        }
        let due = std::mem::take(&mut self.due);
        for one in due {
            if one.at > now {
                self.due.push(one);
                continue;
            }
            let envelope = Envelope {
                id: one.id,
                flags: one.flags,
                payload: &one.payload,
                ..Envelope::default()
            };
            endpoint.send(&Message::Envelope(MessageType::Response, envelope));
        }
    }

    // ---- again ----

    /// The session is resumed: repeats the unanswered operations in order.
    pub(super) fn repeat_unanswered(
        &mut self,
        last_publish_id: u32,
        endpoint: &mut Endpoint,
        now: Instant,
    ) {
        let all = self.plan.session.is_some_and(|session| session.repeats_all);
        for operation in std::mem::take(&mut self.unanswered) {
            let id = operation.id;
            match operation.subject {
                Subject::Publish(number)
                    if last_publish_id != 0 && is_up_to(id, last_publish_id) && !all =>
                {
                    if let Some(published) = self.record.published.get_mut(number as usize) {
                        published.confirmed_at = Some(now);
                    }
                    continue;
                }
                // It ended no registration, and would end none now.
                Subject::Unsubscribe(usize::MAX) | Subject::Unserve(usize::MAX) => continue,
                Subject::Publish(number) => {
                    self.send_message(number, id, MessageType::Publish, endpoint)
                }
                Subject::Subscribe(place) => self.repeat_filter(place, false, true, id, endpoint),
                Subject::Unsubscribe(place) => {
                    self.repeat_filter(place, false, false, id, endpoint)
                }
                Subject::Serve(place) => self.repeat_filter(place, true, true, id, endpoint),
                Subject::Unserve(place) => self.repeat_filter(place, true, false, id, endpoint),
                Subject::Will(place) => self.repeat_will(place, id, endpoint),
            }
            self.unanswered.push_back(operation);
        }
    }

    fn repeat_filter(
        &mut self,
        place: usize,
        serving: bool,
        joins: bool,
        id: u32,
        endpoint: &mut Endpoint,
    ) {
        let Some(registration) = self.registrations(serving).get_mut(place) else {
            return;
        };
        registration.sent += u32::from(joins);
        let filter = registration.filter.clone();
        let kind = match (serving, joins) {
            (false, true) => MessageType::Subscribe,
            (false, false) => MessageType::Unsubscribe,
            (true, true) => MessageType::Serve,
            (true, false) => MessageType::Unserve,
        };
        encode_filter(kind, id, &filter, endpoint);
    }

    fn repeat_will(&mut self, place: usize, id: u32, endpoint: &mut Endpoint) {
        let will = self
            .record
            .membership()
            .and_then(|last| last.wills.get(place));
        match will.and_then(|will| will.number) {
            Some(number) => self.send_message(number, id, MessageType::Will, endpoint),
            None => {
                let envelope = Envelope {
                    id,
                    ..Envelope::default()
                };
                endpoint.send(&Message::Envelope(MessageType::Will, envelope));
            }
        }
    }
}

fn push_all(headers: &[(u8, Vec<u8>)], block: &mut Vec<u8>) {
    for (key, value) in headers {
        Headers::push(block, *key, value);
    }
}

fn encode_filter(kind: MessageType, id: u32, filter: &Filter, endpoint: &mut Endpoint) {
    let mut block = Vec::new();
    let subscribes = kind == MessageType::Subscribe;
    if let Some(group) = &filter.group {
        Headers::push(&mut block, header::GROUP, group.as_bytes());
    }
    if let Some(policy) = filter.policy
        && subscribes
    {
        Headers::push(&mut block, header::SLOW_POLICY, &[policy as u8]);
    }
    if subscribes {
        push_all(&filter.headers, &mut block);
    }
    let codec = if subscribes {
        filter.codec
    } else {
        Codec::Bytes
    };
    let envelope = Envelope {
        id,
        codec,
        name: &filter.name,
        headers: Headers::check(&block).unwrap_or_default(),
        ..Envelope::default()
    };
    endpoint.send(&Message::Envelope(kind, envelope));
}
