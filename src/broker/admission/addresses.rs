//! Admission: which addresses may connect, and how often. Shared by all shards, because otherwise
//! the limit for an address would be multiplied by the number of shards; so it has a lock, which is
//! taken once per connection and once or twice per AUTH, never for a message.

use crate::auth::address::AccessList;
use crate::auth::tally::{Shown, Tally, Turned};
use crate::base::clock::Instant;
use crate::proto::error::{Code, Refusal};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct Admission {
    list: AccessList,
    tally: Mutex<Tally>,
}

impl Admission {
    pub fn new(list: AccessList, tally: Tally) -> Admission {
        Admission {
            list,
            tally: Mutex::new(tally),
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections counted at admission; 0 where connections are not limited.
    pub fn connections(&self) -> u64 {
        self.tally().connections()
    }

    /// # Errors
    /// Why a connection from this address is refused.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        if !self.list.admits(address) {
            let text = "connections from your address are not allowed";
            return Err(Refusal::new(Code::AddressDenied, text));
        }
        let turned = self.tally().admit(address, now);
        turned.map_err(|turned| match turned {
            Turned::Connections => {
                let text = "too many connections from your address";
                Refusal::new(Code::TooManyConnections, text)
            }
            Turned::Connects(_) => {
                let text = "too many new connections from your address; wait a second";
                Refusal::new(Code::RateLimited, text)
            }
        })
    }

    /// Looks up a credential shown from this address, with the known API key `id` if it claims to
    /// be one. True: too many failures, so it is refused unseen.
    pub(in crate::broker) fn look(
        &self,
        address: IpAddr,
        id: Option<&str>,
        credential: &[u8],
        now: Instant,
    ) -> (Shown, bool) {
        let tally = self.tally();
        let shown = tally.shown(address, id, credential);
        (shown, tally.barred_until(&shown, now).is_some())
    }

    /// Counts a failure. Returns whether its address is now over its budget.
    pub(in crate::broker) fn note_failure(&self, shown: &Shown, now: Instant) -> bool {
        self.tally().fail(shown, now)
    }

    /// A connection that was admitted has ended.
    pub(crate) fn leave(&self, address: IpAddr) {
        self.tally().leave(address);
    }
}
