//! A client's session, whichever protocol it speaks: the methods that the broker needs.

use super::mcp;
use super::notice::Notice;
use super::operation::Operation;
use super::protocol::Protocol;
use super::received::Received;
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::proto;
use crate::proto::encoded::{Encoded, live_topic};
use crate::proto::envelope::Codec;
use crate::proto::error::{Code, Refusal};
use crate::proto::kind::MessageType;
use crate::proto::output::Output;
use crate::proto::session::{Event, Settings, Step};
use std::sync::Arc;
use std::time::Duration;

pub enum Session {
    Mcp(proto::session::Session),
}

/// Input.
impl Session {
    /// The server's side of a newly accepted connection.
    pub fn accept(protocol: Protocol, settings: Arc<Settings>, seq: u32, now: Instant) -> Session {
        match protocol {
            Protocol::Mcp => Session::Mcp(proto::session::Session::accept(settings, seq, now)),
        }
    }

    /// Takes the frame or message at the head of `bytes`, if it is complete.
    #[inline]
    pub fn take<'a>(&mut self, bytes: &'a [u8], now: Instant, out: &mut impl Output) -> Step<'a> {
        let Session::Mcp(mcp) = self;
        mcp.handle(bytes, now, out)
    }

    /// The operation that an event asks for; `bytes` are the message it came from.
    #[inline]
    pub fn operation<'e>(&self, event: &'e Event<'e>, bytes: &[u8]) -> Operation<'e> {
        let Session::Mcp(_) = self;
        mcp::operation(event, bytes)
    }

    /// Those bytes as a message.
    #[inline]
    pub fn received<'a>(&self, bytes: &'a [u8]) -> Received<'a> {
        let Session::Mcp(mcp) = self;
        Received::new(bytes, mcp.has_checksum())
    }

    /// The type it is counted as; `None` for a frame of the handshake.
    #[inline]
    pub fn kind(&self, event: &Event<'_>, bytes: &[u8]) -> Option<MessageType> {
        let Session::Mcp(mcp) = self;
        mcp::kind(event, bytes, mcp.is_established())
    }

    /// The topic, if `begun` is the head of a publication that is not to be retained.
    pub fn live_topic<'a>(&self, begun: &'a [u8]) -> Option<&'a [u8]> {
        let Session::Mcp(_) = self;
        live_topic(begun)
    }

    /// Handles a deadline that has passed. Returns the reason if that ends the session.
    pub fn take_timeout(&mut self, now: Instant, out: &mut impl Output) -> Option<Reason> {
        let Session::Mcp(mcp) = self;
        mcp::reason(mcp.handle_timeout(now, out))
    }
}

/// Output. After the end nothing is written.
impl Session {
    /// Delivers another client's message, under another id if one is given.
    #[inline]
    pub fn deliver(&mut self, message: Encoded<'_>, id: Option<u32>, out: &mut impl Output) {
        let Session::Mcp(mcp) = self;
        mcp.forward(message.bytes(), id, out);
    }

    /// Whether `deliver` would write the message's bytes unchanged now. If so, a caller that holds
    /// them elsewhere may send them from there, and then calls `note_delivered`.
    pub fn delivers_as_it_is(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.forwards_as_it_is()
    }

    #[inline]
    pub fn note_delivered(&mut self) {
        let Session::Mcp(mcp) = self;
        mcp.note_forwarded();
    }

    /// Answers one of the client's requests.
    #[inline]
    pub fn respond(
        &mut self,
        id: u32,
        flags: u8,
        codec: Codec,
        payload: &[u8],
        out: &mut impl Output,
    ) {
        let Session::Mcp(mcp) = self;
        mcp.send_response(id, flags, codec, payload, out);
    }

    /// Writes all of such an answer but its payload, which the caller sends right behind it.
    /// Returns false and writes nothing if both have to be written together.
    pub fn respond_head(
        &mut self,
        id: u32,
        codec: Codec,
        payload_bytes: usize,
        out: &mut impl Output,
    ) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.send_response_head(id, 0, codec, payload_bytes, out)
    }

    /// Tells the client. Returns the reason if that ends the session.
    pub fn notify(
        &mut self,
        notice: Notice<'_>,
        now: Instant,
        out: &mut impl Output,
    ) -> Option<Reason> {
        let Session::Mcp(mcp) = self;
        mcp::notify(mcp, notice, now, out)
    }

    /// Ends the session because of something the client did. `None`: it had already ended.
    pub fn refuse(&mut self, refusal: &Refusal, out: &mut impl Output) -> Option<Reason> {
        let Session::Mcp(mcp) = self;
        mcp::reason(mcp.refuse(refusal, out))
    }

    /// Asks the client to end the session.
    pub fn close(&mut self, code: Code, text: &'static str, out: &mut impl Output) {
        let Session::Mcp(mcp) = self;
        mcp.close(code, text, out);
    }

    /// The client has sent `Leave`, and has received everything it was owed.
    pub fn finish(&mut self, out: &mut impl Output) {
        let Session::Mcp(mcp) = self;
        mcp.finish(out);
    }
}

/// Progress.
impl Session {
    /// The handshake is complete; the session may already be closing.
    pub fn is_established(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_established()
    }

    /// Established, and neither side has begun to end it.
    pub fn is_open(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_open()
    }

    pub fn is_peer_closing(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_peer_closing()
    }

    pub fn is_ended(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_ended()
    }

    /// Part of a message has arrived.
    pub fn is_mid_message(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_mid_message()
    }

    pub fn is_authenticated(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_authenticated()
    }

    /// The client is authenticated.
    pub fn authenticate(&mut self) {
        let Session::Mcp(mcp) = self;
        mcp.authenticate();
    }

    /// It may stay only if it resumes a session.
    pub fn is_on_trial(&self) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.is_on_trial()
    }

    pub fn put_on_trial(&mut self, now: Instant) {
        let Session::Mcp(mcp) = self;
        mcp.put_on_trial(now);
    }

    pub fn end_trial(&mut self) {
        let Session::Mcp(mcp) = self;
        mcp.end_trial();
    }

    /// The refusal sent to a client on trial, or to one for which there is no room at all.
    pub fn full() -> Refusal {
        proto::session::Session::full()
    }

    // ---- time ----

    /// When `take_timeout` is due next.
    pub fn timeout(&self) -> Instant {
        let Session::Mcp(mcp) = self;
        mcp.timeout()
    }

    /// Restarts the time limit for the rest of a message.
    pub fn restart_frame_clock(&mut self, now: Instant) {
        let Session::Mcp(mcp) = self;
        mcp.restart_frame_clock(now);
    }

    /// Bytes of a message have arrived (`partial`) that cannot be handled yet, or none wait any
    /// more.
    pub fn note_undelivered(&mut self, partial: bool, now: Instant) {
        let Session::Mcp(mcp) = self;
        mcp.note_undelivered(partial, now);
    }

    /// When the client was last heard from.
    pub fn heard(&self) -> Instant {
        let Session::Mcp(mcp) = self;
        mcp.heard()
    }

    pub fn round_trip(&self) -> Option<Duration> {
        let Session::Mcp(mcp) = self;
        mcp.round_trip()
    }

    // ---- properties of the client ----

    pub fn client_id(&self) -> Option<&str> {
        let Session::Mcp(mcp) = self;
        mcp.client_id()
    }

    /// The codec it prefers.
    pub fn codec(&self) -> Codec {
        let Session::Mcp(mcp) = self;
        mcp.codec()
    }

    /// The largest message it accepts, in bytes, including the header.
    pub fn whole_bytes_max(&self) -> usize {
        let Session::Mcp(mcp) = self;
        mcp.peer_whole_bytes_max()
    }

    /// Whether it accepts an answer with a payload of this size.
    pub fn accepts_response(&self, payload_bytes: usize) -> bool {
        let Session::Mcp(mcp) = self;
        mcp.peer_accepts_response(payload_bytes)
    }

    pub fn messages_in(&self) -> u64 {
        let Session::Mcp(mcp) = self;
        mcp.messages_in()
    }

    pub fn messages_out(&self) -> u64 {
        let Session::Mcp(mcp) = self;
        mcp.messages_out()
    }
}
