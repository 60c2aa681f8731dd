//! Holds the current authority: accepts new keys and revocations, stores the latter on disk, and
//! makes sure that every shard has them.
//!
//! **How long a revocation is kept**: until what it is about would have expired by itself.
//! - If all tokens are from this server's own issuer: `auth.issuer.access_ttl_s` plus the leeway.
//! - If other issuers' tokens, of unknown lifetime, are accepted: [`FOREIGN_LIFE_S`]. An operator
//!   that accepts tokens with a longer life must revoke their key instead.
//! - A key (`kid`): forever. Its holder can sign tokens with any issue date; the revocation can
//!   be dropped once the key is gone from the configuration and the provider's set.
//!
//! - If client certificates, which may live for years, are required: forever.
//!
//! A revocation also ends refresh tokens: by `jti` the family of that token, by `sub` those of that
//! principal whose latest token was made before `before`.

use super::broadcaster::Broadcaster;
use super::jwks::{Summary, Take};
use super::store::token_family::TokenFamilyId;
use super::store::{Store, StoreError};
use crate::auth::Authority;
use crate::auth::keyring::{Algorithm, Keyring};
use crate::auth::revocation::{Full, Revocation, Revocations, Target};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The longest assumed lifetime of another issuer's token, in seconds: 31 days.
pub const FOREIGN_LIFE_S: u64 = 31 * 24 * 3600;
/// A `before` further ahead than this is a mistake, most likely milliseconds.
const BEFORE_AHEAD_MAX_S: u64 = 24 * 3600;
/// How long an answer waits for the shards, which are promised to take at most a second.
const HEARD_MAX: Duration = Duration::from_secs(5);

/// Keys left out of a set that the log lists; a provider may have any number of others.
const SKIPPED_LISTED_MAX: usize = 8;

/// How long tokens live according to the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// Lifetime of this server's own tokens; `None`: it issues none.
    pub own_s: Option<u64>,
    /// Whether other issuers' tokens are accepted.
    pub foreign: bool,
    /// Whether clients present certificates.
    pub certificates: bool,
    pub leeway_s: u64,
}

impl Lives {
    /// When a revocation made now is forgotten, in Unix seconds.
    fn forget_at(self, target: &Target, now: u64) -> u64 {
        let foreign = self.foreign.then_some(FOREIGN_LIFE_S);
        let longest = foreign.max(self.own_s).unwrap_or(FOREIGN_LIFE_S);
        let from = match target {
            Target::Key(_) => return u64::MAX,
            _ if self.certificates => return u64::MAX,
            Target::Subject { before, .. } => now.max(*before),
            Target::Token(_) => now,
        };
        from.saturating_add(longest).saturating_add(self.leeway_s)
    }
}

/// Why a revocation has failed, or is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    #[error("\"before\" is more than a day ahead; give it in Unix seconds, not milliseconds")]
    Ahead,
    #[error(transparent)]
    Full(#[from] Full),
    #[error(
        "the revocation could not be written: {0}; nothing is revoked: is the disk full? Try \
         again once there is room"
    )]
    Store(#[from] StoreError),
    #[error(
        "the revocation is stored, but a shard has not applied it in time; it will: repeat the \
         request to be sure"
    )]
    Late,
}

pub struct RevocationRegistry {
    broadcaster: Broadcaster,
    store: Arc<Store>,
    lives: Lives,
    /// Held while revocations change, so that disk and authority agree.
    revoking: Mutex<()>,
}

impl RevocationRegistry {
    pub fn new(broadcaster: Broadcaster, store: Arc<Store>, lives: Lives) -> RevocationRegistry {
        RevocationRegistry {
            broadcaster,
            store,
            lives,
            revoking: Mutex::new(()),
        }
    }

    /// Why the state cannot be stored; `None`: it can.
    pub fn failure(&self) -> Option<Arc<str>> {
        self.store.health().cause()
    }

    /// How often the state could not be stored.
    pub fn failures(&self) -> u64 {
        self.store.health().failures()
    }

    /// Whether API keys and refresh tokens are exchanged for tokens, which needs the state.
    pub fn issues(&self) -> bool {
        self.lives.own_s.is_some()
    }

    /// The authority in force.
    pub fn authority(&self) -> Arc<Authority> {
        self.broadcaster.authority()
    }

    /// Revokes a target on disk and in every shard, including refresh tokens. The returned
    /// revocation says until when it stays revoked.
    ///
    /// # Errors
    /// If it is not revoked, or (`Late`) not yet on every shard.
    pub async fn revoke(&self, target: Target, now: u64) -> Result<Revocation, RevokeError> {
        if matches!(&target, Target::Subject { before, .. } if *before > now + BEFORE_AHEAD_MAX_S) {
            return Err(RevokeError::Ahead);
        }
        let forget_at = self.lives.forget_at(&target, now);
        let revocation = Revocation { target, forget_at };
        let version = {
            let _turn = self.revoking.lock().await;
            let mut all = Revocations::clone(self.authority().revocations());
            all.insert(revocation.clone())?;
            let (store, kept) = (self.store.clone(), revocation.clone());
            super::blocking::blocking(move || keep(&store, &kept)).await?;
            self.put_revocations(all)
        };
        match self.broadcaster.heard(version, HEARD_MAX).await {
            Ok(()) => Ok(revocation),
            Err(_) => Err(RevokeError::Late),
        }
    }

    /// Removes expired revocations and refresh tokens.
    pub async fn sweep(&self, now: u64) {
        let _turn = self.revoking.lock().await;
        let store = self.store.clone();
        let swept = super::blocking::blocking(move || {
            store.change(|change| change.revoked()?.forget(now))?;
            store.sweep_families(now)
        });
        match swept.await {
            Ok(families) => tracing::debug!(families, "expired refresh tokens were deleted"),
            Err(error) => tracing::error!(
                "expired refresh tokens and revocations could not be deleted: {error}; is the \
                 disk full?"
            ),
        }
        let mut all = Revocations::clone(self.authority().revocations());
        if all.expire(now) > 0 {
            self.put_revocations(all);
        }
    }

    fn put_revocations(&self, all: Revocations) -> u64 {
        let all = Arc::new(all);
        self.broadcaster
            .put(|authority| authority.with_revocations(all))
    }
}

/// Writes a revocation, and ends the refresh tokens it covers, in one change.
fn keep(store: &Store, revocation: &Revocation) -> Result<(), StoreError> {
    let target = &revocation.target;
    store.change(|change| {
        change
            .revoked()?
            .insert(&written(target), revocation.forget_at)?;
        match target {
            Target::Token(id) => match TokenFamilyId::of_token_id(id) {
                Some(family) => change.families()?.end(family),
                None => Ok(()),
            },
            Target::Subject { subject, before } => change
                .families()?
                .end_of_principal(subject, *before)
                .map(drop),
            Target::Key(_) => Ok(()),
        }
    })
}

fn written(target: &Target) -> String {
    // A target is strings and numbers: they can always be written.
    serde_json::to_string(target).unwrap_or_default()
}

/// Reads the stored revocations.
///
/// # Errors
/// If the store cannot be read, or contains something that is not a revocation: a server must not
/// run without knowing what is revoked.
pub fn kept(store: &Store) -> Result<Revocations, String> {
    let mut all = Revocations::default();
    for (text, forget_at) in store.revocations().map_err(|error| error.to_string())? {
        let target = serde_json::from_str(&text)
            .map_err(|error| format!("a revocation of another version: {error}"))?;
        let revocation = Revocation { target, forget_at };
        all.insert(revocation).map_err(|full| full.to_string())?;
    }
    Ok(all)
}

/// Puts a key set into the current authority, beside the keys of the configuration.
pub struct KeyTaker {
    pub registry: Arc<RevocationRegistry>,
    pub fixed: Keyring,
    pub algorithms: Vec<Algorithm>,
    /// Whether the set is fetched, and so may still deliver unknown keys.
    pub is_fetched: bool,
}

impl Take for KeyTaker {
    fn take(&self, json: Option<&[u8]>) -> Result<Summary, String> {
        let mut set = match json {
            Some(json) => read(json, &self.algorithms)?,
            None => Keyring::default(),
        };
        let summary = summary(&set);
        if self.is_fetched {
            set = set.awaiting(HashSet::new());
        }
        let keys = self.fixed.with(&set);
        self.registry
            .broadcaster
            .put(|authority| authority.with_keyring(keys));
        Ok(summary)
    }

    fn settle(&self, absent: HashSet<Box<str>>) {
        let awaiting = |authority: &Authority| {
            let keys = authority.keyring().awaiting(absent);
            authority.with_keyring(keys)
        };
        self.registry.broadcaster.put(awaiting);
    }
}

/// # Errors
/// If it is not a key set.
pub fn read(json: &[u8], algorithms: &[Algorithm]) -> Result<Keyring, String> {
    Keyring::from_jwks(json, algorithms).map_err(|error| error.to_string())
}

/// A summary of a key set, for the log.
pub fn summary(set: &Keyring) -> Summary {
    let keys = match set.len() {
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    };
    let skipped = set.skipped();
    let named = &skipped[..skipped.len().min(SKIPPED_LISTED_MAX)];
    let mut text = match named {
        [] => keys,
        named => format!("{keys}; left out: {}", named.join(", ")),
    };
    if let more @ 1.. = skipped.len() - named.len() {
        text.push_str(&format!(", and {more} more"));
    }
    Summary {
        text,
        is_usable: !set.is_empty(),
        leaves_out: !skipped.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::ApiKeys;
    use crate::auth::rights::Roles;
    use crate::auth::token::Requirements;
    use crate::auth::{Denied, Method, Unjudged};
    use crate::server::control::store::token_family::{Origin, Rotated};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use rcgen::{KeyPair, PublicKeyData};
    use tempfile::TempDir;

    const NOW: u64 = 1_700_000_000;
    const ES256: [Algorithm; 1] = [Algorithm::Es256];
    const LIVES: Lives = Lives {
        own_s: Some(900),
        foreign: true,
        certificates: false,
        leeway_s: 30,
    };

    /// A registry without shards.
    fn registry() -> (RevocationRegistry, TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let roles = Roles::new([]).expect("no roles");
        let requirements = Requirements::default();
        let keys = ApiKeys::default();
        let authority = Authority::new(roles, Keyring::default(), requirements, keys);
        let (broadcaster, _) = Broadcaster::new(Arc::new(authority), &[]);
        let store = Arc::new(Store::open(directory.path()).expect("a store"));
        (
            RevocationRegistry::new(broadcaster, store, LIVES),
            directory,
        )
    }

    fn found(registry: &RevocationRegistry, principal: &str) -> Rotated {
        let origin = Origin {
            principal: principal.to_owned(),
            key_id: "k".to_owned(),
            fingerprint: String::new(),
        };
        let found = registry
            .store
            .change(|change| change.families()?.start(origin, NOW, 3600));
        found.expect("founded")
    }

    fn subject(before: u64) -> Target {
        Target::Subject {
            subject: "a".into(),
            before,
        }
    }

    #[test]
    fn a_revocation_is_kept_as_long_as_its_target_could_live() {
        let token = Target::Token("any".into());
        let at = |lives: Lives, target: &Target| lives.forget_at(target, NOW);
        assert_eq!(at(LIVES, &token), NOW + FOREIGN_LIFE_S + 30);
        assert_eq!(at(LIVES, &subject(NOW - 50)), NOW + FOREIGN_LIFE_S + 30);
        assert_eq!(at(LIVES, &Target::Key("k".into())), u64::MAX);
        let only_own = Lives {
            foreign: false,
            ..LIVES
        };
        assert_eq!(at(only_own, &token), NOW + 930);
        assert_eq!(at(only_own, &subject(NOW + 50)), NOW + 980);
        let only_foreign = Lives {
            own_s: None,
            ..LIVES
        };
        assert_eq!(at(only_foreign, &token), NOW + FOREIGN_LIFE_S + 30);
        let certificates = Lives {
            certificates: true,
            ..LIVES
        };
        assert_eq!(at(certificates, &subject(NOW)), u64::MAX);
    }

    #[tokio::test]
    async fn revocations_are_in_force_on_the_disk_and_forgotten_in_time() {
        let (registry, _directory) = registry();
        let ahead = registry.revoke(subject(NOW * 1000), NOW).await;
        assert!(matches!(ahead, Err(RevokeError::Ahead)));
        for target in [subject(NOW), Target::Key("k".into())] {
            let revoked = registry.revoke(target.clone(), NOW).await.expect("revoked");
            assert_eq!(revoked.target, target);
        }
        let in_force =
            |registry: &RevocationRegistry| Revocations::clone(registry.authority().revocations());
        assert_eq!(in_force(&registry).len(), 2);
        assert_eq!(kept(&registry.store).expect("kept"), in_force(&registry));
        registry.sweep(NOW + FOREIGN_LIFE_S + 29).await;
        assert_eq!(in_force(&registry).len(), 2);
        registry.sweep(NOW + FOREIGN_LIFE_S + 30).await;
        assert_eq!(in_force(&registry).len(), 1);
        assert_eq!(kept(&registry.store).expect("kept"), in_force(&registry));
    }

    #[tokio::test]
    async fn a_revocation_ends_the_refresh_tokens_it_is_about() {
        let (registry, _directory) = registry();
        let known = |one: &Rotated| registry.store.knows(&one.token).expect("read");
        let (one, other) = (found(&registry, "a"), found(&registry, "a"));
        let token_id = one.family.token_id(&[7; 16]);
        let done = registry.revoke(Target::Token(token_id.into()), NOW).await;
        assert!(done.is_ok() && !known(&one) && known(&other));
        let stranger = found(&registry, "b");
        let done = registry.revoke(subject(NOW), NOW).await;
        assert!(
            done.is_ok() && known(&other),
            "made at that second, not before"
        );
        let done = registry.revoke(subject(NOW + 1), NOW).await;
        assert!(done.is_ok() && !known(&other) && known(&stranger));
    }

    /// A provider's key, and the set that contains only it.
    fn provider_key(kid: &str) -> (KeyPair, String) {
        let key = KeyPair::generate().expect("a key");
        let point = key.der_bytes().to_vec();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (part(&point[1..33]), part(&point[33..65]));
        let set = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"{kid}","x":"{x}","y":"{y}"}}]}}"#
        );
        (key, set)
    }

    fn token(key: &KeyPair, kid: &str) -> String {
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some(kid.to_owned());
        let signing = jsonwebtoken::EncodingKey::from_ec_pem(key.serialize_pem().as_bytes());
        let claims = serde_json::json!({ "sub": "a", "exp": NOW + 60 });
        jsonwebtoken::encode(&header, &claims, &signing.expect("PEM")).expect("signed")
    }

    #[tokio::test]
    async fn a_rotated_key_set_decides_from_then_on() {
        let (registry, _directory) = registry();
        let registry = Arc::new(registry);
        let taker = KeyTaker {
            registry: registry.clone(),
            fixed: Keyring::from_config(&ES256, "", "").expect("no key"),
            algorithms: ES256.into(),
            is_fetched: true,
        };
        let ((old, old_set), (new, new_set)) = (provider_key("k1"), provider_key("k2"));
        let (old, new) = (token(&old, "k1"), token(&new, "k2"));
        let check = |token: &str| {
            let checked = registry
                .authority()
                .check(Method::Jwt, token.as_bytes(), NOW);
            checked.map(|grant| grant.identity.principal.to_string())
        };
        assert!(check(&old).is_err(), "no keys yet");
        let summary = taker.take(Some(old_set.as_bytes())).expect("a key set");
        assert_eq!((&*summary.text, summary.is_usable), ("1 key", true));
        assert_eq!(check(&old), Ok("a".to_owned()));
        assert_eq!(check(&new), Err(Unjudged::KeySet.into()), "it may come");
        taker.settle(["k2".into()].into());
        assert_eq!(check(&new), Err(Denied::UnknownKey.into()), "it has not");
        assert!(taker.take(Some(b"{}")).is_err());
        assert_eq!(
            check(&old),
            Ok("a".to_owned()),
            "what is no key set changes nothing"
        );
        assert!(taker.take(Some(new_set.as_bytes())).is_ok());
        assert_eq!(
            (check(&old), check(&new)),
            (Err(Unjudged::KeySet.into()), Ok("a".to_owned()))
        );
        let summary = taker.take(Some(b"{\"keys\":[]}")).expect("a key set");
        assert!(!summary.is_usable);
        assert!(taker.take(None).is_ok());
        assert_eq!(check(&new), Err(Unjudged::KeySet.into()), "dropped");
    }
}
