//! The peer of a connection as access control sees it: who it is, what it may do and until when,
//! how much it has sent, and its address.
//!
//! It belongs to the transport: when the transport moves to the session it resumes, the principal
//! moves with it. Boxed, because on a server without authentication most connections have none.

use crate::auth::bucket::Limit;
use crate::auth::tally::Shown;
use crate::auth::{Grant, Identity, Rights, Who};
use crate::base::clock::Instant;
use crate::base::limits::EXPIRY_GRACE_S;
use crate::proto::encoded::Encoded;
use crate::proto::kind::Class;
use crate::wire::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Principal {
    pub(in crate::broker) credential: Option<Credential>,
    /// The number of the outstanding request to the issuer: until the answer, the connection
    /// handles no more input. 0: none.
    pub(in crate::broker) asking: u64,
    /// The credential of its last AUTH, for counting failures.
    pub(in crate::broker) shown: Option<Shown>,
    /// A worker is checking one of its messages: until then the connection handles no more input.
    pub(in crate::broker) checking: bool,
    /// It has exceeded its rate: it handles no more input until this time. `ZERO`: it has not.
    pub(in crate::broker) limited_until: Instant,
    /// When its token buckets for messages and for bytes will be full again.
    pub(in crate::broker) messages: Instant,
    pub(in crate::broker) bytes: Instant,
    /// The same for repeated AUTHs.
    pub(in crate::broker) auths: Instant,
    /// Its address, if connections are counted by address.
    pub(crate) address: Option<IpAddr>,
}

/// What AUTH has given a connection.
pub(in crate::broker) struct Credential {
    pub(in crate::broker) identity: Identity,
    pub(in crate::broker) rights: Arc<Rights>,
    pub(in crate::broker) expires: Instant,
    /// These rights are narrower than earlier ones: deliveries are checked too.
    pub(in crate::broker) narrowed: bool,
}

impl Credential {
    pub(in crate::broker) fn new(grant: Grant, now: Instant, now_unix: u64) -> Credential {
        Credential {
            expires: deadline(grant.expires, now, now_unix),
            identity: grant.identity,
            rights: grant.rights,
            narrowed: false,
        }
    }
}

impl Default for Principal {
    fn default() -> Principal {
        Principal {
            credential: None,
            asking: 0,
            shown: None,
            checking: false,
            limited_until: Instant::ZERO,
            messages: Instant::ZERO,
            bytes: Instant::ZERO,
            auths: Instant::ZERO,
            address: None,
        }
    }
}

impl Principal {
    /// Takes one message of this size out of its buckets.
    ///
    /// # Errors
    /// When it may send again.
    pub(in crate::broker) fn spend(
        &mut self,
        messages: Limit,
        bytes: Limit,
        len: usize,
        now: Instant,
    ) -> Result<(), Instant> {
        let count = messages.spend(&mut self.messages, 1, now);
        let volume = bytes.spend(&mut self.bytes, len as u64, now);
        match (count, volume) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(at), Ok(())) | (Ok(()), Err(at)) => Err(at),
            (Err(one), Err(other)) => Err(one.max(other)),
        }
    }

    /// The next time it needs attention.
    pub(in crate::broker) fn deadline(&self) -> Instant {
        let expires = self
            .credential
            .as_ref()
            .map_or(Instant::NEVER, |credential| credential.expires);
        match self.limited_until {
            Instant::ZERO => expires,
            until => expires.min(until),
        }
    }

    /// The credential has expired.
    pub(in crate::broker) fn has_expired(&self, now: Instant) -> bool {
        self.credential
            .as_ref()
            .is_some_and(|credential| credential.expires <= now)
    }

    pub(in crate::broker) fn waits(&self) -> bool {
        self.asking != 0 || self.checking || self.limited_until != Instant::ZERO
    }
}

/// Whose rights are checked: the credential from AUTH, and the name the connection gave itself.
/// Without authentication everything is allowed.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Bearer<'a> {
    pub(in crate::broker) credential: Option<&'a Credential>,
    pub(in crate::broker) session: &'a Session,
}

impl Bearer<'_> {
    pub(in crate::broker) fn may_publish(self, topic: &str) -> bool {
        self.may(|rights, who| rights.may_publish(topic, who))
    }

    pub(in crate::broker) fn may_subscribe(self, filter: &str) -> bool {
        self.may(|rights, who| rights.may_subscribe(filter, who))
    }

    pub(in crate::broker) fn may_serve(self, service: &str) -> bool {
        self.may(|rights, who| rights.may_serve(service, who))
    }

    #[inline]
    pub(in crate::broker) fn may_request(self, service: &str) -> bool {
        self.may(|rights, who| rights.may_request(service, who))
    }

    #[inline]
    fn may(self, check: impl FnOnce(&Rights, Who<'_>) -> bool) -> bool {
        let Some(credential) = self.credential else {
            return true;
        };
        let who = Who {
            principal: &credential.identity.principal,
            client_id: self.session.client_id(),
        };
        check(&credential.rights, who)
    }

    /// Its rights were narrowed: deliveries are checked one by one.
    pub(in crate::broker) fn is_narrowed(self) -> bool {
        self.credential
            .is_some_and(|credential| credential.narrowed)
    }

    /// Whether its rights cover a counted message that a session has kept. A RESPONSE is always
    /// covered: it answers a request of the session's own principal.
    pub(in crate::broker) fn may_have(self, message: Encoded<'_>) -> bool {
        let (Some(kind), Some(envelope)) = (message.kind(), message.envelope()) else {
            return false;
        };
        match kind.class() {
            Class::Publication => self.may_subscribe(envelope.name),
            Class::Request => self.may_serve(envelope.name),
            Class::Response => true,
            // These are never counted.
            Class::Change(_) | Class::Control(_) => false,
        }
    }

    /// Whether it may receive publications on this topic now.
    pub(in crate::broker) fn may_receive(self, topic: &str) -> bool {
        !self.is_narrowed() || self.may_subscribe(topic)
    }
}

/// When a credential that expires at this Unix second ends its connection: at that time, or a
/// little later if it was accepted within the leeway for clock skew.
fn deadline(expires: Option<u64>, now: Instant, now_unix: u64) -> Instant {
    match expires {
        None => Instant::NEVER,
        Some(at) if at > now_unix => now + Duration::from_secs(at - now_unix),
        Some(at) => now + Duration::from_secs((at + EXPIRY_GRACE_S).saturating_sub(now_unix)),
    }
}
