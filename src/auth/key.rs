//! API keys: `id.secret`, for devices that cannot fetch tokens.
//!
//! The id has the form of a CLIENT_ID and is not secret. The secret is 32 random bytes in
//! base64url, 43 characters. The configuration has the SHA-256 of *those characters*, everything
//! after the last dot, so that any tool can compute it:
//!
//! ```text
//!   printf %s "$SECRET" | sha256sum
//! ```
//!
//! A plain hash is enough, because 256 bits cannot be guessed; a slow hash would only let attackers
//! keep the server busy.
//!
//! Every check does the same work, whether or not the id is known and wherever the secret
//! differs: one hash, and one comparison in constant time, against a dummy for unknown ids.

use super::denied::Denied;
use super::identity::is_principal;
use crate::base::limits::API_KEY_BYTES_MAX;
use crate::proto::option::is_client_id;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

const SECRET_BYTES: usize = 32;

/// One `[[auth.api_key]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    pub id: Box<str>,
    /// SHA-256 of the secret's characters, in hexadecimal.
    pub sha256: String,
    pub principal: Box<str>,
    pub roles: Box<[Box<str>]>,
}

/// A key of the configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("auth.api_key {id:?}: {cause}; {remedy}")]
pub struct ApiKeyError {
    pub id: String,
    pub cause: &'static str,
    pub remedy: &'static str,
}

/// All API keys, by id.
#[derive(Clone, Debug, Default)]
pub struct ApiKeys {
    keys: HashMap<Box<str>, (Hash, ApiKey)>,
}

type Hash = [u8; SHA256_OUTPUT_LEN];

impl ApiKeys {
    /// # Errors
    /// The first key that cannot be used, or that has another's id.
    pub fn new(keys: impl IntoIterator<Item = ApiKey>) -> Result<ApiKeys, ApiKeyError> {
        let mut known = HashMap::new();
        for key in keys {
            let refuse = |cause, remedy| ApiKeyError {
                id: key.id.to_string(),
                cause,
                remedy,
            };
            if !is_client_id(&key.id) {
                let remedy = "use 1 to 64 of A-Z a-z 0-9 _ - .";
                return Err(refuse("the id is not valid", remedy));
            }
            if !is_principal(&key.principal) {
                let remedy = "use 1 to 128 bytes, without / + # and control characters, not \
                              starting with $";
                return Err(refuse("the principal is not a single topic level", remedy));
            }
            let Some(hash) = from_hex(&key.sha256) else {
                let remedy = "`ringmail token key` prints a new key and its hash";
                return Err(refuse("sha256 is not 64 hexadecimal digits", remedy));
            };
            match known.entry(key.id.clone()) {
                Entry::Vacant(place) => place.insert((hash, key)),
                Entry::Occupied(_) => {
                    return Err(refuse("the id is used twice", "give each key its own id"));
                }
            };
        }
        Ok(ApiKeys { keys: known })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &ApiKey> {
        self.keys.values().map(|(_, key)| key)
    }

    /// The id of the key that a credential claims to be, if that key exists.
    pub fn claimed(&self, credential: &[u8]) -> Option<&str> {
        let (id, _) = parts(credential)?;
        let id = std::str::from_utf8(id).ok()?;
        self.keys.get_key_value(id).map(|(id, _)| &**id)
    }

    /// The key that matches a credential.
    ///
    /// # Errors
    /// `UnknownApiKey` or `Secret`, after the same work.
    pub fn check(&self, credential: &[u8]) -> Result<&ApiKey, Denied> {
        // No key is this long: it need not be hashed.
        if credential.len() > API_KEY_BYTES_MAX {
            return Err(Denied::UnknownApiKey);
        }
        let (id, secret) = parts(credential).unwrap_or((&[], credential));
        let given = digest(&SHA256, secret);
        let known = std::str::from_utf8(id)
            .ok()
            .and_then(|id| self.keys.get(id));
        let dummy: Hash = [0; SHA256_OUTPUT_LEN];
        let expected = known.map_or(&dummy, |(hash, _)| hash);
        let equal = verify_slices_are_equal(given.as_ref(), expected).is_ok();
        match known {
            Some((_, key)) if equal => Ok(key),
            Some(_) => Err(Denied::Secret),
            None => Err(Denied::UnknownApiKey),
        }
    }
}

/// The key's id and its secret.
fn parts(credential: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = credential.iter().rposition(|byte| *byte == b'.')?;
    Some((credential.get(..dot)?, credential.get(dot + 1..)?))
}

fn from_hex(text: &str) -> Option<Hash> {
    let mut hash = [0; SHA256_OUTPUT_LEN];
    if text.len() != 2 * hash.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// The hash that the configuration has for a secret: SHA-256 of its characters, in hexadecimal.
pub fn hash(secret: &str) -> String {
    to_hex(digest(&SHA256, secret.as_bytes()).as_ref())
}

/// Hexadecimal, with lower-case digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new key. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// `id.secret`: for the device alone.
    pub key: String,
    /// For the configuration.
    pub sha256: String,
}

impl fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NewApiKey");
        shown.field("sha256", &self.sha256);
        shown.finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("{0:?} is not a valid key id; use 1 to 64 of A-Z a-z 0-9 _ - .")]
    Id(String),
    #[error("the system provides no random numbers: {0}; check that getrandom(2) is allowed")]
    Random(#[from] getrandom::Error),
}

/// A key with a new secret.
///
/// # Errors
/// If the id is invalid, or random numbers cannot be had.
pub fn generate(id: &str) -> Result<NewApiKey, GenerateError> {
    if !is_client_id(id) {
        return Err(GenerateError::Id(id.to_owned()));
    }
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random)?;
    let secret = URL_SAFE_NO_PAD.encode(random);
    Ok(NewApiKey {
        key: format!("{id}.{secret}"),
        sha256: hash(&secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(id: &str, sha256: &str) -> ApiKey {
        ApiKey {
            id: id.into(),
            sha256: sha256.to_owned(),
            principal: "dev".into(),
            roles: ["device".into()].into(),
        }
    }

    fn one() -> (NewApiKey, ApiKeys) {
        let new = generate("sensor.7").expect("a key");
        let keys = ApiKeys::new([entry("sensor.7", &new.sha256)]).expect("keys");
        (new, keys)
    }

    #[test]
    fn a_generated_key_is_accepted_and_is_new_each_time() {
        let (new, keys) = one();
        let (id, secret) = new.key.rsplit_once('.').expect("a dot");
        assert_eq!((id, secret.len()), ("sensor.7", 43));
        assert_eq!(
            &*keys.check(new.key.as_bytes()).expect("accepted").principal,
            "dev"
        );
        assert_ne!(new.key, generate("sensor.7").expect("a key").key);
        assert!(matches!(generate("a/b"), Err(GenerateError::Id(_))));
    }

    #[test]
    fn the_hash_is_of_the_secrets_characters() {
        // sha256sum of "secret".
        let known = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(hash("secret"), known);
        let keys = ApiKeys::new([entry("a", &known.to_uppercase())]).expect("keys");
        assert!(keys.check(b"a.secret").is_ok());
    }

    #[test]
    fn anything_but_the_key_is_refused() {
        let (new, keys) = one();
        let key = new.key.as_bytes();
        for end in 0..key.len() {
            assert!(keys.check(&key[..end]).is_err(), "a prefix of {end} bytes");
        }
        for at in "sensor.7.".len()..key.len() {
            let mut wrong = key.to_vec();
            wrong[at] ^= 1;
            assert_eq!(keys.check(&wrong), Err(Denied::Secret), "byte {at}");
        }
        let longer = [key, b"A"].concat();
        assert_eq!(keys.check(&longer), Err(Denied::Secret));
        let secret = new.key.rsplit_once('.').expect("a dot").1;
        for unknown in ["", ".", "sensor.7", secret] {
            assert_eq!(keys.check(unknown.as_bytes()), Err(Denied::UnknownApiKey));
        }
        let other = format!("sensor.8.{secret}");
        assert_eq!(keys.check(other.as_bytes()), Err(Denied::UnknownApiKey));
        assert_eq!(keys.check(&[b'x'; 100_000]), Err(Denied::UnknownApiKey));
    }

    #[test]
    fn not_even_the_dummys_preimage_would_let_an_unknown_id_in() {
        // The dummy is all zeros, and so is this entry's hash. No secret for it is known, and an
        // unknown id would be refused even with one.
        let keys = ApiKeys::new([entry("zero", &"0".repeat(64))]).expect("keys");
        assert_eq!(keys.check(b"zero.x"), Err(Denied::Secret));
        assert_eq!(keys.check(b"other.x"), Err(Denied::UnknownApiKey));
    }

    #[test]
    fn an_unusable_key_is_named_with_the_remedy() {
        let good = hash("x");
        let mut nobody = entry("a", &good);
        nobody.principal = "a/b".into();
        let rows: [(Vec<ApiKey>, &str); 5] = [
            (vec![entry("a b", &good)], "id"),
            (vec![entry("", &good)], "id"),
            (vec![entry("a", "abc")], "ringmail token key"),
            (vec![entry("a", &good), entry("a", &good)], "twice"),
            (vec![nobody], "principal"),
        ];
        for (keys, part) in rows {
            let error = ApiKeys::new(keys).expect_err("refused").to_string();
            assert!(
                error.starts_with("auth.api_key \"") && error.contains(part),
                "{error}"
            );
        }
        assert_eq!(from_hex(&"é".repeat(32)), None);
    }

    #[test]
    fn the_secret_is_not_shown() {
        let (new, _) = one();
        let secret = new.key.rsplit_once('.').expect("a dot").1;
        assert!(!format!("{new:?}").contains(secret));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_accepted(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let (_, keys) = one();
            prop_assert!(keys.check(&bytes).is_err());
            let named = [&b"sensor.7."[..], &bytes].concat();
            prop_assert!(keys.check(&named).is_err());
            let _ = ApiKeys::new([entry(&String::from_utf8_lossy(&bytes), "x")]);
            let _ = from_hex(&String::from_utf8_lossy(&bytes));
        }
    }
}
