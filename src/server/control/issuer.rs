//! Issues tokens: a pair for an API key, a pair for a refresh token.
//!
//! All waiting asks are answered together: one change of the store, one fsync, however many devices
//! reconnect at once. Hopeless asks (a refresh token that was never issued) cost no change.
//!
//! Principal and roles are those that the API key has in the configuration now. If the key has been
//! removed, or has another secret or principal, its token families end with their next use.

use super::store::token_family::{Origin, Refused, Rotated, Token, TokenFamilies};
use super::store::{Store, StoreError, random};
use crate::auth::ask::{Answer, Ask, AskKind, TokenPair};
use crate::auth::issue::{NewToken, issue_numbered, key_id};
use crate::auth::{Authority, Denied, Grant, Unjudged};
use crate::server::config::Secret;
use std::collections::HashMap;
use std::sync::Arc;

/// The configuration for issuing tokens.
pub struct Terms {
    pub signing_secret: Secret,
    pub access_ttl_s: u32,
    pub refresh_ttl_s: u32,
    /// Claims that this server's tokens need to be accepted by it; empty: left out.
    pub issuer: String,
    pub audience: String,
}

/// An API key of the configuration.
pub struct KnownKey {
    pub origin: Origin,
    pub roles: Box<[Box<str>]>,
}

pub struct Issuer {
    store: Arc<Store>,
    terms: Terms,
    /// By id.
    keys: HashMap<Box<str>, KnownKey>,
    /// The key id in this server's access tokens.
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

    /// Answers asks, in order. Blocks for the disk.
    pub fn answer(&self, authority: &Authority, asks: &[Ask], now: u64) -> Vec<Answer> {
        match self.make_all(authority, asks, now) {
            Ok(made) => {
                let signed = made.into_iter().map(|made| self.sign(made?, now));
                signed.collect()
            }
            Err(error) => {
                tracing::error!(
                    "refresh tokens cannot be written: {error}; {} clients have to ask again: \
                     is the disk full? Writing resumes by itself once there is room",
                    asks.len()
                );
                asks.iter().map(|_| Err(Unjudged::Issuer.into())).collect()
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
            match wanted {
                Ok(wanted) => hopeful.push((answers.len(), wanted)),
                Err(denied) => {
                    answers.push(Err(denied));
                    continue;
                }
            }
            // A placeholder, replaced below before it is seen.
            answers.push(Err(Denied::UnknownRefreshToken));
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

    /// The part of an answer that needs no change.
    fn look_at(&self, ask: &Ask) -> Result<Result<Wanted<'_>, Denied>, StoreError> {
        Ok(match &ask.kind {
            AskKind::ApiKey { id } => {
                let key = self.keys.get(id).map(Wanted::TokenFamily);
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
        families: &mut TokenFamilies<'_>,
        wanted: Wanted<'_>,
        client_id: Option<&str>,
        authority: &Authority,
        now: u64,
    ) -> Result<Result<Made, Denied>, StoreError> {
        let ttl_s = u64::from(self.terms.refresh_ttl_s);
        let rotated = match wanted {
            Wanted::TokenFamily(key) => {
                // Checked before a family is started: a revoked principal gets none.
                if let Err(denied) = self.vouch(authority, key, now) {
                    return Ok(Err(denied));
                }
                families.start(key.origin.clone(), now, ttl_s)?
            }
            Wanted::Successor(token) => match families.rotate(&token, now, ttl_s)? {
                Ok(rotated) => rotated,
                Err(Refused::Unknown) => return Ok(Err(Denied::UnknownRefreshToken)),
                Err(Refused::Expired) => return Ok(Err(Denied::Expired)),
                Err(Refused::Reused(origin)) => {
                    tracing::warn!(
                        principal = origin.principal,
                        api_key = origin.key_id,
                        client_id,
                        "a refresh token was used twice: its token family has ended, and its \
                         holder has to authenticate by API key again"
                    );
                    return Ok(Err(Denied::ReusedRefreshToken));
                }
            },
        };
        let Rotated {
            family,
            origin,
            token,
        } = rotated;
        let key = self.keys.get(origin.key_id.as_str());
        let granted = match key.filter(|key| key.origin == origin) {
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
        authority.vouch(&key.origin.principal, &key.roles, Some(expires), now)
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
            tracing::error!("no access token was issued: {error}");
            Unjudged::Issuer
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

/// The change that an ask needs.
enum Wanted<'a> {
    TokenFamily(&'a KnownKey),
    Successor(Token),
}

/// A change that is on disk, with its token not yet signed.
struct Made {
    grant: Grant,
    token_id: String,
    token: Token,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::{ApiKey, ApiKeys, hash};
    use crate::auth::keyring::Keyring;
    use crate::auth::revocation::{Revocation, Revocations, Target};
    use crate::auth::rights::{Role, Roles};
    use crate::auth::token::Requirements;
    use crate::auth::{Method, Refused};
    use crate::base::id::{Key, ShardId};
    use crate::server::control::store::token_family::GRACE_S;
    use tempfile::TempDir;

    const NOW: u64 = 1_700_000_000;
    const SECRET: &str = "an HS256 secret of more than 32 bytes, to sign with";

    struct Fixture {
        issuer: Issuer,
        authority: Authority,
        directory: TempDir,
    }

    fn api_key(secret: &str) -> ApiKey {
        ApiKey {
            id: "sensor".into(),
            sha256: hash(secret),
            principal: "device-7".into(),
            roles: ["device".into(), "gone".into()].into(),
        }
    }

    fn issuer_of(directory: &TempDir, keys: &[ApiKey]) -> Issuer {
        let terms = Terms {
            signing_secret: Secret::from(SECRET.to_owned()),
            access_ttl_s: 900,
            refresh_ttl_s: 3600,
            issuer: "us".to_owned(),
            audience: "them".to_owned(),
        };
        let known = keys.iter().map(|key| {
            let origin = Origin {
                principal: key.principal.to_string(),
                key_id: key.id.to_string(),
                fingerprint: key.sha256.clone(),
            };
            let roles = key.roles.clone();
            (key.id.clone(), KnownKey { origin, roles })
        });
        let store = Arc::new(Store::open(directory.path()).expect("a store"));
        Issuer::new(store, terms, known.collect())
    }

    fn authority() -> Authority {
        let role = Role {
            publish: vec!["devices/{principal}/#".to_owned()],
            ..Role::default()
        };
        let requirements = Requirements {
            issuer: "us".to_owned(),
            audience: "them".to_owned(),
            leeway_s: 30,
        };
        let roles = Roles::new([("device", &role)]).expect("roles");
        let keys = ApiKeys::new([api_key("secret")]).expect("keys");
        Authority::new(
            roles,
            Keyring::from_issuer(SECRET.as_bytes()),
            requirements,
            keys,
        )
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().expect("a directory");
            Fixture {
                issuer: issuer_of(&directory, &[api_key("secret")]),
                authority: authority(),
                directory,
            }
        }

        /// The same store under another configuration.
        fn restarted(self, keys: &[ApiKey]) -> Fixture {
            let Fixture {
                issuer,
                authority,
                directory,
            } = self;
            drop(issuer);
            Fixture {
                issuer: issuer_of(&directory, keys),
                authority,
                directory,
            }
        }

        fn ask(&self, kind: AskKind, now: u64) -> Answer {
            let mut answers = self.issuer.answer(&self.authority, &[ask(kind)], now);
            assert_eq!(answers.len(), 1);
            answers.pop().expect("one answer")
        }

        fn founded(&self) -> TokenPair {
            self.ask(by_key("sensor"), NOW).expect("a pair")
        }

        fn refreshed(&self, token: &str, now: u64) -> Answer {
            self.ask(refresh(token), now)
        }
    }

    fn ask(kind: AskKind) -> Ask {
        Ask {
            shard: ShardId(0),
            number: 1,
            key: Key {
                slot: 0,
                generation: 0,
            },
            client_id: None,
            kind,
        }
    }

    fn by_key(id: &str) -> AskKind {
        AskKind::ApiKey { id: id.into() }
    }

    fn refresh(token: &str) -> AskKind {
        let token = token.as_bytes().into();
        AskKind::Refresh { token }
    }

    #[test]
    fn a_pair_is_an_access_token_that_this_server_accepts_and_a_refresh_token() {
        let fixture = Fixture::new();
        let pair = fixture.founded();
        assert_eq!(pair.expires_in_s, 900);
        assert_eq!(pair.refresh_token.len(), 43);
        let token = pair.access_token.as_bytes();
        let shown = fixture
            .authority
            .check(Method::Jwt, token, NOW + 1)
            .expect("accepted");
        assert_eq!(shown.identity, pair.grant.identity);
        assert_eq!(&*shown.identity.principal, "device-7");
        assert_eq!(*shown.identity.roles, ["device".into()]);
        assert_eq!(shown.expires, pair.grant.expires);
        assert_eq!(shown.expires, Some(NOW + 900));
        let late = fixture.authority.check(Method::Jwt, token, NOW + 931);
        assert_eq!(late.err(), Some(Denied::Expired.into()));
        assert!(!format!("{pair:?}").contains(&pair.access_token));
        assert!(!format!("{pair:?}").contains(&pair.refresh_token));
    }

    #[test]
    fn a_refresh_token_is_exchanged_and_its_reuse_ends_the_family() {
        let fixture = Fixture::new();
        let first = fixture.founded();
        let second = fixture
            .refreshed(&first.refresh_token, NOW + 800)
            .expect("a pair");
        assert_eq!(second.grant.expires, Some(NOW + 1700));
        let again = fixture.refreshed(&first.refresh_token, NOW + 800 + GRACE_S);
        let again = again.expect("within the grace");
        assert_eq!(again.refresh_token, second.refresh_token);
        assert_ne!(again.access_token, second.access_token);
        let late = fixture.refreshed(&first.refresh_token, NOW + 801 + GRACE_S);
        assert_eq!(late.err(), Some(Denied::ReusedRefreshToken.into()));
        let kin = fixture.refreshed(&second.refresh_token, NOW + 802 + GRACE_S);
        assert_eq!(kin.err(), Some(Denied::UnknownRefreshToken.into()));
        assert!(
            fixture.ask(by_key("sensor"), NOW + 900).is_ok(),
            "by API key again"
        );
    }

    #[test]
    fn asks_are_answered_together_in_their_order() {
        let fixture = Fixture::new();
        let first = fixture.founded();
        let asks = [
            refresh("no token"),
            by_key("sensor"),
            refresh(&first.refresh_token),
            by_key("unknown"),
            refresh(&first.refresh_token),
            refresh(&"A".repeat(43)),
        ];
        let asks: Vec<Ask> = asks.map(ask).into();
        let answers = fixture.issuer.answer(&fixture.authority, &asks, NOW);
        let denied: Vec<Option<Refused>> = answers
            .iter()
            .map(|answer| answer.as_ref().err().copied())
            .collect();
        let unknown: Option<Refused> = Some(Denied::UnknownRefreshToken.into());
        assert_eq!(
            denied,
            [
                unknown,
                None,
                None,
                Some(Denied::UnknownApiKey.into()),
                None,
                unknown
            ]
        );
        let token = |at: usize| &answers[at].as_ref().expect("a pair").refresh_token;
        assert_eq!(token(2), token(4), "one successor");
        assert_ne!(token(1), token(2));
    }

    #[test]
    fn the_current_state_of_the_api_key_decides() {
        let changed = |change: fn(&mut ApiKey)| {
            let mut key = api_key("secret");
            change(&mut key);
            vec![key]
        };
        let rows: [(Vec<ApiKey>, Option<Refused>); 4] = [
            (vec![], Some(Denied::UnknownApiKey.into())),
            (
                changed(|key| key.sha256 = hash("other")),
                Some(Denied::UnknownApiKey.into()),
            ),
            (
                changed(|key| key.principal = "other".into()),
                Some(Denied::UnknownApiKey.into()),
            ),
            (changed(|key| key.roles = Box::default()), None),
        ];
        for (keys, denied) in rows {
            let fixture = Fixture::new();
            let token = fixture.founded().refresh_token;
            let fixture = fixture.restarted(&keys);
            let answer = fixture.refreshed(&token, NOW + 5);
            assert_eq!(answer.as_ref().err().copied(), denied);
            match answer {
                Ok(pair) => assert_eq!(*pair.grant.identity.roles, []),
                Err(_) => {
                    // The family has ended: the key's return does not bring it back.
                    let fixture = fixture.restarted(&[api_key("secret")]);
                    let answer = fixture.refreshed(&token, NOW + 6);
                    assert_eq!(answer.err(), Some(Denied::UnknownRefreshToken.into()));
                }
            }
        }
    }

    #[test]
    fn a_revoked_principal_gets_no_tokens() {
        let mut fixture = Fixture::new();
        let token = fixture.founded().refresh_token;
        let mut revocations = Revocations::default();
        let target = Target::Subject {
            subject: "device-7".into(),
            before: NOW + 100,
        };
        let forget_at = NOW + 10_000;
        let new = revocations.insert(Revocation { target, forget_at });
        assert_eq!(new, Ok(true));
        fixture.authority = fixture.authority.with_revocations(Arc::new(revocations));
        assert_eq!(
            fixture.ask(by_key("sensor"), NOW).err(),
            Some(Denied::Revoked.into())
        );
        assert_eq!(
            fixture.refreshed(&token, NOW).err(),
            Some(Denied::Revoked.into())
        );
        assert!(fixture.ask(by_key("sensor"), NOW + 100).is_ok());
    }
}
