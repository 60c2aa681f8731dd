//! The sending half of a connection: its session and what waits to go out.

use super::outbox::{Outbox, Writer};
use super::resource::Resources;
use super::service::Failure;
use crate::base::id::Key;
use crate::base::limits::{CHECKSUM_BYTES, ENVELOPE_FIXED_BYTES};
use crate::metrics::counter::Counter;
use crate::proto::envelope::{Codec, FLAG_FAILED};
use crate::proto::error::{Code, clip};
use crate::proto::message::Message;
use crate::proto::session::Session;
use bytes::Bytes;

/// What a RESPONSE's length counts beside the application's payload, at most.
const RESPONSE_BYTES_BESIDE_PAYLOAD: usize = ENVELOPE_FIXED_BYTES + CHECKSUM_BYTES;

/// Payloads from here on are worth a send of their own rather than a copy.
const SHARED_BYTES_MIN: usize = 16_384;

pub(super) struct Line {
    pub(super) key: Key,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    /// Requests of this connection that are answered later.
    pub(super) calls_open: u32,
}

impl Line {
    #[inline]
    pub(super) fn send(&mut self, message: &Message<'_>, resources: &mut Resources) {
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.send(message, &mut out);
    }

    /// Answers the peer's CLOSE: nothing it asked for is unanswered.
    pub(super) fn finish(&mut self, resources: &mut Resources) {
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.finish(&mut out);
    }

    /// Sends a RESPONSE, or fails the request when the peer could not take one so large.
    #[inline]
    pub(super) fn respond(
        &mut self,
        id: u32,
        codec: Codec,
        payload: &[u8],
        resources: &mut Resources,
    ) {
        if self.is_too_large(payload) {
            return self.refuse_too_large(id, resources);
        }
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.send_response(id, 0, codec, payload, &mut out);
    }

    /// As `respond`; a large payload is queued where it is instead of copied.
    pub(super) fn respond_shared(
        &mut self,
        id: u32,
        codec: Codec,
        payload: Bytes,
        resources: &mut Resources,
    ) {
        if payload.len() < SHARED_BYTES_MIN || self.session.has_checksum() {
            return self.respond(id, codec, &payload, resources);
        }
        if self.is_too_large(&payload) {
            return self.refuse_too_large(id, resources);
        }
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        if self
            .session
            .send_response_head(id, 0, codec, payload.len(), &mut out)
        {
            self.outbox.push_shared(payload, &mut resources.pool);
        }
    }

    #[inline]
    fn is_too_large(&self, payload: &[u8]) -> bool {
        let most = self.session.peer_message_bytes_max() as usize;
        payload.len() > most.saturating_sub(RESPONSE_BYTES_BESIDE_PAYLOAD)
    }

    #[cold]
    fn refuse_too_large(&mut self, id: u32, resources: &mut Resources) {
        let failure = Failure::of(Code::TooLarge, "the answer is larger than you accept");
        self.respond_failed(id, &failure, resources);
    }

    /// Sends a RESPONSE with FAILED.
    #[cold]
    pub(super) fn respond_failed(&mut self, id: u32, failure: &Failure, resources: &mut Resources) {
        resources.counters.add(Counter::RequestsFailed, 1);
        let mut payload = failure.code.to_be_bytes().to_vec();
        payload.extend_from_slice(clip(&failure.text).as_bytes());
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session
            .send_response(id, FLAG_FAILED, Codec::Bytes, &payload, &mut out);
    }
}
