//! TLS on a shard's input path: detected by the first byte, opened as bytes arrive, handshakes
//! queued.
//!
//! ```text
//!   first byte 0x16 ─► TLS          handshake: waits in a queue ──a few a turn──► established
//!              0x4D ─► plain, or RST TLS_REQUIRED
//! ```
//!
//! The first flight is the expensive one (a signature). When more arrive than can be served, those
//! that have received it finish first, and those that have waited too long do not get it any more.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::CHUNK_BYTES;
use crate::base::reason::Reason;
use crate::broker::Broker;
use crate::broker::context::scheduler::{
    HANDSHAKE_LOOK_UNITS, HANDSHAKE_UNITS, Lane, RECORD_UNITS, SEALED_BYTES_PER_UNIT, UNITS_BEYOND,
};
use crate::broker::peers::transport::{Stage, Transport};
use crate::metrics::counter::Counter;
use crate::proto::error::Code;
use crate::shard::stream::{Stream, Streams};
use crate::shard::tls::{FIRST_BYTE, Opened, Tls};
use crate::wire::Protocol;

impl Streams {
    /// Takes bytes from a connection that speaks TLS, or of which that is not known yet.
    #[inline(never)]
    pub(in crate::shard) fn take_encrypted(&mut self, key: Key, bytes: &[u8], broker: &mut Broker) {
        match broker.connections.get(key) {
            Some(connection) if connection.transport.stage != Stage::Running => {}
            Some(_) if self.of(key.slot).undecided => self.decide(key, bytes, broker),
            _ => self.take_records(key, bytes, broker),
        }
    }

    /// Detects by the first byte whether a connection speaks TLS.
    #[cold]
    fn decide(&mut self, key: Key, bytes: &[u8], broker: &mut Broker) {
        let Some(settings) = &self.tls else { return };
        let (is_required, asks_certificate) = (settings.is_required, settings.asks_certificate);
        let config = settings.config.load_full();
        let stream = self.of_mut(key.slot);
        stream.undecided = false;
        match bytes.first() {
            Some(&FIRST_BYTE) => {}
            // No plaintext passes, whatever protocol it is of.
            Some(&byte) if is_required => {
                let (code, text) = match Protocol::of(byte) {
                    Some(Protocol::Mcp) => (Code::TlsRequired, "this server speaks TLS only"),
                    None => (
                        Code::Malformed,
                        "a connection must start with a TLS handshake",
                    ),
                };
                return broker.refuse_connection(key, code, text);
            }
            _ => return broker.take_bytes(key, bytes),
        }
        match Tls::accept(config, asks_certificate) {
            Ok(tls) => stream.tls = Some(Box::new(tls)),
            Err(error) => return fail(key, &error.to_string(), broker),
        }
        self.take_records(key, bytes, broker);
    }

    /// Takes records. Handshake records wait for their turn.
    fn take_records(&mut self, key: Key, bytes: &[u8], broker: &mut Broker) {
        let Some(tls) = &mut self.of_mut(key.slot).tls else {
            return;
        };
        if !tls.take(bytes, &mut broker.resources.pool) {
            return fail(key, "handshake too large", broker);
        }
        if tls.waits {
            // Behind those that wait.
        } else if tls.established && broker.resources.work.is_closed() {
            tls.waits = true;
            self.unopened.push(key);
        } else if tls.established {
            self.open(key, broker);
        } else if !std::mem::replace(&mut tls.listed, true) {
            match tls.begun {
                false => self.handshakes.first.push_back(key),
                true => self.handshakes.second.push_back(key),
            }
        }
    }

    /// Advances handshakes: as many expensive steps as the share allows, and a look at some more
    /// that may be incomplete. The rest wait a turn, and nothing else waits for them.
    pub(in crate::shard) fn advance_handshakes(&mut self, broker: &mut Broker) {
        broker.resources.work.begin(Lane::Handshake);
        while !broker.resources.work.is_over()
            && let Some(key) = self.handshakes.next()
        {
            broker.resources.work.spend(HANDSHAKE_LOOK_UNITS);
            let now = broker.resources.now;
            let Some(connection) = broker.connections.get_mut(key) else {
                continue;
            };
            let transport = &mut connection.transport;
            let Some(tls) = &mut self.of_mut(key.slot).tls else {
                continue;
            };
            tls.listed = false;
            if !tls.begun && is_late_to_begin(transport, now) {
                transport.abort(Reason::HandshakeTimeout, &mut broker.resources);
            } else if transport.stage == Stage::Running && self.open(key, broker) {
                let units = HANDSHAKE_UNITS - HANDSHAKE_LOOK_UNITS;
                broker.resources.work.spend(units);
            }
            broker.touch(key);
        }
    }

    /// Opens the records of connections that the previous turn did not get to.
    pub(in crate::shard) fn open_unheard(&mut self, broker: &mut Broker) {
        let unheard = self.unopened.take_unheard();
        self.open_some(unheard, broker);
    }

    /// Opens records that have waited until now, as far as time allows.
    pub(in crate::shard) fn open_waiting(&mut self, broker: &mut Broker) {
        let unheard = self.open_some(self.unopened.len(), broker);
        self.unopened.note_unheard(unheard);
    }

    /// Opens those of the next `count` connections. Returns how many there was no time for.
    fn open_some(&mut self, count: usize, broker: &mut Broker) -> usize {
        for opened in 0..count {
            if broker.resources.work.is_closed() {
                return count - opened;
            }
            let Some(key) = self.unopened.next() else {
                break;
            };
            if !broker.connections.contains(key) {
                continue;
            }
            if let Some(tls) = &mut self.of_mut(key.slot).tls {
                tls.waits = false;
            }
            self.open(key, broker);
            broker.touch(key);
        }
        0
    }

    /// Opens received records, for a share of the turn; the rest waits for the next. True if the
    /// handshake advanced.
    fn open(&mut self, key: Key, broker: &mut Broker) -> bool {
        let stream = self.of_mut(key.slot);
        let advanced = open(stream, key, broker);
        if stream.tls.as_ref().is_some_and(|tls| tls.waits) {
            self.unopened.push(key);
        }
        advanced
    }
}

/// Opens received records and passes the plaintext to the broker, neither of which moves a stream
/// or frees a slot. True if the handshake advanced.
fn open(stream: &mut Stream, key: Key, broker: &mut Broker) -> bool {
    let Some(tls) = &mut stream.tls else {
        return false;
    };
    let waited = tls.outgoing.len();
    let capacity = tls.outgoing.capacity();
    let begun = broker.resources.work.spent();
    let opened = tls.open(|plaintext| {
        let units = RECORD_UNITS + plaintext.len() / SEALED_BYTES_PER_UNIT;
        broker.resources.work.spend(units);
        broker.take_bytes(key, plaintext);
        let work = &broker.resources.work;
        !work.is_over() || (!work.is_closed() && work.spent_since(begun) < UNITS_BEYOND)
    });
    if let Opened::Established(first) = &opened {
        note_established(tls, key, broker);
        // A client with a certificate is authenticated before the data right behind it is handled.
        if let Some(certificate) = &tls.certificate {
            broker.admit_certificate(key, certificate);
        }
        if !first.is_empty() {
            broker.take_bytes(key, first);
        }
    }
    tls.compact(capacity, &mut broker.resources.pool);
    let is_new = matches!(opened, Opened::Established(_) | Opened::Failed(_));
    let advanced = is_new || tls.outgoing.len() > waited;
    tls.begun |= advanced;
    tls.waits = opened == Opened::Some;
    if !tls.waits {
        // An incomplete record counts as an incomplete message.
        broker.note_undelivered(key, !tls.incoming.is_empty());
    }
    match opened {
        Opened::Failed(why) => fail(key, &why, broker),
        Opened::All if tls.incoming.len() > CHUNK_BYTES => broker.wait_if_exhausted(key),
        Opened::Established(_) | Opened::All | Opened::Some => {}
    }
    if tls.peer_ended || (tls.ends && !tls.waits) {
        // Like a FIN: open requests are still answered.
        broker.take_end(key);
    }
    advanced
}

/// Most of the time allowed for a handshake has passed: if it began now, it would be paid for and
/// then time out.
fn is_late_to_begin(transport: &Transport, now: Instant) -> bool {
    let left = transport.session.timeout().since(now);
    now.since(transport.opened) > left * 3
}

fn note_established(tls: &Tls, key: Key, broker: &Broker) {
    broker.resources.counters.add(Counter::TlsEstablished, 1);
    let (version, suite) = tls.terms();
    let principal = tls.certificate.as_ref().map(|one| &*one.principal);
    tracing::debug!(
        shard = broker.id.0,
        connection = %key,
        version,
        suite,
        principal,
        "TLS established"
    );
}

#[cold]
fn fail(key: Key, why: &str, broker: &mut Broker) {
    tracing::debug!(shard = broker.id.0, connection = %key, why, "TLS failed");
    broker.end_connection(key, Reason::TlsFailed);
}
