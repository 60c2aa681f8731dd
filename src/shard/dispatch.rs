//! What a session hands out goes to whom it is for: requests to services, the rest to where
//! it is handled or refused.

use super::line::Line;
use super::outbox::Writer;
use super::resource::Resources;
use super::service::Services;
use crate::base::reason::Reason;
use crate::metrics::counter::Counter;
use crate::proto::error::{Code, Refusal};
use crate::proto::message::{Message, MessageType};
use crate::proto::session::Event;

/// Acts on what the session hands out. The reason, when that ends the connection.
#[inline]
pub(super) fn dispatch(
    event: &Event<'_>,
    line: &mut Line,
    services: &mut Services,
    resources: &mut Resources,
) -> Option<Reason> {
    match event {
        Event::Message(Message::Envelope(MessageType::Request, request)) => {
            services.call(request, line, resources);
            None
        }
        Event::Handled | Event::Established(_) => None,
        Event::Message(message) => dispatch_rare(message, line, resources),
        Event::PeerClosed { .. } if line.calls_open > 0 => None,
        Event::PeerClosed { .. } => {
            line.finish(resources);
            Some(Reason::PeerClose)
        }
        Event::Refused { .. } => Some(Reason::PeerRefused),
        Event::Ended(reason) => Some(*reason),
    }
}

/// Messages that need routing or identities, which this server does not have yet.
#[cold]
fn dispatch_rare(
    message: &Message<'_>,
    line: &mut Line,
    resources: &mut Resources,
) -> Option<Reason> {
    let mut out = Writer {
        outbox: &mut line.outbox,
        pool: &mut resources.pool,
    };
    let event = match message {
        Message::Envelope(MessageType::Response, _) => {
            resources.counters.add(Counter::ResponsesUnasked, 1);
            return None;
        }
        Message::Envelope(_, envelope) => {
            let text = "this server does not route topics";
            line.session
                .error(Code::Forbidden, envelope.id, text, resources.now, &mut out)
        }
        Message::Session { .. } => {
            let text = "this server keeps no sessions";
            line.session
                .error(Code::SessionUnknown, 0, text, resources.now, &mut out)
        }
        _ => {
            let text = "there is no session to acknowledge messages of";
            let refusal = Refusal::new(Code::Unexpected, text);
            line.session.refuse(&refusal, &mut out)
        }
    };
    match event {
        Event::Ended(reason) => Some(reason),
        _ => None,
    }
}
