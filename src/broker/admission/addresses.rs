//! Admission: which addresses may come, and how often. One for all shards, because a limit
//! for an address would otherwise be as many times as high as there are shards; so it has a
//! lock, which is taken once for each connection and once or twice for each AUTH, never for a
//! message.

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

    /// Connections that are counted at admission: none where connections are not limited.
    pub fn connections(&self) -> u64 {
        self.tally().connections()
    }

    /// # Errors
    /// Why a connection from there may not be.
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

    /// A credential shown from there, of the known API key `id` if it claims to be one; and
    /// whether it is refused unseen, because too much was wrong.
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

    /// Notes that it was wrong; whether its address is over its budget.
    pub(in crate::broker) fn note_failure(&self, shown: &Shown, now: Instant) -> bool {
        self.tally().fail(shown, now)
    }

    /// A connection that was admitted has ended.
    pub(crate) fn leave(&self, address: IpAddr) {
        self.tally().leave(address);
    }
}
