//! Why a connection ended: exactly one reason is counted for each that was opened, so that
//! the reasons sum to connections opened minus connections open.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// The one reason a connection ended for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The reason's name in logs, statistics and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)* }
            }
        }
    };
}

reasons! {
    /// The peer sent CLOSE.
    PeerClose = "peer_close",
    /// The peer ended its stream without CLOSE.
    PeerEof = "peer_eof",
    /// The connection broke: reset, timed out or unreachable.
    PeerReset = "peer_reset",
    /// The peer refused the handshake with RST.
    PeerRefused = "peer_refused",
    Malformed = "malformed",
    BadChecksum = "bad_checksum",
    UnsupportedVersion = "unsupported_version",
    UnknownType = "unknown_type",
    TooLarge = "too_large",
    Unexpected = "unexpected",
    HandshakeTimeout = "handshake_timeout",
    HeartbeatTimeout = "heartbeat_timeout",
    FrameTimeout = "frame_timeout",
    AuthRequired = "auth_required",
    AuthFailed = "auth_failed",
    AuthExpired = "auth_expired",
    Forbidden = "forbidden",
    AddressDenied = "address_denied",
    Revoked = "revoked",
    TlsRequired = "tls_required",
    /// The TLS handshake failed, or a record after it.
    TlsFailed = "tls_failed",
    RateLimited = "rate_limited",
    TooManyConnections = "too_many_connections",
    TooManySubscriptions = "too_many_subscriptions",
    SlowConsumer = "slow_consumer",
    Overloaded = "overloaded",
    TooManyRequests = "too_many_requests",
    /// The server could not check its credential: the client may retry.
    Unavailable = "unavailable",
    SessionTaken = "session_taken",
    /// More than ten operations a second went wrong.
    TooManyErrors = "too_many_errors",
    /// The server is draining: the connection got DRAIN and ended in order.
    Drained = "drained",
    /// The drain's deadline, or a second signal, ended it.
    Shutdown = "shutdown",
    /// An operator ended it.
    Kicked = "kicked",
    Internal = "internal",
}

impl Reason {
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_reason_has_its_own_counter_and_label() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(i, r)| r.index() == i));
    }
}
