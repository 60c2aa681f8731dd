//! What a client asks for, whatever it said it in.

use crate::base::limits::SESSION_KEY_BYTES;
use crate::base::reason::Reason;
use crate::proto::envelope::Envelope;
use crate::proto::kind::{Change, MessageType};

/// What came of a client's bytes.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'e> {
    Publish(&'e Envelope<'e>),
    Request(&'e Envelope<'e>),
    /// The answer to a request that was brought to it.
    Respond(&'e Envelope<'e>),
    /// Of what stands at the broker in its name.
    Change(Change, &'e Envelope<'e>),
    Authenticate {
        method: u8,
        credential: &'e [u8],
    },
    /// So many messages of its session it has, in all.
    Acknowledge {
        received: u32,
    },
    /// To begin a session (a key of zeros), or to go on with one of which it has so many messages.
    Resume {
        key: &'e [u8; SESSION_KEY_BYTES],
        received: u32,
    },
    /// To end in order: what it still waits for is answered first.
    Leave,
    /// The session is over; its last message was the answer to the request of this id, and
    /// too large.
    Ended {
        reason: Reason,
        unanswered: Option<u32>,
    },
    /// What a server does not take.
    Unexpected,
    /// Nothing that the session has not done by itself.
    None,
}

impl<'e> Operation<'e> {
    /// The message it came as, if that has an envelope. Of such a client may send only so many
    /// a second (`[rate]`).
    #[inline]
    pub fn envelope(&self) -> Option<&'e Envelope<'e>> {
        match *self {
            Operation::Publish(envelope)
            | Operation::Request(envelope)
            | Operation::Respond(envelope)
            | Operation::Change(_, envelope) => Some(envelope),
            Operation::Authenticate { .. }
            | Operation::Acknowledge { .. }
            | Operation::Resume { .. }
            | Operation::Leave
            | Operation::Ended { .. }
            | Operation::Unexpected
            | Operation::None => None,
        }
    }

    /// The type that a message with an envelope is counted and traced as.
    pub fn kind(&self) -> Option<MessageType> {
        match *self {
            Operation::Publish(_) => Some(MessageType::Publish),
            Operation::Request(_) => Some(MessageType::Request),
            Operation::Respond(_) => Some(MessageType::Response),
            Operation::Change(change, _) => MessageType::from_wire(change as u8),
            Operation::Authenticate { .. }
            | Operation::Acknowledge { .. }
            | Operation::Resume { .. }
            | Operation::Leave
            | Operation::Ended { .. }
            | Operation::Unexpected
            | Operation::None => None,
        }
    }
}
