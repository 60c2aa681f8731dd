//! TLS as a byte transform: what is received is opened before it is handled, what the
//! outbox has to send is sealed when it is sent. The shard's turn stays as it is.
//!
//! ```text
//!   receive ─► incoming ──open──► plaintext ─► take_bytes          (session, broker)
//!                 │ handshake
//!                 ▼
//!   send ◄── outgoing ◄── seal ◄── the outbox's chunks
//! ```
//!
//! rustls offers two interfaces, whose CPU per message is the same within a few per cent.
//! `ServerConnection` keeps buffers of its own, out of anybody's account: an idle one takes
//! 7.5 KB. So this is `rustls::unbuffered`, 3.8 KB: records are opened where they were
//! received and sealed into the very chunk that is sent, all of it from the shard's pool
//! and given back when empty. What an idle connection keeps is rustls' state alone
//! (`TLS_STATE_BYTES`, counted with the slot).
//!
//! The outbox holds plaintext, so its bounds and the slow-consumer policies are the same
//! with TLS and without. Its bytes count as queued until the records they are in have gone.
//!
//! A handshake costs what a thousand messages do: see `Lane::Handshake`. rustls bounds
//! the rest: records without content, warnings, key updates and renegotiations in a row end
//! the connection.
//!
//! Invariants: `incoming` is what rustls was last shown and not told to discard; records
//! leave in the order they were sealed in; `charged` is what the pool counts for both
//! buffers; after a failure nothing but its alert is sent.

mod identity;
mod queue;
mod records;

pub use identity::IdentityVerifier;
pub(super) use queue::Handshakes;

use crate::auth::certificate::Certificate;
use crate::base::chunk::Chunk;
use crate::base::limits::{CHUNK_BYTES, HELLO_BYTES_MAX, HELLO_BYTES_MAX_CERTIFIED};
use crate::broker::context::pool::Pool;
use crate::broker::peers::outbox::{Outbox, give_back};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use std::mem;
use std::sync::Arc;

/// The protocol's name in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"mcp/1";
/// The first byte of a TLS connection: a handshake record (RFC 8446, 5.1).
const FIRST_BYTE: u8 = 0x16;
/// Plaintext bytes of a record at most.
const RECORD_BYTES_MAX: usize = 16_384;
/// Bytes a record takes beside its plaintext: header 5, and for TLS 1.2 with AES-GCM a
/// nonce of 8 and a tag of 16; with any other suite fewer.
const RECORD_BYTES_BESIDE: usize = 32;
/// Bytes that may go ahead of the records of a chunk: the answer to a key update.
const KEY_UPDATE_BYTES: usize = 64;
/// Bytes of a sealed close_notify, at most.
const CLOSE_NOTIFY_BYTES: usize = 64;
/// Bytes of a chunk that plaintext does not get.
const CHUNK_BYTES_BESIDE: usize = KEY_UPDATE_BYTES + CLOSE_NOTIFY_BYTES + RECORD_BYTES_BESIDE;

/// How a shard speaks TLS.
#[derive(Clone)]
pub struct TlsSettings {
    /// Plain connections are refused.
    pub is_required: bool,
    /// Clients must present a certificate; their principal is its subject's common name.
    pub asks_certificate: bool,
    /// Certificate, key and client CA, exchanged as a whole while the shard runs: what is
    /// here when a connection's first byte comes is what the connection keeps.
    pub config: Arc<ArcSwap<ServerConfig>>,
}

/// What one look at the received records came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// As far as they go.
    All,
    /// The handshake is done with this look. What the client had to say right behind it was
    /// not given out yet: who it is has to be decided first.
    Established(Vec<u8>),
    /// It cannot go on: what is wrong. An alert may wait to be sent.
    Failed(String),
}

/// The TLS of one connection.
pub(super) struct Tls {
    records: UnbufferedServerConnection,
    /// Received; what stands before `opened` is done with. Capacity 0: no chunk lent.
    incoming: Vec<u8>,
    opened: usize,
    /// Records that wait to be sent: of the handshake, or what a takeover left of others.
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that have gone already.
    outgoing_sent: usize,
    /// Plaintext bytes of the outbox that are in the records in flight, or in `outgoing`.
    sealed_bytes: usize,
    /// Bytes of both buffers that the pool counts.
    charged: usize,
    /// Bytes that may wait in `incoming` before the handshake is done.
    hello_bytes_max: usize,
    /// In the shard's queue of handshakes.
    listed: bool,
    /// Its first flight has been answered.
    begun: bool,
    established: bool,
    failed: bool,
    /// The peer has sent close_notify.
    peer_ended: bool,
    /// Our close_notify has been sealed.
    said_end: bool,
    /// Of the client.
    pub(super) certificate: Option<Box<Certificate>>,
}

impl Tls {
    /// # Errors
    /// The configuration cannot be served from.
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
            begun: false,
            established: false,
            failed: false,
            peer_ended: false,
            said_end: false,
            certificate: None,
        })
    }

    /// Nothing of it waits to be sent; at the end, close_notify has been.
    pub(super) fn is_flushed(&self) -> bool {
        let closed = self.said_end || self.failed || !self.established;
        self.outgoing.is_empty() && closed
    }

    /// Nothing but an alert goes out any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Bytes the pool counts for it, without what is in flight.
    pub(super) fn held_bytes(&self) -> usize {
        self.charged
    }

    /// Gives back all that is lent.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        pool.count(mem::take(&mut self.charged), 0);
        (self.incoming, self.opened) = (Vec::new(), 0);
        (self.outgoing, self.outgoing_sent) = (Vec::new(), 0);
    }

    // ---- receiving ----

    /// Takes received bytes. False: these are more than a handshake may take.
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
        if length > self.incoming.capacity() && !pool.is_half_lent() {
            self.exchange_incoming(pool.take_large(), pool);
        }
        let before = self.incoming.capacity();
        self.incoming.extend_from_slice(bytes);
        self.recharge(before, self.incoming.capacity(), pool);
        true
    }

    /// Opens the records that are whole: gives their plaintext to `take`, and answers those
    /// of the handshake.
    fn open(&mut self, mut take: impl FnMut(&[u8])) -> Opened {
        let mut first = Vec::new();
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
                            true => take(record.payload),
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

    /// It is over; its alert goes out. What was received is not looked at again: rustls
    /// would stumble over it a second time.
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

    /// Forgets what is opened, and holds no more memory than the rest needs.
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
        }
    }

    /// Moves what is received into another chunk, just lent.
    fn exchange_incoming(&mut self, mut chunk: Vec<u8>, pool: &mut Pool) {
        chunk.extend_from_slice(&self.incoming);
        self.charged = self.charged + chunk.capacity() - self.incoming.capacity();
        pool.give(mem::replace(&mut self.incoming, chunk));
    }

    fn recharge(&mut self, before: usize, now: usize, pool: &mut Pool) {
        pool.count(before, now);
        self.charged = self.charged + now - before;
    }

    // ---- sending ----

    /// The next chunk of records to send, and from where in it. `ends`: nothing more will be
    /// put into the outbox, and close_notify follows what is there.
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
        if self.failed || (ends && !self.established) {
            // There is no way to say it.
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
        // Made to fit; if not, what is given back is what was lent all the same.
        pool.count(lent, records.capacity());
        if self.failed {
            // What is sealed and what is not: neither is of use without the other.
            self.sent(outbox);
            outbox.clear(pool);
            pool.give(records);
            return None;
        }
        Some((Chunk::Own(records), 0))
    }

    /// Seals as much of the outbox as `records` has room for.
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

    /// Appends plaintext in records, or (`None`) close_notify.
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
                    // An error: as many records as one key may seal have been sealed.
                    self.failed = sealed.is_err();
                    return records.truncate(at + sealed.unwrap_or(0));
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, records);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                // All that was received is opened already.
                _ => return self.failed = true,
            }
        }
    }

    /// The records in flight have gone, or never will: so has the plaintext in them.
    pub(super) fn sent(&mut self, outbox: &mut Outbox) {
        outbox.sent(mem::take(&mut self.sealed_bytes));
    }

    /// Of the records in flight only `sent` bytes went: the rest goes from the slot this
    /// transport moves to.
    pub(super) fn put_back(&mut self, chunk: Chunk, sent: usize, pool: &mut Pool) {
        let Chunk::Own(mut records) = chunk else {
            return;
        };
        // Both are counted: the one with the pool, as what is in flight is, the other here too.
        let (lent, waiting) = (records.capacity(), self.outgoing.capacity());
        records.extend_from_slice(&self.outgoing);
        (self.outgoing, self.outgoing_sent) = (records, sent);
        let held = self.outgoing.capacity();
        pool.count(lent + waiting, held);
        self.charged = self.charged + held - waiting;
    }

    /// The version and suite agreed on, for the log.
    fn terms(&self) -> (Option<&str>, Option<&str>) {
        let version = self.records.protocol_version();
        let suite = self.records.negotiated_cipher_suite();
        let suite = suite.and_then(|suite| suite.suite().as_str());
        (version.and_then(|version| version.as_str()), suite)
    }
}

/// Appends a handshake record or an alert. False: it has been encoded before.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> bool {
    let at = out.len();
    if let Err(EncodeError::InsufficientSize(error)) = data.encode(&mut []) {
        out.resize(at + error.required_size, 0);
        return data.encode(&mut out[at..]).is_ok();
    }
    false
}

/// Bytes that so much plaintext takes at most when it is sealed.
fn sealed_bytes_max(plain: &[u8]) -> usize {
    plain.len() + plain.len().div_ceil(RECORD_BYTES_MAX) * RECORD_BYTES_BESIDE
}

/// Bytes of plaintext that can be sealed into what room is left in a chunk.
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
    use crate::base::limits::CHUNK_LARGE_BYTES;

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

    /// Whatever waited behind them, and whether that still fits into their chunk.
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
