//! What connections have sent: handled as far as a turn's share allows, and the rest kept.
//!
//! While a connection's bytes are handled its reassembly is taken out of it: the message in
//! hand borrows from there, or from the receive buffer, never from the connection.

use crate::base::id::Key;
use crate::base::limits::CHUNK_BYTES;
use crate::base::reason::Reason;
use crate::broker::Broker;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::{Stage, Transport};
use crate::broker::publish::fanout_queue::Fanning;
use crate::metrics::counter::Counter;
use crate::proto::envelope::Envelope;
use crate::proto::error::Code;
use crate::proto::reassembly::Reassembly;
use crate::wire::{Operation, Received, Session, Step};

impl Broker {
    /// Takes what a client has sent, decrypted: handles it now, or keeps it while earlier
    /// bytes wait.
    #[inline]
    pub(crate) fn take_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.transport.stage != Stage::Running {
            return;
        }
        if connection.is_paused() {
            connection.transport.keep(bytes, &mut self.resources);
        } else {
            self.hear(key, bytes);
        }
    }

    /// Of a message, or of the record it is in, a part has come (`partial`), and the rest is not
    /// known to be on its way.
    pub(crate) fn note_undelivered(&mut self, key: Key, partial: bool) {
        if let Some(Connection { transport, .. }) = self.connections.get_mut(key)
            && (partial || transport.input.is_empty())
        {
            let now = self.resources.now;
            transport.session.note_undelivered(partial, now);
        }
    }

    /// Has a connection wait until there is memory for the rest of what it is sending, if there
    /// is none now.
    pub(crate) fn wait_if_exhausted(&mut self, key: Key) {
        if self.resources.pool.is_exhausted()
            && let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.member.blocked, true)
        {
            self.lists.block(key);
            self.holders.blocks = true;
        }
    }

    /// The peer has shut its sending side down: what it asked is still answered.
    pub(crate) fn take_end(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.transport.peer_ended = true;
            connection.finish_if_done(&mut self.resources);
        }
    }

    /// Ends a connection for a reason of the peer's making, and tells it.
    pub(crate) fn refuse_connection(&mut self, key: Key, code: Code, text: &'static str) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.transport.refuse(code, text, &mut self.resources);
        }
    }

    pub(crate) fn end_connection(&mut self, key: Key, reason: Reason) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.transport.end(reason, &mut self.resources);
        }
    }

    /// Handles bytes, unless too many others were heard in this turn already: then they wait
    /// for the next.
    #[inline]
    fn hear(&mut self, key: Key, bytes: &[u8]) {
        match self.resources.work.is_closed() {
            false => self.run(key, bytes),
            true => self.hear_later(key, bytes),
        }
    }

    #[cold]
    fn hear_later(&mut self, key: Key, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.member.ready = true;
            self.lists.make_ready(key);
            connection.transport.keep(bytes, &mut self.resources);
        }
    }

    /// Those that the last turn had no time for are heard first in this one.
    pub(crate) fn resume_unheard(&mut self) {
        let unheard = self.lists.take_unheard();
        self.resume_some(unheard);
    }

    /// The connections that had input left: as many as wait now, and as there is time for;
    /// who is still not done waits for the next turn.
    pub(crate) fn resume_ready(&mut self) {
        let unheard = self.resume_some(self.lists.count_ready());
        self.lists.note_unheard(unheard);
    }

    /// The next of them. How many there was no time for.
    fn resume_some(&mut self, count: usize) -> usize {
        for resumed in 0..count {
            if self.resources.work.is_closed() {
                return count - resumed;
            }
            let Some(key) = self.lists.next_ready() else {
                break;
            };
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.member.ready = false;
            if connection.transport.stage == Stage::Running && !connection.is_paused() {
                self.run(key, &[]);
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.finish_if_done(&mut self.resources);
                }
            }
            self.touch(key);
        }
        0
    }

    /// Handles what is kept of a connection and then `bytes`, as far as the turn's share
    /// and the outbox allow; keeps the rest.
    fn run(&mut self, key: Key, mut bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut input = std::mem::take(&mut connection.transport.input);
        let mut handled = 0;
        let spent = self.resources.work.spent();
        let limited = !self.resources.limits.rates.is_none();
        let mut sampled = self.resources.begin_message();
        while let Some(connection) = self.connections.get_mut(key) {
            let view = input.view(bytes);
            if connection.member.fanning == Fanning::Open
                && !connection
                    .transport
                    .session
                    .live_topic(view)
                    .is_some_and(|topic| {
                        let epoch = self.router.epoch();
                        self.fanouts.joins(self.id, epoch, topic)
                    })
            {
                connection.member.fanning = Fanning::Waits;
                break;
            }
            match connection.transport.handle(view, &mut self.resources) {
                Step::Taken { used, ref event } => {
                    let session = &connection.transport.session;
                    if let Some(kind) = session.kind(event, view) {
                        self.resources.counters.add_received(kind);
                    }
                    let message = session.received(&view[..used]);
                    let operation = Session::operation(event, view);
                    let parsed = sampled
                        .take()
                        .and_then(|began| self.resources.parsed(began));
                    let over =
                        limited && connection.is_over_rate(&operation, used, &self.resources);
                    let traced = self.begin_receive(&operation);
                    let ended = match over {
                        true => self.refuse_over_rate(key, &operation),
                        false => self.take_operation(key, &operation, message),
                    };
                    self.end_receive(traced, key, &operation, used);
                    if let Some(parsed) = parsed {
                        self.resources.routed(parsed);
                    }
                    input.consume(used, &mut bytes);
                    handled += 1;
                    let Some(connection) = self.connections.get_mut(key) else {
                        break;
                    };
                    if let Some(reason) = ended {
                        connection.transport.end(reason, &mut self.resources);
                    }
                    if connection.transport.stage != Stage::Running
                        || connection.must_pause(
                            handled,
                            handled as usize + self.resources.work.spent_since(spent),
                            self.mesh.is_pressed(),
                            &self.resources,
                        )
                    {
                        break;
                    }
                }
                Step::Incomplete { need } => {
                    if need > CHUNK_BYTES && self.resources.pool.is_exhausted() {
                        // Until there is memory for the rest of it.
                        connection.member.blocked = true;
                        self.holders.blocks = true;
                        break;
                    }
                    Transport::lend_input(&mut input, bytes, &mut self.resources);
                    if !input.fill(need, &mut bytes) {
                        break;
                    }
                }
            }
        }
        self.stop_running(key, input, bytes, handled);
    }

    /// Does what a connection asks for by this message. The reason, when that ends it.
    #[inline]
    fn take_operation(
        &mut self,
        key: Key,
        operation: &Operation<'_>,
        message: Received<'_>,
    ) -> Option<Reason> {
        match operation {
            Operation::Request(request) if self.services.has(request.name) => {
                self.call_service(key, request);
                None
            }
            operation => {
                let ended = self.dispatch(key, operation, message);
                self.charge_mesh();
                ended
            }
        }
    }

    #[inline]
    fn call_service(&mut self, key: Key, request: &Envelope<'_>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.transport.bearer().may_request(request.name) {
            let resources = &mut self.resources;
            let tracer = resources.tracer.as_ref();
            match tracer.and_then(|tracer| tracer.received()) {
                None => self.services.call(request, connection, resources),
                Some(context) => {
                    self.services
                        .call_traced(request, &context, connection, resources);
                }
            }
        } else {
            self.forbid_request(key, request);
        }
    }

    /// Puts the reassembly back, with what is left of the bytes.
    #[inline]
    fn stop_running(&mut self, key: Key, input: Reassembly, bytes: &[u8], handled: u32) {
        self.resources
            .counters
            .add(Counter::MessagesReceived, u64::from(handled));
        self.resources.work.spend(handled as usize);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.transport.input = input;
        if connection.transport.stage == Stage::Running {
            connection.transport.keep(bytes, &mut self.resources);
        } else {
            connection.transport.drop_input(&mut self.resources);
        }
        if connection.member.counted {
            // Answers given in place are put to the others unasked.
            connection.check_answers(&mut self.resources);
        }
        connection.transport.account_input(&mut self.resources);
        connection.note_established(&mut self.resources);
        if connection.member.ready {
            self.lists.make_ready(key);
        }
        if connection.member.blocked {
            self.lists.block(key);
        }
    }
}
