//! What a client is told besides messages and answers to requests.

use crate::base::limits::SESSION_KEY_BYTES;
use crate::proto::error::Refusal;

#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The operation with this id succeeded.
    Done { id: u32 },
    /// The operation failed; the session goes on, unless there have been too many failures.
    Refused { id: u32, refusal: &'a Refusal },
    /// The client is authenticated.
    Authenticated {
        /// Lifetime of the credential; 0: unlimited.
        expires_in_s: u32,
        principal: &'a str,
        /// Empty if no token pair was requested.
        access_token: &'a [u8],
        refresh_token: &'a [u8],
    },
    /// The client has a session; if it is `resumed`, it continues behind the last of its PUBLISHes
    /// that was accepted.
    Session {
        key: [u8; SESSION_KEY_BYTES],
        resumed: bool,
        last_publish_id: u32,
    },
    /// The server ends within `deadline_ms`; the client may reconnect (here or elsewhere) after
    /// `reconnect_after_ms`.
    Draining {
        deadline_ms: u32,
        reconnect_after_ms: u32,
    },
}
