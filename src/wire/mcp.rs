//! MCP (PROTOCOL.md): translates its session's events to operations, and notices to its messages.

use super::notice::Notice;
use super::operation::Operation;
use crate::base::clock::Instant;
use crate::base::reason::Reason;
use crate::proto::encoded::response_id;
use crate::proto::envelope::Envelope;
use crate::proto::kind::{Class, MessageType};
use crate::proto::message::Message;
use crate::proto::output::Output;
use crate::proto::session::{Event, Session};

/// The operation that an event of the session asks for; `bytes` are the message it came from.
#[inline]
pub(super) fn operation<'e>(event: &'e Event<'e>, bytes: &[u8]) -> Operation<'e> {
    match event {
        Event::Message(Message::Envelope(MessageType::Publish, envelope)) => {
            Operation::Publish(envelope)
        }
        Event::Handled | Event::Established(_) => Operation::None,
        Event::Message(Message::Envelope(kind, envelope)) => asked(*kind, envelope),
        event => rare(event, bytes),
    }
}

#[inline]
fn asked<'e>(kind: MessageType, envelope: &'e Envelope<'e>) -> Operation<'e> {
    match kind.class() {
        Class::Publication => Operation::Publish(envelope),
        Class::Request => Operation::Request(envelope),
        Class::Response => Operation::Respond(envelope),
        Class::Change(change) => Operation::Change(change, envelope),
        Class::Control(_) => {
            debug_assert!(false, "{kind:?} has no envelope");
            Operation::None
        }
    }
}

#[cold]
fn rare<'e>(event: &'e Event<'e>, bytes: &[u8]) -> Operation<'e> {
    match event {
        Event::Message(Message::Auth { method, credential }) => Operation::Authenticate {
            method: *method,
            credential,
        },
        Event::Message(Message::Ack { received }) => Operation::Acknowledge {
            received: *received,
        },
        Event::Message(Message::Session { key, received }) => Operation::Resume {
            key,
            received: *received,
        },
        Event::PeerClosed { .. } => Operation::Leave,
        Event::Refused { .. } => ended(Reason::PeerRefused, None),
        Event::Ended(Reason::TooLarge) => ended(Reason::TooLarge, response_id(bytes)),
        Event::Ended(reason) => ended(*reason, None),
        Event::Message(
            Message::Ping(_)
            | Message::Pong(_)
            | Message::Close { .. }
            | Message::Error { .. }
            | Message::Ok { .. }
            | Message::AuthOk { .. }
            | Message::Drain { .. }
            | Message::SessionOk { .. }
            | Message::Envelope(..),
        ) => Operation::Unexpected,
        Event::Handled | Event::Established(_) => Operation::None,
    }
}

fn ended(reason: Reason, unanswered: Option<u32>) -> Operation<'static> {
    Operation::Ended { reason, unanswered }
}

/// The type of the message behind an event; `None` for a frame of the handshake.
#[inline]
pub(super) fn kind(event: &Event<'_>, bytes: &[u8], was_established: bool) -> Option<MessageType> {
    match event {
        Event::Message(Message::Envelope(kind, _)) => Some(*kind),
        Event::Established(_) => None,
        _ if was_established => MessageType::of(bytes),
        _ => None,
    }
}

/// Writes a notice in MCP. Returns the reason if that ends the session.
pub(super) fn notify(
    session: &mut Session,
    notice: Notice<'_>,
    now: Instant,
    out: &mut impl Output,
) -> Option<Reason> {
    let message = match notice {
        Notice::Refused { id, refusal } => {
            return reason(session.error(refusal.code, id, &refusal.text, now, out));
        }
        Notice::Done { id } => Message::Ok { id },
        Notice::Authenticated {
            expires_in_s,
            principal,
            access_token,
            refresh_token,
        } => Message::AuthOk {
            expires_in_s,
            principal,
            access_token,
            refresh_token,
        },
        Notice::Session {
            key,
            resumed,
            last_publish_id,
        } => Message::SessionOk {
            key,
            resumed,
            last_publish_id,
        },
        Notice::Draining {
            deadline_ms,
            reconnect_after_ms,
        } => Message::Drain {
            deadline_ms,
            reconnect_after_ms,
            alternative: "",
        },
    };
    session.send(&message, out);
    None
}

/// Why the session has ended, if the event says that it has.
pub(super) fn reason(event: Event<'_>) -> Option<Reason> {
    match event {
        Event::Ended(reason) => Some(reason),
        _ => None,
    }
}
