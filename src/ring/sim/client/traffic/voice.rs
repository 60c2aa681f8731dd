//! What a client says: its end of the protocol, and what waits to be written.

use crate::proto::message::Message;
use crate::proto::session::Session;

/// What a client says: its end of the protocol and what waits to be written.
pub(super) struct Voice {
    pub(super) session: Session,
    pub(super) out: Vec<u8>,
}

impl Voice {
    pub(super) fn send(&mut self, message: &Message<'_>) {
        self.session.send(message, &mut self.out);
    }
}
