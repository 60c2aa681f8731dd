//! Input of connections: handled as far as the turn's share allows; the rest is kept.
//!
//! While a connection's bytes are being handled, its reassembly buffer is moved out of it: the
//! current message borrows from that buffer or from the receive buffer, never from the connection.

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
use crate::wire::{Operation, Received, Step};

impl Broker {
    /// Takes decrypted bytes from a client: handles them now, or keeps them if earlier bytes are
    /// still waiting.
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

    /// Part of a message, or of the TLS record that contains it, has arrived (`partial`), and the
    /// rest may not be on its way yet.
    pub(crate) fn note_undelivered(&mut self, key: Key, partial: bool) {
        if let Some(Connection { transport, .. }) = self.connections.get_mut(key)
            && (partial || transport.input.is_empty())
        {
            let now = self.resources.now;
            transport.session.note_undelivered(partial, now);
        }
    }

    /// If memory is exhausted, blocks a connection until there is memory for the rest of what it is
    /// sending.
    pub(crate) fn wait_if_exhausted(&mut self, key: Key) {
        if self.resources.pool.is_exhausted()
            && let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.member.blocked, true)
        {
            self.lists.block(key);
            self.holders.blocks = true;
        }
    }

    /// The peer has shut down its sending side; its open requests are still answered.
    pub(crate) fn take_end(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.transport.peer_ended = true;
            connection.finish_if_done(&mut self.resources);
        }
    }

    /// Ends a connection because of something the peer did, and tells the peer why.
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

    /// Handles bytes, unless this turn's input share is already used up by other connections: then
    /// they wait for the next turn.
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

    /// First handles the connections that the previous turn had no time for.
    pub(crate) fn resume_unheard(&mut self) {
        let unheard = self.lists.ready.take_unheard();
        self.resume_some(unheard);
    }

    /// Handles connections with input left: those waiting now, as far as time allows. One that is
    /// not finished waits for the next turn.
    pub(crate) fn resume_ready(&mut self) {
        let unheard = self.resume_some(self.lists.ready.len());
        self.lists.ready.note_unheard(unheard);
    }

    /// Handles the next `count` of them. Returns how many there was no time for.
    fn resume_some(&mut self, count: usize) -> usize {
        for resumed in 0..count {
            if self.resources.work.is_closed() {
                return count - resumed;
            }
            let Some(key) = self.lists.ready.next() else {
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

    /// Handles a connection's kept input and then `bytes`, as far as the turn's share and the
    /// outbox allow; keeps the rest.
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
            if connection.member.fanning == Fanning::Open {
                let topic = connection.transport.session.live_topic(view);
                let epoch = self.router.epoch();
                if !topic.is_some_and(|topic| self.fanouts.joins(self.id, epoch, topic)) {
                    connection.member.fanning = Fanning::Waits;
                    break;
                }
            }
            match connection.transport.handle(view, &mut self.resources) {
                Step::Taken { used, ref event } => {
                    let session = &connection.transport.session;
                    if let Some(kind) = session.kind(event, view) {
                        self.resources.counters.add_received(kind);
                    }
                    let message = session.received(&view[..used]);
                    let operation = session.operation(event, view);
                    let parsed = sampled
                        .take()
                        .and_then(|began| self.resources.parsed(began));
                    let is_over =
                        limited && connection.is_over_rate(&operation, used, &self.resources);
                    let ended = self.take_operation(key, &operation, message, is_over);
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
                    let units = handled as usize + self.resources.work.spent_since(spent);
                    let stops = self.mesh.stops(units);
                    if connection.transport.stage != Stage::Running
                        || connection.must_pause(handled, units, stops, &self.resources)
                    {
                        break;
                    }
                }
                Step::Incomplete { need } => {
                    if need > CHUNK_BYTES && self.resources.pool.is_exhausted() {
                        // Wait until there is memory for the rest of the message.
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

    /// Carries out an operation that arrived as `message`, unless it exceeds the rate. Returns the
    /// reason if that ends the connection.
    #[inline]
    fn take_operation(
        &mut self,
        key: Key,
        operation: &Operation<'_>,
        message: Received<'_>,
        is_over_rate: bool,
    ) -> Option<Reason> {
        let traced = self.begin_receive(operation);
        let mut ended = None;
        if is_over_rate {
            self.refuse_over_rate(key, operation);
        } else if let Operation::Request(request) = *operation
            && self.services.has(request.name)
        {
            self.call_service(key, request);
        } else {
            ended = self.dispatch(key, operation, message);
            self.charge_mesh();
        }
        self.end_receive(traced, key, operation, message.len());
        ended
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

    /// Puts the reassembly buffer back, and keeps the unhandled bytes.
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
            // Services that answer in place append to the outbox without checking its bound.
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
