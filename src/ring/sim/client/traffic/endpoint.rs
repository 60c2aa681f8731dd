//! The client's end of the protocol.

use crate::proto::message::Message;
use crate::proto::session::Session;

/// A protocol session and the output that waits to be written.
pub(super) struct Endpoint {
    pub(super) session: Session,
    pub(super) out: Vec<u8>,
}

impl Endpoint {
    pub(super) fn send(&mut self, message: &Message<'_>) {
        self.session.send(message, &mut self.out);
    }
}
