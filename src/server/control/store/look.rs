//! Reading the store: what it holds, and what has expired.

use super::revoked::REVOKED;
use super::token_family::{FAMILIES, TOKENS, Token, TokenFamilyId};
use super::{Change, Store, StoreError};
use redb::{ReadableDatabase, ReadableTable};

/// The most families ended in one change, if many have expired.
const SWEEP: usize = 256;

impl Store {
    /// Whether such a token exists, used or not. Guesses end here, without a change on disk.
    pub fn knows(&self, token: &Token) -> Result<bool, StoreError> {
        self.with(|database| {
            let reading = database.begin_read()?;
            let tokens = reading.open_table(TOKENS)?;
            Ok(tokens.get(&token.hash())?.is_some())
        })
    }

    /// Ends the families that have expired; returns how many. Looks at every family.
    pub fn sweep_families(&self, now: u64) -> Result<usize, StoreError> {
        let expired = self.with(|database| {
            let reading = database.begin_read()?;
            let families = reading.open_table(FAMILIES)?;
            let mut expired = Vec::new();
            for entry in families.iter()? {
                let (id, row) = entry?;
                if row.value().6 <= now {
                    expired.push(TokenFamilyId(*id.value()));
                }
            }
            Ok(expired)
        })?;
        for some in expired.chunks(SWEEP) {
            self.change(|change: &Change<'_>| {
                let mut families = change.families()?;
                for id in some {
                    // A family used since then stays.
                    if families
                        .family(*id)?
                        .is_some_and(|family| family.expires <= now)
                    {
                        families.end(*id)?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(expired.len())
    }

    /// All stored revocations, each with the time at which it is forgotten.
    pub fn revocations(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.with(|database| {
            let reading = database.begin_read()?;
            let table = reading.open_table(REVOKED)?;
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (revocation, forget_at) = entry?;
                all.push((revocation.value().to_owned(), forget_at.value()));
            }
            Ok(all)
        })
    }
}
