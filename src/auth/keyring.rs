//! The keys that verify access tokens. A key has one algorithm, and a token is verified only by
//! a key of the algorithm it names: a public key never serves as the secret of an HMAC.
//!
//! A key may have a name (`kid`), which is only compared as text, never used as a path or query.
//! Which keys may verify a token:
//!
//! | the token | verified by |
//! |---|---|
//! | names a key that is there | that one |
//! | names another | keys without a name; if none does, it is unknown |
//! | names none | keys without a name; if there are none, the only one of its algorithm |
//!
//! Several keys may have one name, or none: each is tried, `TRIED_MAX` at most.
//!
//! **Unknown** means [`Denied::UnknownKey`] if all keys are local. With a fetched key set, the
//! provider may have published the key since, so the result is [`Unjudged::KeySet`] until a
//! fetch that started after the key was requested ([`Keyring::awaiting`]) has not found it.
//!
//! Keys of the configuration have no name; those of a key set (`jwks`) usually have one; the
//! server's own, for the tokens it issues, is named after its secret.
//!
//! A keyring never changes; [`Keyring::with`] makes another.

pub use super::algorithm::Algorithm;
use super::denied::{Denied, Refused, Unjudged};
use super::header::Header;
use super::issue;
use crate::base::limits::{RSA_BITS_MAX, RSA_BITS_MIN, SECRET_BYTES_MIN};
use crate::base::pem::{self, Kind};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// The most keys tried for one token: each costs a verification.
const TRIED_MAX: usize = 8;

/// A key or a set of keys that cannot be used: what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}; {remedy}")]
pub struct KeyError {
    pub cause: String,
    pub remedy: &'static str,
}

impl KeyError {
    pub(super) fn new(cause: impl Into<String>, remedy: &'static str) -> KeyError {
        KeyError {
            cause: cause.into(),
            remedy,
        }
    }
}

/// One key, of one algorithm.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
    /// A public key's numbers; nothing of a secret.
    public: Box<[u8]>,
}

/// Shows no key's bytes.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.id.as_deref().unwrap_or("unnamed");
        write!(f, "{} key {name:?}", self.algorithm.name())
    }
}

impl Key {
    fn new(id: Option<&str>, algorithm: Algorithm, key: DecodingKey, public: &[u8]) -> Key {
        Key {
            id: id.map(Into::into),
            algorithm,
            key,
            public: public.into(),
        }
    }

    pub(super) fn hmac(id: Option<&str>, secret: &[u8]) -> Key {
        Key::new(id, Algorithm::Hs256, DecodingKey::from_secret(secret), &[])
    }

    /// Whether it is the same public key with the same name.
    pub(super) fn is_same(&self, other: &Key) -> bool {
        self.id == other.id && self.algorithm == other.algorithm && self.public == other.public
    }

    /// From modulus and exponent, big-endian.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn rsa(id: Option<&str>, modulus: &[u8], exponent: &[u8]) -> Result<Key, String> {
        let [n, e] = [modulus, exponent].map(without_leading_zeros);
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
            return Err(format!(
                "its RSA modulus has {bits} bits, not {RSA_BITS_MIN} to {RSA_BITS_MAX}"
            ));
        }
        let der = RsaPublicKeyComponents { n, e }.as_der();
        let valid = der.is_ok_and(|der| RsaPublicKey::from_der(der.as_ref()).is_ok());
        if !valid {
            return Err("its RSA modulus and exponent do not form a key".to_owned());
        }
        let key = DecodingKey::from_rsa_raw_components(n, e);
        Ok(Key::new(id, Algorithm::Rs256, key, &[n, e].concat()))
    }

    /// From a point of P-256, uncompressed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn p256(id: Option<&str>, point: &[u8]) -> Result<Key, String> {
        // The library would also accept hybrid and compressed points.
        let known = point.len() == 65 && point.first() == Some(&4);
        if !known || !is_key(&ECDSA_P256_SHA256_FIXED, point) {
            return Err("it is not a point on P-256".to_owned());
        }
        let key = DecodingKey::from_ec_der(point);
        Ok(Key::new(id, Algorithm::Es256, key, point))
    }

    /// From the 32 bytes of an Ed25519 public key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn ed25519(id: Option<&str>, point: &[u8]) -> Result<Key, String> {
        if point.len() != 32 || !is_key(&ED25519, point) {
            return Err("it is not an Ed25519 key".to_owned());
        }
        let key = DecodingKey::from_ed_der(point);
        Ok(Key::new(id, Algorithm::EdDsa, key, point))
    }

    fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        let algorithm = self.algorithm.library();
        jsonwebtoken::crypto::verify(signature, signed, &self.key, algorithm).unwrap_or(false)
    }
}

fn is_key(algorithm: &'static dyn VerificationAlgorithm, bytes: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, bytes).parse().is_ok()
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// See the module's head. Empty: no token is accepted.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// The algorithms that tokens may have, whether or not there is a key for each yet.
    algorithms: Vec<Algorithm>,
    keys: Vec<Key>,
    /// Keys of a key set that were left out, and why: for the log.
    skipped: Vec<String>,
    /// `Some`: a key set may still deliver keys, but none with these names (empty: without a name).
    /// `None`: all keys are known.
    absent: Option<Arc<HashSet<Box<str>>>>,
}

impl Keyring {
    pub(super) fn of(algorithms: &[Algorithm], keys: Vec<Key>, skipped: Vec<String>) -> Keyring {
        Keyring {
            algorithms: algorithms.to_vec(),
            keys,
            skipped,
            absent: None,
        }
    }

    /// The keys of the configuration: `auth.jwt.secret` for HS256, `auth.jwt.public_key` in
    /// PEM for the others. An empty text is no key.
    ///
    /// # Errors
    /// A text that is not a key, or a key that fits no algorithm of the list.
    pub fn from_config(
        algorithms: &[Algorithm],
        secret: &str,
        public_key_pem: &str,
    ) -> Result<Keyring, KeyError> {
        let mut keys = Vec::new();
        if !secret.is_empty() {
            if secret.contains("-----BEGIN") {
                let cause = "auth.jwt.secret contains a PEM key";
                let remedy = "put a public key into auth.jwt.public_key (RS256, ES256 or \
                              EdDSA); a private key belongs to the token issuer alone";
                return Err(KeyError::new(cause, remedy));
            }
            keys.push(Key::hmac(None, secret.as_bytes()));
        }
        if !public_key_pem.trim().is_empty() {
            keys.push(public_key(public_key_pem)?);
        }
        for key in &keys {
            if !algorithms.contains(&key.algorithm) {
                let (name, option) = match key.algorithm {
                    Algorithm::Hs256 => ("HS256", "secret"),
                    other => (other.name(), "public_key"),
                };
                let cause = format!(
                    "auth.jwt.{option} is a key for {name}, which auth.jwt.algorithms does not \
                     list"
                );
                let remedy = "add the algorithm, or remove the key";
                return Err(KeyError::new(cause, remedy));
            }
        }
        Ok(Keyring::of(algorithms, keys, Vec::new()))
    }

    /// The key for the tokens that this server issues ([`issue`]).
    pub fn from_issuer(signing_secret: &[u8]) -> Keyring {
        let id = issue::key_id(signing_secret);
        let key = Key::hmac(Some(&id), signing_secret);
        Keyring::of(&[Algorithm::Hs256], vec![key], Vec::new())
    }

    /// This one's keys and those of another.
    #[must_use]
    pub fn with(&self, other: &Keyring) -> Keyring {
        let mut both = self.clone();
        for algorithm in &other.algorithms {
            if !both.algorithms.contains(algorithm) {
                both.algorithms.push(*algorithm);
            }
        }
        both.keys.extend_from_slice(&other.keys);
        both.skipped.extend_from_slice(&other.skipped);
        both.absent = both.absent.or_else(|| other.absent.clone());
        both
    }

    /// This keyring while its key set may still deliver keys, but none with these names (empty:
    /// without a name).
    #[must_use]
    pub fn awaiting(&self, absent: HashSet<Box<str>>) -> Keyring {
        Keyring {
            absent: Some(Arc::new(absent)),
            ..self.clone()
        }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Keys of a key set that were left out, each with its reason: for the log.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    pub(super) fn accepts(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Verifies a signature, base64url, over `signed`.
    ///
    /// # Errors
    /// If there is no key for it, or none that verifies it.
    pub(super) fn verify(
        &self,
        header: &Header,
        signed: &[u8],
        signature: &str,
    ) -> Result<&Key, Refused> {
        let verifier = |key: &&Key| key.verifies(signed, signature);
        let wrong = || Refused::from(Denied::Signature);
        let unnamed = || self.named(header.algorithm, None);
        let Some(id) = header.key_id.as_deref() else {
            if unnamed().next().is_some() {
                return unnamed().find(verifier).ok_or_else(wrong);
            }
            let mut all = self.serving(header.algorithm);
            return match (all.next(), all.next()) {
                (None, _) => Err(self.unknown("")),
                (Some(only), None) => Some(only).filter(verifier).ok_or_else(wrong),
                (Some(_), Some(_)) => Err(Denied::AmbiguousKey.into()),
            };
        };
        let mut meant = self.named(header.algorithm, Some(id)).peekable();
        if meant.peek().is_some() {
            return meant.find(verifier).ok_or_else(wrong);
        }
        unnamed().find(verifier).ok_or_else(|| self.unknown(id))
    }

    /// The refusal when no key has this name.
    fn unknown(&self, name: &str) -> Refused {
        match &self.absent {
            Some(absent) if !absent.contains(name) => Unjudged::KeySet.into(),
            _ => Denied::UnknownKey.into(),
        }
    }

    fn serving(&self, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let keys = self.keys.iter();
        keys.filter(move |key| key.algorithm == algorithm)
    }

    fn named<'a, 'i>(
        &'a self,
        algorithm: Algorithm,
        id: Option<&'i str>,
    ) -> impl Iterator<Item = &'a Key> + use<'a, 'i> {
        let keys = self.serving(algorithm);
        let named = keys.filter(move |key| key.id.as_deref() == id);
        named.take(TRIED_MAX)
    }
}

const PUBLIC_KEY_REMEDY: &str = "auth.jwt.public_key takes one public key, RSA of 2048 bits or \
                                 more, P-256 or Ed25519, as `openssl pkey -in private.pem -pubout` prints it";

/// `BEGIN PUBLIC KEY`, or RSA's own `BEGIN RSA PUBLIC KEY`.
fn public_key(text: &str) -> Result<Key, KeyError> {
    let refuse = |cause: &str| {
        let cause = format!("auth.jwt.public_key {cause}");
        KeyError::new(cause, PUBLIC_KEY_REMEDY)
    };
    let mut found = None;
    for block in pem::blocks(text.as_bytes()).map_err(|error| refuse(&error.problem))? {
        match block.kind {
            Kind::PublicKey | Kind::RsaPublicKey if found.is_some() => {
                return Err(refuse("has several keys"));
            }
            Kind::PublicKey | Kind::RsaPublicKey => found = Some(block),
            Kind::Pkcs8 | Kind::Pkcs1 | Kind::Sec1 | Kind::Locked => {
                return Err(refuse("is a private key"));
            }
            Kind::Certificate => return Err(refuse("is a certificate")),
            Kind::Beside => {}
            Kind::Unknown => return Err(refuse("is not a public key in PEM")),
        }
    }
    let found = found.ok_or_else(|| refuse("is not a public key in PEM"))?;
    let canonical = found.to_public_pem();
    let bytes = canonical.as_bytes();
    let key = if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
        key.try_get_as_bytes()
            .ok()
            .map(|point| Key::p256(None, point))
    } else if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
        key.try_get_as_bytes()
            .ok()
            .map(|point| Key::ed25519(None, point))
    } else if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        let der = key.try_get_as_bytes().ok();
        let key = der.and_then(|der| RsaPublicKey::from_der(der).ok());
        key.map(|key| {
            let number = |number: aws_lc_rs::io::Positive<'_>| {
                number.big_endian_without_leading_zero().to_vec()
            };
            Key::rsa(None, &number(key.modulus()), &number(key.exponent()))
        })
    } else {
        None
    };
    match key {
        Some(Ok(key)) => Ok(key),
        Some(Err(fault)) => Err(refuse(&format!("cannot be used: {fault}"))),
        None => Err(refuse("is not a public key in PEM")),
    }
}

/// Why an HS256 secret is weak, if it is: too short, or too few distinct bytes. Weak ones work,
/// but the holder of one token can try to guess them.
pub fn secret_weakness(secret: &[u8]) -> Option<String> {
    let different = secret.iter().collect::<HashSet<_>>().len();
    if secret.len() < SECRET_BYTES_MIN {
        Some(format!(
            "it has {} bytes; use at least {SECRET_BYTES_MIN} random ones (RFC 7518)",
            secret.len()
        ))
    } else if different < 10 {
        Some(format!("it has only {different} distinct bytes"))
    } else {
        None
    }
}
