//! The message types: one table, from which everything else about them follows (PROTOCOL.md §2).
//! Each column is an allow-list: nothing is allowed by default.
//!
//! Code that distinguishes types uses a column, or matches all members of a class, never `_`. What
//! else a new type takes depends on its class: `src/ARCHITECTURE.md`, "Where to add".

/// Which side may send a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    Client,
    Server,
    Both,
}

/// What a type is for, which determines its body and how it is handled. All but [`Class::Control`]
/// have the common layout of types from 0x10 on, the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// About the connection or the session; its body has fields of its own.
    Control(Control),
    /// Goes to all subscribers; answered by OK or ERROR unless its id is 0.
    Publication,
    /// Changes what the server holds for the client (subscriptions, services, will); answered by OK
    /// or ERROR.
    Change(Change),
    /// Answered by a RESPONSE.
    Request,
    /// Answers a REQUEST; not answered itself.
    Response,
}

/// From when on a server accepts a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// From the handshake on, before the client has authenticated.
    Stranger,
    /// Once it has authenticated, even while it is on trial, when it may stay only if it resumes a
    /// session.
    Trial,
    /// Once it is authenticated and not on trial.
    Member,
}

/// Which of a client's limits a type counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// None: the session accepts it only when it expects it, or the owner bounds it.
    None,
    /// The limit on messages that the protocol answers by itself: `CONTROLS_PER_S_MAX`.
    Controls,
    /// The limits on messages and bytes per second of one connection.
    Rate,
}

/// Envelope flags.
pub const FLAG_RETAIN: u8 = 1;
pub const FLAG_HEADERS: u8 = 2;
pub const FLAG_FAILED: u8 = 4;

macro_rules! message_types {
    ($($kind:ident = $value:literal, $name:literal, $sender:ident, $class:ident, $flags:expr,
        $admission:ident, $bound:ident;)*) => {
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

            #[inline]
            pub const fn sender(self) -> Sender {
                match self { $(MessageType::$kind => Sender::$sender,)* }
            }

            #[inline]
            pub const fn class(self) -> Class {
                match self { $(MessageType::$kind => class!($class $kind),)* }
            }

            /// The envelope flags it may carry.
            #[inline]
            pub const fn flags(self) -> u8 {
                match self { $(MessageType::$kind => $flags,)* }
            }

            #[inline]
            pub const fn admission(self) -> Admission {
                match self { $(MessageType::$kind => Admission::$admission,)* }
            }

            #[inline]
            pub const fn bound(self) -> Bound {
                match self { $(MessageType::$kind => Bound::$bound,)* }
            }
        }

        members!([] [] $($class $kind)*);
    };
}

/// A row's class.
macro_rules! class {
    (Control $kind:ident) => {
        Class::Control(Control::$kind)
    };
    (Change $kind:ident) => {
        Class::Change(Change::$kind)
    };
    ($class:ident $kind:ident) => {
        Class::$class
    };
}

/// The members of the two classes that have several, gathered row by row.
macro_rules! members {
    ([$($controls:ident)*] [$($changes:ident)*] Control $kind:ident $($rest:tt)*) => {
        members!([$($controls)* $kind] [$($changes)*] $($rest)*);
    };
    ([$($controls:ident)*] [$($changes:ident)*] Change $kind:ident $($rest:tt)*) => {
        members!([$($controls)*] [$($changes)* $kind] $($rest)*);
    };
    ([$($controls:ident)*] [$($changes:ident)*] $class:ident $kind:ident $($rest:tt)*) => {
        members!([$($controls)*] [$($changes)*] $($rest)*);
    };
    ([$($controls:ident)*] [$($changes:ident)*]) => {
        /// The types of class [`Class::Control`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Control { $($controls = MessageType::$controls as u8,)* }

        /// The types of class [`Class::Change`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Change { $($changes = MessageType::$changes as u8,)* }
    };
}

#[rustfmt::skip]
message_types! {
    // value, name, sent by, class, flags, taken from, counts against
    Ping        = 0x01, "PING",        Both,   Control,     0,                          Stranger, Controls;
    Pong        = 0x02, "PONG",        Both,   Control,     0,                          Stranger, None;
    Close       = 0x03, "CLOSE",       Both,   Control,     0,                          Stranger, None;
    Error       = 0x04, "ERROR",       Server, Control,     0,                          Member,   None;
    Ok          = 0x05, "OK",          Server, Control,     0,                          Member,   None;
    Auth        = 0x06, "AUTH",        Client, Control,     0,                          Stranger, None;
    AuthOk      = 0x07, "AUTH_OK",     Server, Control,     0,                          Member,   None;
    Drain       = 0x08, "DRAIN",       Server, Control,     0,                          Member,   None;
    Ack         = 0x09, "ACK",         Client, Control,     0,                          Member,   None;
    Session     = 0x0A, "SESSION",     Client, Control,     0,                          Trial,    None;
    SessionOk   = 0x0B, "SESSION_OK",  Server, Control,     0,                          Member,   None;
    Publish     = 0x10, "PUBLISH",     Both,   Publication, FLAG_HEADERS | FLAG_RETAIN, Member,   Rate;
    Subscribe   = 0x11, "SUBSCRIBE",   Client, Change,      FLAG_HEADERS,               Member,   Rate;
    Unsubscribe = 0x12, "UNSUBSCRIBE", Client, Change,      FLAG_HEADERS,               Member,   Rate;
    Will        = 0x13, "WILL",        Client, Change,      FLAG_HEADERS | FLAG_RETAIN, Member,   Rate;
    Request     = 0x20, "REQUEST",     Both,   Request,     FLAG_HEADERS,               Member,   Rate;
    Response    = 0x21, "RESPONSE",    Both,   Response,    FLAG_HEADERS | FLAG_FAILED, Member,   Rate;
    Serve       = 0x22, "SERVE",       Client, Change,      FLAG_HEADERS,               Member,   Rate;
    Unserve     = 0x23, "UNSERVE",     Client, Change,      FLAG_HEADERS,               Member,   Rate;
}

/// The first type whose payload is an envelope, as are those of all later ones.
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

// A type's value says whether its body is an envelope, and so must its class; only envelopes
// carry flags.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const _: () = {
    let mut index = 0;
    while index < MessageType::ALL.len() {
        let kind = MessageType::ALL[index];
        let is_control = matches!(kind.class(), Class::Control(_));
        assert!(kind.has_envelope() != is_control);
        assert!(kind.flags() == 0 || !is_control);
        index += 1;
    }
};
