//! Builds from the configuration what decides who may connect and what they may do: the authority,
//! admission, the rates.
//!
//! The same steps check the configuration (`config::check`) and start the server, so that an
//! accepted configuration can always be built.

use super::config::{Algorithm, AuthMode, Config, ConfigError, ConfigErrors, Origin, TlsMode};
use crate::auth::address::{AccessList, BlockError};
use crate::auth::bucket::Limit;
use crate::auth::key::{ApiKey, ApiKeyError, ApiKeys};
use crate::auth::keyring::{self, KeyError, Keyring, secret_weakness};
use crate::auth::rights::{Role, RoleError, Roles};
use crate::auth::tally::{Tally, TallyLimits};
use crate::auth::token::Requirements;
use crate::auth::{Authority, Method};
use crate::broker::{Admission, Rates};
use std::collections::HashSet;

/// Why no authority or admission can be built from the configuration: the key at fault, the
/// problem, the remedy.
pub(super) struct Fault {
    pub(super) key: String,
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl From<RoleError> for Fault {
    fn from(error: RoleError) -> Fault {
        let RoleError {
            role,
            list,
            filter,
            fault,
        } = error;
        Fault {
            problem: format!("roles.{role}.{list} has {filter:?}: {fault}"),
            key: format!("roles.{role}.{list}"),
            remedy: "write a topic filter such as \"devices/{principal}/#\"".to_owned(),
        }
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Fault {
        Fault {
            key: "auth.jwt".to_owned(),
            problem: error.cause,
            remedy: error.remedy.to_owned(),
        }
    }
}

impl From<ApiKeyError> for Fault {
    fn from(error: ApiKeyError) -> Fault {
        Fault {
            key: "auth.api_key".to_owned(),
            problem: format!("auth.api_key {:?} {}", error.id, error.cause),
            remedy: error.remedy.to_owned(),
        }
    }
}

impl From<BlockError> for Fault {
    fn from(error: BlockError) -> Fault {
        Fault {
            key: format!("access.{}", error.list),
            problem: format!(
                "access.{} has {:?}, which is not an address block (CIDR)",
                error.list, error.block
            ),
            remedy: "write it like \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.7\"".to_owned(),
        }
    }
}

impl From<Fault> for ConfigErrors {
    /// Only for a configuration that bypassed `config::check`: an embedder's configuration is
    /// checked like a file's.
    fn from(fault: Fault) -> ConfigErrors {
        ConfigErrors::new(vec![ConfigError {
            origin: Origin::Configuration,
            key: fault.key,
            problem: fault.problem,
            remedy: fault.remedy,
        }])
    }
}

/// Every fault in the sections on access.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let results = [
        roles(config).err(),
        keyring(config).err(),
        api_keys(config).err(),
        access_list(config).err(),
    ];
    let mut faults: Vec<Fault> = results.into_iter().flatten().collect();
    if config.auth.mode == AuthMode::Required
        && faults.is_empty()
        && !can_anybody_authenticate(config)
    {
        faults.push(Fault {
            key: "auth.mode".to_owned(),
            problem: "auth.mode is \"required\", but nothing is configured to authenticate \
                      with"
                .to_owned(),
            remedy: "set auth.jwt.secret, auth.jwt.public_key or auth.jwt.jwks, add an \
                     [[auth.api_key]] (`ringmail token key` makes one), or require client \
                     certificates with tls.client_ca"
                .to_owned(),
        });
    }
    faults
}

/// Warnings about what is allowed but probably not intended.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let jwt = &config.auth.jwt;
    for (key, secret) in [
        ("auth.jwt.secret", &jwt.secret),
        (
            "auth.issuer.signing_secret",
            &config.auth.issuer.signing_secret,
        ),
    ] {
        if let Some(weakness) = secret_weakness(secret.expose().as_bytes())
            && secret.is_set()
        {
            warnings.push(format!("{key} {weakness}"));
        }
    }
    let keys = &config.auth.api_key;
    let named: HashSet<&str> = keys
        .iter()
        .flat_map(|key| key.roles.iter().map(String::as_str))
        .collect();
    let others_may_name_any = jwt.secret.is_set()
        || !jwt.public_key.0.is_empty()
        || !jwt.jwks.is_empty()
        || takes_certificates(config);
    for role in config.roles.keys() {
        if !others_may_name_any && !named.contains(role.as_str()) {
            warnings.push(format!("roles.{role} is defined, but nobody has this role"));
        }
    }
    for key in keys {
        for role in key
            .roles
            .iter()
            .filter(|role| !config.roles.contains_key(*role))
        {
            warnings.push(format!(
                "auth.api_key {:?} has the role {role:?}, but there is no [roles.{role}]",
                key.id
            ));
        }
    }
    if config.auth.mode == AuthMode::None && (!config.roles.is_empty() || !keys.is_empty()) {
        let text = "auth.mode is \"none\": roles and API keys have no effect";
        warnings.push(text.to_owned());
    }
    warnings
}

/// The AUTH methods that SYN-ACK offers; 0: no authentication.
pub(super) fn methods(config: &Config) -> u8 {
    match (config.auth.mode, credentials(config)) {
        (AuthMode::None, _) => 0,
        // All clients authenticate by certificate. One without is asked for a token, which no
        // client can have: to offer no method would admit it.
        (AuthMode::Optional | AuthMode::Required, 0) => Method::Jwt.bit(),
        (AuthMode::Optional | AuthMode::Required, methods) => methods,
    }
}

/// The methods for which the configuration names a credential.
fn credentials(config: &Config) -> u8 {
    let jwt = &config.auth.jwt;
    let issues = config.auth.issuer.signing_secret.is_set();
    let verifies =
        issues || jwt.secret.is_set() || !jwt.public_key.0.is_empty() || !jwt.jwks.is_empty();
    let offered = [
        (verifies, Method::Jwt),
        (!config.auth.api_key.is_empty(), Method::ApiKey),
        (issues, Method::Refresh),
    ];
    offered
        .iter()
        .filter(|(offered, _)| *offered)
        .fold(0, |bits, (_, method)| bits | method.bit())
}

/// Whether clients present certificates, which give their principal and roles.
pub(super) fn takes_certificates(config: &Config) -> bool {
    config.tls.mode != TlsMode::Off && !config.tls.client_ca.is_empty()
}

fn can_anybody_authenticate(config: &Config) -> bool {
    credentials(config) != 0 || takes_certificates(config)
}

/// The authority, with the keys of the configuration.
pub(super) fn authority(config: &Config) -> Result<Authority, Fault> {
    let jwt = &config.auth.jwt;
    let required = Requirements {
        issuer: jwt.issuer.clone(),
        audience: jwt.audience.clone(),
        leeway_s: jwt.leeway_s,
    };
    let (roles, keyring, keys) = (roles(config)?, keyring(config)?, api_keys(config)?);
    Ok(Authority::new(roles, keyring, required, keys))
}

/// Which addresses may connect; `None` if all may, without limits.
pub(super) fn admission(config: &Config) -> Result<Option<Admission>, ConfigErrors> {
    let list = access_list(config)?;
    let rate = &config.rate;
    let limits = TallyLimits {
        connections_max: config.limits.connections_per_ip_max,
        connects_per_s: rate.connects_per_s_per_ip,
        auth_failures_per_min: match config.auth.mode {
            AuthMode::None => 0,
            AuthMode::Optional | AuthMode::Required => rate.auth_failures_per_min_per_ip,
        },
    };
    let lists = !config.access.allow.is_empty() || !config.access.deny.is_empty();
    let is_open = !lists && limits == TallyLimits::default();
    Ok((!is_open).then(|| Admission::new(list, Tally::new(limits))))
}

/// What one connection may send.
pub(super) fn rates(config: &Config) -> Rates {
    let rate = &config.rate;
    Rates {
        messages: Limit::per_second(rate.messages_per_s.into(), rate.message_burst.into()),
        bytes: Limit::per_second(rate.bytes_per_s, 0),
    }
}

fn roles(config: &Config) -> Result<Roles, Fault> {
    let roles: Vec<(&str, Role)> = config
        .roles
        .iter()
        .map(|(name, role)| {
            let role = Role {
                publish: role.publish.clone(),
                subscribe: role.subscribe.clone(),
                request: role.request.clone(),
                serve: role.serve.clone(),
                admin: role.admin,
            };
            (name.as_str(), role)
        })
        .collect();
    Ok(Roles::new(roles.iter().map(|(name, role)| (*name, role)))?)
}

/// The signature algorithms that tokens may have.
pub(super) fn algorithms(config: &Config) -> Vec<keyring::Algorithm> {
    let algorithms = config.auth.jwt.algorithms.iter();
    let same = algorithms.map(|algorithm| match algorithm {
        Algorithm::Hs256 => keyring::Algorithm::Hs256,
        Algorithm::Rs256 => keyring::Algorithm::Rs256,
        Algorithm::Es256 => keyring::Algorithm::Es256,
        Algorithm::EdDsa => keyring::Algorithm::EdDsa,
    });
    same.collect()
}

fn keyring(config: &Config) -> Result<Keyring, Fault> {
    let jwt = &config.auth.jwt;
    let algorithms = algorithms(config);
    let keys = Keyring::from_config(&algorithms, jwt.secret.expose(), &jwt.public_key.0)?;
    let signing = &config.auth.issuer.signing_secret;
    Ok(match signing.is_set() {
        true => keys.with(&Keyring::from_issuer(signing.expose().as_bytes())),
        false => keys,
    })
}

fn api_keys(config: &Config) -> Result<ApiKeys, Fault> {
    let keys = config.auth.api_key.iter().map(|key| ApiKey {
        id: key.id.as_str().into(),
        sha256: key.sha256.clone(),
        principal: key.principal.as_str().into(),
        roles: key.roles.iter().map(|role| role.as_str().into()).collect(),
    });
    Ok(ApiKeys::new(keys)?)
}

fn access_list(config: &Config) -> Result<AccessList, Fault> {
    Ok(AccessList::new(&config.access.allow, &config.access.deny)?)
}
