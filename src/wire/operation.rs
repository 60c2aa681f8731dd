//! What a client asks for, independent of its protocol.

use crate::base::limits::SESSION_KEY_BYTES;
use crate::base::reason::Reason;
use crate::proto::envelope::Envelope;
use crate::proto::kind::{Change, MessageType};

/// What a client's bytes amount to.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'e> {
    Publish(&'e Envelope<'e>),
    Request(&'e Envelope<'e>),
    /// Answers a request that was forwarded to this client.
    Respond(&'e Envelope<'e>),
    /// Changes what the broker keeps for this client: subscriptions, services, will.
    Change(Change, &'e Envelope<'e>),
    Authenticate {
        method: u8,
        credential: &'e [u8],
    },
    /// The client has received this many messages of its session in total.
    Acknowledge {
        received: u32,
    },
    /// Begins a session (`key` all zeros), or resumes one of which the client has received this
    /// many messages.
    Resume {
        key: &'e [u8; SESSION_KEY_BYTES],
        received: u32,
    },
    /// Ends the connection in order: the client's open requests are answered first.
    Leave,
    /// The session has ended. `unanswered`: its last message was too large, and was the answer to
    /// the request with this id.
    Ended {
        reason: Reason,
        unanswered: Option<u32>,
    },
    /// A message that servers do not accept.
    Unexpected,
    /// Nothing left to do: the session has handled the message itself.
    None,
}

impl<'e> Operation<'e> {
    /// The type under which a message with an envelope is counted and traced, and its envelope. Only
    /// these messages count against the client's `[rate]`.
    #[inline]
    pub fn message(&self) -> Option<(MessageType, &'e Envelope<'e>)> {
        match *self {
            Operation::Publish(envelope) => Some((MessageType::Publish, envelope)),
            Operation::Request(envelope) => Some((MessageType::Request, envelope)),
            Operation::Respond(envelope) => Some((MessageType::Response, envelope)),
            Operation::Change(change, envelope) => {
                let kind = MessageType::from_wire(change as u8)?;
                Some((kind, envelope))
            }
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
