//! The types of messages: one table, of which everything else about them follows
//! (PROTOCOL.md §2). Who may send a type is said for each; nothing is allowed because nobody
//! has forbidden it. Where types are told apart all are named, never `_`, so that the
//! compiler asks what becomes of a new one.

/// Which side may send a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
    Both,
}

/// What a type's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Fields of its own.
    Fields,
    /// The one layout of all types from 0x10 on.
    Envelope,
}

macro_rules! message_types {
    ($($kind:ident = $value:literal, $name:literal, $sender:ident, $body:ident;)*) => {
        /// The type of a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum MessageType { $($kind = $value,)* }

        impl MessageType {
            pub const ALL: &'static [MessageType] = &[$(MessageType::$kind,)*];

            #[inline]
            pub const fn from_wire(byte: u8) -> Option<MessageType> {
                match byte { $($value => Some(MessageType::$kind),)* _ => None }
            }

            /// Its name in PROTOCOL.md.
            pub const fn name(self) -> &'static str {
                match self { $(MessageType::$kind => $name,)* }
            }

            pub const fn sender(self) -> Sender {
                match self { $(MessageType::$kind => Sender::$sender,)* }
            }

            #[inline]
            pub const fn body(self) -> Body {
                match self { $(MessageType::$kind => Body::$body,)* }
            }
        }
    };
}

message_types! {
    Ping        = 0x01, "PING",        Both,   Fields;
    Pong        = 0x02, "PONG",        Both,   Fields;
    Close       = 0x03, "CLOSE",       Both,   Fields;
    Error       = 0x04, "ERROR",       Server, Fields;
    Ok          = 0x05, "OK",          Server, Fields;
    Auth        = 0x06, "AUTH",        Client, Fields;
    AuthOk      = 0x07, "AUTH_OK",     Server, Fields;
    Drain       = 0x08, "DRAIN",       Server, Fields;
    Ack         = 0x09, "ACK",         Client, Fields;
    Session     = 0x0A, "SESSION",     Client, Fields;
    SessionOk   = 0x0B, "SESSION_OK",  Server, Fields;
    Publish     = 0x10, "PUBLISH",     Both,   Envelope;
    Subscribe   = 0x11, "SUBSCRIBE",   Client, Envelope;
    Unsubscribe = 0x12, "UNSUBSCRIBE", Client, Envelope;
    Will        = 0x13, "WILL",        Client, Envelope;
    Request     = 0x20, "REQUEST",     Both,   Envelope;
    Response    = 0x21, "RESPONSE",    Both,   Envelope;
    Serve       = 0x22, "SERVE",       Client, Envelope;
    Unserve     = 0x23, "UNSERVE",     Client, Envelope;
}

/// The first type whose payload is an envelope, as all behind it.
const ENVELOPE_MIN: u8 = 0x10;

impl MessageType {
    /// The type in the header these bytes begin with.
    #[inline]
    pub fn of(message: &[u8]) -> Option<MessageType> {
        MessageType::from_wire(*message.get(3)?)
    }

    /// Whether its body is an envelope: all types from 0x10 on.
    #[inline]
    pub const fn has_envelope(self) -> bool {
        self as u8 >= ENVELOPE_MIN
    }

    /// Whether a client may send it.
    #[inline]
    pub const fn from_client(self) -> bool {
        matches!(self.sender(), Sender::Client | Sender::Both)
    }

    /// Whether a server may send it.
    #[inline]
    pub const fn from_server(self) -> bool {
        matches!(self.sender(), Sender::Server | Sender::Both)
    }
}

const _: () = {
    let mut index = 0;
    while index < MessageType::ALL.len() {
        let kind = MessageType::ALL[index];
        assert!(kind.has_envelope() == matches!(kind.body(), Body::Envelope));
        index += 1;
    }
};
