//! TLS where a shard's bytes pass: told apart by the first byte, opened as they come, and
//! handshakes in turn.
//!
//! ```text
//!   first byte 0x16 ─► TLS          handshake: waits in a queue ──a few a turn──► established
//!              0x4D ─► plain, or RST TLS_REQUIRED
//! ```
//!
//! The first flight is the dear one (a signature). When more come than can be served, those
//! that have got it finish first, and those that have waited too long do not get it any more.

use super::super::broker::Broker;
use super::super::connection::Connection;
use super::super::resource::Resources;
use super::super::scheduler::{HANDSHAKE_LOOK_UNITS, HANDSHAKE_UNITS, Lane};
use super::super::transport::{Stage, Transport};
use super::{FIRST_BYTE, Opened, Tls};
use crate::auth::certificate::Certificate;
use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::limits::CHUNK_BYTES;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::proto::error::Code;

/// The first byte of a control frame (PROTOCOL.md §1).
const MAGIC_BYTE: u8 = 0x4D;

impl Transport {
    /// Most of the time that a handshake may take has gone by: begun now, it would be paid for
    /// and then given up.
    fn is_late_to_begin(&self, now: Instant) -> bool {
        let left = self.session.timeout().since(now);
        now.since(self.opened) > left * 3
    }
}

impl Broker {
    /// Takes bytes of a connection that speaks TLS, or has not said yet what it speaks.
    #[inline(never)]
    pub(in super::super) fn take_encrypted(&mut self, key: Key, bytes: &[u8]) {
        match self.connections.get(key) {
            Some(connection) if connection.transport.stage != Stage::Running => {}
            Some(connection) if connection.transport.undecided => self.decide(key, bytes),
            _ => self.take_records(key, bytes),
        }
    }

    /// Tells by the first byte what a connection speaks.
    #[cold]
    fn decide(&mut self, key: Key, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(settings) = &self.tls else { return };
        connection.transport.undecided = false;
        if bytes.first() != Some(&FIRST_BYTE) {
            if settings.is_required && bytes.first() == Some(&MAGIC_BYTE) {
                let text = "this server speaks TLS only";
                let transport = &mut connection.transport;
                return transport.refuse(Code::TlsRequired, text, &mut self.resources);
            }
            return self.take_plain(key, bytes);
        }
        match Tls::accept(settings.config.load_full(), settings.asks_certificate) {
            Ok(tls) => connection.transport.tls = Some(Box::new(tls)),
            Err(error) => return self.fail_tls(key, &error.to_string()),
        }
        self.take_records(key, bytes);
    }

    /// Takes records. Those of a handshake wait for their turn.
    fn take_records(&mut self, key: Key, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(tls) = &mut connection.transport.tls else {
            return;
        };
        if !tls.take(bytes, &mut self.resources.pool) {
            return self.fail_tls(key, "handshake too large");
        }
        if tls.established {
            self.open_records(key);
        } else if !std::mem::replace(&mut tls.listed, true) {
            match tls.begun {
                false => self.handshakes.first.push_back(key),
                true => self.handshakes.second.push_back(key),
            }
        }
    }

    /// Advances handshakes: so many as cost much, and looks at some more of which not all has
    /// come yet. What is over waits a turn, and others do not wait for it.
    pub(in super::super) fn advance_handshakes(&mut self) {
        self.resources.work.begin(Lane::Handshake);
        while !self.resources.work.is_over()
            && let Some(key) = self.handshakes.next()
        {
            self.resources.work.spend(HANDSHAKE_LOOK_UNITS);
            let now = self.resources.now;
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let is_late = connection.transport.is_late_to_begin(now);
            let Some(tls) = &mut connection.transport.tls else {
                continue;
            };
            tls.listed = false;
            if !tls.begun && is_late {
                connection
                    .transport
                    .abort(Reason::HandshakeTimeout, &mut self.resources);
            } else if connection.transport.stage == Stage::Running && self.open_records(key) {
                let units = HANDSHAKE_UNITS - HANDSHAKE_LOOK_UNITS;
                self.resources.work.spend(units);
            }
            self.touch(key);
        }
    }

    /// Opens what has been received and handles it. True when the handshake got further.
    fn open_records(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        // Taken out, so that what its plaintext does may reach any connection.
        let Some(mut tls) = connection.transport.tls.take() else {
            return false;
        };
        let waited = tls.outgoing.len();
        let capacity = tls.outgoing.capacity();
        let opened = tls.open(|plaintext| self.take_plain(key, plaintext));
        if let Opened::Established(first) = &opened {
            // Nothing that it does frees a slot.
            let Some(same) = self.take_secured(key, tls, first) else {
                return true;
            };
            tls = same;
        }
        tls.compact(capacity, &mut self.resources.pool);
        let advanced = opened != Opened::All || tls.outgoing.len() > waited;
        tls.begun |= advanced;
        let peer_ended = tls.peer_ended;
        let needs_much = tls.incoming.len() > CHUNK_BYTES;
        let Some(connection) = self.connections.get_mut(key) else {
            tls.release(&mut self.resources.pool);
            return advanced;
        };
        let partial = !tls.incoming.is_empty();
        if partial || connection.transport.input.is_empty() {
            // A record that does not come to its end is a message that does not.
            let session = &mut connection.transport.session;
            session.note_undelivered(partial, self.resources.now);
        }
        connection.transport.tls = Some(tls);
        match opened {
            Opened::Failed(why) => self.fail_tls(key, &why),
            Opened::All if needs_much && self.resources.pool.is_exhausted() => {
                // Until there is memory for the rest of the record.
                if !std::mem::replace(&mut connection.member.blocked, true) {
                    self.blocked.push(key);
                    self.holders.blocks = true;
                }
            }
            Opened::Established(_) | Opened::All => {}
        }
        if peer_ended && let Some(connection) = self.connections.get_mut(key) {
            // As a FIN: what it asked is still answered.
            connection.take_end(&mut self.resources);
        }
        advanced
    }

    /// The handshake is done: who has shown a certificate is somebody before the `first`
    /// that it said right behind it is handled. Gives back the TLS, which stays out.
    fn take_secured(&mut self, key: Key, tls: Box<Tls>, first: &[u8]) -> Option<Box<Tls>> {
        let connection = self.connections.get_mut(key)?;
        connection.transport.tls = Some(tls);
        connection.note_secured(self.id, &self.resources);
        self.admit_certificate(key);
        let tls = self.connections.get_mut(key)?.transport.tls.take();
        if !first.is_empty() {
            self.take_plain(key, first);
        }
        tls
    }

    #[cold]
    fn fail_tls(&mut self, key: Key, why: &str) {
        tracing::debug!(shard = self.id.0, connection = %key, why, "TLS failed");
        if let Some(connection) = self.connections.get_mut(key) {
            connection
                .transport
                .end(Reason::TlsFailed, &mut self.resources);
        }
    }
}

impl Connection {
    fn note_secured(&self, shard: ShardId, resources: &Resources) {
        resources.counters.add(Counter::TlsEstablished, 1);
        let Some(tls) = &self.transport.tls else {
            return;
        };
        let (version, suite) = tls.terms();
        let principal = self.transport.certificate_principal();
        tracing::debug!(
            shard = shard.0,
            connection = %self.member.key,
            version,
            suite,
            principal,
            "TLS established"
        );
    }
}

impl Transport {
    /// Whom the client's certificate names: with `tls.client_ca` set everyone has one.
    pub(in super::super) fn certificate_principal(&self) -> Option<&str> {
        self.certificate()
            .map(|certificate| &*certificate.principal)
    }

    pub(in super::super) fn certificate(&self) -> Option<&Certificate> {
        self.tls.as_ref()?.certificate.as_deref()
    }

    /// Its TLS is over, with what it holds.
    pub(in super::super) fn release_tls(&mut self, resources: &mut Resources) {
        if let Some(mut tls) = self.tls.take() {
            tls.release(&mut resources.pool);
        }
    }
}
