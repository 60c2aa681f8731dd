//! What shards ask the issuer, and what it answers.
//!
//! The issuer keeps refresh tokens on disk, so it lives on the control thread; a shard asks
//! through a channel and goes on, the answer comes as a command.

use super::authority::Method;
use super::identity::Grant;
use crate::base::id::{Key, ShardId};

/// An AUTH that the issuer has to decide: by API key, or by refresh token.
pub struct Ask {
    pub shard: ShardId,
    pub connection: Key,
    /// Tells a late answer from one that is still wanted.
    pub number: u64,
    pub method: Method,
    /// As it came; shown in no log.
    pub credential: Box<[u8]>,
}

/// What a good credential has brought. Its `Debug` shows no token.
pub struct Issuance {
    pub grant: Grant,
    /// Empty: none.
    pub access_token: String,
    pub refresh_token: String,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Ask");
        shown.field("shard", &self.shard);
        shown.field("connection", &self.connection);
        shown.field("method", &self.method).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Issuance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Issuance");
        shown.field("grant", &self.grant).finish_non_exhaustive()
    }
}
