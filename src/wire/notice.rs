//! What a client is told besides messages and answers to its requests.

use crate::base::limits::SESSION_KEY_BYTES;
use crate::proto::error::Refusal;

#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The operation of this id is done.
    Done { id: u32 },
    /// It is not, and the session goes on, unless there were too many of these.
    Refused { id: u32, refusal: &'a Refusal },
    /// Who it is from now on.
    Authenticated {
        /// 0: for ever.
        expires_in_s: u32,
        principal: &'a str,
        /// Empty where no pair of tokens was asked for.
        access_token: &'a [u8],
        refresh_token: &'a [u8],
    },
    /// It has a session; a `resumed` one goes on behind the last PUBLISH of it that was taken.
    Session {
        key: [u8; SESSION_KEY_BYTES],
        resumed: bool,
        last_publish_id: u32,
    },
    /// The server ends within `deadline_ms`: it may come back (here or elsewhere) after
    /// `reconnect_after_ms`.
    Draining {
        deadline_ms: u32,
        reconnect_after_ms: u32,
    },
}
