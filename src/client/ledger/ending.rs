//! What of a connection's state ends with it, and what the next one takes up.

use super::{Ledger, Stage};
use crate::client::error::Error;
use crate::client::incoming::Incoming;
use crate::client::registry::Change;
use std::io;

impl Ledger {
    /// The connection has ended, and another will follow. Fails the calls that wait for an answer;
    /// PUBLISHes stay in flight only if a session repeats them.
    pub(in crate::client) fn disconnect(&mut self) {
        let broken = || Error::Io {
            what: "the connection broke before the answer came",
            source: io::ErrorKind::ConnectionReset.into(),
        };
        if self.wants_session {
            let begun = self.asked.values().filter_map(|asked| match &asked.change {
                Change::Interest(interest) => Some((asked.kind, interest.clone())),
                Change::None | Change::Will(_) => None,
            });
            self.doubtful.extend(begun);
        }
        let asked = self.asked.drain().filter(|(_, asked)| asked.is_awaited);
        let ids = asked
            .map(|(id, _)| id)
            .chain(self.pings.drain(..).map(|(id, _)| id));
        self.answers.extend(ids.map(|id| (id, Err(broken()))));
        self.serves_asked = 0;
        self.withdrawals.disconnect();
        self.budget.renew();
        self.restoring.clear();
        self.unrestored.clear();
        self.unrepeated = None;
        self.has_brought = false;
        self.login = None;
        self.session_refusal = None;
        self.stage = Stage::Greeting;
        if !self.wants_session {
            let (awaited, others) = self.flight.abandon();
            let awaited = awaited.into_iter().map(|(id, error)| (id, Err(error)));
            self.answers.extend(awaited);
            if let Some(error) = others {
                self.complain(error);
            }
        }
    }

    /// Nothing of the previous connection continues in this one.
    pub(in crate::client) fn renew(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.withdrawals.clear();
        self.doubtful.clear();
        self.responses.clear();
        self.declined.clear();
        self.inbox.renew(self.wants_session);
        self.tell_reconnected(false);
    }

    pub(super) fn tell_reconnected(&mut self, resumed: bool) {
        if self.has_stood {
            self.lapse_count += u64::from(!resumed);
            self.inbox.push_event(Incoming::Reconnected { resumed });
        }
    }

    /// What it holds, counted.
    #[cfg(feature = "sim")]
    pub(in crate::client) fn held(&self) -> crate::client::network::Held {
        let (entries, mailboxes) = self.inbox.counts();
        crate::client::network::Held {
            inbox_bytes: self.inbox.bytes(),
            entries,
            mailboxes,
            asked: self.asked.len(),
            pings: self.pings.len(),
            flight: self.flight.len(),
            registered: self.registry.operations().count(),
            withdrawals: self.withdrawals.count(),
            doubtful: self.doubtful.len(),
            declined: self.declined.len(),
            responses: self.responses.len(),
            restoring: self.restoring.len() + self.unrestored.len(),
            ..Default::default()
        }
    }
}
