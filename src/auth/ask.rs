//! Requests of a shard to the control thread, and the answer: a pair of tokens.
//!
//! The shard has checked what it can check itself: an API key's secret. Generating tokens,
//! exchanging refresh tokens and writing both to disk takes milliseconds, so the control thread
//! does it. The answer arrives as a command.
//!
//! The queue to it is bounded. When it is full, the shard answers OVERLOADED, which is not
//! fatal: the credential was not at fault, and the client may present it again within its time
//! to authenticate.

use super::denied::Refused;
use super::identity::Grant;
use crate::base::id::{Key, ShardId};
use std::fmt;
use std::sync::Arc;

/// Asks that may wait for the control thread.
pub const ASKS_MAX: usize = 1024;

/// One AUTH that the control thread has to answer.
pub struct Ask {
    /// Where the connection is, and so the answer goes.
    pub shard: ShardId,
    pub key: Key,
    /// Tells an answer that is still wanted from one that comes too late.
    pub number: u64,
    /// For the log.
    pub client_id: Option<Box<str>>,
    pub kind: AskKind,
}

/// No `Debug`: a refresh token is in it.
pub enum AskKind {
    /// The id of an API key whose secret the shard has checked.
    ApiKey { id: Box<str> },
    /// As AUTH brought it.
    Refresh { token: Box<[u8]> },
}

/// What AUTH_OK says, and what it means for the connection.
pub struct TokenPair {
    /// As if the access token had been shown.
    pub grant: Grant,
    pub access_token: String,
    pub refresh_token: String,
    /// Of the access token, at least 1.
    pub expires_in_s: u32,
}

impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TokenPair");
        shown.field("grant", &self.grant);
        shown.field("expires_in_s", &self.expires_in_s);
        shown.finish_non_exhaustive()
    }
}

pub type Answer = Result<TokenPair, Refused>;

/// The way to the control thread. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Asks(Arc<dyn Desk>);

/// The control thread's end of it.
pub trait Desk: Send + Sync {
    /// Takes an ask, or gives it back because too many wait.
    fn post(&self, ask: Ask) -> Result<(), Ask>;
    /// Notes that a token named a key that is not known; empty: none, and none serves.
    fn want_key(&self, name: &str);
}

impl Asks {
    pub fn new(desk: impl Desk + 'static) -> Asks {
        Asks(Arc::new(desk))
    }

    /// Asks, unless [`ASKS_MAX`] wait already or the control thread has ended: then the ask
    /// comes back.
    pub fn post(&self, ask: Ask) -> Result<(), Ask> {
        self.0.post(ask)
    }

    /// Says that a token named a key that is not known: the key set is fetched again if that
    /// has not just happened. To be called for each such token, however many.
    pub fn want_key(&self, name: &str) {
        self.0.want_key(name);
    }
}
