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

/// How many asks may wait for the control thread.
pub const ASKS_MAX: usize = 1024;

/// One AUTH that the control thread has to answer.
pub struct Ask {
    /// The connection's shard, which gets the answer.
    pub shard: ShardId,
    pub key: Key,
    /// Distinguishes an answer that is still expected from a late one.
    pub number: u64,
    /// For the log.
    pub client_id: Option<Box<str>>,
    pub kind: AskKind,
}

/// No `Debug`: a refresh token is in it.
pub enum AskKind {
    /// The id of an API key whose secret the shard has checked.
    ApiKey { id: Box<str> },
    /// The token as AUTH carried it.
    Refresh { token: Box<[u8]> },
}

/// The content of AUTH_OK, and the connection's grant.
pub struct TokenPair {
    /// The grant, as if the access token had been presented.
    pub grant: Grant,
    pub access_token: String,
    pub refresh_token: String,
    /// Lifetime of the access token, at least 1.
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
    /// Takes an ask, or returns it because too many wait.
    fn post(&self, ask: Ask) -> Result<(), Ask>;
    /// Records that a token named an unknown key; empty: it named none, and no key fits.
    fn want_key(&self, name: &str);
}

impl Asks {
    pub fn new(desk: impl Desk + 'static) -> Asks {
        Asks(Arc::new(desk))
    }

    /// Posts an ask; returns it if [`ASKS_MAX`] wait already or the control thread has ended.
    pub fn post(&self, ask: Ask) -> Result<(), Ask> {
        self.0.post(ask)
    }

    /// Reports that a token named an unknown key: the key set is fetched again unless that has just
    /// happened. To be called for every such token, however many there are.
    pub fn want_key(&self, name: &str) {
        self.0.want_key(name);
    }
}
