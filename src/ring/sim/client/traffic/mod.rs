//! Traffic clients: simulated clients that publish, subscribe, form groups, serve and make
//! requests, keep sessions, disconnect and reconnect. They follow a [`Traffic`] plan and fill in a
//! [`Record`].
//!
//! | file | idea |
//! |---|---|
//! | `plan` | what a client will do |
//! | `record` | what it did and received |
//! | `model` | its state across connections: session, unanswered operations |
//! | `connection` | one connection: bytes in and out, and how it ends |
//! | `endpoint` | the protocol session of that connection, and its output |
//! | `encode`, `decode` | messages out, messages in |
//! | `payload` | payloads that name their sender |
//!
//! What a single client can check is checked on receipt (the first violation is in
//! [`Record::violation`]); what takes the records of all clients is left to the harness.

mod connection;
mod decode;
mod encode;
mod endpoint;
mod model;
mod payload;
mod plan;
mod record;

pub use payload::Label;
pub use plan::{Act, Answering, Filter, Publish, Request, SessionPlan, Traffic};
pub use record::{
    Answer, ConnectionRecord, Delivered, Grant, Membership, Published, Record, Registration,
    Requested, Served, Will,
};

use super::{ClientId, Ending, Reading, Writing};
use crate::base::clock::Instant;
use crate::proto::session::Settings;
use crate::ring::sim::event_queue::Event;
use crate::ring::sim::kernel::Kernel;
use connection::Connection;
use model::Model;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a harness can order a running traffic client to do.
#[derive(Clone, Debug)]
pub enum Command {
    /// Append these acts to the script.
    Act(Vec<Act>),
    /// Read, write and acknowledge as fast as possible, drop all planned cuts and pauses.
    Heal,
    /// End the connection this way now; with `Ending::Close`, the client too.
    End(Ending),
    /// Read this way from now on.
    Read(Reading),
    /// Never reconnect, or reconnect within this time.
    Reconnect(Option<Duration>),
    /// Authenticate with this token from the next connection on.
    Token(std::rc::Rc<str>),
}

enum Stage {
    /// Until it connects, at this time.
    Disconnected(Instant),
    Connected(Box<Connection>),
    Ended,
}

pub(in crate::ring::sim) struct TrafficClient {
    model: Model,
    stage: Stage,
    start: Instant,
    /// How many of the plan's cuts are past.
    cuts_made: usize,
    /// When its earliest timer fires.
    wake_at: Instant,
}

impl TrafficClient {
    pub(in crate::ring::sim) fn new(
        id: ClientId,
        plan: Rc<Traffic>,
        start: Instant,
    ) -> TrafficClient {
        TrafficClient {
            model: Model::new(id, plan),
            stage: Stage::Disconnected(start),
            start,
            cuts_made: 0,
            wake_at: Instant::NEVER,
        }
    }

    pub(in crate::ring::sim) fn record(&self) -> &Record {
        &self.model.record
    }

    pub(in crate::ring::sim) fn plan(&self) -> &Traffic {
        &self.model.plan
    }

    /// Whether its script is finished and everything answered.
    pub(in crate::ring::sim) fn is_idle(&self) -> bool {
        match self.stage {
            Stage::Ended => true,
            Stage::Disconnected(_) => false,
            Stage::Connected(_) => {
                let member = self.model.progress == model::Progress::Member;
                member && self.model.acts.is_empty() && self.model.is_all_answered()
            }
        }
    }

    /// Does everything that can be done now.
    pub(in crate::ring::sim) fn poke(&mut self, kernel: &mut Kernel, settings: &Arc<Settings>) {
        if self.wake_at <= kernel.now {
            self.wake_at = Instant::NEVER;
        }
        if let Stage::Disconnected(until) = self.stage {
            if kernel.now < until {
                return self.wake(until, kernel);
            }
            self.skip_cuts(kernel.now);
            self.stage = match Connection::open(&mut self.model, kernel, settings) {
                Some(connection) => Stage::Connected(Box::new(connection)),
                None => Stage::Ended,
            };
        }
        self.make_cut(kernel.now);
        if let Stage::Connected(connection) = &mut self.stage {
            match connection.turn(&mut self.model, kernel) {
                Some(at) => {
                    let at = at.min(self.next_cut());
                    self.wake(at, kernel);
                }
                None => self.end(kernel),
            }
        }
        self.model.record.ended = matches!(self.stage, Stage::Ended);
    }

    /// The connection has ended.
    fn end(&mut self, kernel: &mut Kernel) {
        self.stage = Stage::Ended;
        if self.model.take_end(kernel.now) {
            let within = self.model.plan.reconnect.unwrap_or_default();
            let at = kernel.now + kernel.delay(within);
            self.stage = Stage::Disconnected(at);
            self.wake(at, kernel);
        }
    }

    // ---- cuts ----

    fn next_cut(&self) -> Instant {
        let next = self.model.plan.cuts.get(self.cuts_made);
        next.map_or(Instant::NEVER, |(after, _)| self.start + *after)
    }

    fn make_cut(&mut self, now: Instant) {
        if self.next_cut() <= now {
            if self.model.ending.is_none() {
                self.model.ending = self.model.plan.cuts.get(self.cuts_made).map(|cut| cut.1);
            }
            self.skip_cuts(now);
        }
    }

    fn skip_cuts(&mut self, now: Instant) {
        while self.next_cut() <= now {
            self.cuts_made += 1;
        }
    }

    /// Applies a command, unless the client has ended.
    pub(in crate::ring::sim) fn apply(&mut self, command: Command, kernel: &Kernel) {
        if self.model.record.ended {
            return;
        }
        let plan = Rc::make_mut(&mut self.model.plan);
        match command {
            Command::Act(acts) => self.model.acts.extend(acts),
            Command::Heal => {
                plan.reading = Reading::Eager;
                plan.writing = Writing::Whole;
                plan.cuts.clear();
                plan.think = Duration::ZERO;
                if let Some(session) = plan.session.as_mut().filter(|one| one.ack_every > 0) {
                    session.ack_every = 1;
                    self.model.acts.push_back(Act::AckAll);
                }
                self.model.acts.retain(|act| !matches!(act, Act::Read(_)));
                self.model.act_at = Instant::ZERO;
            }
            Command::End(ending) => match self.stage {
                // To end in order it has to reconnect first, if it has a session.
                Stage::Disconnected(at) if ending == Ending::Close => {
                    self.model.ending = Some(ending);
                    self.stage = Stage::Disconnected(at.min(kernel.now));
                    if plan.session.is_none() {
                        self.stage = Stage::Ended;
                    }
                }
                Stage::Disconnected(_) => {}
                _ => self.model.ending = Some(ending),
            },
            Command::Read(reading) => plan.reading = reading,
            Command::Reconnect(within) => plan.reconnect = within,
            Command::Token(token) => plan.token = Some(token),
        }
        self.model.record.ended = matches!(self.stage, Stage::Ended);
    }

    fn wake(&mut self, at: Instant, kernel: &mut Kernel) {
        if at < self.wake_at {
            self.wake_at = at;
            kernel.event_queue.push(at, Event::Client(self.model.id));
        }
    }
}
