//! Simulated clients that take part in routing: they publish, subscribe, form groups, serve
//! and ask, keep sessions, break off and come back. They follow a [`Traffic`] plan and keep
//! a [`Record`].
//!
//! | file | idea |
//! |---|---|
//! | `plan` | what it will do |
//! | `record` | what it did and met with |
//! | `mind` | what it knows beyond a connection: sessions, what is unanswered |
//! | `talk` | one connection: bytes, and its end |
//! | `voice` | what it says there: its end of the protocol |
//! | `speak`, `hear` | messages out, messages in |
//! | `cargo` | what messages carry, so that each tells whose it is |
//!
//! What one client can know is checked where it is heard (the first breach is
//! [`Record::wrong`]); what only all records together show, a harness judges.

mod cargo;
mod hear;
mod mind;
mod plan;
mod record;
mod speak;
mod talk;
mod voice;

pub use cargo::Label;
pub use plan::{Act, Answering, Filter, Keeping, Publish, Request, Traffic};
pub use record::{
    Answer, Asked, Connection, Delivered, Grant, Membership, Published, Record, Served, Standing,
    Will,
};

use super::{ClientId, Ending, Reading, Writing};
use crate::base::clock::Instant;
use crate::proto::session::Settings;
use crate::ring::sim::agenda::Event;
use crate::ring::sim::kernel::Kernel;
use mind::Mind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use talk::Talk;

/// What a harness may tell such a client while it lives.
#[derive(Clone, Debug)]
pub enum Command {
    /// Do this as well, behind what is still to be done.
    Act(Vec<Act>),
    /// Read, write and acknowledge as fast as can be, break off no more, forget all pauses.
    Heal,
    /// Break the connection this way now; or, with `Ending::Close`, end.
    End(Ending),
    /// Read this way from now on.
    Read(Reading),
    /// Never come back, or come back within this.
    Reconnect(Option<Duration>),
}

enum Stage {
    /// Connects at this time.
    Away(Instant),
    Talking(Box<Talk>),
    Over,
}

pub(in crate::ring::sim) struct Party {
    mind: Mind,
    stage: Stage,
    start: Instant,
    /// Which of the plan's cuts comes next.
    cuts_made: usize,
    /// When its earliest timer fires.
    wake_at: Instant,
}

impl Party {
    pub(in crate::ring::sim) fn new(id: ClientId, plan: Rc<Traffic>, start: Instant) -> Party {
        Party {
            mind: Mind::new(id, plan),
            stage: Stage::Away(start),
            start,
            cuts_made: 0,
            wake_at: Instant::NEVER,
        }
    }

    pub(in crate::ring::sim) fn record(&self) -> &Record {
        &self.mind.record
    }

    pub(in crate::ring::sim) fn plan(&self) -> &Traffic {
        &self.mind.plan
    }

    /// Whether all it shall do is done and answered.
    pub(in crate::ring::sim) fn is_idle(&self) -> bool {
        match self.stage {
            Stage::Over => true,
            Stage::Away(_) => false,
            Stage::Talking(_) => {
                let member = self.mind.standing == mind::Standing::Member;
                member && self.mind.acts.is_empty() && self.mind.is_settled()
            }
        }
    }

    /// Looks around and does what is to be done.
    pub(in crate::ring::sim) fn poke(&mut self, kernel: &mut Kernel, settings: &Arc<Settings>) {
        if self.wake_at <= kernel.now {
            self.wake_at = Instant::NEVER;
        }
        if let Stage::Away(until) = self.stage {
            if kernel.now < until {
                return self.wake(until, kernel);
            }
            self.skip_cuts(kernel.now);
            self.stage = match Talk::open(&mut self.mind, kernel, settings) {
                Some(talk) => Stage::Talking(Box::new(talk)),
                None => Stage::Over,
            };
        }
        self.make_cut(kernel.now);
        if let Stage::Talking(talk) = &mut self.stage {
            match talk.turn(&mut self.mind, kernel) {
                Some(at) => {
                    let at = at.min(self.next_cut());
                    self.wake(at, kernel);
                }
                None => self.end(kernel),
            }
        }
        self.mind.record.over = matches!(self.stage, Stage::Over);
    }

    /// The connection is over.
    fn end(&mut self, kernel: &mut Kernel) {
        self.stage = Stage::Over;
        if self.mind.take_end(kernel.now) {
            let within = self.mind.plan.reconnect.unwrap_or_default();
            let at = kernel.now + kernel.delay(within);
            self.stage = Stage::Away(at);
            self.wake(at, kernel);
        }
    }

    // ---- cuts ----

    fn next_cut(&self) -> Instant {
        let next = self.mind.plan.cuts.get(self.cuts_made);
        next.map_or(Instant::NEVER, |(after, _)| self.start + *after)
    }

    fn make_cut(&mut self, now: Instant) {
        if self.next_cut() <= now {
            if self.mind.ending.is_none() {
                self.mind.ending = self.mind.plan.cuts.get(self.cuts_made).map(|cut| cut.1);
            }
            self.skip_cuts(now);
        }
    }

    fn skip_cuts(&mut self, now: Instant) {
        while self.next_cut() <= now {
            self.cuts_made += 1;
        }
    }

    /// Takes a command, unless it is over.
    pub(in crate::ring::sim) fn obey(&mut self, command: Command, kernel: &Kernel) {
        if self.mind.record.over {
            return;
        }
        let plan = Rc::make_mut(&mut self.mind.plan);
        match command {
            Command::Act(acts) => self.mind.acts.extend(acts),
            Command::Heal => {
                plan.reading = Reading::Eager;
                plan.writing = Writing::Whole;
                plan.cuts.clear();
                plan.think = Duration::ZERO;
                if let Some(keeping) = plan.session.as_mut().filter(|one| one.ack_every > 0) {
                    keeping.ack_every = 1;
                    self.mind.acts.push_back(Act::AckAll);
                }
                self.mind.acts.retain(|act| !matches!(act, Act::Read(_)));
                self.mind.act_at = Instant::ZERO;
            }
            Command::End(ending) => match self.stage {
                // It comes back to end in order, or not at all.
                Stage::Away(at) if ending == Ending::Close => {
                    self.mind.ending = Some(ending);
                    self.stage = Stage::Away(at.min(kernel.now));
                    if plan.session.is_none() {
                        self.stage = Stage::Over;
                    }
                }
                Stage::Away(_) => {}
                _ => self.mind.ending = Some(ending),
            },
            Command::Read(reading) => plan.reading = reading,
            Command::Reconnect(within) => plan.reconnect = within,
        }
        self.mind.record.over = matches!(self.stage, Stage::Over);
    }

    fn wake(&mut self, at: Instant, kernel: &mut Kernel) {
        if at < self.wake_at {
            self.wake_at = at;
            kernel.agenda.enter(at, Event::Client(self.mind.id));
        }
    }
}
