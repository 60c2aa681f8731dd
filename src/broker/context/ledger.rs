//! The ledger: the memory that clients make a shard hold, as values that carry their own charge.
//!
//! A [`Charge`] is made when memory is taken and returns its bytes when it is dropped, so no charge
//! can be returned twice or forgotten on some exit path. Three kinds of memory are distinguished by
//! how often their charge changes:
//!
//! | memory | its charge |
//! |---|---|
//! | chunks of outboxes, reassembly and TLS | their capacity, counted by the [`pool`](crate::broker::context::pool) that lends them: at most one addition on a message's path |
//! | a message with several holders | travels with the message's bytes, whoever holds them: outboxes, pending queues, trails, fan-outs, batches of the mesh, workers |
//! | tables of a connection or of the shard: client states, waiting answers, the interest map | one `Charge` per owner, set to what the owner holds |
//!
//! So a large message is charged once, however many slow subscribers it waits for, and each holder
//! is charged only for its entry. The shard that received it from its publisher is charged, and
//! whichever shard drops it last returns the charge: the account for messages is atomic, and is
//! touched when such a message is created and freed, not when it is handed on.
//!
//! Retained messages have an account of their own with a bound of its own. A reader that is being
//! sent one holds the same bytes: they stay on that account until the last reader has them, even if
//! the message has been replaced meanwhile.
//!
//! `pressure` knows who holds much of it.

use crate::base::limits::SHARED_MESSAGE_BYTES;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[derive(Debug, Default)]
struct Account(AtomicUsize);

/// The accounts of one shard. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    lent: Arc<Account>,
    retained: Arc<Account>,
}

/// A number of bytes on an account, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    /// `None`: nothing was ever charged.
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
    /// Sets the charge to what is held now.
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
            // The owner has moved here from another shard.
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

/// Owns the bytes of a message with several holders.
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
    /// The same message, charged for as long as anyone holds the result.
    pub(in crate::broker) fn share(&self, message: Bytes) -> Bytes {
        self.lent.share(message)
    }

    /// The same, on the account of retained messages.
    pub(in crate::broker) fn share_retained(&self, message: Bytes) -> Bytes {
        self.retained.share(message)
    }

    /// Bytes of all charges except those of retained messages.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.lent.0.load(Relaxed)
    }

    /// Bytes of retained messages, including replaced ones that readers still hold.
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
        // The last holder is on another thread.
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
