//! Wire codes and refusals: whose fault, the effect on the connection, and what is counted.
//!
//! `Code` is PROTOCOL.md §3 as a type. Every place that refuses something makes a
//! [`Refusal`]; one exhaustive match each says whether it is fatal and which close reason
//! it counts as, so that a new code cannot be forgotten.

use crate::base::reason::Reason;
use std::borrow::Cow;
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $wire:literal;)*) => {
        /// A code of PROTOCOL.md §3; the application's own (from 0x1000 on) are `Application`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code the table does not list: an application's, or a later version's.
            Application(u16),
        }

        impl Code {
            /// The codes of the table, in its order.
            pub const LISTED: &'static [Code] = &[$(Code::$name,)*];

            pub const fn from_wire(value: u16) -> Code {
                match value { $($value => Code::$name,)* other => Code::Application(other) }
            }

            pub const fn to_wire(self) -> u16 {
                match self { $(Code::$name => $value,)* Code::Application(value) => value }
            }

            /// The code's name in the protocol, `None` for an application's own.
            pub const fn listed_name(self) -> Option<&'static str> {
                match self { $(Code::$name => Some($wire),)* Code::Application(_) => None }
            }
        }
    };
}

codes! {
    Normal = 0x0000, "NORMAL";
    Malformed = 0x0001, "MALFORMED";
    BadChecksum = 0x0002, "BAD_CHECKSUM";
    UnsupportedVersion = 0x0003, "UNSUPPORTED_VERSION";
    UnknownType = 0x0004, "UNKNOWN_TYPE";
    TooLarge = 0x0005, "TOO_LARGE";
    /// Valid, but not now.
    Unexpected = 0x0006, "UNEXPECTED";
    HandshakeTimeout = 0x0007, "HANDSHAKE_TIMEOUT";
    HeartbeatTimeout = 0x0008, "HEARTBEAT_TIMEOUT";
    FrameTimeout = 0x0009, "FRAME_TIMEOUT";
    AuthRequired = 0x0101, "AUTH_REQUIRED";
    AuthFailed = 0x0102, "AUTH_FAILED";
    AuthExpired = 0x0103, "AUTH_EXPIRED";
    Forbidden = 0x0104, "FORBIDDEN";
    AddressDenied = 0x0105, "ADDRESS_DENIED";
    Revoked = 0x0106, "REVOKED";
    TlsRequired = 0x0107, "TLS_REQUIRED";
    RateLimited = 0x0201, "RATE_LIMITED";
    TooManyConnections = 0x0202, "TOO_MANY_CONNECTIONS";
    TooManySubscriptions = 0x0203, "TOO_MANY_SUBSCRIPTIONS";
    SlowConsumer = 0x0204, "SLOW_CONSUMER";
    Overloaded = 0x0205, "OVERLOADED";
    TooManyRequests = 0x0206, "TOO_MANY_REQUESTS";
    /// Something needed to check, store or pass it on is unavailable: try again.
    Unavailable = 0x0207, "UNAVAILABLE";
    NoService = 0x0301, "NO_SERVICE";
    RequestTimeout = 0x0302, "REQUEST_TIMEOUT";
    ServiceGone = 0x0303, "SERVICE_GONE";
    BadName = 0x0304, "BAD_NAME";
    SessionUnknown = 0x0305, "SESSION_UNKNOWN";
    SessionTaken = 0x0306, "SESSION_TAKEN";
    NotSubscribed = 0x0307, "NOT_SUBSCRIBED";
    /// A payload that does not conform to its topic's schema.
    BadPayload = 0x0308, "BAD_PAYLOAD";
    Draining = 0x0401, "DRAINING";
    Shutdown = 0x0402, "SHUTDOWN";
    Internal = 0x0500, "INTERNAL";
}

impl Code {
    /// Whether an ERROR with this code ends the connection (§3).
    pub const fn is_fatal(self) -> bool {
        use Code::*;
        match self {
            Malformed | BadChecksum | UnsupportedVersion | UnknownType | TooLarge | Unexpected
            | HandshakeTimeout | HeartbeatTimeout | FrameTimeout | AuthRequired | AuthFailed
            | AuthExpired | AddressDenied | Revoked | TlsRequired | TooManyConnections
            | SlowConsumer | SessionTaken | Shutdown | Internal => true,
            Normal | Forbidden | RateLimited | TooManySubscriptions | Overloaded
            | TooManyRequests | Unavailable | NoService | RequestTimeout | ServiceGone
            | BadName | SessionUnknown | NotSubscribed | BadPayload | Draining | Application(_) => {
                false
            }
        }
    }

    /// Whether a non-fatal ERROR with this code counts towards the ten a second after which the
    /// next is fatal (§3). Errors that a peer cannot foresee, or that the server's own state
    /// causes, do not count.
    pub const fn counts_as_error(self) -> bool {
        use Code::*;
        !matches!(self, BadPayload | Unavailable | Overloaded | Draining)
    }

    /// The close reason that a connection ended with this code is counted under.
    pub const fn close_reason(self) -> Reason {
        use Code::*;
        match self {
            Malformed => Reason::Malformed,
            BadChecksum => Reason::BadChecksum,
            UnsupportedVersion => Reason::UnsupportedVersion,
            UnknownType => Reason::UnknownType,
            TooLarge => Reason::TooLarge,
            Unexpected => Reason::Unexpected,
            HandshakeTimeout => Reason::HandshakeTimeout,
            HeartbeatTimeout => Reason::HeartbeatTimeout,
            FrameTimeout => Reason::FrameTimeout,
            AuthRequired => Reason::AuthRequired,
            AuthFailed => Reason::AuthFailed,
            AuthExpired => Reason::AuthExpired,
            Forbidden => Reason::Forbidden,
            AddressDenied => Reason::AddressDenied,
            Revoked => Reason::Revoked,
            TlsRequired => Reason::TlsRequired,
            RateLimited => Reason::RateLimited,
            TooManyConnections => Reason::TooManyConnections,
            TooManySubscriptions => Reason::TooManySubscriptions,
            SlowConsumer => Reason::SlowConsumer,
            Overloaded => Reason::Overloaded,
            TooManyRequests => Reason::TooManyRequests,
            Unavailable => Reason::Unavailable,
            SessionTaken => Reason::SessionTaken,
            Draining => Reason::Drained,
            Normal | Shutdown => Reason::Shutdown,
            NoService | RequestTimeout | ServiceGone | BadName | SessionUnknown | NotSubscribed
            | BadPayload => Reason::TooManyErrors,
            Internal | Application(_) => Reason::Internal,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listed_name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {:#06x}", self.to_wire()),
        }
    }
}

/// A refusal: the code for the wire and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Refusal {
    pub code: Code,
    pub text: Cow<'static, str>,
}

impl Refusal {
    pub const fn new(code: Code, text: &'static str) -> Refusal {
        Refusal {
            code,
            text: Cow::Borrowed(text),
        }
    }

    pub fn with(code: Code, text: String) -> Refusal {
        Refusal {
            code,
            text: Cow::Owned(text),
        }
    }

    pub(crate) const fn malformed(text: &'static str) -> Refusal {
        Refusal::new(Code::Malformed, text)
    }
}

/// At most `TEXT_BYTES_MAX` bytes of `text`, cut between characters.
pub(crate) fn clip(text: &str) -> &str {
    let end = text.floor_char_boundary(crate::base::limits::TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for &code in Code::LISTED {
            assert_eq!(Code::from_wire(code.to_wire()), code);
        }
        assert_eq!(Code::from_wire(0x1234), Code::Application(0x1234));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ü".repeat(200);
        assert_eq!(clip(&text).len(), 256);
        assert_eq!(clip(&format!("a{text}")).len(), 255);
    }
}
