//! One connection of a client that takes part in routing: bytes in and out, and its end.

use super::hear;
use super::mind::{Mind, Standing};
use super::plan::Traffic;
use super::record::Connection;
use super::voice::Voice;
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

pub(super) struct Talk {
    link: LinkId,
    voice: Voice,
    input: Reassembly,
    read_at: Instant,
    write_at: Instant,
    close_sent: bool,
}

impl Talk {
    /// Connects; `None` when nobody listens.
    pub(super) fn open(
        mind: &mut Mind,
        kernel: &mut Kernel,
        settings: &Arc<Settings>,
    ) -> Option<Talk> {
        let link = kernel.connect(mind.id)?;
        let mut out = Vec::new();
        let hello = Options {
            features: mind.plan.checksum.then_some(FEATURE_CHECKSUM),
            codec: mind.plan.codec,
            ..Options::default()
        };
        let (seq, now) = (kernel.rng.u32(..), kernel.now);
        let session = Session::connect(Arc::clone(settings), &hello, seq, now, &mut out);
        mind.record.connections.push(Connection {
            begun_at: now,
            established_at: None,
            shard: None,
            membership: usize::MAX,
            ended_at: None,
            left_at: None,
            ending: None,
            close_answered: false,
            close_heard: None,
            refused: None,
            offended: None,
            drains: 0,
            broken: false,
        });
        Some(Talk {
            link,
            voice: Voice { session, out },
            input: Reassembly::default(),
            read_at: now,
            write_at: now,
            close_sent: false,
        })
    }

    /// Does all that can be done now; says when there is more, `None` when it is over.
    pub(super) fn turn(&mut self, mind: &mut Mind, kernel: &mut Kernel) -> Option<Instant> {
        self.read(mind, kernel);
        self.keep_alive(mind, kernel);
        if !self.close_sent {
            mind.answer_due(&mut self.voice, kernel.now);
            mind.act(&mut self.voice, kernel);
        }
        self.write(&mind.plan, kernel);
        if self.break_off(mind, kernel) {
            return None;
        }
        self.write(&mind.plan, kernel);
        if self.is_over(mind, kernel) {
            return None;
        }
        let soonest = kernel.now + Duration::from_micros(1);
        Some(self.next_at(mind, kernel).max(soonest))
    }

    fn keep_alive(&mut self, mind: &mut Mind, kernel: &Kernel) {
        if self.close_sent || self.voice.session.timeout() > kernel.now {
            return;
        }
        let event = self
            .voice
            .session
            .handle_timeout(kernel.now, &mut self.voice.out);
        if let Event::Ended(reason) = event
            && let Some(connection) = mind.record.connection_mut()
        {
            connection.offended = Some(reason);
        }
    }

    fn read(&mut self, mind: &mut Mind, kernel: &mut Kernel) {
        let max = match mind.plan.reading {
            Reading::Eager => usize::MAX,
            Reading::Slow { .. } if kernel.now < self.read_at => return,
            Reading::Slow { bytes, every } => {
                self.read_at = kernel.now + every;
                bytes
            }
            Reading::Never => return,
        };
        let bytes = kernel.read(self.link, max);
        if bytes.is_empty() {
            return;
        }
        let mut rest = bytes.as_slice();
        while !self.voice.session.is_ended() {
            let view = self.input.view(rest);
            let voice = &mut self.voice;
            match voice.session.handle(view, kernel.now, &mut voice.out) {
                Step::Taken { used, event } => {
                    hear::take(mind, &event, self.close_sent, voice, kernel.now);
                    self.input.consume(used, &mut rest);
                }
                Step::Incomplete { need } => {
                    if !self.input.fill(need, &mut rest) {
                        break;
                    }
                }
            }
            if self.voice.session.is_peer_closing() {
                self.voice.session.finish(&mut self.voice.out);
            }
        }
    }

    fn write(&mut self, plan: &Traffic, kernel: &mut Kernel) {
        let out = &mut self.voice.out;
        if out.is_empty() {
            return;
        }
        let max = match plan.writing {
            Writing::Whole => usize::MAX,
            Writing::Trickle { .. } if kernel.now < self.write_at => return,
            Writing::Trickle { bytes, every } => {
                self.write_at = kernel.now + every;
                bytes
            }
        };
        let count = out.len().min(max);
        let written = kernel.write(self.link, &out[..count]);
        out.drain(..written);
    }

    /// Ends the connection if it shall; true when that is all there is to it.
    fn break_off(&mut self, mind: &mut Mind, kernel: &mut Kernel) -> bool {
        if mind.ending.is_some()
            && let Some(connection) = mind.record.connection_mut()
        {
            connection.left_at.get_or_insert(kernel.now);
            // A fault may have been faster, and the server knows it already.
            connection.broken = kernel.is_broken(self.link);
        }
        match mind.ending {
            None | Some(Ending::Stay) => {}
            Some(Ending::Close) if self.close_sent || mind.standing != Standing::Member => {}
            Some(Ending::Close) => {
                self.close_sent = true;
                if let Some(membership) = mind.record.membership_mut() {
                    membership.closing_at = Some(kernel.now);
                }
                let voice = &mut self.voice;
                voice.session.close(Code::Normal, "done", &mut voice.out);
            }
            Some(Ending::Fin) => {
                if self.voice.out.is_empty() {
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

    fn is_over(&self, mind: &mut Mind, kernel: &mut Kernel) -> bool {
        if !kernel.is_reset(self.link) && !kernel.at_end(self.link) {
            return false;
        }
        if let Some(connection) = mind.record.connection_mut() {
            connection.broken = kernel.is_broken(self.link);
        }
        kernel.close_client(self.link);
        true
    }

    fn next_at(&self, mind: &Mind, kernel: &Kernel) -> Instant {
        let mut at = Instant::NEVER;
        if !self.close_sent {
            at = at.min(self.voice.session.timeout());
            // What cannot be done now is looked at when the server has said something.
            if mind.ending.is_none() {
                at = at.min(mind.next_act_at(&self.voice));
            }
            if mind.standing == Standing::Member {
                at = mind.due.iter().map(|due| due.at).fold(at, Instant::min);
            }
        }
        if matches!(mind.plan.writing, Writing::Trickle { .. }) && !self.voice.out.is_empty() {
            at = at.min(self.write_at);
        }
        if matches!(mind.plan.reading, Reading::Slow { .. }) && kernel.is_readable(self.link) {
            at = at.min(self.read_at);
        }
        at
    }
}
