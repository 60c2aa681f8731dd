//! The types of messages, their names, and which side may send them (PROTOCOL.md §2).

macro_rules! message_types {
    ($($name:ident = $value:literal,)*) => {
        /// The type of a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum MessageType { $($name = $value,)* }

        impl MessageType {
            pub const ALL: &'static [MessageType] = &[$(MessageType::$name,)*];

            #[inline]
            pub const fn from_wire(byte: u8) -> Option<MessageType> {
                match byte { $($value => Some(MessageType::$name),)* _ => None }
            }
        }
    };
}

message_types! {
    Ping = 0x01,
    Pong = 0x02,
    Close = 0x03,
    Error = 0x04,
    Ok = 0x05,
    Auth = 0x06,
    AuthOk = 0x07,
    Drain = 0x08,
    Ack = 0x09,
    Session = 0x0A,
    SessionOk = 0x0B,
    Publish = 0x10,
    Subscribe = 0x11,
    Unsubscribe = 0x12,
    Will = 0x13,
    Request = 0x20,
    Response = 0x21,
    Serve = 0x22,
    Unserve = 0x23,
}

impl MessageType {
    /// The type in the header these bytes begin with.
    #[inline]
    pub fn of(message: &[u8]) -> Option<MessageType> {
        MessageType::from_wire(*message.get(3)?)
    }

    /// Its name in PROTOCOL.md.
    pub const fn name(self) -> &'static str {
        use MessageType::*;
        match self {
            Ping => "PING",
            Pong => "PONG",
            Close => "CLOSE",
            Error => "ERROR",
            Ok => "OK",
            Auth => "AUTH",
            AuthOk => "AUTH_OK",
            Drain => "DRAIN",
            Ack => "ACK",
            Session => "SESSION",
            SessionOk => "SESSION_OK",
            Publish => "PUBLISH",
            Subscribe => "SUBSCRIBE",
            Unsubscribe => "UNSUBSCRIBE",
            Will => "WILL",
            Request => "REQUEST",
            Response => "RESPONSE",
            Serve => "SERVE",
            Unserve => "UNSERVE",
        }
    }

    /// Whether its body is an envelope: all types from 0x10 on.
    #[inline]
    pub const fn has_envelope(self) -> bool {
        self as u8 >= MessageType::Publish as u8
    }

    /// Whether a client may send it; all others are the server's alone.
    pub const fn from_client(self) -> bool {
        use MessageType::*;
        !matches!(self, Error | Ok | AuthOk | Drain | SessionOk)
    }

    /// Whether a server may send it.
    pub const fn from_server(self) -> bool {
        use MessageType::*;
        !matches!(
            self,
            Auth | Ack | Session | Subscribe | Unsubscribe | Will | Serve | Unserve
        )
    }
}
