//! Simulated clients: they follow a [`Plan`], speak through the protocol's own session, and
//! keep a [`Report`]. A client runs when it is poked: by what arrives, by its own timer, or
//! by an order of the harness; poking it for nothing changes nothing.
//!
//! It does not reconnect. What it holds while idle is one box; when it is over, nothing
//! but its report. Clients that take part in routing, and come back, are in [`traffic`].

mod conversation;
mod plan;
mod report;
pub mod traffic;
mod veil;

pub use plan::{Ask, Ending, Expect, Opening, Plan, Reading, Writing};
pub use report::Report;

use super::agenda::Event;
pub use super::id::ClientId;
use super::kernel::Kernel;
use crate::base::clock::Instant;
use crate::proto::session::Settings;
use conversation::Conversation;
use std::rc::Rc;
use std::sync::Arc;

/// What a harness may tell a client while it lives.
#[derive(Clone, Debug)]
pub enum Order {
    /// Make so many REQUESTs more.
    Ask(u32),
    /// Send these bytes as they are.
    Say(Vec<u8>),
    /// Read and write as fast as can be, ask what is still to be asked, then CLOSE (or
    /// end the stream, if that is the plan). One that does not shake hands ends its stream.
    Heal,
    /// End this way now, whatever is open.
    End(Ending),
}

enum Stage {
    Waiting,
    Talking(Box<Conversation>),
    Over,
}

pub(super) struct Client {
    id: ClientId,
    plan: Rc<Plan>,
    start: Instant,
    /// When its earliest timer fires.
    wake_at: Instant,
    stage: Stage,
    report: Report,
}

impl Client {
    pub(super) fn new(id: ClientId, plan: Rc<Plan>, start: Instant) -> Client {
        Client {
            id,
            plan,
            start,
            wake_at: Instant::NEVER,
            stage: Stage::Waiting,
            report: Report::default(),
        }
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Looks around and does what is to be done.
    pub(super) fn poke(&mut self, kernel: &mut Kernel, settings: &Arc<Settings>) {
        if self.wake_at <= kernel.now {
            self.wake_at = Instant::NEVER;
        }
        if let Stage::Waiting = self.stage {
            if kernel.now < self.start {
                return self.wake(self.start, kernel);
            }
            self.stage = match Conversation::open(&self.plan, self.id, kernel, settings) {
                Some(talk) => Stage::Talking(Box::new(talk)),
                None => {
                    self.report.broken = true;
                    Stage::Over
                }
            };
        }
        if let Stage::Talking(talk) = &mut self.stage {
            let next_at = talk.turn(&self.plan, &mut self.report, kernel);
            match next_at {
                Some(at) => self.wake(at, kernel),
                None => self.stage = Stage::Over,
            }
        }
        self.report.over = matches!(self.stage, Stage::Over);
    }

    /// Takes an order, unless it is over.
    pub(super) fn obey(&mut self, order: Order, kernel: &Kernel) {
        if self.report.over {
            return;
        }
        let plan = Rc::make_mut(&mut self.plan);
        match order {
            Order::Ask(more) => plan.requests += more,
            Order::Say(bytes) => {
                if let Stage::Talking(talk) = &mut self.stage {
                    talk.say(&bytes);
                }
            }
            Order::Heal => {
                plan.reading = Reading::Eager;
                plan.writing = Writing::Whole;
                let speaks = plan.opening == Opening::Handshake;
                if !speaks {
                    plan.ending = Ending::Fin;
                } else if plan.ending != Ending::Fin {
                    plan.ending = Ending::Close;
                }
            }
            Order::End(ending) => {
                plan.ending = ending;
                plan.patience = kernel.now.since(self.start);
            }
        }
    }

    fn wake(&mut self, at: Instant, kernel: &mut Kernel) {
        if at < self.wake_at {
            self.wake_at = at;
            kernel.agenda.enter(at, Event::Client(self.id));
        }
    }
}
