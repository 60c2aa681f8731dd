//! The audit: compares what is charged to a shard with what is held. For tests, which may call it
//! between any two turns.

use crate::broker::peers::outbox::ENTRY_BYTES;
use crate::ring::driver::Driver;
use crate::shard::state::Shard;

impl<D: Driver> Shard<D> {
    /// Compares charges with holdings. `sending`: bytes of lent chunks the driver has, and the
    /// number of shared chunks.
    ///
    /// # Errors
    /// What does not agree.
    pub fn audit(&self, sending: (usize, usize)) -> Result<(), String> {
        let broker = &self.broker;
        let pool = &broker.resources.pool;
        let (mut lent, mut charged) = (sending.0 + sending.1 * ENTRY_BYTES, 0);
        for (key, connection) in broker.connections.iter() {
            lent += connection.transport.held_bytes();
            lent += self.streams.of(key.slot).held_bytes();
            let Some(state) = &connection.member.state else {
                continue;
            };
            let (says, holds) = (state.charge.bytes(), state.cost_bytes());
            if says != holds {
                return Err(format!("{key} is charged {says} bytes and holds {holds}"));
            }
            charged += says + state.will.as_ref().map_or(0, |will| will.charge.bytes());
        }
        if lent != pool.lent_bytes() {
            let counted = pool.lent_bytes();
            return Err(format!(
                "{counted} bytes of chunks are counted, {lent} lent"
            ));
        }
        let (says, entries) = (broker.table_charge.bytes(), broker.entry_bytes());
        if says < entries {
            return Err(format!(
                "tables are charged {says} bytes of at least {entries}"
            ));
        }
        charged += broker.mesh_charge.bytes() + says;
        let wills = broker.legacies.wills.iter();
        charged += wills.map(|(_, will)| will.charge.bytes()).sum::<usize>();
        // The rest belongs to messages, which may be anywhere on their way.
        let all = pool.ledger.bytes();
        if charged > all {
            return Err(format!("the ledger has {all} bytes of at least {charged}"));
        }
        Ok(())
    }
}
