//! The client's side of one connection. Each poke reads, sends requests, ends the connection if it
//! is time to, and writes, in this order.

use super::tls::Tls;
use super::{ClientId, Ending, Expect, Opening, Plan, Reading, Report, Writing};
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::message::{Message, MessageType};
use crate::proto::option::{FEATURE_CHECKSUM, Options};
use crate::proto::outcome::Failure;
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session, Settings, Step};
use crate::ring::sim::kernel::Kernel;
use crate::ring::sim::link::LinkId;
use std::sync::Arc;
use std::time::Duration;

/// A client makes no further REQUEST while this much output waits to be written.
const OUT_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Connection {
    id: ClientId,
    link: LinkId,
    session: Session,
    input: Reassembly,
    out: Vec<u8>,
    tls: Tls,
    begun: Instant,
    read_at: Instant,
    write_at: Instant,
    request_at: Instant,
    /// How many RESPONSEs each REQUEST has had.
    answers: Vec<u8>,
    /// The REQUEST whose answer is expected next.
    due: u32,
    tail_sent: bool,
    ending: bool,
}

impl Connection {
    /// Connects; `None` if no shard listens.
    pub(super) fn open(
        plan: &Plan,
        id: ClientId,
        kernel: &mut Kernel,
        settings: &Arc<Settings>,
    ) -> Option<Connection> {
        let link = kernel.connect(id)?;
        let mut out = Vec::new();
        let hello = Options {
            heartbeat_ms: plan.heartbeat_ms,
            features: plan.checksum.then_some(FEATURE_CHECKSUM),
            client_id: plan.client_id.as_deref(),
            codec: plan.codec,
            ..Options::default()
        };
        let (seq, now) = (kernel.rng.u32(..), kernel.now);
        let session = Session::connect(Arc::clone(settings), &hello, seq, now, &mut out);
        match &plan.opening {
            Opening::Handshake | Opening::SynOnly => {}
            Opening::Silent => out.clear(),
            Opening::Raw(bytes) => out.clone_from(bytes),
        }
        Some(Connection {
            id,
            link,
            session,
            input: Reassembly::default(),
            out,
            tls: Tls::new(plan.tls.as_ref()),
            begun: now,
            read_at: now,
            write_at: now,
            request_at: now,
            answers: Vec::new(),
            due: 0,
            tail_sent: false,
            ending: false,
        })
    }

    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Does everything that can be done now. Returns when to be poked again, `None` once the
    /// connection has ended.
    pub(super) fn turn(
        &mut self,
        plan: &Plan,
        report: &mut Report,
        kernel: &mut Kernel,
    ) -> Option<Instant> {
        self.read(plan, report, kernel);
        if plan.heartbeats && !self.ending && self.session.timeout() <= kernel.now {
            let before = self.out.len();
            let event = self.session.handle_timeout(kernel.now, &mut self.out);
            report.pings += u32::from(event == Event::Handled && self.out.len() > before);
            if let Event::Ended(reason) = event {
                report.protocol_error = Some(reason);
            }
        }
        self.send_requests(plan, report, kernel);
        self.write(plan, kernel);
        if !self.ending && self.is_time_to_end(plan, report, kernel.now) {
            self.ending = true;
            match plan.ending {
                Ending::Stay => self.ending = false,
                Ending::Close if self.session.is_established() => {
                    self.session.close(Code::Normal, "done", &mut self.out);
                }
                Ending::Close | Ending::Fin => {}
                Ending::Reset => {
                    kernel.reset_by_client(self.link);
                    return None;
                }
                Ending::Vanish => {
                    kernel.vanish(self.link);
                    return None;
                }
            }
        }
        self.write(plan, kernel);
        if self.ending && self.has_written() && !self.waits_for_close(plan) {
            kernel.finish_writing(self.link);
        }
        if self.has_ended(report, kernel) {
            return None;
        }
        let soonest = kernel.now + Duration::from_micros(1);
        Some(self.next_at(plan, report, kernel).max(soonest))
    }

    // ---- reading ----

    fn read(&mut self, plan: &Plan, report: &mut Report, kernel: &mut Kernel) {
        let Some(max) = plan.reading.allowance(kernel.now, &mut self.read_at) else {
            return;
        };
        let bytes = kernel.read(self.link, max);
        if bytes.is_empty() {
            return;
        }
        let bytes = match self.tls.decrypt(bytes) {
            Ok(bytes) => bytes,
            Err(wrong) => {
                report.violation.get_or_insert(wrong.into());
                return;
            }
        };
        if plan.opening != Opening::Handshake {
            report.raw.extend_from_slice(&bytes);
            return;
        }
        let mut rest = bytes.as_slice();
        while !self.session.is_ended() {
            let view = self.input.view(rest);
            let (open, kind) = (self.session.is_established(), view.get(3).copied());
            match self.session.handle(view, kernel.now, &mut self.out) {
                Step::Taken { used, event } => {
                    match event {
                        Event::Message(Message::Pong(_)) => report.pongs += 1,
                        Event::Handled if open && kind == Some(MessageType::Ping as u8) => {
                            report.pings_received += 1;
                        }
                        Event::Message(Message::Envelope(MessageType::Response, answer)) => {
                            let (answers, due) = (&mut self.answers, &mut self.due);
                            if let Err(wrong) = take(self.id, plan, answers, due, report, &answer) {
                                report.violation.get_or_insert(wrong.into());
                            }
                        }
                        event => note(&event, report, self.ending),
                    }
                    self.input.consume(used, &mut rest);
                }
                Step::Incomplete { need } => {
                    if !self.input.fill(need, &mut rest) {
                        break;
                    }
                }
            }
            if self.session.is_peer_closing() {
                self.session.finish(&mut self.out);
            }
        }
    }

    // ---- requests ----

    fn send_requests(&mut self, plan: &Plan, report: &mut Report, kernel: &mut Kernel) {
        while self.may_request(plan, report) && self.request_at <= kernel.now {
            if kernel.chance(plan.ping_chance) {
                self.session
                    .send(&Message::Ping(&report.pings.to_be_bytes()), &mut self.out);
                report.pings += 1;
            }
            let number = report.requests;
            let request = Envelope {
                id: number,
                name: &kind_of(plan, number).service,
                payload: &payload(self.id, plan, number),
                ..Envelope::default()
            };
            let request = Message::Envelope(MessageType::Request, request);
            self.session.send(&request, &mut self.out);
            self.answers.push(0);
            report.requests += 1;
            self.request_at = kernel.now + kernel.delay(plan.think);
        }
        let asked = report.requests >= plan.requests && self.session.is_open();
        if asked && !self.tail_sent && !plan.tail.is_empty() {
            self.tail_sent = true;
            self.out.extend_from_slice(&plan.tail);
        }
    }

    fn may_request(&self, plan: &Plan, report: &Report) -> bool {
        self.session.is_open()
            && !self.ending
            && report.drains == 0
            && report.requests < plan.requests
            && report.requests - report.responses.min(report.requests) < plan.depth
            && self.out.len() < OUT_BYTES_MAX
    }

    // ---- ending ----

    fn is_time_to_end(&self, plan: &Plan, report: &Report, now: Instant) -> bool {
        let answered = self.session.is_open()
            && (report.requests >= plan.requests || report.drains > 0)
            && (plan.ends_when_sent || report.responses >= report.requests)
            && (plan.ends_when_sent || report.pongs >= report.pings)
            && self.has_written();
        let shakes_hands = plan.opening == Opening::Handshake;
        let healed = !shakes_hands && plan.ending == Ending::Fin;
        answered || healed || now >= self.begun + plan.lifetime_max
    }

    /// Whether the client ends with CLOSE, so that the server ends the stream.
    fn waits_for_close(&self, plan: &Plan) -> bool {
        plan.ending == Ending::Close && self.session.is_established()
    }

    fn has_ended(&self, report: &mut Report, kernel: &mut Kernel) -> bool {
        let reset = kernel.is_reset(self.link);
        if !reset && !kernel.at_end(self.link) {
            return false;
        }
        report.reset = reset;
        report.eof = !reset;
        report.broken |= kernel.is_broken(self.link);
        kernel.close_client(self.link);
        true
    }

    // ---- writing ----

    fn write(&mut self, plan: &Plan, kernel: &mut Kernel) {
        let out = self.tls.encrypt(&mut self.out);
        if out.is_empty() {
            return;
        }
        let Some(max) = plan.writing.allowance(kernel.now, &mut self.write_at) else {
            return;
        };
        let count = out.len().min(max);
        let written = kernel.write(self.link, &out[..count]);
        out.drain(..written);
        if out.is_empty() {
            *out = Vec::new();
        }
    }

    fn has_written(&self) -> bool {
        self.out.is_empty() && !self.tls.has_unsent()
    }

    fn next_at(&self, plan: &Plan, report: &Report, kernel: &Kernel) -> Instant {
        let mut at = Instant::NEVER;
        if plan.heartbeats && !self.ending {
            at = at.min(self.session.timeout());
        }
        if !self.ending && plan.ending != Ending::Stay {
            at = at.min(self.begun + plan.lifetime_max);
        }
        if self.may_request(plan, report) {
            at = at.min(self.request_at);
        }
        if matches!(plan.writing, Writing::Trickle { .. }) && !self.has_written() {
            at = at.min(self.write_at);
        }
        if matches!(plan.reading, Reading::Slow { .. }) && kernel.is_readable(self.link) {
            at = at.min(self.read_at);
        }
        at
    }
}

fn kind_of(plan: &Plan, number: u32) -> &super::RequestKind {
    &plan.request_kinds[number as usize % plan.request_kinds.len()]
}

/// The payload of a client's REQUEST, derived from client and number.
fn payload(client: ClientId, plan: &Plan, number: u32) -> Vec<u8> {
    let seed = u64::from(client.0) << 32 | u64::from(number);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; rng.usize(0..=plan.payload_bytes_max)];
    rng.fill(&mut bytes);
    bytes
}

/// Checks a RESPONSE and counts it.
fn take(
    client: ClientId,
    plan: &Plan,
    answers: &mut [u8],
    due: &mut u32,
    report: &mut Report,
    answer: &Envelope<'_>,
) -> Result<(), String> {
    let number = answer.id;
    let Some(count) = answers.get_mut(number as usize) else {
        return Err(format!("an answer to {number}, never asked"));
    };
    if *count > 0 {
        return Err(format!("a second answer to {number}"));
    }
    *count = 1;
    report.responses += 1;
    report.out_of_order += u32::from(number != *due);
    *due = number + 1;
    let code = Failure::of_response(answer).map(|failure| Code::from_wire(failure.code));
    report.failures.extend(code);
    let right = match kind_of(plan, number).expect {
        Expect::Echo => !answer.failed() && answer.payload == payload(client, plan, number),
        Expect::Success => !answer.failed(),
        Expect::Failure(expected) => code == Some(expected),
        Expect::Anything => true,
    };
    if right {
        Ok(())
    } else {
        Err(format!("the answer to {number} is wrong: {answer:?}"))
    }
}

/// Records any other event.
fn note(event: &Event<'_>, report: &mut Report, ending: bool) {
    match event {
        Event::Handled => {}
        Event::Established(granted) => {
            report.established = true;
            report.shard = granted.shard;
        }
        Event::PeerClosed { code, .. } => report.close_received = Some(*code),
        Event::Refused { code, .. } => report.refused = Some(*code),
        Event::Ended(Reason::Shutdown) if ending => report.close_answered = true,
        Event::Ended(reason) => report.protocol_error = Some(*reason),
        Event::Message(Message::Error {
            code, fatal: true, ..
        }) => report.refused = Some(*code),
        Event::Message(Message::Error { code, .. }) => report.errors.push(*code),
        Event::Message(Message::Drain { .. }) => report.drains += 1,
        Event::Message(_) => report.others += 1,
    }
}
