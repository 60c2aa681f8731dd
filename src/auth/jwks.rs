//! Key sets (JWKS, RFC 7517): the public keys that an OAuth 2.0 or OpenID provider publishes.
//!
//! Key sets are read as providers write them: keys that cannot be used here (another key type,
//! use or algorithm, too short, damaged, a member that appears twice) are skipped with a note,
//! as RFC 7517 §5 asks, so that one odd key does not lock everybody out. Keys may share a name
//! or have none; duplicates count once. A member that is `null` counts as absent, numbers may be
//! padded or in plain base64, and a single key is a set of one. A text that is not a key set at
//! all is refused.
//!
//! | kty | crv | algorithm |
//! |---|---|---|
//! | RSA | | RS256 |
//! | EC | P-256 | ES256 |
//! | OKP | Ed25519 | EdDSA |

use super::json;
use super::keyring::{Algorithm, Key, KeyError, Keyring};
use crate::base::limits::{KEY_ID_BYTES_MAX, KEY_SET_BYTES_MAX, KEYS_MAX};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

const REMEDY: &str =
    "auth.jwt.jwks must be a JSON Web Key Set, as the provider's jwks_uri gives it";

impl Keyring {
    /// The keys of a set that fit one of the algorithms. The result may be empty, as when a
    /// provider withdraws its keys. [`Keyring::skipped`] lists what was left out.
    ///
    /// # Errors
    /// If it is not JSON, or not a key set.
    pub fn from_jwks(json: &[u8], algorithms: &[Algorithm]) -> Result<Keyring, KeyError> {
        if json.len() > KEY_SET_BYTES_MAX {
            let cause = format!("the key set has more than {KEY_SET_BYTES_MAX} bytes");
            return Err(KeyError::new(cause, REMEDY));
        }
        // RFC 8259 §8.1: a parser may ignore it.
        let json = json.strip_prefix(BYTE_ORDER_MARK).unwrap_or(json);
        let set = json::parse_leniently(json).map_err(|error| {
            KeyError::new(format!("the key set cannot be used: {error}"), REMEDY)
        })?;
        let single = [Value::Object(set.clone())];
        let entries = match set.get("keys") {
            Some(Value::Array(entries)) => &entries[..],
            None if set.contains_key("kty") => &single,
            _ => return Err(KeyError::new("the key set has no list of keys", REMEDY)),
        };
        let mut keys: Vec<Key> = Vec::new();
        let mut skipped = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            match key(entry, algorithms) {
                Ok(key) if keys.iter().any(|other| key.is_same(other)) => {}
                Ok(key) if keys.len() < KEYS_MAX => keys.push(key),
                Ok(_) => skipped.push(format!(
                    "key {} of the set: only the first {KEYS_MAX} are \
                                               read",
                    index + 1
                )),
                Err(fault) => skipped.push(format!("key {} of the set: {fault}", index + 1)),
            }
        }
        Ok(Keyring::of(algorithms, keys, skipped))
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// # Errors
/// Why it is left out.
fn key(entry: &Value, algorithms: &[Algorithm]) -> Result<Key, String> {
    let Value::Object(entry) = entry else {
        return Err("not an object with unique members".to_owned());
    };
    let id = text(entry, "kid")?;
    if id.is_some_and(|id| id.len() > KEY_ID_BYTES_MAX) {
        return Err(format!("its kid has more than {KEY_ID_BYTES_MAX} bytes"));
    }
    let algorithm = match (text(entry, "kty")?, text(entry, "crv")?) {
        (Some("RSA"), _) => Algorithm::Rs256,
        (Some("EC"), Some("P-256")) => Algorithm::Es256,
        (Some("OKP"), Some("Ed25519")) => Algorithm::EdDsa,
        (Some(_), _) => return Err("its key type is not supported".to_owned()),
        (None, _) => return Err("it has no kty".to_owned()),
    };
    let named = text(entry, "alg")?;
    if named.is_some_and(|name| Algorithm::from_name(name) != Some(algorithm)) {
        return Err("its algorithm is not supported".to_owned());
    }
    if !algorithms.contains(&algorithm) {
        return Err(format!(
            "auth.jwt.algorithms does not list {}",
            algorithm.name()
        ));
    }
    if text(entry, "use")?.is_some_and(|usage| usage != "sig") || !may_verify(entry)? {
        return Err("it is not a signature key".to_owned());
    }
    if member(entry, "d").is_some() {
        return Err("it contains a private key, which anybody can read here".to_owned());
    }
    match algorithm {
        Algorithm::Rs256 => Key::rsa(id, &number(entry, "n")?, &number(entry, "e")?),
        Algorithm::EdDsa => Key::ed25519(id, &number(entry, "x")?),
        Algorithm::Es256 => {
            let point = [vec![4], number(entry, "x")?, number(entry, "y")?].concat();
            Key::p256(id, &point)
        }
        Algorithm::Hs256 => Err("it is a shared secret, not a public key".to_owned()),
    }
}

/// `key_ops`, if present, has to name `verify`.
fn may_verify(entry: &Map<String, Value>) -> Result<bool, String> {
    match member(entry, "key_ops") {
        None => Ok(true),
        Some(Value::Array(uses)) => Ok(uses.iter().any(|usage| usage == "verify")),
        Some(_) => Err("its key_ops is not a list".to_owned()),
    }
}

/// A member; `null` counts as absent.
fn member<'a>(entry: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    entry.get(key).filter(|value| !value.is_null())
}

fn text<'a>(entry: &'a Map<String, Value>, key: &str) -> Result<Option<&'a str>, String> {
    match member(entry, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its {key} is not a string")),
    }
}

fn number(entry: &Map<String, Value>, key: &str) -> Result<Vec<u8>, String> {
    let encoded = text(entry, key)?.ok_or_else(|| format!("it has no {key}"))?;
    let encoded = encoded.trim_end_matches('=');
    let decoded = URL_SAFE_NO_PAD.decode(encoded);
    let decoded = decoded.or_else(|_| STANDARD_NO_PAD.decode(encoded));
    decoded.map_err(|_| format!("its {key} is not base64url"))
}
