//! Access tokens, key sets and the authority, tested with tokens forged part by part.
//!
//! Keys are generated anew in each run; no test depends on their values.

use super::authority::{Authority, Method};
use super::denied::{Denied, Refused, Unjudged};
use super::issue::{self, NewToken, issue};
use super::key::{self, ApiKey, ApiKeys};
use super::keyring::{Algorithm, Keyring, secret_weakness};
use super::revocation::{Revocation, Revocations, Target};
use super::rights::{Role, Roles, Who};
use super::token::{Requirements, Verified, verify};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of the tests, which has 32 bytes and more";

static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("an RSA key"));
static P256: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key")
});
static ED: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::generate().expect("an Ed25519 key"));

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs with the tests' key for an algorithm.
fn sign(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::Hs256 => hs256(SECRET.as_bytes(), message),
        Algorithm::Rs256 => {
            let mut signature = vec![0; RSA.public_modulus_len()];
            let signed = RSA.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
            signed.expect("a signature");
            signature
        }
        Algorithm::Es256 => {
            let signature = P256.sign(&random, message).expect("a signature");
            signature.as_ref().to_vec()
        }
        Algorithm::EdDsa => ED.sign(message).as_ref().to_vec(),
    }
}

fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message).as_ref().to_vec()
}

/// A token of these two texts, correctly signed by the tests' key for `algorithm`.
fn forge(algorithm: Algorithm, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", base64(header), base64(payload));
    let signature = base64(sign(algorithm, message.as_bytes()));
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({"sub": "d1", "exp": NOW + 60})
}

fn with(claim: &str, value: Value) -> String {
    let mut claims = claims();
    claims[claim] = value;
    claims.to_string()
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
}

fn public_pem(algorithm: Algorithm) -> String {
    let der = match algorithm {
        Algorithm::Rs256 => RSA.public_key().as_der(),
        Algorithm::Es256 => P256.public_key().as_der(),
        _ => ED.public_key().as_der(),
    };
    pem(der.expect("a public key").as_ref())
}

/// The key in the form of a key set's entry.
fn jwk(algorithm: Algorithm, kid: &str) -> Value {
    let mut key = match algorithm {
        Algorithm::Hs256 => json!({"kty": "oct", "k": base64(SECRET)}),
        Algorithm::Rs256 => rsa_jwk(RSA.public_key()),
        Algorithm::Es256 => {
            let point = P256.public_key().as_ref();
            let [x, y] = [&point[1..33], &point[33..]].map(base64);
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
        }
        Algorithm::EdDsa => {
            let x = base64(ED.public_key().as_ref());
            json!({"kty": "OKP", "crv": "Ed25519", "x": x})
        }
    };
    key["kid"] = kid.into();
    key
}

fn rsa_jwk(key: &PublicKey) -> Value {
    let n = base64(key.modulus().big_endian_without_leading_zero());
    let e = base64(key.exponent().big_endian_without_leading_zero());
    json!({"kty": "RSA", "n": n, "e": e})
}

fn set(keys: &[Value]) -> Keyring {
    let json = json!({"keys": keys}).to_string();
    Keyring::from_jwks(json.as_bytes(), &Algorithm::ALL).expect("a key set")
}

fn secret() -> Keyring {
    Keyring::from_config(&[Algorithm::Hs256], SECRET, "").expect("a keyring")
}

fn check(token: &str, keyring: &Keyring) -> Result<Verified, Denied> {
    let required = Requirements {
        leeway_s: 30,
        ..Requirements::default()
    };
    verify(token.as_bytes(), keyring, &required, NOW).map_err(denied)
}

/// All keys are known, so every token can be checked.
fn denied(refused: Refused) -> Denied {
    match refused {
        Refused::Denied(denied) => denied,
        Refused::Unjudged(unjudged) => panic!("not judged: {unjudged}"),
    }
}

/// HS256 with the tests' secret.
fn check_claims(payload: &str) -> Result<Verified, Denied> {
    check(
        &forge(Algorithm::Hs256, r#"{"alg":"HS256"}"#, payload),
        &secret(),
    )
}

// Keys and algorithms.

#[test]
fn each_algorithms_token_is_accepted_by_its_key_however_that_is_given() {
    for algorithm in Algorithm::ALL {
        let header = json!({"alg": algorithm.name(), "kid": "k1", "typ": "JWT"}).to_string();
        let token = forge(algorithm, &header, &claims().to_string());
        let configured = match algorithm {
            Algorithm::Hs256 => secret(),
            _ => Keyring::from_config(&[algorithm], "", &public_pem(algorithm)).expect("PEM"),
        };
        let verified = check(&token, &configured).expect("accepted");
        assert_eq!(&*verified.claims.subject, "d1");
        assert_eq!(verified.key_id.as_deref(), Some("k1"));
        if algorithm != Algorithm::Hs256 {
            let published = set(&[jwk(algorithm, "k1")]);
            assert_eq!(check(&token, &published), Ok(verified), "{algorithm:?}");
        }
    }
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    for algorithm in Algorithm::ALL {
        let header = json!({"alg": algorithm.name()}).to_string();
        let token = forge(algorithm, &header, &claims().to_string());
        let keyring = match algorithm {
            Algorithm::Hs256 => secret(),
            _ => set(&[jwk(algorithm, "k1")]),
        };
        assert!(check(&token, &keyring).is_ok());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert!(
                check(&changed, &keyring).is_err(),
                "{algorithm:?}, byte {at}"
            );
        }
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 "] {
        let header = json!({"alg": alg}).to_string();
        let token = forge(Algorithm::Hs256, &header, &claims().to_string());
        assert_eq!(check(&token, &secret()), Err(Denied::Algorithm), "{alg:?}");
        let bare = format!("{}.{}.", base64(&header), base64(claims().to_string()));
        assert_eq!(check(&bare, &secret()), Err(Denied::NotAToken), "{alg:?}");
    }
}

#[test]
fn a_public_key_is_never_the_secret_of_an_hmac() {
    let payload = claims().to_string();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let text = public_pem(algorithm);
        let raw = match algorithm {
            Algorithm::Rs256 => RSA.public_key().as_ref().to_vec(),
            Algorithm::Es256 => P256.public_key().as_ref().to_vec(),
            _ => ED.public_key().as_ref().to_vec(),
        };
        // Everything that an attacker who knows the public key may use as the secret.
        for stolen in [text.as_bytes(), text.trim().as_bytes(), &raw] {
            let message = format!("{}.{}", base64(r#"{"alg":"HS256"}"#), base64(&payload));
            let token = format!("{message}.{}", base64(hs256(stolen, message.as_bytes())));
            let only = Keyring::from_config(&[algorithm], "", &text).expect("PEM");
            assert_eq!(check(&token, &only), Err(Denied::Algorithm));
            let both = [algorithm, Algorithm::Hs256];
            let no_secret = Keyring::from_config(&both, "", &text).expect("PEM");
            assert_eq!(check(&token, &no_secret), Err(Denied::UnknownKey));
            let with_secret = Keyring::from_config(&both, SECRET, &text).expect("PEM");
            assert_eq!(check(&token, &with_secret), Err(Denied::Signature));
        }
    }
}

#[test]
fn a_key_serves_its_own_algorithm_only() {
    // Signed by one key, under the other key's algorithm.
    for signer in Algorithm::ALL {
        for named in Algorithm::ALL.into_iter().filter(|named| *named != signer) {
            let keyring = secret().with(&set(&[
                jwk(Algorithm::Rs256, "k"),
                jwk(Algorithm::Es256, "k"),
                jwk(Algorithm::EdDsa, "k"),
            ]));
            for kid in ["", r#","kid":"k""#] {
                let header = format!(r#"{{"alg":"{}"{kid}}}"#, named.name());
                let token = forge(signer, &header, &claims().to_string());
                let refused = check(&token, &keyring).expect_err("refused");
                let expected = match (named, kid) {
                    (Algorithm::Hs256, r#","kid":"k""#) => Denied::UnknownKey,
                    _ => Denied::Signature,
                };
                assert_eq!(refused, expected, "{signer:?} as {named:?}");
            }
        }
    }
}

// The header.

/// Each has an invalid signature: these headers are refused before the signature is checked.
#[test]
fn a_header_with_unsupported_members_is_refused_before_any_cryptography() {
    let check = |header: &str| {
        let token = format!("{}.{}.AAAA", base64(header), base64(claims().to_string()));
        check(&token, &secret()).expect_err("refused")
    };
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""b64":true"#,
        r#""zip":"DEF""#,
        r#""jku":"https://example.org/keys""#,
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""x5u":"https://example.org/chain""#,
        r#""x5c":[]"#,
        r#""cty":"JWT""#,
        r#""jku":null"#,
        r#""typ":"JWE""#,
        r#""typ":"dpop+jwt""#,
        r#""typ":null"#,
        r#""typ":["JWT"]"#,
        r#""kid":1"#,
        r#""kid":null"#,
        r#""alg":"HS256""#,
        r#""x":{"y":1,"y":2}"#,
    ] {
        let denied = check(&format!(r#"{{"alg":"HS256",{member}}}"#));
        assert!(matches!(denied, Denied::Header(_)), "{member}: {denied}");
    }
    for header in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"alg":1}"#,
        r#"{"alg":null}"#,
        "{",
        "\u{feff}{}",
    ] {
        let denied = check(header);
        let known = matches!(denied, Denied::Header(_) | Denied::NotAToken);
        assert!(known, "{header}: {denied}");
    }
    assert_eq!(
        check(r#"{"alg":"HS256"}"#),
        Denied::Signature,
        "the signature is looked at last"
    );
}

#[test]
fn usual_types_and_unknown_members_pass() {
    for member in [
        r#""typ":"JWT""#,
        r#""typ":"jwt""#,
        r#""typ":"at+JWT""#,
        r#""typ":"application/at+jwt""#,
        r#""x5t":"AAAA","nonce":"n""#,
    ] {
        let header = format!(r#"{{"alg":"HS256",{member}}}"#);
        let token = forge(Algorithm::Hs256, &header, &claims().to_string());
        assert!(check(&token, &secret()).is_ok(), "{member}");
    }
}

#[test]
fn a_token_has_three_parts_of_base64url_and_8_kib() {
    let good = forge(
        Algorithm::Hs256,
        r#"{"alg":"HS256"}"#,
        &claims().to_string(),
    );
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts");
    };
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{good}.{signature}"),
        format!("{good}.a.b"),
        format!("{good}="),
        format!("{good} "),
        format!("{good}\n"),
        format!(" {good}"),
        format!("Bearer {good}"),
        format!("{header}.{payload}.{signature}").replace('.', ":"),
    ] {
        assert_eq!(check(&bad, &secret()), Err(Denied::NotAToken), "{bad:?}");
    }
    // A nested token, and one around another.
    let nested = forge(Algorithm::Hs256, r#"{"alg":"HS256","cty":"JWT"}"#, &good);
    assert!(matches!(check(&nested, &secret()), Err(Denied::Header(_))));
    let silent = forge(Algorithm::Hs256, r#"{"alg":"HS256"}"#, &good);
    assert!(matches!(check(&silent, &secret()), Err(Denied::Payload(_))));
    // Exactly 8 KiB is read, one byte more is not.
    let padded = |length: usize| {
        let mut claims = claims();
        claims["x"] = "x".repeat(length).into();
        forge(Algorithm::Hs256, r#"{"alg":"HS256"}"#, &claims.to_string())
    };
    let length = (5000..7000)
        .find(|length| padded(*length).len() > 8192)
        .expect("a length");
    assert_eq!(check(&padded(length), &secret()), Err(Denied::TooLarge));
    assert!(check(&padded(length - 1), &secret()).is_ok());
    assert_eq!(
        check(&"a".repeat(1 << 20), &secret()),
        Err(Denied::TooLarge)
    );
}

/// The last character of a part may carry unused bits.
#[test]
fn a_token_has_one_spelling() {
    let token = forge(
        Algorithm::EdDsa,
        r#"{"alg":"EdDSA"}"#,
        &claims().to_string(),
    );
    let keyring = set(&[jwk(Algorithm::EdDsa, "k")]);
    assert!(check(&token, &keyring).is_ok());
    let last = token.as_bytes()[token.len() - 1];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.iter().filter(|other| **other != last) {
        let changed = format!("{}{}", &token[..token.len() - 1], char::from(*other));
        assert_eq!(check(&changed, &keyring), Err(Denied::Signature));
    }
}

// Names of keys.

#[test]
fn a_keys_name_is_compared_and_nothing_else() {
    let keyring = set(&[jwk(Algorithm::EdDsa, "k1")]);
    let long = "x".repeat(257);
    let longest = "x".repeat(256);
    for kid in [
        "../../etc/passwd",
        "/dev/null",
        "' OR 1=1 --",
        "k1\0",
        "K1",
        "k1 ",
        "",
        "https://example.org/key",
        "%6b1",
        &longest,
    ] {
        let header = json!({"alg": "EdDSA", "kid": kid}).to_string();
        let token = forge(Algorithm::EdDsa, &header, &claims().to_string());
        assert_eq!(check(&token, &keyring), Err(Denied::UnknownKey), "{kid:?}");
    }
    let header = json!({"alg": "EdDSA", "kid": long}).to_string();
    let token = forge(Algorithm::EdDsa, &header, &claims().to_string());
    assert!(matches!(check(&token, &keyring), Err(Denied::Header(_))));
    let escaped = forge(
        Algorithm::EdDsa,
        r#"{"alg":"EdDSA","kid":"\u006b1"}"#,
        &claims().to_string(),
    );
    assert_eq!(
        check(&escaped, &keyring).map(|verified| verified.key_id),
        Ok(Some("k1".into()))
    );
}

#[test]
fn names_of_8_kib_and_ten_thousand_unknown_ones_are_refused_unverified() {
    let keyring = set(&[jwk(Algorithm::EdDsa, "k1")]);
    let unsigned = |kid: &str| {
        let header = json!({"alg": "EdDSA", "kid": kid}).to_string();
        format!("{}.{}.AAAA", base64(header), base64(claims().to_string()))
    };
    let huge = unsigned(&"k".repeat(8192));
    assert_eq!(check(&huge, &keyring), Err(Denied::TooLarge));
    let large = unsigned(&"k".repeat(4096));
    assert!(matches!(check(&large, &keyring), Err(Denied::Header(_))));
    for n in 0..10_000 {
        let token = unsigned(&format!("unknown-{n}"));
        assert_eq!(check(&token, &keyring), Err(Denied::UnknownKey));
    }
}

#[test]
fn a_rotated_key_is_unknown_until_the_set_has_it() {
    let header = r#"{"alg":"ES256","kid":"new"}"#;
    let token = forge(Algorithm::Es256, header, &claims().to_string());
    let old = set(&[jwk(Algorithm::Rs256, "old")]);
    assert_eq!(check(&token, &old), Err(Denied::UnknownKey));
    assert!(check(&token, &old.with(&set(&[jwk(Algorithm::Es256, "new")]))).is_ok());
    // Also if the configuration has a key of that algorithm.
    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let other = pem(other.public_key().as_der().expect("a public key").as_ref());
    let other = Keyring::from_config(&[Algorithm::Es256], "", &other).expect("PEM");
    assert_eq!(check(&token, &other), Err(Denied::UnknownKey));
}

/// A key set may still deliver keys: keys that it was not yet fetched for are not unknown.
#[test]
fn a_token_whose_key_may_still_arrive_is_neither_accepted_nor_refused() {
    let now = json!({"sub": "d1", "exp": NOW + 60});
    let late = json!({"sub": "d1", "exp": NOW - 60});
    let token = |header: &str, claims: &Value| forge(Algorithm::Es256, header, &claims.to_string());
    let (named, nameless) = (r#"{"alg":"ES256","kid":"new"}"#, r#"{"alg":"ES256"}"#);
    let held = set(&[jwk(Algorithm::Rs256, "old")]);
    let verdict = |token: &str, absent: &[&str]| {
        let absent = absent.iter().map(|&name| name.into()).collect();
        let keyring = held.awaiting(absent);
        let verified = verify(token.as_bytes(), &keyring, &Requirements::default(), NOW);
        verified.expect_err("no key verifies it")
    };
    let unjudged = Refused::from(Unjudged::KeySet);
    let unknown = Refused::from(Denied::UnknownKey);
    let expired = Refused::from(Denied::Expired);
    let other = forge(
        Algorithm::Rs256,
        r#"{"alg":"RS256","kid":"old"}"#,
        &now.to_string(),
    );
    let (head, _) = other.rsplit_once('.').expect("a signature");
    let forged = format!("{head}.{}", base64([1; 256]));
    for (token, absent, expected) in [
        (token(named, &now), &[][..], unjudged),
        (token(named, &now), &["other", ""], unjudged),
        (token(named, &now), &["new"], unknown),
        (token(nameless, &now), &["new"], unjudged),
        (token(nameless, &now), &[""], unknown),
        // A token that is invalid whichever key signed it is refused at once.
        (token(named, &late), &[], expired),
        (forged, &[], Denied::Signature.into()),
        ("no.token.".to_owned(), &[], Denied::NotAToken.into()),
    ] {
        assert_eq!(verdict(&token, absent), expected, "{token} {absent:?}");
    }
    // The configuration's keys and the set's form one keyring.
    let token = token(named, &now);
    let both = secret().with(&held.awaiting(Default::default()));
    let verified = verify(token.as_bytes(), &both, &Requirements::default(), NOW);
    assert_eq!(verified, Err(unjudged));
}

#[test]
fn a_token_without_a_key_name_needs_an_unambiguous_key() {
    let token = forge(
        Algorithm::EdDsa,
        r#"{"alg":"EdDSA"}"#,
        &claims().to_string(),
    );
    let mut second = jwk(Algorithm::EdDsa, "k2");
    let pair = Ed25519KeyPair::generate().expect("a key");
    second["x"] = base64(pair.public_key().as_ref()).into();
    let one = set(&[jwk(Algorithm::EdDsa, "k1"), jwk(Algorithm::Rs256, "k2")]);
    assert_eq!(
        check(&token, &one).map(|verified| verified.key_id),
        Ok(Some("k1".into()))
    );
    let two = set(&[jwk(Algorithm::EdDsa, "k1"), second.clone()]);
    assert_eq!(check(&token, &two), Err(Denied::AmbiguousKey));
    let none = set(&[jwk(Algorithm::Rs256, "k1")]);
    assert_eq!(check(&token, &none), Err(Denied::UnknownKey));
    let only_other = set(&[second]);
    assert_eq!(check(&token, &only_other), Err(Denied::Signature));
}

// Claims.

#[test]
fn times_hold_to_the_second_with_the_leeway() {
    let rows = [
        ("exp", NOW - 30, Some(Denied::Expired)),
        ("exp", NOW - 29, None),
        ("exp", NOW, None),
        ("exp", 0, Some(Denied::Expired)),
        ("exp", u64::MAX, None),
        ("nbf", NOW + 30, None),
        ("nbf", NOW + 31, Some(Denied::NotYetValid("nbf"))),
        ("nbf", u64::MAX, Some(Denied::NotYetValid("nbf"))),
        ("iat", NOW + 30, None),
        ("iat", NOW + 31, Some(Denied::NotYetValid("iat"))),
        ("iat", 0, None),
    ];
    for (claim, time, denied) in rows {
        let verdict = check_claims(&with(claim, time.into()));
        assert_eq!(verdict.err(), denied, "{claim} {time}");
    }
    let strict = Requirements::default();
    let token = forge(
        Algorithm::Hs256,
        r#"{"alg":"HS256"}"#,
        &with("exp", NOW.into()),
    );
    let refused = verify(token.as_bytes(), &secret(), &strict, NOW);
    assert_eq!(refused, Err(Denied::Expired.into()));
    assert!(verify(token.as_bytes(), &secret(), &strict, NOW - 1).is_ok());
}

#[test]
fn a_time_of_another_type_is_refused() {
    for claim in ["exp", "nbf", "iat"] {
        let text = (NOW + 10).to_string();
        for value in [
            format!("\"{text}\""),
            format!("{text}.0"),
            format!("{text}.5"),
            "1.8e9".to_owned(),
            "1e400".to_owned(),
            "null".to_owned(),
            "-1".to_owned(),
            "-0".to_owned(),
            "true".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            "18446744073709551616".to_owned(),
            "NaN".to_owned(),
            "01".to_owned(),
        ] {
            let rest = if claim == "exp" {
                String::new()
            } else {
                format!(",\"exp\":{text}")
            };
            let payload = format!(r#"{{"sub":"d1","{claim}":{value}{rest}}}"#);
            let denied = check_claims(&payload).expect_err(&payload);
            let known = matches!(denied, Denied::Claim { claim: c, .. } if c == claim)
                || matches!(denied, Denied::Payload(_));
            assert!(known, "{payload}: {denied}");
        }
    }
}

#[test]
fn required_claims_must_be_present_and_of_their_type() {
    let missing = |claim| Denied::Claim {
        claim,
        fault: "is missing",
    };
    let only = |text: String| check_claims(&text).expect_err("refused");
    assert_eq!(only(json!({"sub": "d1"}).to_string()), missing("exp"));
    assert_eq!(only(json!({"exp": NOW + 9}).to_string()), missing("sub"));
    for sub in [json!(1), json!(null), json!(["d1"]), json!({})] {
        let denied = only(with("sub", sub));
        assert!(matches!(denied, Denied::Claim { claim: "sub", .. }));
    }
    for sub in ["", "a/b", "+", "#", "a+", "$sys", "a\n", &"x".repeat(129)] {
        let denied = only(with("sub", sub.into()));
        assert!(
            matches!(denied, Denied::Claim { claim: "sub", .. }),
            "{sub:?}"
        );
    }
    for (claim, value) in [
        ("jti", json!(1)),
        ("jti", json!(null)),
        ("jti", json!("x".repeat(257))),
        ("roles", json!("admin")),
        ("roles", json!(null)),
        ("roles", json!({"admin": true})),
        ("roles", json!(["device", 1])),
        ("roles", json!([["device"]])),
        ("iss", json!(1)),
        ("iss", json!(null)),
        ("aud", json!(1)),
        ("aud", json!(null)),
        ("aud", json!(["a", 1])),
    ] {
        let denied = only(with(claim, value));
        assert!(
            matches!(denied, Denied::Claim { claim: c, .. } if c == claim),
            "{claim}"
        );
    }
    for payload in [
        r#"{"sub":"d1","sub":"admin","exp":1900000000}"#,
        r#"{"sub":"d1","exp":1,"\u0065xp":1900000000}"#,
        r#"{"sub":"d1","exp":1900000000,"x":{"a":1,"a":2}}"#,
        "[]",
        "null",
        "",
    ] {
        let token = forge(Algorithm::Hs256, r#"{"alg":"HS256"}"#, payload);
        let denied = check(&token, &secret()).expect_err("refused");
        assert!(
            matches!(denied, Denied::Payload(_) | Denied::NotAToken),
            "{payload}: {denied}"
        );
    }
}

#[test]
fn issuer_and_audience_are_required_when_configured() {
    let required = Requirements {
        issuer: "https://issuer.example/".to_owned(),
        audience: "ringmail".to_owned(),
        leeway_s: 30,
    };
    let check = |iss: Option<Value>, aud: Option<Value>| {
        let mut claims = claims();
        let object = claims.as_object_mut().expect("an object");
        object.extend(iss.map(|iss| ("iss".to_owned(), iss)));
        object.extend(aud.map(|aud| ("aud".to_owned(), aud)));
        let token = forge(Algorithm::Hs256, r#"{"alg":"HS256"}"#, &claims.to_string());
        let verified = verify(token.as_bytes(), &secret(), &required, NOW);
        verified.map(|_| ()).map_err(denied)
    };
    let issuer = || Some(json!("https://issuer.example/"));
    let claim = |claim, fault| Err(Denied::Claim { claim, fault });
    assert_eq!(check(issuer(), Some(json!("ringmail"))), Ok(()));
    assert_eq!(check(issuer(), Some(json!(["other", "ringmail"]))), Ok(()));
    assert_eq!(
        check(None, Some(json!("ringmail"))),
        claim("iss", "is missing")
    );
    assert_eq!(check(issuer(), None), claim("aud", "is missing"));
    assert_eq!(
        check(issuer(), Some(json!("ringmail2"))),
        Err(Denied::Audience)
    );
    assert_eq!(
        check(issuer(), Some(json!("Ringmail"))),
        Err(Denied::Audience)
    );
    assert_eq!(check(issuer(), Some(json!([]))), Err(Denied::Audience));
    assert_eq!(
        check(issuer(), Some(json!(["a ringmail"]))),
        Err(Denied::Audience)
    );
    let other = Some(json!("https://issuer.example"));
    assert_eq!(check(other, Some(json!("ringmail"))), Err(Denied::Issuer));
    let several = Some(json!(["https://issuer.example/"]));
    assert_eq!(
        check(several, Some(json!("ringmail"))),
        claim("iss", "is not a string")
    );
}

/// The shape of a real provider's client-credentials token.
#[test]
fn an_openid_providers_token_is_accepted() {
    let header = r#"{"alg":"RS256","typ":"at+jwt","kid":"xq1","x5t":"hOBcHZi"}"#;
    let payload = json!({
        "iss": "https://issuer.example/", "aud": ["ringmail", "https://issuer.example/userinfo"],
        "sub": "o3Kf9@clients", "azp": "o3Kf9", "gty": "client-credentials", "scope": "a b",
        "iat": NOW - 5, "nbf": NOW - 5, "exp": NOW + 3600, "jti": "6f1c", "roles": ["device"],
        "realm_access": {"roles": ["x"]}, "ver": 1.0,
    });
    let keyring = set(&[
        jwk(Algorithm::Es256, "other"),
        json!({"kty": "oct", "k": "AAAA", "kid": "xq1"}),
        jwk(Algorithm::Rs256, "xq1"),
    ]);
    let required = Requirements {
        issuer: "https://issuer.example/".to_owned(),
        audience: "ringmail".to_owned(),
        leeway_s: 30,
    };
    let token = forge(Algorithm::Rs256, header, &payload.to_string());
    let verified = verify(token.as_bytes(), &keyring, &required, NOW).expect("accepted");
    assert_eq!(&*verified.claims.subject, "o3Kf9@clients");
    assert_eq!(verified.claims.roles, ["device"]);
    assert_eq!(verified.claims.token_id.as_deref(), Some("6f1c"));
    assert_eq!(verified.claims.issued_at, Some(NOW - 5));
    assert_eq!(verified.claims.expires, NOW + 3600);
    assert_eq!(verified.key_id.as_deref(), Some("xq1"));
}

// Keyrings.

#[test]
fn an_unusable_configured_key_is_refused_with_the_remedy() {
    let refuse = |algorithms: &[Algorithm], secret: &str, pem: &str| {
        let error = Keyring::from_config(algorithms, secret, pem).expect_err("refused");
        let text = error.to_string();
        assert!(!text.contains(SECRET), "{text}");
        text
    };
    let hs256 = &[Algorithm::Hs256];
    let rs256 = &[Algorithm::Rs256];
    let rsa = public_pem(Algorithm::Rs256);
    assert!(refuse(rs256, SECRET, "").contains("auth.jwt.secret is a key for HS256"));
    assert!(refuse(hs256, "", &rsa).contains("public_key is a key for RS256"));
    assert!(refuse(rs256, "", &public_pem(Algorithm::EdDsa)).contains("EdDSA"));
    assert!(refuse(hs256, &rsa, "").contains("into auth.jwt.public_key"));
    assert!(refuse(rs256, "", &format!("{rsa}{rsa}")).contains("several keys"));
    assert!(refuse(rs256, "", "nonsense").contains("openssl pkey"));
    let private = rsa.replace("PUBLIC", "PRIVATE");
    assert!(refuse(rs256, "", &private).contains("is a private key"));
    let certificate = rsa.replace("PUBLIC KEY", "CERTIFICATE");
    assert!(refuse(rs256, "", &certificate).contains("is a certificate"));
    assert!(
        Keyring::from_config(hs256, "", " \n")
            .expect("no key")
            .is_empty()
    );
}

/// 1024 bits of RSA, and P-384, by `openssl genrsa 1024` and `openssl genpkey`.
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC2Fs/LHzWapTrhRsSSc3mI/suQ
5YiqyHEhyjdKa3OC+N2zkOBJRHXnnsDQxBWnhvn6rXYA8VLIDW77Wle6HEL/pM4R
GQbHbhlA+oMU6uUH85lJJCsWKqBYdvCR26GWvxZOMnHO1T0O3+tdDPAAL1vQAnzg
y69oRokLzEsJtV7CbQIDAQAB
-----END PUBLIC KEY-----";
const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqgFMyZyDfxRU+/c6KNK6DJnONFFiQoep
MaYxpxKWOlb7JZ2/W7o6xnphkBdyaxlG4Yj298MaMH2BxyO9Ki053miOmbyCNUuG
SsrCHH4fDs2WihE2yvHXoGmSrNvg/9Tz
-----END PUBLIC KEY-----";

#[test]
fn weak_and_foreign_public_keys_are_refused() {
    let refuse = |algorithm, pem: &str| {
        let error = Keyring::from_config(&[algorithm], "", pem).expect_err("refused");
        error.to_string()
    };
    assert!(refuse(Algorithm::Rs256, RSA_1024).contains("1024 bits"));
    assert!(refuse(Algorithm::Es256, P384).contains("P-256"));
}

#[test]
fn a_key_sets_keys_of_other_kinds_and_uses_are_left_out() {
    let with = |algorithm, member: &str, value: Value| {
        let mut key = jwk(algorithm, "k");
        key[member] = value;
        key
    };
    let mut short = rsa_jwk(RSA.public_key());
    short["n"] = base64([0xff; 128]).into();
    let out = [
        with(Algorithm::Rs256, "use", "enc".into()),
        with(Algorithm::Rs256, "use", 1.into()),
        with(Algorithm::Rs256, "alg", "RSA-OAEP".into()),
        with(Algorithm::Rs256, "alg", "PS256".into()),
        with(Algorithm::Rs256, "alg", "HS256".into()),
        with(Algorithm::Rs256, "key_ops", json!(["encrypt"])),
        with(Algorithm::Rs256, "key_ops", json!("verify")),
        with(Algorithm::Rs256, "kty", "XYZ".into()),
        with(Algorithm::Rs256, "kid", "x".repeat(257).into()),
        with(Algorithm::Rs256, "n", "==".into()),
        with(Algorithm::Rs256, "e", base64([2]).into()),
        with(Algorithm::Rs256, "d", "AAAA".into()),
        with(Algorithm::Es256, "crv", "P-384".into()),
        with(Algorithm::Es256, "y", base64([7; 32]).into()),
        with(Algorithm::Es256, "x", base64([7; 31]).into()),
        with(Algorithm::EdDsa, "crv", "X25519".into()),
        with(Algorithm::EdDsa, "x", base64([7; 31]).into()),
        jwk(Algorithm::Hs256, "k"),
        json!({"kid": "k"}),
        json!("key"),
        json!(null),
        short,
    ];
    for key in &out {
        let keyring = set(std::slice::from_ref(key));
        assert!(keyring.is_empty(), "{key}");
        assert_eq!(keyring.skipped().len(), 1, "{key}");
    }
    let mut all = out.to_vec();
    all.push(with(Algorithm::Rs256, "use", "sig".into()));
    all.push(with(Algorithm::Es256, "key_ops", json!(["verify"])));
    all.push(with(Algorithm::EdDsa, "alg", "EdDSA".into()));
    let keyring = set(&all);
    assert_eq!((keyring.len(), keyring.skipped().len()), (3, out.len()));
    let json = json!({"keys": all}).to_string();
    let only = Keyring::from_jwks(json.as_bytes(), &[Algorithm::EdDsa]).expect("a key set");
    assert_eq!(only.len(), 1, "of the algorithms that are configured");
}

/// Key sets as providers write them, each with the algorithm of the tests' key in it, how many keys
/// are used and how many are left out.
fn odd_key_sets() -> Vec<(String, Algorithm, usize, usize)> {
    let another = Ed25519KeyPair::generate().expect("a key");
    let nameless = |mut key: Value| {
        key.as_object_mut().expect("an object").remove("kid");
        key
    };
    let ours = jwk(Algorithm::EdDsa, "k");
    let mut other = jwk(Algorithm::EdDsa, "k");
    other["x"] = base64(another.public_key().as_ref()).into();
    let with = |key: &Value, members: &[(&str, Value)]| {
        let mut key = key.clone();
        for (name, value) in members {
            key[name] = value.clone();
        }
        key
    };
    let n = RSA.public_key().modulus().big_endian_without_leading_zero();
    let padded = format!("{}=", base64([&[0], n].concat()));
    let rsa = jwk(Algorithm::Rs256, "k");
    let null = Value::Null;
    let (ed, rs) = (Algorithm::EdDsa, Algorithm::Rs256);
    let good = |keys: &[Value]| json!({"keys": keys}).to_string();
    let text = ours.to_string();
    let twice = format!("{},\"kid\":\"again\"}}", &text[..text.len() - 1]);
    vec![
        (
            good(&[nameless(ours.clone()), nameless(other.clone())]),
            ed,
            2,
            0,
        ),
        (
            good(&[nameless(other.clone()), nameless(ours.clone())]),
            ed,
            2,
            0,
        ),
        (good(&[other.clone(), ours.clone()]), ed, 2, 0),
        (good(&[ours.clone(), ours.clone()]), ed, 1, 0),
        (
            good(&[with(
                &ours,
                &[
                    ("alg", null.clone()),
                    ("use", null.clone()),
                    ("key_ops", null.clone()),
                ],
            )]),
            ed,
            1,
            0,
        ),
        (good(&[with(&ours, &[("alg", "Ed25519".into())])]), ed, 1, 0),
        (
            good(&[with(&rsa, &[("n", STANDARD.encode(n).into())])]),
            rs,
            1,
            0,
        ),
        (good(&[with(&rsa, &[("n", padded.into())])]), rs, 1, 0),
        (good(&[json!({}), null.clone(), ours.clone()]), ed, 1, 2),
        (format!("{{\"keys\":[{twice},{text}]}}"), ed, 1, 1),
        (
            format!("\u{feff}{}", good(std::slice::from_ref(&ours))),
            ed,
            1,
            0,
        ),
        (text.clone(), ed, 1, 0),
    ]
}

#[test]
fn a_key_set_serves_by_whatever_is_usable_in_it() {
    for (set, algorithm, keys, left_out) in odd_key_sets() {
        let keyring = Keyring::from_jwks(set.as_bytes(), &Algorithm::ALL).expect(&set);
        assert_eq!(
            (keyring.len(), keyring.skipped().len()),
            (keys, left_out),
            "{set}"
        );
        for kid in ["", r#","kid":"k""#] {
            let header = format!(r#"{{"alg":"{}"{kid}}}"#, algorithm.name());
            let token = forge(algorithm, &header, &claims().to_string());
            // With two keys, a token without a name is ambiguous.
            let is_open = kid.is_empty() && keys == 2 && set.contains("kid");
            assert_eq!(check(&token, &keyring).is_ok(), !is_open, "{set} {header}");
        }
    }
    let header = r#"{"alg":"Ed25519","kid":"k"}"#;
    let token = forge(Algorithm::EdDsa, header, &claims().to_string());
    let ours = set(&[jwk(Algorithm::EdDsa, "k")]);
    assert!(check(&token, &ours).is_ok(), "RFC 9864");
}

#[test]
fn of_many_keys_with_one_name_a_bounded_number_is_tried_and_kept() {
    let odd = |n: usize| {
        let key = Ed25519KeyPair::generate().expect("a key");
        json!({"kty": "OKP", "crv": "Ed25519", "kid": n.to_string(), "x": base64(key.public_key().as_ref())})
    };
    let mut keys: Vec<Value> = (0..99).map(odd).collect();
    keys.insert(0, jwk(Algorithm::EdDsa, "k"));
    keys.insert(0, json!({"kty": "oct"}));
    let keyring = set(&keys);
    assert_eq!((keyring.len(), keyring.skipped().len()), (64, 37));
    let token = forge(
        Algorithm::EdDsa,
        r#"{"alg":"EdDSA","kid":"k"}"#,
        &claims().to_string(),
    );
    assert!(check(&token, &keyring).is_ok());
    for key in &mut keys {
        key["kid"] = "k".into();
    }
    keys.retain(|key| key["kty"] == "OKP");
    assert!(check(&token, &set(&keys)).is_ok());
    keys.swap(0, 8);
    assert_eq!(check(&token, &set(&keys)), Err(Denied::Signature));
}

#[test]
fn a_text_that_is_not_a_key_set_is_refused() {
    let refuse = |json: &str| {
        let error = Keyring::from_jwks(json.as_bytes(), &Algorithm::ALL).expect_err("refused");
        error.to_string()
    };
    // One name for two algorithms is unambiguous: the token names its algorithm.
    assert_eq!(
        set(&[jwk(Algorithm::EdDsa, "k"), jwk(Algorithm::Es256, "k")]).len(),
        2
    );
    for json in [
        "",
        "{}",
        "[]",
        r#"{"keys":{}}"#,
        "<html>",
        r#"{"keys":null}"#,
        r#"{"keys":[],"keys":[]}"#,
    ] {
        assert!(refuse(json).contains("jwks_uri"), "{json}");
    }
    assert!(refuse(&" ".repeat((1 << 20) + 1)).contains("1048576 bytes"));
    assert!(set(&[]).is_empty(), "a provider may withdraw all its keys");
}

#[test]
fn keys_and_tokens_are_not_shown() {
    let keyring = secret().with(&set(&[jwk(Algorithm::Rs256, "k")]));
    let shown = format!("{keyring:?}");
    assert!(
        !shown.contains("tests") && shown.contains("RS256 key \"k\""),
        "{shown}"
    );
    let new = NewToken {
        subject: "d1",
        expires: NOW + 9,
        ..NewToken::default()
    };
    let issued = issue(SECRET.as_bytes(), new).expect("a token");
    let shown = format!("{issued:?}");
    assert!(
        issued.token.split('.').all(|part| !shown.contains(part)),
        "{shown}"
    );
}

#[test]
fn a_weak_secret_is_reported() {
    assert!(
        secret_weakness(b"secret")
            .expect("weak")
            .contains("6 bytes")
    );
    assert!(
        secret_weakness(&[b'x'; 64])
            .expect("weak")
            .contains("distinct")
    );
    assert_eq!(secret_weakness(SECRET.as_bytes()), None);
}

// Issuing.

#[test]
fn an_issued_token_is_accepted_by_the_issuers_key_and_by_no_other() {
    let roles: [Box<str>; 2] = ["device".into(), "admin".into()];
    let new = NewToken {
        subject: "d1",
        roles: &roles,
        issuer: "ringmail",
        audience: "devices",
        issued_at: NOW,
        expires: NOW + 900,
    };
    let issued = issue(SECRET.as_bytes(), new).expect("a token");
    let own = Keyring::from_issuer(SECRET.as_bytes());
    let required = Requirements {
        issuer: "ringmail".to_owned(),
        audience: "devices".to_owned(),
        leeway_s: 0,
    };
    let check = |keyring: &Keyring, now| {
        verify(issued.token.as_bytes(), keyring, &required, now).map_err(denied)
    };
    let verified = check(&own, NOW).expect("accepted");
    assert_eq!(verified.claims.token_id.as_deref(), Some(&*issued.token_id));
    assert_eq!(verified.claims.roles, ["device", "admin"]);
    assert_eq!(verified.claims.expires, NOW + 900);
    assert_eq!(
        verified.key_id,
        Some(issue::key_id(SECRET.as_bytes()).into())
    );
    assert_eq!(check(&own, NOW + 900), Err(Denied::Expired));
    // It is found by its name beside keys of other algorithms and another secret.
    let other = Keyring::from_config(&[Algorithm::Hs256], "another secret", "").expect("a keyring");
    let beside = set(&[jwk(Algorithm::Rs256, "k")]).with(&other).with(&own);
    assert_eq!(check(&beside, NOW), Ok(verified));
    let former = Keyring::from_issuer(b"a former secret").with(&other);
    assert_eq!(check(&former, NOW), Err(Denied::UnknownKey));
    let again = issue(SECRET.as_bytes(), new).expect("a token");
    assert_ne!(again.token_id, issued.token_id);
}

// The authority.

fn authority() -> (Authority, String) {
    let device = Role {
        publish: vec!["devices/{principal}/#".to_owned()],
        ..Role::default()
    };
    let roles = Roles::new([("device", &device)]).expect("roles");
    let new = key::generate("sensor").expect("a key");
    let entry = ApiKey {
        id: "sensor".into(),
        sha256: new.sha256,
        principal: "d1".into(),
        roles: ["device".into(), "no such role".into()].into(),
    };
    let keys = ApiKeys::new([entry]).expect("keys");
    let authority = Authority::new(roles, secret(), Requirements::default(), keys);
    (authority, new.key)
}

fn device_token(jti: &str, iat: u64) -> String {
    let payload = json!({
        "sub": "d1", "exp": NOW + 60, "iat": iat, "jti": jti, "roles": ["stranger", "device"],
    });
    forge(
        Algorithm::Hs256,
        r#"{"alg":"HS256","kid":"main"}"#,
        &payload.to_string(),
    )
}

#[test]
fn token_and_key_give_a_grant_with_the_rights_of_their_roles() {
    let (authority, key) = authority();
    let token = device_token("t1", NOW - 1);
    let by_token = authority
        .check(Method::Jwt, token.as_bytes(), NOW)
        .expect("a grant");
    let by_key = authority
        .check(Method::ApiKey, key.as_bytes(), NOW)
        .expect("a grant");
    assert_eq!((by_token.expires, by_key.expires), (Some(NOW + 60), None));
    assert_eq!(
        (by_token.identity.issued_at, by_key.identity.issued_at),
        (Some(NOW - 1), Some(NOW))
    );
    assert_eq!(by_token.identity.key_id.as_deref(), Some("main"));
    assert!(Arc::ptr_eq(&by_token.rights, &by_key.rights));
    for grant in [by_token, by_key] {
        let who = Who {
            principal: &grant.identity.principal,
            client_id: None,
        };
        assert_eq!(*grant.identity.roles, ["device".into()]);
        assert!(grant.rights.may_publish("devices/d1/x", who));
        assert!(!grant.rights.may_publish("devices/d2/x", who));
    }
}

#[test]
fn a_credential_counts_by_its_own_method_only() {
    let (authority, key) = authority();
    let token = device_token("t1", NOW);
    for (method, credential) in [(Method::ApiKey, &token), (Method::Jwt, &key)] {
        assert!(authority.check(method, credential.as_bytes(), NOW).is_err());
    }
    for credential in [&token, &key] {
        let refused = authority.check(Method::Refresh, credential.as_bytes(), NOW);
        assert_eq!(refused.err(), Some(Denied::Refresh.into()));
    }
    for byte in 0..=u8::MAX {
        let method = Method::from_wire(byte);
        assert_eq!(method.is_some(), (1..=3).contains(&byte));
        assert!(method.is_none_or(|method| method.to_wire() == byte));
    }
}

#[test]
fn a_revoked_credential_is_refused_and_an_admitted_identity_found_revoked() {
    let (authority, key) = authority();
    let token = device_token("t1", NOW - 10);
    let check =
        |authority: &Authority, token: &str| authority.check(Method::Jwt, token.as_bytes(), NOW);
    let inside = check(&authority, &token).expect("a grant").identity;
    let subject = |before| Target::Subject {
        subject: "d1".into(),
        before,
    };
    let rows = [
        (Target::Token("t1".into()), true, false),
        (Target::Token("t2".into()), false, true),
        (Target::Key("main".into()), true, true),
        (subject(NOW - 9), true, false),
        (subject(NOW - 10), false, false),
    ];
    for (target, first, second) in rows {
        let mut revocations = Revocations::default();
        let forget_at = NOW + 60;
        revocations
            .insert(Revocation {
                target: target.clone(),
                forget_at,
            })
            .expect("room");
        let authority = authority.with_revocations(Arc::new(revocations));
        let refused = |token: &str| check(&authority, token).err() == Some(Denied::Revoked.into());
        assert_eq!(refused(&token), first, "{target:?}");
        assert_eq!(authority.is_revoked(&inside), first, "{target:?}");
        assert_eq!(refused(&device_token("t2", NOW - 5)), second, "{target:?}");
        assert!(authority.check(Method::ApiKey, key.as_bytes(), NOW).is_ok());
        // New keys leave the revocations as they are.
        let rotated = authority.with_keyring(secret());
        assert_eq!(rotated.is_revoked(&inside), first);
    }
}

#[test]
fn a_vouched_principal_needs_a_valid_name_and_time() {
    let (authority, _) = authority();
    let vouch = |name, expires| authority.vouch(name, &["device"], expires, NOW).map(|_| ());
    assert_eq!(vouch("device-7.example", Some(NOW + 1)), Ok(()));
    assert_eq!(vouch("device-7", Some(NOW)), Err(Denied::Expired));
    assert_eq!(vouch("a/#", None), Err(Denied::Principal));
    assert_eq!(vouch("", None), Err(Denied::Principal));
}

#[test]
fn every_refusal_has_the_same_text() {
    let (authority, key) = authority();
    let wrong = format!("{key}x");
    let denied = authority
        .check(Method::ApiKey, wrong.as_bytes(), NOW)
        .expect_err("refused");
    let secret = key.rsplit_once('.').expect("a dot").1;
    assert!(!denied.to_string().contains(secret));
    assert!(!Denied::TEXT.contains("secret") && !Denied::TEXT.contains("key"));
}

// Anything at all.

/// JSON that resembles a header or claims.
fn members() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just(json!(NOW + 9)),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::Null),
        prop::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
        prop::sample::select(&["HS256", "none", "EdDSA", "JWT", "d1", "k1"][..])
            .prop_map(Value::from),
    ];
    let name = prop_oneof![
        prop::sample::select(
            &[
                "alg", "kid", "typ", "crit", "sub", "exp", "iat", "nbf", "aud", "iss", "roles"
            ][..]
        )
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    let members = prop::collection::btree_map(name, value, 0..6);
    members.prop_map(|members: BTreeMap<String, Value>| json!(members).to_string())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let keyring = secret();
        let required = Requirements::default();
        prop_assert!(verify(&bytes, &keyring, &required, NOW).is_err());
        prop_assert!(Keyring::from_jwks(&bytes, &Algorithm::ALL).is_err());
        let text = String::from_utf8_lossy(&bytes);
        let _ = Keyring::from_config(&Algorithm::ALL, &text, &text);
        let framed = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(&bytes));
        prop_assert!(Keyring::from_config(&Algorithm::ALL, "", &framed).is_err());
    }

    #[test]
    fn no_header_and_no_payload_panic(header in members(), payload in members()) {
        let _ = check(&forge(Algorithm::Hs256, &header, &payload), &secret());
        let good = r#"{"alg":"HS256"}"#;
        if let Ok(verified) = check_claims(&payload) {
            prop_assert!(super::identity::is_principal(&verified.claims.subject));
            prop_assert!(verified.claims.expires + 30 > NOW);
        }
        let unsigned = format!("{}.{}.AAAA", base64(good), base64(&payload));
        prop_assert_eq!(check(&unsigned, &secret()), Err(Denied::Signature));
    }

    #[test]
    fn no_key_of_a_set_panics(entries in prop::collection::vec(members(), 0..4), x in any::<Vec<u8>>()) {
        let mut keys: Vec<Value> = entries.iter().map(|entry| serde_json::from_str(entry).expect("JSON")).collect();
        for (kty, crv) in [("RSA", ""), ("EC", "P-256"), ("OKP", "Ed25519")] {
            let number = base64(&x);
            keys.push(json!({"kty": kty, "crv": crv, "n": number, "e": number, "x": number, "y": number}));
        }
        let json = json!({"keys": keys}).to_string();
        let _ = Keyring::from_jwks(json.as_bytes(), &Algorithm::ALL);
    }
}
