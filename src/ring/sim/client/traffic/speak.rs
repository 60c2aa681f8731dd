//! What a client says: its acts as messages, once and again.

use super::cargo::{Label, digest, wrap};
use super::mind::{Matter, Mind, Operation, Standing};
use super::plan::{Act, Filter, Publish, Request};
use super::record::{Asked, Published, Standing as Stand, Will};
use super::voice::Voice;
use crate::base::clock::Instant;
use crate::proto::envelope::{Codec, Envelope, FLAG_HEADERS, FLAG_RETAIN, Headers, header};
use crate::proto::message::{Message, MessageType};
use crate::ring::sim::kernel::Kernel;

/// A client holds back its acts while this much waits to be written.
const OUT_BYTES_MAX: usize = 64 * 1024;

impl Mind {
    /// Does as much of the script as may be done now.
    pub(super) fn act(&mut self, voice: &mut Voice, kernel: &mut Kernel) {
        while self.ending.is_none() && self.next_act_at(voice) <= kernel.now {
            let Some(act) = self.acts.pop_front() else {
                return;
            };
            self.act_at = kernel.now + kernel.delay(self.plan.think);
            self.perform(act, voice, kernel.now);
        }
    }

    /// When the next act may be done, as far as time alone decides.
    pub(super) fn next_act_at(&self, voice: &Voice) -> Instant {
        let may = self.standing == Standing::Member
            && voice.session.is_open()
            && voice.out.len() < OUT_BYTES_MAX
            && self.unanswered.len() < self.plan.window;
        match self.acts.front() {
            Some(Act::Settle) if !self.is_settled() => Instant::NEVER,
            Some(_) if may => self.act_at,
            _ => Instant::NEVER,
        }
    }

    /// Whether all it has asked for on this connection is answered.
    pub(super) fn is_settled(&self) -> bool {
        let asked = &self.record.asked[self.asked_from..];
        self.unanswered.is_empty() && asked.iter().all(|asked| asked.answer.is_some())
    }

    fn perform(&mut self, act: Act, voice: &mut Voice, now: Instant) {
        match act {
            Act::Publish(plan) => self.publish(plan, voice, now),
            Act::Subscribe(filter) => self.stand(filter, false, voice, now),
            Act::Serve(filter) => self.stand(filter, true, voice, now),
            Act::Unsubscribe(filter) => self.leave(filter, false, voice, now),
            Act::Unserve(filter) => self.leave(filter, true, voice, now),
            Act::Will(plan) => self.make_will(plan, voice, now),
            Act::NoWill => self.withdraw_will(voice),
            Act::Request(request) => self.request(request, voice, now),
            Act::Pause(time) => self.act_at = now + time,
            Act::Settle => {}
            Act::Read(reading) => std::rc::Rc::make_mut(&mut self.plan).reading = reading,
            Act::Say(bytes) => voice.out.extend_from_slice(&bytes),
            Act::Auth(token) => {
                std::rc::Rc::make_mut(&mut self.plan).token = Some(token);
                self.authenticate(voice);
            }
            Act::Ack(received) => voice.send(&Message::Ack { received }),
            Act::AckAll => self.acknowledge(voice),
            Act::End(ending) => self.ending = Some(ending),
        }
    }

    fn push(&mut self, matter: Matter) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.unanswered.push_back(Operation { id, matter });
        id
    }

    fn place(&self) -> (usize, usize) {
        let (connections, memberships) = (&self.record.connections, &self.record.memberships);
        (connections.len() - 1, memberships.len() - 1)
    }

    // ---- publishing ----

    /// Makes the next message; its number is its place in the record.
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

    fn publish(&mut self, plan: Publish, voice: &mut Voice, now: Instant) {
        let number = self.record.published.len() as u32;
        let id = if plan.confirmed {
            self.push(Matter::Publish(number))
        } else {
            0
        };
        self.compose(plan, id, false, now);
        self.utter(number, id, MessageType::Publish, voice);
    }

    /// Says a message that is in the record.
    fn utter(&mut self, number: u32, id: u32, kind: MessageType, voice: &mut Voice) {
        let label = Label {
            maker: self.id,
            number,
        };
        let Some(published) = self.record.published.get_mut(number as usize) else {
            return;
        };
        let plan = &published.plan;
        let payload = match plan.empty {
            true => Vec::new(),
            false => wrap(plan.codec, label.payload(plan.bytes)),
        };
        let mut block = Vec::new();
        if let Some(expires_ms) = plan.expires_ms {
            Headers::push(&mut block, header::EXPIRES_MS, &expires_ms.to_be_bytes());
        }
        if let Some(key) = &plan.key {
            Headers::push(&mut block, header::KEY, key);
        }
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
        voice.send(&Message::Envelope(kind, envelope));
        published.digest = digest(&envelope);
        published.sent += 1;
    }

    fn make_will(&mut self, plan: Publish, voice: &mut Voice, now: Instant) {
        let id = self.push_will(None);
        let number = self.compose(plan, id, true, now);
        self.bequeath(number, id, voice);
    }

    fn bequeath(&mut self, number: u32, id: u32, voice: &mut Voice) {
        let wills = self.record.membership_mut().map(|last| &mut last.wills);
        if let Some(will) = wills.and_then(|wills| wills.last_mut()) {
            will.number = Some(number);
        }
        self.utter(number, id, MessageType::Will, voice);
    }

    fn withdraw_will(&mut self, voice: &mut Voice) {
        let id = self.push_will(None);
        let envelope = Envelope {
            id,
            ..Envelope::default()
        };
        voice.send(&Message::Envelope(MessageType::Will, envelope));
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
        self.push(Matter::Will(place))
    }

    // ---- subscribing and serving ----

    fn stands(&mut self, serving: bool) -> &mut Vec<Stand> {
        match serving {
            true => &mut self.record.services,
            false => &mut self.record.subscriptions,
        }
    }

    fn stand(&mut self, filter: Filter, serving: bool, voice: &mut Voice, now: Instant) {
        let (_, membership) = self.place();
        let stands = self.stands(serving);
        let place = stands.len();
        stands.push(Stand {
            filter: filter.clone(),
            membership,
            asked: 1,
            asked_at: now,
            confirmed_at: None,
            received_before: 0,
            refused: None,
            left_at: None,
            left_confirmed_at: None,
        });
        let (kind, matter) = match serving {
            true => (MessageType::Serve, Matter::Serve(place)),
            false => (MessageType::Subscribe, Matter::Subscribe(place)),
        };
        let id = self.push(matter);
        say_filter(kind, id, &filter, voice);
    }

    /// Leaves the last standing of this filter; if there is none, asks all the same.
    fn leave(&mut self, filter: Filter, serving: bool, voice: &mut Voice, now: Instant) {
        let (_, membership) = self.place();
        let stands = self.stands(serving);
        let same = |stand: &Stand| {
            stand.membership == membership
                && stand.left_at.is_none()
                && (&stand.filter.name, &stand.filter.group) == (&filter.name, &filter.group)
        };
        let mut place = usize::MAX;
        for (index, stand) in stands.iter_mut().enumerate().filter(|(_, s)| same(s)) {
            stand.left_at = Some(now);
            place = index;
        }
        let (kind, matter) = match serving {
            true => (MessageType::Unserve, Matter::Unserve(place)),
            false => (MessageType::Unsubscribe, Matter::Unsubscribe(place)),
        };
        let id = self.push(matter);
        say_filter(kind, id, &filter, voice);
    }

    /// A new membership: asks for all that stood in the one before, and makes its will.
    pub(super) fn stand_again(&mut self, will: Option<u32>, voice: &mut Voice, now: Instant) {
        let (_, membership) = self.place();
        for serving in [false, true] {
            let before = self.stands(serving).iter();
            let stood = before.filter(|stand| {
                stand.membership + 1 == membership
                    && stand.left_at.is_none()
                    && stand.refused.is_none()
            });
            let filters: Vec<Filter> = stood.map(|stand| stand.filter.clone()).collect();
            for filter in filters {
                self.stand(filter, serving, voice, now);
            }
        }
        if let Some(number) = will
            && let Some(published) = self.record.published.get(number as usize)
        {
            let plan = published.plan.clone();
            self.make_will(plan, voice, now);
        }
    }

    // ---- requests ----

    fn request(&mut self, request: Request, voice: &mut Voice, now: Instant) {
        let (connection, membership) = self.place();
        let number = self.record.asked.len() as u32;
        let label = Label {
            maker: self.id,
            number,
        };
        let mut block = Vec::new();
        if let Some(timeout_ms) = request.timeout_ms {
            Headers::push(&mut block, header::TIMEOUT_MS, &timeout_ms.to_be_bytes());
        }
        let envelope = Envelope {
            id: number,
            name: &request.service,
            headers: Headers::check(&block).unwrap_or_default(),
            payload: &label.payload(request.bytes),
            ..Envelope::default()
        };
        voice.send(&Message::Envelope(MessageType::Request, envelope));
        self.record.asked.push(Asked {
            service: request.service,
            bytes: request.bytes,
            timeout_ms: request.timeout_ms,
            membership,
            connection,
            at: now,
            answer: None,
        });
    }

    /// Gives the answers whose time has come.
    pub(super) fn answer_due(&mut self, voice: &mut Voice, now: Instant) {
        if self.standing != Standing::Member {
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
            voice.send(&Message::Envelope(MessageType::Response, envelope));
        }
    }

    // ---- again ----

    /// The session is resumed: repeats what was not answered, in its order.
    pub(super) fn repeat_unanswered(
        &mut self,
        last_publish_id: u32,
        voice: &mut Voice,
        now: Instant,
    ) {
        let all = self.plan.session.is_some_and(|keeping| keeping.repeats_all);
        for operation in std::mem::take(&mut self.unanswered) {
            let id = operation.id;
            match operation.matter {
                Matter::Publish(number) if id <= last_publish_id && !all => {
                    if let Some(published) = self.record.published.get_mut(number as usize) {
                        published.confirmed_at = Some(now);
                    }
                    continue;
                }
                // It left nothing, and would again.
                Matter::Unsubscribe(usize::MAX) | Matter::Unserve(usize::MAX) => continue,
                Matter::Publish(number) => self.utter(number, id, MessageType::Publish, voice),
                Matter::Subscribe(place) => self.say_again(place, false, true, id, voice),
                Matter::Unsubscribe(place) => self.say_again(place, false, false, id, voice),
                Matter::Serve(place) => self.say_again(place, true, true, id, voice),
                Matter::Unserve(place) => self.say_again(place, true, false, id, voice),
                Matter::Will(place) => self.will_again(place, id, voice),
            }
            self.unanswered.push_back(operation);
        }
    }

    fn say_again(&mut self, place: usize, serving: bool, joins: bool, id: u32, voice: &mut Voice) {
        let Some(stand) = self.stands(serving).get_mut(place) else {
            return;
        };
        stand.asked += u32::from(joins);
        let filter = stand.filter.clone();
        let kind = match (serving, joins) {
            (false, true) => MessageType::Subscribe,
            (false, false) => MessageType::Unsubscribe,
            (true, true) => MessageType::Serve,
            (true, false) => MessageType::Unserve,
        };
        say_filter(kind, id, &filter, voice);
    }

    fn will_again(&mut self, place: usize, id: u32, voice: &mut Voice) {
        let will = self
            .record
            .membership()
            .and_then(|last| last.wills.get(place));
        match will.and_then(|will| will.number) {
            Some(number) => self.utter(number, id, MessageType::Will, voice),
            None => {
                let envelope = Envelope {
                    id,
                    ..Envelope::default()
                };
                voice.send(&Message::Envelope(MessageType::Will, envelope));
            }
        }
    }
}

fn say_filter(kind: MessageType, id: u32, filter: &Filter, voice: &mut Voice) {
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
    voice.send(&Message::Envelope(kind, envelope));
}
