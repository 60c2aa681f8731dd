//! One connection of a traffic client: bytes in and out, and how it ends.

use super::decode;
use super::endpoint::Endpoint;
use super::model::{Model, Progress};
use super::plan::Traffic;
use super::record::ConnectionRecord;
use crate::base::clock::Instant;
use crate::proto::error::Code;
use crate::proto::option::{FEATURE_CHECKSUM, Options};
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session, Settings, Step};
use crate::ring::sim::client::{Ending, Reading, Writing};
use crate::ring::sim::kernel::Kernel;
use crate::ring::sim::link::LinkId;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Connection {
    link: LinkId,
    endpoint: Endpoint,
    input: Reassembly,
    read_at: Instant,
    write_at: Instant,
    close_sent: bool,
}

impl Connection {
    /// Connects; `None` if no shard listens.
    pub(super) fn open(
        model: &mut Model,
        kernel: &mut Kernel,
        settings: &Arc<Settings>,
    ) -> Option<Connection> {
        let link = kernel.connect(model.id)?;
        let mut out = Vec::new();
        let hello = Options {
            features: model.plan.checksum.then_some(FEATURE_CHECKSUM),
            codec: model.plan.codec,
            message_max: model.plan.message_max,
            ..Options::default()
        };
        let (seq, now) = (kernel.rng.u32(..), kernel.now);
        let settings = match model.plan.message_max {
            None => Arc::clone(settings),
            Some(message_bytes_max) => Arc::new(Settings {
                message_bytes_max,
                ..Settings::clone(settings)
            }),
        };
        let session = Session::connect(settings, &hello, seq, now, &mut out);
        model.record.connections.push(ConnectionRecord {
            begun_at: now,
            established_at: None,
            shard: None,
            membership: usize::MAX,
            ended_at: None,
            left_at: None,
            ending: None,
            close_answered: false,
            close_received: None,
            refused: None,
            protocol_error: None,
            drains: 0,
            broken: false,
        });
        Some(Connection {
            link,
            endpoint: Endpoint { session, out },
            input: Reassembly::default(),
            read_at: now,
            write_at: now,
            close_sent: false,
        })
    }

    /// Does everything that can be done now. Returns when to be poked again, `None` once the
    /// connection has ended.
    pub(super) fn turn(&mut self, model: &mut Model, kernel: &mut Kernel) -> Option<Instant> {
        self.read(model, kernel);
        self.keep_alive(model, kernel);
        if !self.close_sent {
            model.answer_due(&mut self.endpoint, kernel.now);
            model.act(&mut self.endpoint, kernel);
        }
        self.write(&model.plan, kernel);
        if self.break_off(model, kernel) {
            return None;
        }
        self.write(&model.plan, kernel);
        if self.has_ended(model, kernel) {
            return None;
        }
        let soonest = kernel.now + Duration::from_micros(1);
        Some(self.next_at(model, kernel).max(soonest))
    }

    fn keep_alive(&mut self, model: &mut Model, kernel: &Kernel) {
        if self.close_sent || self.endpoint.session.timeout() > kernel.now {
            return;
        }
        let event = self
            .endpoint
            .session
            .handle_timeout(kernel.now, &mut self.endpoint.out);
        if let Event::Ended(reason) = event
            && let Some(connection) = model.record.connection_mut()
        {
            connection.protocol_error = Some(reason);
        }
    }

    fn read(&mut self, model: &mut Model, kernel: &mut Kernel) {
        let Some(max) = model.plan.reading.allowance(kernel.now, &mut self.read_at) else {
            return;
        };
        let bytes = kernel.read(self.link, max);
        if bytes.is_empty() {
            return;
        }
        let mut rest = bytes.as_slice();
        while !self.endpoint.session.is_ended() {
            let view = self.input.view(rest);
            let endpoint = &mut self.endpoint;
            match endpoint.session.handle(view, kernel.now, &mut endpoint.out) {
                Step::Taken { used, event } => {
                    decode::take(model, &event, self.close_sent, endpoint, kernel.now);
                    self.input.consume(used, &mut rest);
                }
                Step::Incomplete { need } => {
                    if !self.input.fill(need, &mut rest) {
                        break;
                    }
                }
            }
            if self.endpoint.session.is_peer_closing() {
                self.endpoint.session.finish(&mut self.endpoint.out);
            }
        }
    }

    fn write(&mut self, plan: &Traffic, kernel: &mut Kernel) {
        let out = &mut self.endpoint.out;
        if out.is_empty() {
            return;
        }
        let Some(max) = plan.writing.allowance(kernel.now, &mut self.write_at) else {
            return;
        };
        let count = out.len().min(max);
        let written = kernel.write(self.link, &out[..count]);
        out.drain(..written);
    }

    /// Ends the connection if the client is to end it; true if nothing remains to be done for it.
    fn break_off(&mut self, model: &mut Model, kernel: &mut Kernel) -> bool {
        if model.ending.is_some()
            && let Some(connection) = model.record.connection_mut()
        {
            connection.left_at.get_or_insert(kernel.now);
            // A fault may have broken it first, and the server have noticed.
            connection.broken = kernel.is_broken(self.link);
        }
        match model.ending {
            None | Some(Ending::Stay) => {}
            Some(Ending::Close) if self.close_sent || model.progress != Progress::Member => {}
            Some(Ending::Close) => {
                self.close_sent = true;
                if let Some(membership) = model.record.membership_mut() {
                    membership.closing_at = Some(kernel.now);
                }
                let endpoint = &mut self.endpoint;
                endpoint
                    .session
                    .close(Code::Normal, "done", &mut endpoint.out);
            }
            Some(Ending::Fin) => {
                if self.endpoint.out.is_empty() {
                    kernel.finish_writing(self.link);
                }
            }
            Some(Ending::Reset) => {
                kernel.reset_by_client(self.link);
                return true;
            }
            Some(Ending::Vanish) => {
                kernel.vanish(self.link);
                return true;
            }
        }
        false
    }

    fn has_ended(&self, model: &mut Model, kernel: &mut Kernel) -> bool {
        if !kernel.is_reset(self.link) && !kernel.at_end(self.link) {
            return false;
        }
        if let Some(connection) = model.record.connection_mut() {
            connection.broken = kernel.is_broken(self.link);
        }
        kernel.close_client(self.link);
        true
    }

    fn next_at(&self, model: &Model, kernel: &Kernel) -> Instant {
        let mut at = Instant::NEVER;
        if !self.close_sent {
            at = at.min(self.endpoint.session.timeout());
            // An act that has to wait for an answer is tried again when bytes arrive.
            if model.ending.is_none() {
                at = at.min(model.next_act_at(&self.endpoint));
            }
            if model.progress == Progress::Member {
                at = model.due.iter().map(|due| due.at).fold(at, Instant::min);
            }
        }
        if matches!(model.plan.writing, Writing::Trickle { .. }) && !self.endpoint.out.is_empty() {
            at = at.min(self.write_at);
        }
        if matches!(model.plan.reading, Reading::Slow { .. }) && kernel.is_readable(self.link) {
            at = at.min(self.read_at);
        }
        at
    }
}
