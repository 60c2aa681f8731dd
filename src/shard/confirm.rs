//! Answers to operations: OK or ERROR, in the order in which a connection asked.
//!
//! An operation that other shards have to know of is answered when all of them do: when
//! every batch of its epoch has come back (see `mesh`). Answers that cannot be given at
//! once wait in one queue, in the order of their epochs; a connection with one in it has
//! its later ones wait too.

use super::exchange::Exchange;
use super::outbox::Writer;
use crate::base::id::Key;
use crate::proto::error::Refusal;
use crate::proto::message::Message;
use crate::proto::session::Event;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Confirmations {
    queue: VecDeque<Pending>,
}

struct Pending {
    /// The epoch that has to be done.
    mark: u64,
    connection: Key,
    answer: Answer,
}

/// The answer to one operation.
pub(super) struct Answer {
    pub(super) id: u32,
    /// It answers a PUBLISH that was taken or refused now: its id counts for the session.
    pub(super) publish: bool,
    pub(super) refusal: Option<Box<Refusal>>,
}

impl Answer {
    pub(super) fn of(id: u32, done: Result<(), Refusal>) -> Answer {
        match done {
            Ok(()) => Answer::ok(id),
            Err(refusal) => Answer::refused(id, refusal),
        }
    }

    pub(super) fn ok(id: u32) -> Answer {
        Answer {
            id,
            publish: false,
            refusal: None,
        }
    }

    pub(super) fn published(id: u32) -> Answer {
        Answer {
            id,
            publish: true,
            refusal: None,
        }
    }

    /// To a PUBLISH.
    pub(super) fn unpublished(id: u32, refusal: Refusal) -> Answer {
        Answer {
            publish: true,
            ..Answer::refused(id, refusal)
        }
    }

    pub(super) fn refused(id: u32, refusal: Refusal) -> Answer {
        Answer {
            id,
            publish: false,
            refusal: Some(Box::new(refusal)),
        }
    }
}

impl Confirmations {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Exchange {
    /// Answers an operation: now if nothing stands before it, and, with `everywhere`, if
    /// no shard has anything left to do of what this one has said.
    pub(super) fn answer(&mut self, key: Key, answer: Answer, everywhere: bool) {
        let mark = self.mesh.mark();
        if let Some(refusal) = &answer.refusal {
            self.resources.note_refusal(refusal.code.to_wire());
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if answer.publish && answer.refusal.is_some() && answer.id != 0 {
            connection
                .line
                .refuse_publish(answer.id, &mut self.resources);
        }
        let waits = connection.line.answers_open > 0 || (everywhere && !self.mesh.is_done(mark));
        if !waits {
            return self.give_answer(key, answer);
        }
        connection.line.answers_open += 1;
        self.confirmations.queue.push_back(Pending {
            mark,
            connection: key,
            answer,
        });
    }

    /// Gives the answers whose time has come.
    pub(super) fn take_confirmed(&mut self) {
        while let Some(pending) = self.confirmations.queue.front() {
            if !self.mesh.is_done(pending.mark) {
                return;
            }
            let Some(Pending {
                connection, answer, ..
            }) = self.confirmations.queue.pop_front()
            else {
                return;
            };
            let Some(waiting) = self.connections.get_mut(connection) else {
                continue;
            };
            waiting.line.answers_open -= 1;
            self.give_answer(connection, answer);
            if let Some(waiting) = self.connections.get_mut(connection) {
                waiting.finish_if_done(&mut self.resources);
            }
            self.touch(connection);
        }
    }

    fn give_answer(&mut self, key: Key, answer: Answer) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if answer.publish
            && answer.refusal.is_none()
            && let Some(durable) = connection.line.durable_mut()
        {
            durable.receipts.confirm(answer.id);
        }
        let line = &mut connection.line;
        if line.away {
            return;
        }
        let mut out = Writer {
            outbox: &mut line.outbox,
            pool: &mut self.resources.pool,
        };
        match answer.refusal {
            None => line.session.send(&Message::Ok { id: answer.id }, &mut out),
            Some(refusal) => {
                let now = self.resources.now;
                let event =
                    line.session
                        .error(refusal.code, answer.id, &refusal.text, now, &mut out);
                if let Event::Ended(reason) = event {
                    connection.end(reason, &mut self.resources);
                    self.touch(key);
                }
            }
        }
    }
}
