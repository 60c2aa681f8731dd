//! Builds the authority in force at the first connection from the configuration and the state
//! directory.

use super::error::ControlError;
use super::https::Https;
use super::issuer::{Issuer, KnownKey, Terms};
use super::jwks::{self, KeyFile, Summary};
use super::revocations::{self, Lives};
use super::store::Store;
use super::store::token_family::Origin;
use crate::auth::Authority;
use crate::auth::key::ApiKey;
use crate::auth::keyring::{Algorithm, Keyring};
use crate::server::access::{self, Fault};
use crate::server::config::{Auth, Config, Jwt};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Where keys come from besides the configuration.
pub(super) enum KeySet {
    None,
    File(KeyFile),
    Https(Https),
}

/// What decides who is admitted, as far as it comes from the configuration and its files.
pub(super) struct Keys {
    /// The keys of the configuration and of a key set's file.
    authority: Authority,
    /// The keys of the configuration.
    fixed: Keyring,
    algorithms: Vec<Algorithm>,
    pub key_set: KeySet,
    /// A summary of a key set's file, with its name.
    pub summary: Option<(String, Summary)>,
}

impl Keys {
    /// # Errors
    /// What cannot be used, and the remedy.
    pub fn read(config: &Config) -> Result<Keys, ControlError> {
        let authority = access::authority(config).map_err(told)?;
        let fixed = authority.keyring().clone();
        let algorithms = access::algorithms(config);
        let (key_set, keys, summary) = key_set(&config.auth.jwt, &algorithms)?;
        Ok(Keys {
            authority: authority.with_keyring(fixed.with(&keys)),
            fixed,
            algorithms,
            key_set,
            summary,
        })
    }
}

pub(super) struct Access {
    pub store: Arc<Store>,
    /// The keys of the configuration and of a key set's file, and the stored revocations.
    pub authority: Arc<Authority>,
    /// The keys of the configuration.
    pub fixed: Keyring,
    pub algorithms: Vec<Algorithm>,
    pub key_set: KeySet,
    pub issuer: Option<Issuer>,
    pub lives: Lives,
}

impl Access {
    pub fn open(keys: Keys, config: &Config, directory: &Path) -> Result<Access, ControlError> {
        let auth = &config.auth;
        let Keys {
            authority,
            fixed,
            algorithms,
            key_set,
            summary,
        } = keys;
        if let Some((source, summary)) = summary {
            jwks::report(&source, &summary);
        }
        let store = Arc::new(Store::open(directory)?);
        let revocations = revocations::kept(&store).map_err(|cause| {
            ControlError::Access(format!(
                "the revocations in {} cannot be read: {cause}; another version wrote them: run \
                 that version, or move access.redb away to forget them",
                directory.display()
            ))
        })?;
        let authority = Arc::new(authority.with_revocations(Arc::new(revocations)));
        let is_issuer = auth.issuer.signing_secret.is_set();
        let issuer = is_issuer.then(|| issuer(auth, &authority, store.clone()));
        Ok(Access {
            lives: Lives {
                own_s: is_issuer.then_some(u64::from(auth.issuer.access_ttl_s)),
                foreign: is_foreign(&auth.jwt),
                certificates: access::takes_certificates(config),
                leeway_s: u64::from(auth.jwt.leeway_s),
            },
            store,
            authority,
            fixed,
            algorithms,
            key_set,
            issuer,
        })
    }
}

fn told(fault: Fault) -> ControlError {
    ControlError::Access(format!("{}; {}", fault.problem, fault.remedy))
}

/// Whether tokens that this server did not issue are accepted.
fn is_foreign(jwt: &Jwt) -> bool {
    jwt.secret.is_set() || !jwt.public_key.0.is_empty() || !jwt.jwks.is_empty()
}

type Read = (KeySet, Keyring, Option<(String, Summary)>);

fn key_set(jwt: &Jwt, algorithms: &[Algorithm]) -> Result<Read, ControlError> {
    let source = jwt.jwks.as_str();
    let wrong = |cause: String| {
        let remedy = "name a file with a JSON Web Key Set, or an https URL";
        ControlError::Access(format!("auth.jwt.jwks: {cause}; {remedy}"))
    };
    if source.is_empty() {
        return Ok((KeySet::None, Keyring::default(), None));
    }
    if source.contains("://") {
        let origin =
            Https::new(source).map_err(|cause| wrong(format!("cannot be used: {cause}")))?;
        let nothing_yet = Keyring::default().awaiting(HashSet::new());
        return Ok((KeySet::Https(origin), nothing_yet, None));
    }
    let mut file = KeyFile::new(source);
    let unreadable = |cause: String| wrong(format!("{source:?} cannot be used: {cause}"));
    let json = file
        .read_changed()
        .map_err(|error| unreadable(error.to_string()))?;
    let set = revocations::read(&json.unwrap_or_default(), algorithms).map_err(unreadable)?;
    let summary = (source.to_owned(), revocations::summary(&set));
    Ok((KeySet::File(file), set, Some(summary)))
}

fn issuer(auth: &Auth, authority: &Authority, store: Arc<Store>) -> Issuer {
    let terms = Terms {
        signing_secret: auth.issuer.signing_secret.clone(),
        access_ttl_s: auth.issuer.access_ttl_s,
        refresh_ttl_s: auth.issuer.refresh_ttl_s,
        issuer: auth.jwt.issuer.clone(),
        audience: auth.jwt.audience.clone(),
    };
    let known = |key: &ApiKey| {
        let origin = Origin {
            principal: key.principal.to_string(),
            key_id: key.id.to_string(),
            fingerprint: key.sha256.to_ascii_lowercase(),
        };
        let roles = key.roles.clone();
        (key.id.clone(), KnownKey { origin, roles })
    };
    let keys: HashMap<_, _> = authority.api_keys().iter().map(known).collect();
    Issuer::new(store, terms, keys)
}
