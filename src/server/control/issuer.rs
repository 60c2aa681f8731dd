//! Issues tokens: a pair for an API key, a pair for a refresh token.
//!
//! All asks that wait are answered together: one change of the store, one fsync, however
//! many devices come back at once. Asks that are hopeless (a refresh token nobody has been
//! given) cost no change.
//!
//! Principal and roles are those that the API key has in the configuration now. A key that
//! is gone from it, has another secret or another principal has no families any more: what
//! it founded ends with the next use.

use super::store::family::{Families, Founder, Refused, Rotated, Token};
use super::store::{Store, StoreError, random};
use crate::auth::ask::{Answer, Ask, AskKind, TokenPair};
use crate::auth::issue::{NewToken, issue_numbered, key_id};
use crate::auth::{Authority, Denied, Grant};
use crate::server::config::Secret;
use std::collections::HashMap;
use std::sync::Arc;

/// What the configuration says of issuing.
pub struct Terms {
    pub signing_secret: Secret,
    pub access_ttl_s: u32,
    pub refresh_ttl_s: u32,
    /// Claims our tokens need so that we accept them; empty: left out.
    pub issuer: String,
    pub audience: String,
}

/// An API key of the configuration.
pub struct KnownKey {
    pub founder: Founder,
    pub roles: Box<[Box<str>]>,
}

pub struct Issuer {
    store: Arc<Store>,
    terms: Terms,
    /// By id.
    keys: HashMap<Box<str>, KnownKey>,
    /// What our access tokens name as their key.
    signing_key_id: Box<str>,
}

impl Issuer {
    pub fn new(store: Arc<Store>, terms: Terms, keys: HashMap<Box<str>, KnownKey>) -> Issuer {
        Issuer {
            store,
            signing_key_id: key_id(terms.signing_secret.expose().as_bytes()).into(),
            terms,
            keys,
        }
    }

    /// Answers asks, in their order. Blocks for the disk.
    pub fn answer(&self, authority: &Authority, asks: &[Ask], now: u64) -> Vec<Answer> {
        match self.make_all(authority, asks, now) {
            Ok(made) => {
                let signed = made.into_iter().map(|made| self.sign(made?, now));
                signed.collect()
            }
            Err(error) => {
                tracing::error!(
                    "refresh tokens cannot be kept: {error}; {} clients were denied: is the \
                     disk full?",
                    asks.len()
                );
                asks.iter().map(|_| Err(Denied::Unavailable)).collect()
            }
        }
    }

    fn make_all(
        &self,
        authority: &Authority,
        asks: &[Ask],
        now: u64,
    ) -> Result<Vec<Result<Made, Denied>>, StoreError> {
        let mut answers = Vec::with_capacity(asks.len());
        let mut hopeful = Vec::new();
        for ask in asks {
            let wanted = self.look_at(ask)?;
            // Replaced below, or never seen.
            answers.push(Err(wanted
                .as_ref()
                .err()
                .copied()
                .unwrap_or(Denied::Unavailable)));
            if let Ok(wanted) = wanted {
                hopeful.push((answers.len() - 1, wanted));
            }
        }
        if !hopeful.is_empty() {
            self.store.change(|change| {
                let mut families = change.families()?;
                for (index, wanted) in hopeful {
                    let client_id = asks[index].client_id.as_deref();
                    answers[index] = self.make(&mut families, wanted, client_id, authority, now)?;
                }
                Ok(())
            })?;
        }
        Ok(answers)
    }

    /// What can be said without changing anything.
    fn look_at(&self, ask: &Ask) -> Result<Result<Wanted<'_>, Denied>, StoreError> {
        Ok(match &ask.kind {
            AskKind::ApiKey { id } => {
                let key = self.keys.get(id).map(Wanted::Family);
                key.ok_or(Denied::UnknownApiKey)
            }
            AskKind::Refresh { token } => match Token::parse(token) {
                Some(token) if self.store.knows(&token)? => Ok(Wanted::Successor(token)),
                _ => Err(Denied::UnknownRefreshToken),
            },
        })
    }

    fn make(
        &self,
        families: &mut Families<'_>,
        wanted: Wanted<'_>,
        client_id: Option<&str>,
        authority: &Authority,
        now: u64,
    ) -> Result<Result<Made, Denied>, StoreError> {
        let ttl_s = u64::from(self.terms.refresh_ttl_s);
        let rotated = match wanted {
            Wanted::Family(key) => {
                // Before it is founded: a revoked principal gets no family.
                if let Err(denied) = self.vouch(authority, key, now) {
                    return Ok(Err(denied));
                }
                families.found(key.founder.clone(), now, ttl_s)?
            }
            Wanted::Successor(token) => match families.rotate(&token, now, ttl_s)? {
                Ok(rotated) => rotated,
                Err(Refused::Unknown) => return Ok(Err(Denied::UnknownRefreshToken)),
                Err(Refused::Expired) => return Ok(Err(Denied::Expired)),
                Err(Refused::Reused(founder)) => {
                    tracing::warn!(
                        principal = founder.principal,
                        api_key = founder.key_id,
                        client_id,
                        "a refresh token was used twice: whoever has one of its kin has to \
                         authenticate by API key again"
                    );
                    return Ok(Err(Denied::ReusedRefreshToken));
                }
            },
        };
        let Rotated {
            family,
            founder,
            token,
        } = rotated;
        let key = self.keys.get(founder.key_id.as_str());
        let granted = match key.filter(|key| key.founder == founder) {
            Some(key) => self.vouch(authority, key, now),
            None => Err(Denied::UnknownApiKey),
        };
        match granted {
            Ok(grant) => {
                let token_id = family.token_id(&random()?);
                Ok(Ok(Made {
                    grant,
                    token_id,
                    token,
                }))
            }
            Err(denied) => {
                families.end(family)?;
                Ok(Err(denied))
            }
        }
    }

    fn vouch(&self, authority: &Authority, key: &KnownKey, now: u64) -> Result<Grant, Denied> {
        let expires = now + u64::from(self.terms.access_ttl_s);
        authority.vouch(&key.founder.principal, &key.roles, Some(expires), now)
    }

    fn sign(&self, made: Made, now: u64) -> Answer {
        let Made {
            mut grant,
            token_id,
            token,
        } = made;
        let new = NewToken {
            subject: &grant.identity.principal,
            roles: &grant.identity.roles,
            issuer: &self.terms.issuer,
            audience: &self.terms.audience,
            issued_at: now,
            expires: now + u64::from(self.terms.access_ttl_s),
        };
        let secret = self.terms.signing_secret.expose().as_bytes();
        let issued = issue_numbered(secret, new, token_id).map_err(|error| {
            tracing::error!("no access token: {error}");
            Denied::Unavailable
        })?;
        grant.identity.token_id = Some(issued.token_id.into());
        grant.identity.key_id = Some(self.signing_key_id.clone());
        Ok(TokenPair {
            expires_in_s: grant.expires_in_s(now),
            grant,
            access_token: issued.token,
            refresh_token: token.text(),
        })
    }
}

/// What an ask comes to, if it comes to anything.
enum Wanted<'a> {
    Family(&'a KnownKey),
    Successor(Token),
}

/// On the disk, and not yet signed.
struct Made {
    grant: Grant,
    token_id: String,
    token: Token,
}
