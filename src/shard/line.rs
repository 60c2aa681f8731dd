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

/// What a RESPONSE's length counts beside the application's payload, at most.
const RESPONSE_BYTES_BESIDE_PAYLOAD: usize = ENVELOPE_FIXED_BYTES + CHECKSUM_BYTES;

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

    /// Sends a RESPONSE, or fails the request when the peer could not take one so large.
    #[inline]
    pub(super) fn respond(
        &mut self,
        id: u32,
        codec: Codec,
        payload: &[u8],
        resources: &mut Resources,
    ) {
        let most = self.session.peer_message_bytes_max() as usize;
        if payload.len() > most.saturating_sub(RESPONSE_BYTES_BESIDE_PAYLOAD) {
            let failure = Failure::of(Code::TooLarge, "the answer is larger than you accept");
            return self.respond_failed(id, &failure, resources);
        }
        let mut out = Writer {
            outbox: &mut self.outbox,
            pool: &mut resources.pool,
        };
        self.session.send_response(id, 0, codec, payload, &mut out);
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
