//! The ledger: what clients make a shard hold, as values that carry their own charge.
//!
//! A [`Charge`] is made when memory is taken and gives itself back when it is dropped, so that
//! none can be given back twice or forgotten on some way out. Three kinds of memory are told
//! apart, by how often their charge changes:
//!
//! | memory | its charge |
//! |---|---|
//! | chunks of outboxes, reassembly and TLS | their capacity, counted by the [`pool`](crate::broker::context::pool) that lends them: no more than an addition on the way of a message |
//! | a message that several hold | lies with the message's bytes, whoever holds them: outboxes, pending queues, trails, fan-outs, batches of the mesh, workers |
//! | what a connection or the shard has in tables: stations, answers that wait, the interest map | a `Charge` of its owner's, brought in line with what it holds |
//!
//! So a large message is charged once, however many slow subscribers it waits for, and each
//! holder is charged for its entry alone. It is charged to the shard that took it from its
//! publisher, and given back by whichever shard drops it last: the account of messages is
//! atomic, and touched when such a message comes and goes, not when it is handed on.
//!
//! What is retained has an account of its own, with a bound of its own. A reader to whom it
//! is brought holds the same bytes: it goes on being counted there, even if another takes its
//! place meanwhile, until the last reader has it.
//!
//! Who holds much of it is known as well: see `pressure`.

use crate::base::limits::SHARED_MESSAGE_BYTES;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[derive(Debug, Default)]
struct Account(AtomicUsize);

/// One shard's accounts. A clone is the same accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    lent: Arc<Account>,
    retained: Arc<Account>,
}

/// So many bytes on an account, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    /// None: nothing was ever charged.
    account: Option<Arc<Account>>,
    bytes: usize,
}

impl Account {
    fn charge(self: &Arc<Account>, bytes: usize) -> Charge {
        self.0.fetch_add(bytes, Relaxed);
        Charge {
            account: Some(self.clone()),
            bytes,
        }
    }

    fn share(self: &Arc<Account>, message: Bytes) -> Bytes {
        let charge = self.charge(message.len() + SHARED_MESSAGE_BYTES);
        Bytes::from_owner(Shared {
            message,
            _charge: charge,
        })
    }
}

impl Charge {
    /// Brings it in line with what is held now.
    pub(in crate::broker) fn set(&mut self, ledger: &Ledger, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        match &self.account {
            Some(account) if Arc::ptr_eq(account, &ledger.lent) => {
                if bytes > self.bytes {
                    account.0.fetch_add(bytes - self.bytes, Relaxed);
                } else {
                    account.0.fetch_sub(self.bytes - bytes, Relaxed);
                }
                self.bytes = bytes;
            }
            // It has moved here from another shard.
            _ => *self = ledger.lent.charge(bytes),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.0.fetch_sub(self.bytes, Relaxed);
        }
    }
}

/// What owns the bytes of a message that several hold.
struct Shared {
    message: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Ledger {
    /// The same message, charged for as long as anybody holds what this gives.
    pub(in crate::broker) fn share(&self, message: Bytes) -> Bytes {
        self.lent.share(message)
    }

    /// Likewise on the account of what is retained.
    pub(in crate::broker) fn share_retained(&self, message: Bytes) -> Bytes {
        self.retained.share(message)
    }

    /// Bytes of all charges, those of retained messages aside.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.lent.0.load(Relaxed)
    }

    /// Bytes of retained messages, those included that only readers still hold.
    pub(in crate::broker) fn retained_bytes(&self) -> usize {
        self.retained.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_charged_once_until_the_last_holder_drops_it() {
        let ledger = Ledger::default();
        let message = Bytes::from(vec![7; 1000]);
        let shared = ledger.share(message.clone());
        assert_eq!(shared.as_ptr(), message.as_ptr(), "not copied");
        let holders = vec![shared; 100];
        assert_eq!(ledger.bytes(), 1000 + SHARED_MESSAGE_BYTES);
        // The last of them on another thread.
        std::thread::spawn(move || drop(holders)).join().unwrap();
        assert_eq!(ledger.bytes(), 0);

        let (retained, reader) = {
            let retained = ledger.share_retained(message);
            (retained.clone(), retained)
        };
        drop(retained);
        let counted = (ledger.bytes(), ledger.retained_bytes());
        assert_eq!(counted, (0, 1000 + SHARED_MESSAGE_BYTES));
        drop(reader);
        assert_eq!(ledger.retained_bytes(), 0);
    }

    #[test]
    fn a_charge_follows_what_is_held_and_moves_with_its_owner() {
        let (here, there) = (Ledger::default(), Ledger::default());
        let mut charge = Charge::default();
        for bytes in [0, 500, 20, 20, 300] {
            charge.set(&here, bytes);
            assert_eq!((here.bytes(), charge.bytes()), (bytes, bytes));
        }
        charge.set(&there, 100);
        assert_eq!((here.bytes(), there.bytes()), (0, 100));
        drop(charge);
        assert_eq!(there.bytes(), 0);
    }
}
