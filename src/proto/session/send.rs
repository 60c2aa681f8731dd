//! Sending through a session: the owner's own messages, and forwarded ones. Nothing is written
//! before the session is open or after its end; everything written is counted.

use super::{Session, State};
use crate::proto::envelope::{Codec, Envelope};
use crate::proto::message::{Message, MessageType, encode_response, encode_response_head, reframe};
use crate::proto::output::Output;

impl Session {
    /// Writes a message, with a CRC where CHECKSUM is in force. Writes nothing after the end.
    #[inline]
    pub fn send(&mut self, message: &Message<'_>, out: &mut impl Output) {
        if matches!(self.state, State::Open | State::PeerClosing) {
            self.messages_out += 1;
            message.encode(self.checksum, out);
        }
    }

    /// Writes a RESPONSE: the same bytes as `send`, without building the message.
    #[inline]
    pub fn send_response(
        &mut self,
        id: u32,
        flags: u8,
        codec: Codec,
        payload: &[u8],
        out: &mut impl Output,
    ) {
        if !matches!(self.state, State::Open | State::PeerClosing) {
            return;
        }
        self.messages_out += 1;
        if self.checksum {
            let envelope = Envelope {
                id,
                flags,
                codec,
                payload,
                ..Envelope::default()
            };
            Message::Envelope(MessageType::Response, envelope).encode(true, out);
        } else {
            encode_response(id, flags, codec, payload, out);
        }
    }

    /// Writes all of a RESPONSE but its payload, which the owner queues after it. False, and
    /// nothing is written, where CHECKSUM is in force or nothing may be sent.
    pub fn send_response_head(
        &mut self,
        id: u32,
        flags: u8,
        codec: Codec,
        payload_len: usize,
        out: &mut impl Output,
    ) -> bool {
        let sends = !self.checksum && matches!(self.state, State::Open | State::PeerClosing);
        if sends {
            self.messages_out += 1;
            encode_response_head(id, flags, codec, payload_len, out);
        }
        sends
    }

    /// Writes a message from elsewhere, encoded completely and without CRC; with another id if one
    /// is given (types from 0x10 on).
    #[inline]
    pub fn forward(&mut self, message: &[u8], id: Option<u32>, out: &mut impl Output) {
        if matches!(self.state, State::Open | State::PeerClosing) {
            self.messages_out += 1;
            reframe(message, id, self.checksum, out);
        }
    }

    /// Whether [`Session::forward`] would write a message's bytes unchanged now.
    pub fn forwards_as_it_is(&self) -> bool {
        !self.checksum && matches!(self.state, State::Open | State::PeerClosing)
    }

    /// Counts a message that the owner has written itself.
    #[inline]
    pub fn note_forwarded(&mut self) {
        self.messages_out += 1;
    }
}
