//! How much one connection may send: messages and bytes a second, by token buckets.
//!
//! A message beyond the rate is refused with RATE_LIMITED, and then the connection is not read from
//! for a while: a peer that continues at its pace is told four times a second, which is not yet
//! enough errors to end it. Heartbeats, AUTH and acknowledgements do not count.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::context::resource::{Rates, Resources};
use crate::broker::mesh::confirmation::Answer;
use crate::broker::peers::connection::Connection;
use crate::metrics::counter::Counter;
use crate::proto::error::{Code, Refusal};
use crate::proto::outcome::Failure;
use crate::wire::Operation;
use std::time::Duration;

/// The shortest and the longest pause in reading from a connection that exceeded its rate.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

const TEXT: &str = "rate limit of this connection exceeded; wait a little";

impl Broker {
    /// Refuses a message beyond the rate. Never ends the connection.
    #[cold]
    pub(in crate::broker) fn refuse_over_rate(&mut self, key: Key, operation: &Operation<'_>) {
        self.resources.counters.add(Counter::RateLimited, 1);
        self.touch(key);
        match *operation {
            Operation::Request(envelope) => {
                self.resources.counters.add(Counter::Requests, 1);
                if let Some(connection) = self.connections.get_mut(key) {
                    let failure = Failure::of(Code::RateLimited, TEXT);
                    connection.respond_failed(envelope.id, &failure, &mut self.resources);
                    self.resources.note_refusal(failure.code);
                }
            }
            // No one waits for an answer to a RESPONSE; its requester is told at its deadline.
            Operation::Respond(_) => {}
            Operation::Publish(envelope) => {
                let refusal = Refusal::new(Code::RateLimited, TEXT);
                self.answer(key, Answer::unpublished(envelope.id, refusal), false);
            }
            Operation::Change(_, envelope) => {
                let refusal = Refusal::new(Code::RateLimited, TEXT);
                self.answer(key, Answer::refused(envelope.id, refusal), false);
            }
            Operation::Authenticate { .. }
            | Operation::Acknowledge { .. }
            | Operation::Resume { .. }
            | Operation::Leave
            | Operation::Ended { .. }
            | Operation::Unexpected
            | Operation::None => debug_assert!(false, "{operation:?} is not limited"),
        }
    }
}

impl Connection {
    /// Counts a message of `len` bytes. True: it exceeds the rate, and so will the next for a
    /// while.
    pub(in crate::broker) fn is_over_rate(
        &mut self,
        operation: &Operation<'_>,
        len: usize,
        resources: &Resources,
    ) -> bool {
        if operation.message().is_none() {
            return false;
        }
        let Rates { messages, bytes } = resources.limits.rates;
        let now = resources.now;
        let principal = self.transport.principal_mut();
        let Err(again) = principal.spend(messages, bytes, len, now) else {
            return false;
        };
        principal.limited_until = again.clamp(now + PAUSE_MIN, now + PAUSE_MAX);
        self.transport.held = true;
        // The pause may end before anything else this connection waits for.
        self.member.timer = Instant::NEVER;
        true
    }

    /// Ends the pause if it is over. True: the connection continues.
    pub(crate) fn unhold(&mut self, resources: &Resources) -> bool {
        let Some(principal) = &mut self.transport.principal else {
            return false;
        };
        if principal.limited_until == Instant::ZERO || principal.limited_until > resources.now {
            return false;
        }
        principal.limited_until = Instant::ZERO;
        self.transport.held = principal.waits();
        // The time in which it was not read from does not count against it.
        self.transport.session.restart_frame_clock(resources.now);
        !self.transport.held && !std::mem::replace(&mut self.member.ready, true)
    }
}
