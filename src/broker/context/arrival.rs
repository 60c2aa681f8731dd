//! Traces new connections: `accept` until they are established and, as its child, `authenticate`
//! from AUTH to its answer. Only sampled connections are recorded here, and only until then.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::broker::context::trace::{About, Arrival, Tracer};
use crate::metrics::span::{Fault, SpanName};
use crate::proto::message::MessageType;

/// New connections traced at a time; further ones are not traced.
const ARRIVALS_MAX: usize = 4096;

impl Tracer {
    pub(crate) fn accept(&mut self, key: Key, turn: Instant) {
        if self.arrivals.len() >= ARRIVALS_MAX || !self.draw() {
            return;
        }
        let accept = self.begin_trace(SpanName::Accept, turn);
        let arrival = Arrival {
            context: accept.context,
            accept: Some(accept),
            authenticate: None,
            asks: self.asks,
        };
        self.arrivals.insert(key, arrival);
    }

    pub(in crate::broker) fn established(&mut self, key: Key, turn: Instant) {
        let Some(arrival) = self.arrivals.get_mut(&key) else {
            return;
        };
        let (accept, asks) = (arrival.accept.take(), arrival.asks);
        if !asks {
            self.arrivals.remove(&key);
        }
        if let Some(open) = accept {
            self.end(open, of(key, None, None), turn);
        }
    }

    pub(in crate::broker) fn begin_authenticate(&mut self, key: Key, turn: Instant) {
        let known = self.arrivals.get(&key).map(|arrival| arrival.context);
        let open = match known {
            Some(context) => self.begin(SpanName::Authenticate, &context, turn),
            None if self.arrivals.len() < ARRIVALS_MAX && self.draw() => {
                self.begin_trace(SpanName::Authenticate, turn)
            }
            None => return,
        };
        let arrival = self.arrivals.entry(key).or_insert(Arrival {
            context: open.context,
            accept: None,
            authenticate: None,
            asks: true,
        });
        arrival.authenticate = Some(open);
    }

    /// AUTH has been answered, or a certificate has made AUTH unnecessary.
    pub(in crate::broker) fn end_authenticate(
        &mut self,
        key: Key,
        fault: Option<Fault>,
        turn: Instant,
    ) {
        let Some(arrival) = self.arrivals.get_mut(&key) else {
            return;
        };
        arrival.asks = false;
        let open = arrival.authenticate.take();
        if arrival.accept.is_none() {
            self.arrivals.remove(&key);
        }
        if let Some(open) = open {
            self.end(open, of(key, Some(MessageType::Auth), fault), turn);
        }
    }

    /// The connection has left this slot.
    pub(in crate::broker) fn gone(&mut self, key: Key, reason: Option<Reason>, turn: Instant) {
        let Some(arrival) = self.arrivals.remove(&key) else {
            return;
        };
        let fault = reason.map(Fault::Ended);
        if let Some(open) = arrival.authenticate {
            self.end(open, of(key, Some(MessageType::Auth), fault), turn);
        }
        if let Some(open) = arrival.accept {
            self.end(open, of(key, None, fault), turn);
        }
    }
}

fn of(key: Key, kind: Option<MessageType>, fault: Option<Fault>) -> About<'static> {
    About {
        connection: Some(key),
        kind,
        fault,
        ..About::default()
    }
}
