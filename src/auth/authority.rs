//! Everything that decides who is admitted: built from the configuration, a key set and the
//! revocations, and immutable. A change makes a new one, which shares the unchanged parts.
//!
//! What it does not do: exchange refresh tokens (the issuer does, on the control thread), or
//! tell the peer what was wrong ([`Denied::TEXT`]).

use super::certificate::Certificate;
use super::denied::{Denied, Refused};
use super::identity::{Grant, Identity, is_principal};
use super::key::ApiKeys;
use super::keyring::Keyring;
use super::revocation::Revocations;
use super::rights::Roles;
use super::token::{self, Requirements};
use crate::proto::option::{AUTH_API_KEY, AUTH_JWT, AUTH_REFRESH};
use std::sync::Arc;

/// What kind of credential an AUTH carries (PROTOCOL.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Jwt,
    ApiKey,
    Refresh,
}

impl Method {
    /// From AUTH's first byte.
    pub const fn from_wire(byte: u8) -> Option<Method> {
        match byte {
            1 => Some(Method::Jwt),
            2 => Some(Method::ApiKey),
            3 => Some(Method::Refresh),
            _ => None,
        }
    }

    pub const fn to_wire(self) -> u8 {
        match self {
            Method::Jwt => 1,
            Method::ApiKey => 2,
            Method::Refresh => 3,
        }
    }

    /// Its bit in the SYN-ACK's AUTH option.
    pub const fn bit(self) -> u8 {
        match self {
            Method::Jwt => AUTH_JWT,
            Method::ApiKey => AUTH_API_KEY,
            Method::Refresh => AUTH_REFRESH,
        }
    }
}

/// See the module's head. Cloning shares.
#[derive(Clone, Debug)]
pub struct Authority {
    roles: Arc<Roles>,
    keyring: Arc<Keyring>,
    requirements: Arc<Requirements>,
    api_keys: Arc<ApiKeys>,
    revocations: Arc<Revocations>,
}

impl Authority {
    pub fn new(
        roles: Roles,
        keyring: Keyring,
        requirements: Requirements,
        api_keys: ApiKeys,
    ) -> Authority {
        Authority {
            roles: Arc::new(roles),
            keyring: Arc::new(keyring),
            requirements: Arc::new(requirements),
            api_keys: Arc::new(api_keys),
            revocations: Arc::default(),
        }
    }

    /// The same with other keys.
    #[must_use]
    pub fn with_keyring(&self, keyring: Keyring) -> Authority {
        let keyring = Arc::new(keyring);
        Authority {
            keyring,
            ..self.clone()
        }
    }

    /// The same with other revocations.
    #[must_use]
    pub fn with_revocations(&self, revocations: Arc<Revocations>) -> Authority {
        Authority {
            revocations,
            ..self.clone()
        }
    }

    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub fn api_keys(&self) -> &ApiKeys {
        &self.api_keys
    }

    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Checks a credential: returns who presents it, and what they may do.
    ///
    /// # Errors
    /// Why it is refused, or why it cannot be checked now.
    pub fn check(
        &self,
        method: Method,
        credential: &[u8],
        now_unix: u64,
    ) -> Result<Grant, Refused> {
        match method {
            Method::Jwt => {
                let verified =
                    token::verify(credential, &self.keyring, &self.requirements, now_unix)?;
                let claims = verified.claims;
                let identity = Identity {
                    principal: claims.subject,
                    token_id: claims.token_id,
                    issued_at: claims.issued_at,
                    key_id: verified.key_id,
                    roles: self.known(&claims.roles),
                };
                Ok(self.admit(identity, Some(claims.expires))?)
            }
            Method::ApiKey => {
                let key = self.api_keys.check(credential)?;
                Ok(self.vouch(&key.principal, &key.roles, None, now_unix)?)
            }
            Method::Refresh => Err(Denied::Refresh.into()),
        }
    }

    /// A grant for a principal that was authenticated otherwise: by an API key or a client
    /// certificate. It counts as issued now.
    ///
    /// # Errors
    /// The name cannot be a principal, or is revoked.
    pub fn vouch(
        &self,
        principal: &str,
        roles: &[impl AsRef<str>],
        expires: Option<u64>,
        now_unix: u64,
    ) -> Result<Grant, Denied> {
        if !is_principal(principal) {
            return Err(Denied::Principal);
        }
        if expires.is_some_and(|expires| expires <= now_unix) {
            return Err(Denied::Expired);
        }
        let identity = Identity {
            principal: principal.into(),
            token_id: None,
            issued_at: Some(now_unix),
            key_id: None,
            roles: self.known(roles),
        };
        self.admit(identity, expires)
    }

    /// Whether an admitted identity has been revoked since.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        self.revocations.matches(identity)
    }

    /// Admits the holder of a certificate that TLS has verified.
    ///
    /// # Errors
    /// It has expired meanwhile, or was revoked.
    pub fn certify(&self, certificate: &Certificate, now_unix: u64) -> Result<Grant, Denied> {
        if certificate.expires <= now_unix {
            return Err(Denied::Expired);
        }
        let principal = &certificate.principal;
        let keys = self.api_keys.iter();
        let keys = keys.filter(|key| key.principal == *principal);
        let roles: Vec<&str> = (certificate.units.iter())
            .chain(keys.flat_map(|key| key.roles.iter()))
            .map(|role| &**role)
            .collect();
        let identity = Identity {
            principal: principal.clone(),
            token_id: Some(certificate.fingerprint.clone()),
            issued_at: Some(certificate.issued_at),
            key_id: None,
            roles: self.known(&roles),
        };
        self.admit(identity, Some(certificate.expires))
    }

    /// Keeps the roles that exist; other names in a token are dropped.
    fn known(&self, roles: &[impl AsRef<str>]) -> Box<[Box<str>]> {
        let mut known: Vec<Box<str>> = Vec::new();
        for role in roles.iter().map(AsRef::as_ref) {
            if self.roles.contains(role) && !known.iter().any(|other| **other == *role) {
                known.push(role.into());
            }
        }
        known.into()
    }

    fn admit(&self, identity: Identity, expires: Option<u64>) -> Result<Grant, Denied> {
        if self.is_revoked(&identity) {
            return Err(Denied::Revoked);
        }
        Ok(Grant {
            rights: self.roles.rights(&identity.roles),
            identity,
            expires,
        })
    }
}
