//! TLS as a byte transform: input is opened before it is handled, output is sealed when it is sent.
//! The shard's turn does not change.
//!
//! ```text
//!   receive ─► incoming ──open──► plaintext ─► take_bytes          (session, broker)
//!                 │ handshake
//!                 ▼
//!   send ◄── outgoing ◄── seal ◄── the outbox's chunks
//! ```
//!
//! rustls offers two interfaces, whose CPU per message is the same within a few per cent.
//! `ServerConnection` keeps buffers of its own, which no account covers: an idle one takes 7.5 KB.
//! So this uses `rustls::unbuffered`, 3.8 KB: records are opened where they were received and
//! sealed directly into the chunk that is sent; all buffers come from the shard's pool and are
//! given back when empty. An idle connection keeps only rustls' state (`TLS_STATE_BYTES`, counted
//! with the slot).
//!
//! The outbox holds plaintext, so its bounds and the slow-consumer policies are the same with and
//! without TLS. Its bytes count as queued until the records that contain them have been sent.
//!
//! A handshake costs as much as a thousand messages: see `Lane::Handshake`. rustls bounds the rest:
//! too many empty records, warnings, key updates or renegotiations in a row end the connection.
//!
//! Invariants: `incoming` is what rustls was last shown and did not discard; records are sent in
//! the order they were sealed in; `charged` is what the pool counts for both buffers; after a
//! failure only its alert is sent.

mod identity;
mod queue;
mod records;

pub use identity::IdentityVerifier;
pub(super) use queue::Handshakes;

use crate::auth::certificate::Certificate;
use crate::base::chunk::Chunk;
use crate::base::limits::{
    CHUNK_BYTES, CHUNK_LARGE_BYTES, HELLO_BYTES_MAX, HELLO_BYTES_MAX_CERTIFIED,
};
use crate::broker::context::pool::Pool;
use crate::broker::peers::outbox::{Outbox, give_back};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use std::mem;
use std::sync::Arc;

/// The first byte of a TLS connection: a handshake record (RFC 8446, 5.1).
const FIRST_BYTE: u8 = 0x16;
/// Plaintext bytes of a record, at most.
const RECORD_BYTES_MAX: usize = 16_384;
/// Overhead of a record in bytes: header 5, and for TLS 1.2 with AES-GCM a nonce of 8 and a tag of
/// 16; less with any other suite.
const RECORD_BYTES_BESIDE: usize = 32;
/// Bytes that may precede the records of a chunk: the answer to a key update.
const KEY_UPDATE_BYTES: usize = 64;
/// Bytes of a sealed close_notify, at most.
const CLOSE_NOTIFY_BYTES: usize = 64;
/// Bytes of a chunk that cannot hold plaintext.
const CHUNK_BYTES_BESIDE: usize = KEY_UPDATE_BYTES + CLOSE_NOTIFY_BYTES + RECORD_BYTES_BESIDE;

/// TLS settings of a shard.
#[derive(Clone)]
pub struct TlsSettings {
    /// Plain connections are refused.
    pub is_required: bool,
    /// Clients must present a certificate; their principal is its subject's common name.
    pub asks_certificate: bool,
    /// Certificate, key and client CA, replaced as a whole while the shard runs: a connection keeps
    /// those that are current when its first byte arrives.
    pub config: Arc<ArcSwap<ServerConfig>>,
}

/// The result of opening the received records.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// All complete records were opened.
    All,
    /// There was no time for all of them.
    Some,
    /// This look completed the handshake. The client's data right behind it is not passed on yet:
    /// it has to be authenticated first.
    Established(Vec<u8>),
    /// TLS failed, and why. An alert may be waiting to be sent.
    Failed(String),
}

/// The TLS of one connection.
pub(super) struct Tls {
    records: UnbufferedServerConnection,
    /// Received bytes; those before `opened` are done with. Capacity 0: no chunk lent.
    incoming: Vec<u8>,
    opened: usize,
    /// Records waiting to be sent: of the handshake, or the unsent part of a chunk after a
    /// takeover.
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` already sent.
    outgoing_sent: usize,
    /// Plaintext bytes of the outbox contained in the records in flight or in `outgoing`.
    sealed_bytes: usize,
    /// Bytes the pool counts for both buffers.
    charged: usize,
    /// Bytes that may wait in `incoming` before the handshake is complete.
    hello_bytes_max: usize,
    /// In the shard's queue of handshakes.
    listed: bool,
    /// In its queue of those with records still to be opened.
    waits: bool,
    /// Its first flight has been answered.
    begun: bool,
    established: bool,
    failed: bool,
    /// The peer has sent close_notify.
    peer_ended: bool,
    /// The stream has ended behind the records that wait to be opened.
    ends: bool,
    /// Our close_notify has been sealed.
    said_end: bool,
    /// The client's certificate.
    pub(super) certificate: Option<Box<Certificate>>,
}

impl Tls {
    /// # Errors
    /// The configuration cannot be used by a server.
    fn accept(config: Arc<ServerConfig>, asks_certificate: bool) -> Result<Tls, rustls::Error> {
        Ok(Tls {
            records: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            opened: 0,
            outgoing: Vec::new(),
            outgoing_sent: 0,
            sealed_bytes: 0,
            charged: 0,
            hello_bytes_max: match asks_certificate {
                true => HELLO_BYTES_MAX_CERTIFIED,
                false => HELLO_BYTES_MAX,
            },
            listed: false,
            waits: false,
            begun: false,
            established: false,
            failed: false,
            peer_ended: false,
            ends: false,
            said_end: false,
            certificate: None,
        })
    }

    /// Nothing waits to be sent; at the end that includes close_notify.
    pub(super) fn is_flushed(&self) -> bool {
        let closed = self.said_end || self.failed || !self.established;
        self.outgoing.is_empty() && closed
    }

    /// From now on only an alert is sent.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Received records wait for their turn to be opened. Until then nothing else is received, and
    /// nothing is sealed: rustls takes the records of both directions in their order.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// The stream has ended. True: nothing that was received before waits to be opened.
    pub(super) fn take_end(&mut self) -> bool {
        self.ends = self.waits;
        !self.waits
    }

    /// Bytes the pool counts for it, except what is in flight.
    pub(super) fn held_bytes(&self) -> usize {
        self.charged
    }

    /// Gives back all lent chunks.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        pool.count(mem::take(&mut self.charged), 0);
        (self.incoming, self.opened) = (Vec::new(), 0);
        (self.outgoing, self.outgoing_sent) = (Vec::new(), 0);
    }

    // ---- receiving ----

    /// Takes received bytes. False: more than a handshake may use.
    fn take(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        if self.peer_ended || self.failed {
            // What follows close_notify is ignored (RFC 8446, 6.1).
            return true;
        }
        let length = self.incoming.len() + bytes.len();
        if !self.established && length > self.hello_bytes_max {
            return false;
        }
        if self.incoming.capacity() == 0 {
            self.incoming = pool.take();
            self.charged += self.incoming.capacity();
        }
        let capacity = self.incoming.capacity();
        if length > capacity && capacity < CHUNK_LARGE_BYTES && !pool.is_half_lent() {
            self.exchange_incoming(pool.take_large(), pool);
        }
        let before = self.incoming.capacity();
        self.incoming.extend_from_slice(bytes);
        self.recharge(before, self.incoming.capacity(), pool);
        true
    }

    /// Opens the complete records: passes their plaintext to `take`, which says whether there is time
    /// for more, and answers handshake records.
    fn open(&mut self, mut take: impl FnMut(&[u8]) -> bool) -> Opened {
        let mut first = Vec::new();
        let mut is_over = false;
        loop {
            let unopened = &mut self.incoming[self.opened..];
            let UnbufferedStatus { mut discard, state } =
                self.records.process_tls_records(unopened);
            let mut more = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        match self.established {
                            true => is_over |= !take(record.payload),
                            false => first.extend_from_slice(record.payload),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    more = encode(&mut data, &mut self.outgoing);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_ended = true,
                // Early data is not offered.
                Ok(_) => more = false,
                Err(error) => {
                    let why = error.to_string();
                    self.fail();
                    return Opened::Failed(why);
                }
            }
            self.opened += discard;
            if is_over && self.opened < self.incoming.len() {
                return Opened::Some;
            }
            if !more {
                break;
            }
        }
        if !self.established && !self.records.is_handshaking() {
            self.established = true;
            let chain = self.records.peer_certificates();
            let own = chain.and_then(|chain| chain.first());
            self.certificate = own.and_then(|own| Certificate::read(own)).map(Box::new);
            return Opened::Established(first);
        }
        Opened::All
    }

    /// TLS has failed; its alert is sent. Received bytes are not looked at again: rustls would fail
    /// on them a second time.
    fn fail(&mut self) {
        self.failed = true;
        while self.records.wants_write() {
            let unopened = &mut self.incoming[self.opened..];
            let UnbufferedStatus { state, .. } = self.records.process_tls_records(unopened);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else {
                return;
            };
            encode(&mut data, &mut self.outgoing);
        }
    }

    /// Discards opened records, and keeps only the memory that the rest needs.
    fn compact(&mut self, outgoing_before: usize, pool: &mut Pool) {
        self.recharge(outgoing_before, self.outgoing.capacity(), pool);
        if self.opened > 0 {
            self.incoming.drain(..mem::take(&mut self.opened));
        }
        let capacity = self.incoming.capacity();
        if self.incoming.is_empty() && capacity > 0 {
            self.charged -= capacity;
            pool.give(mem::take(&mut self.incoming));
        } else if capacity > CHUNK_BYTES && self.incoming.len() <= CHUNK_BYTES {
            self.exchange_incoming(pool.take(), pool);
        } else if capacity > CHUNK_LARGE_BYTES && self.incoming.len() <= CHUNK_LARGE_BYTES {
            // Records had to wait to be opened.
            self.exchange_incoming(pool.take_large(), pool);
        }
    }

    /// Moves the received bytes into another, newly lent chunk, in which they have room.
    fn exchange_incoming(&mut self, mut chunk: Vec<u8>, pool: &mut Pool) {
        debug_assert!(self.incoming.len() <= chunk.capacity());
        chunk.extend_from_slice(&self.incoming);
        self.charged = self.charged + chunk.capacity() - self.incoming.capacity();
        pool.give(mem::replace(&mut self.incoming, chunk));
    }

    fn recharge(&mut self, before: usize, now: usize, pool: &mut Pool) {
        pool.count(before, now);
        self.charged = self.charged + now - before;
    }

    // ---- sending ----

    /// The next chunk of records to send, and the offset to start from. `ends`: nothing more will
    /// be put into the outbox, and close_notify follows its contents.
    pub(super) fn next_chunk(
        &mut self,
        outbox: &mut Outbox,
        ends: bool,
        pool: &mut Pool,
    ) -> Option<(Chunk, usize)> {
        if !self.outgoing.is_empty() {
            self.charged -= self.outgoing.capacity();
            let from = mem::take(&mut self.outgoing_sent);
            return Some((Chunk::Own(mem::take(&mut self.outgoing)), from));
        }
        if self.waits && !self.failed {
            return None;
        }
        if self.failed || (ends && !self.established) {
            // Nothing can be sealed any more.
            outbox.clear(pool);
        }
        if self.failed || !self.established || (outbox.is_empty() && (!ends || self.said_end)) {
            return None;
        }
        let small = outbox.queued_bytes() + CHUNK_BYTES_BESIDE <= CHUNK_BYTES;
        let mut records = match small || pool.is_half_lent() {
            true => pool.take(),
            false => pool.take_large(),
        };
        let lent = records.capacity();
        self.seal_outbox(outbox, &mut records, pool);
        if ends && !self.said_end && self.sealed_bytes == outbox.queued_bytes() {
            self.seal(None, &mut records);
            self.said_end = true;
        }
        // Sized to fit; if it did grow, the pool still gets back what was counted.
        pool.count(lent, records.capacity());
        if self.failed {
            // Drop both the sealed and the unsealed bytes: neither is of use without the other.
            self.sent(outbox);
            outbox.clear(pool);
            pool.give(records);
            return None;
        }
        Some((Chunk::Own(records), 0))
    }

    /// Seals as much of the outbox as fits into `records`.
    fn seal_outbox(&mut self, outbox: &mut Outbox, records: &mut Vec<u8>, pool: &mut Pool) {
        while !self.failed
            && let Some((chunk, from)) = outbox.next_chunk()
        {
            let plain = &chunk.as_slice()[from..];
            let bytes = plaintext_room(records).min(plain.len());
            if bytes > 0 {
                self.seal(Some(&plain[..bytes]), records);
                self.sealed_bytes += bytes;
            }
            if bytes < plain.len() {
                return outbox.put_back(chunk, from + bytes);
            }
            give_back(chunk, pool);
        }
    }

    /// Appends plaintext as records, or (`None`) a close_notify.
    fn seal(&mut self, plain: Option<&[u8]>, records: &mut Vec<u8>) {
        let bytes = plain.map_or(CLOSE_NOTIFY_BYTES, sealed_bytes_max) + KEY_UPDATE_BYTES;
        loop {
            let unopened = &mut self.incoming[self.opened..];
            let UnbufferedStatus { discard, state } = self.records.process_tls_records(unopened);
            self.opened += discard;
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let at = records.len();
                    let room = records.capacity() - at;
                    records.resize(at + bytes.min(room), 0);
                    let sealed = match plain {
                        Some(plain) => traffic.encrypt(plain, &mut records[at..]),
                        None => traffic.queue_close_notify(&mut records[at..]),
                    };
                    // An error means that one key has sealed as many records as it may.
                    self.failed = sealed.is_err();
                    return records.truncate(at + sealed.unwrap_or(0));
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, records);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                // All received records have been opened already.
                _ => return self.failed = true,
            }
        }
    }

    /// The records in flight have been sent, or never will be; so has their plaintext.
    pub(super) fn sent(&mut self, outbox: &mut Outbox) {
        outbox.sent(mem::take(&mut self.sealed_bytes));
    }

    /// Only `sent` bytes of the records in flight were sent: the rest is sent from the slot this
    /// transport moves to.
    pub(super) fn put_back(&mut self, chunk: Chunk, sent: usize, pool: &mut Pool) {
        let Chunk::Own(mut records) = chunk else {
            return;
        };
        // Both are counted: the chunk by the pool, like everything in flight, and `outgoing` here.
        let (lent, waiting) = (records.capacity(), self.outgoing.capacity());
        records.extend_from_slice(&self.outgoing);
        (self.outgoing, self.outgoing_sent) = (records, sent);
        let held = self.outgoing.capacity();
        pool.count(lent + waiting, held);
        self.charged = self.charged + held - waiting;
    }

    /// The negotiated version and suite, for the log.
    fn terms(&self) -> (Option<&str>, Option<&str>) {
        let version = self.records.protocol_version();
        let suite = self.records.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str());
        (version.and_then(|version| version.as_str()), suite)
    }
}

/// Appends a handshake record or an alert. False: it had been encoded before.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> bool {
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(error)) = data.encode(&mut []) {
        out.resize(at + error.required_size, 0);
        return data.encode(&mut out[at..]).is_ok();
    }
    false
}

/// Bytes that this plaintext takes at most when sealed.
fn sealed_bytes_max(plain: &[u8]) -> usize {
    plain.len() + plain.len().div_ceil(RECORD_BYTES_MAX) * RECORD_BYTES_BESIDE
}

/// Bytes of plaintext that can be sealed into the room left in a chunk.
fn plaintext_room(records: &Vec<u8>) -> usize {
    let beside = KEY_UPDATE_BYTES + CLOSE_NOTIFY_BYTES;
    let room = (records.capacity() - records.len()).saturating_sub(beside);
    let whole = RECORD_BYTES_MAX + RECORD_BYTES_BESIDE;
    let rest = (room % whole).saturating_sub(RECORD_BYTES_BESIDE);
    room / whole * RECORD_BYTES_MAX + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_room_in_a_chunk_fits_when_it_is_sealed() {
        for capacity in [CHUNK_BYTES, 16_500, CHUNK_LARGE_BYTES] {
            for used in (0..capacity).step_by(97) {
                let mut records = Vec::with_capacity(capacity);
                records.resize(used, 0);
                let plain = vec![0; plaintext_room(&records)];
                let most = match plain.len() {
                    0 => used,
                    _ => used + KEY_UPDATE_BYTES + sealed_bytes_max(&plain) + CLOSE_NOTIFY_BYTES,
                };
                assert!(most <= capacity, "{used} of {capacity}");
            }
        }
    }

    /// Whatever waited behind them, and whether or not it still fits into their chunk.
    #[test]
    fn records_that_come_back_are_counted_once() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let nobody = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(nobody);
        let mut tls = Tls::accept(Arc::new(config), false).unwrap();
        for waiting in [0, 100, 5000] {
            let mut pool = Pool::new(1 << 20);
            let mut records = pool.take();
            records.resize(3000, 1);
            tls.outgoing = vec![2; waiting];
            tls.recharge(0, tls.outgoing.capacity(), &mut pool);
            tls.put_back(Chunk::Own(records), 10, &mut pool);
            assert_eq!(tls.outgoing.len(), 3000 + waiting);
            let held = (tls.outgoing.capacity(), tls.held_bytes());
            assert_eq!(held, (pool.charged_bytes(), pool.charged_bytes()));
            tls.release(&mut pool);
            assert_eq!(pool.charged_bytes(), 0);
        }
    }

    #[test]
    fn a_chunk_is_small_as_long_as_what_is_queued_fits_into_it() {
        let records = Vec::with_capacity(CHUNK_BYTES);
        assert!(plaintext_room(&records) >= CHUNK_BYTES - CHUNK_BYTES_BESIDE);
    }
}
