//! Answers to operations: OK or ERROR, in the order of a connection's operations.
//!
//! An operation that other shards have to know of is answered when all of them do: when every batch
//! of its epoch has come back (see `mesh`). SUBSCRIBE's answer also waits until everything that
//! those shards had said before they knew of it has been delivered here: after the OK no
//! publication is missing, and if an earlier one was delivered, so were those that follow it. A
//! PUBLISH that goes through its topic's home waits for the home's confirmation. Answers that have
//! to wait are in one queue, in the order of their epochs; if a connection has an answer in the
//! queue, its later ones wait too.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::mesh::confirmation::{Answer, Pending, Until};
use crate::broker::peers::connection::Connection;
use crate::broker::publish::fanout_queue::Fanning;
use crate::wire::Notice;

impl Broker {
    /// Answers an operation as soon as no earlier answer is waiting and, with `everywhere`, every
    /// shard has handled everything that this one has said.
    pub(in crate::broker) fn answer(&mut self, key: Key, answer: Answer, everywhere: bool) {
        let until = everywhere.then(|| self.until_done());
        self.answer_at(key, answer, until);
    }

    /// The same for SUBSCRIBE, which also waits until everything that others had said before they
    /// knew of it has been delivered here.
    pub(in crate::broker) fn answer_subscribe(&mut self, key: Key, answer: Answer) {
        let until = Until {
            heard: true,
            ..self.until_done()
        };
        self.answer_at(key, answer, Some(until));
    }

    /// The condition that every shard has handled everything this one has said so far.
    pub(in crate::broker) fn until_done(&self) -> Until {
        Until {
            mark: self.mesh.mark(),
            heard: false,
            ticket: None,
        }
    }

    fn is_past(&self, until: &Until) -> bool {
        let done = match until.heard {
            true => self.mesh.is_heard(until.mark),
            false => self.mesh.is_done(until.mark),
        };
        done && until.ticket.is_none_or(|ticket| self.mesh.is_homed(ticket))
    }

    /// Answers an operation once `until` is fulfilled and no earlier answer is waiting.
    pub(in crate::broker) fn answer_at(&mut self, key: Key, answer: Answer, until: Option<Until>) {
        let answer = match self.connections.get(key).map(|one| one.member.fanning) {
            Some(Fanning::Open | Fanning::Waits) => self.answer_behind(key, answer, until),
            Some(Fanning::No) | None => Some(answer),
        };
        if let Some(answer) = answer {
            self.answer_in_turn(key, answer, until);
        }
    }

    /// Answers an operation once no publication to many precedes it.
    pub(in crate::broker) fn answer_in_turn(
        &mut self,
        key: Key,
        answer: Answer,
        until: Option<Until>,
    ) {
        let is_past = until.is_none_or(|until| self.is_past(&until));
        let until = until.unwrap_or_else(|| self.until_done());
        if let Some(refusal) = &answer.refusal {
            self.resources.note_refusal(refusal.code.to_wire());
        }
        let Some(Connection { member, .. }) = self.connections.get_mut(key) else {
            return;
        };
        if answer.publish && answer.refusal.is_some() && answer.id != 0 {
            member.refuse_publish(answer.id, &mut self.resources);
        }
        let waits = member.answers_open > 0 || !is_past;
        if !waits {
            return self.give_answer(key, answer);
        }
        member.answers_open += 1;
        self.confirmations.queue.push_back(Pending {
            until,
            connection: key,
            answer,
        });
    }

    /// Gives the answers whose conditions are fulfilled.
    pub(in crate::broker) fn take_confirmed(&mut self) {
        while let Some(pending) = self.confirmations.queue.front() {
            if !self.is_past(&pending.until) {
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
            waiting.member.answers_open -= 1;
            if waiting.heed_answers() {
                self.lists.make_ready(connection);
            }
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
            && let Some(durable) = connection.member.durable_mut()
        {
            durable.receipts.confirm(answer.id);
        }
        if connection.transport.has_left {
            return;
        }
        let transport = &mut connection.transport;
        let (session, mut out) = transport.session_and_out(&mut self.resources.pool);
        let id = answer.id;
        let notice = match &answer.refusal {
            None => Notice::Done { id },
            Some(refusal) => Notice::Refused { id, refusal },
        };
        if let Some(reason) = session.notify(notice, self.resources.now, &mut out) {
            transport.end(reason, &mut self.resources);
            self.touch(key);
        }
    }
}
