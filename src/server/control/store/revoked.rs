//! Revocations on disk: each a line of JSON as it was requested, and until when it is kept.

use super::error::StoreError;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

/// By the revocation: Unix seconds from which it is forgotten.
pub(super) const REVOKED: TableDefinition<&str, u64> = TableDefinition::new("revocations");

/// The table, within a change.
pub struct Revoked<'t>(Table<'t, &'static str, u64>);

impl<'t> Revoked<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Revoked<'t>, StoreError> {
        Ok(Revoked(transaction.open_table(REVOKED)?))
    }

    /// Stores a revocation; one that exists already is kept until the later of both times.
    pub fn insert(&mut self, revocation: &str, forget_at: u64) -> Result<(), StoreError> {
        let kept = self.0.get(revocation)?.map(|until| until.value());
        let until = kept.map_or(forget_at, |kept| kept.max(forget_at));
        self.0.insert(revocation, until)?;
        Ok(())
    }

    /// Removes those that are due; returns how many.
    pub fn forget(&mut self, now: u64) -> Result<usize, StoreError> {
        let mut forgotten = 0;
        self.0.retain(|_, forget_at| {
            let stays = forget_at > now;
            forgotten += usize::from(!stays);
            stays
        })?;
        Ok(forgotten)
    }
}
