//! Simulated clients: they follow a [`Plan`], use the protocol's own session, and fill in a
//! [`Report`]. A client runs when it is poked: when bytes arrive, when its timer fires, or when the
//! harness gives it an order; a poke with nothing to do changes nothing.
//!
//! These clients do not reconnect. An idle one holds one box, an ended one only its report. Clients
//! that publish, subscribe and serve, and reconnect, are in [`traffic`].

mod connection;
mod plan;
mod report;
mod tls;
pub mod traffic;

pub use plan::{Ending, Expect, Opening, Plan, Reading, RequestKind, Writing};
pub use report::Report;

use super::event_queue::Event;
pub use super::id::ClientId;
use super::kernel::Kernel;
use crate::base::clock::Instant;
use crate::proto::session::Settings;
use connection::Connection;
use std::rc::Rc;
use std::sync::Arc;

/// What a harness can order a running client to do.
#[derive(Clone, Debug)]
pub enum Order {
    /// Make this many more REQUESTs.
    Request(u32),
    /// Send these bytes as they are.
    Raw(Vec<u8>),
    /// Read and write as fast as possible, make the remaining REQUESTs, then CLOSE (or end the
    /// stream, if that is the plan). A client that does not shake hands ends its stream.
    Heal,
    /// End this way now, whatever is still open.
    End(Ending),
}

enum Stage {
    NotStarted,
    Connected(Box<Connection>),
    Ended,
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
            stage: Stage::NotStarted,
            report: Report::default(),
        }
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does everything that can be done now.
    pub(super) fn poke(&mut self, kernel: &mut Kernel, settings: &Arc<Settings>) {
        if self.wake_at <= kernel.now {
            self.wake_at = Instant::NEVER;
        }
        if let Stage::NotStarted = self.stage {
            if kernel.now < self.start {
                return self.wake(self.start, kernel);
            }
            self.stage = match Connection::open(&self.plan, self.id, kernel, settings) {
                Some(connection) => Stage::Connected(Box::new(connection)),
                None => {
                    self.report.broken = true;
                    Stage::Ended
                }
            };
        }
        if let Stage::Connected(connection) = &mut self.stage {
            let next_at = connection.turn(&self.plan, &mut self.report, kernel);
            match next_at {
                Some(at) => self.wake(at, kernel),
                None => self.stage = Stage::Ended,
            }
        }
        self.report.ended = matches!(self.stage, Stage::Ended);
    }

    /// Applies an order, unless the client has ended.
    pub(super) fn apply(&mut self, order: Order, kernel: &Kernel) {
        if self.report.ended {
            return;
        }
        let plan = Rc::make_mut(&mut self.plan);
        match order {
            Order::Request(more) => plan.requests += more,
            Order::Raw(bytes) => {
                if let Stage::Connected(connection) = &mut self.stage {
                    connection.send_raw(&bytes);
                }
            }
            Order::Heal => {
                plan.reading = Reading::Eager;
                plan.writing = Writing::Whole;
                let shakes_hands = plan.opening == Opening::Handshake;
                if !shakes_hands {
                    plan.ending = Ending::Fin;
                } else if plan.ending != Ending::Fin {
                    plan.ending = Ending::Close;
                }
            }
            Order::End(ending) => {
                plan.ending = ending;
                plan.lifetime_max = kernel.now.since(self.start);
            }
        }
    }

    fn wake(&mut self, at: Instant, kernel: &mut Kernel) {
        if at < self.wake_at {
            self.wake_at = at;
            kernel.event_queue.push(at, Event::Client(self.id));
        }
    }
}
