//! Access tokens: header and claims that anybody may have written, signed with the right key and
//! with none, against a second reading of them.
//!
//! Whatever is accepted carries the right signature, and its header and claims are what
//! RFC 7519 and the configuration ask for. JSON in its shortest form is read by both readings
//! alike, so there what is refused has a reason as well.

use super::Draw;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ringmail::auth::keyring::{Algorithm, Keyring};
use ringmail::auth::token::{Requirements, Verified, named_key, verify};
use ringmail::base::limits::PRINCIPAL_BYTES_MAX;
use serde_json::{Map, Value};

const SECRET: &str = "a secret that is long enough for HS256";
const NOW: u64 = 1_000_000;
const LEEWAY_S: u64 = 30;
const ISSUER: &str = "issuer";
const AUDIENCE: &str = "mail";

const NAMES: &[&str] = &[
    "exp", "sub", "iss", "aud", "nbf", "iat", "jti", "roles", "other",
];
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "1000100", "\"d1\"", "\"issuer\"", "\"mail\"", "[\"mail\"]", "1000031", "1000030", "999971",
    "999970", "18446744073709551615", "-1", "1.5", "null", "true", "[]", "{}", "\"\"", "\"a/b\"",
    "\"$sys\"", "\"+\"", "[\"x\",\"mail\"]", "[1]", "0", "[\"device\"]",
];

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let flags = draw.byte();
    let strict = flags & 1 != 0;
    let required = Requirements {
        issuer: if strict { ISSUER } else { "" }.to_owned(),
        audience: if strict { AUDIENCE } else { "" }.to_owned(),
        leeway_s: LEEWAY_S as u32,
    };
    let keyring = Keyring::from_config(&[Algorithm::Hs256], SECRET, "").expect("a secret");
    if flags & 2 != 0 {
        let token = draw.rest();
        let _ = named_key(token, &keyring);
        if verify(token, &keyring, &required, NOW).is_ok() {
            let at = token
                .iter()
                .rposition(|byte| *byte == b'.')
                .expect("three parts");
            let signature = URL_SAFE_NO_PAD.encode(sign(&token[..at]));
            assert_eq!(token[at + 1..], *signature.as_bytes(), "a forged token");
        }
        return;
    }
    let header = match flags & 4 {
        0 => br#"{"alg":"HS256"}"#,
        _ => draw.piece(),
    };
    let named = (flags & 8 != 0).then(|| named(&mut draw).to_string());
    let claims = match &named {
        Some(claims) => claims.as_bytes(),
        None => draw.rest(),
    };
    let [header_part, claims_part] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let signed = format!("{header_part}.{claims_part}");
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    let read = verify(token.as_bytes(), &keyring, &required, NOW);
    let expected = header_holds(header) && claims_hold(claims, strict);
    match read {
        Ok(read) => {
            assert!(expected, "accepted");
            check(&read, claims);
        }
        Err(refused) => {
            let is_short = [header, claims].iter().all(|part| is_canonical(part));
            let is_right = expected && is_short && token.len() <= 8192;
            assert!(!is_right, "refused: {refused}");
            assert!(!refused.to_string().contains(SECRET));
        }
    }
    // One bit of it changed, and it is another's.
    let mut other = token.into_bytes();
    let at = usize::from(flags >> 4) * other.len() / 16;
    other[at] ^= 1;
    assert!(
        verify(&other, &keyring, &required, NOW).is_err(),
        "a changed token"
    );
}

/// Claims of these names, so that one byte of the input makes another claim of one.
fn named(draw: &mut Draw<'_>) -> Value {
    let mut claims = Map::new();
    while !draw.is_empty() && claims.len() < NAMES.len() {
        let value = serde_json::from_str(draw.word(VALUES)).expect("JSON");
        claims.insert(draw.word(NAMES).to_owned(), value);
        if draw.byte() & 15 == 15 {
            break;
        }
    }
    Value::Object(claims)
}

fn sign(bytes: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), bytes)
}

/// JSON that says nothing twice and is written as serde_json writes it.
fn is_canonical(json: &[u8]) -> bool {
    let value: Result<Value, _> = serde_json::from_slice(json);
    value.is_ok_and(|value| value.to_string().as_bytes() == json)
}

fn header_holds(header: &[u8]) -> bool {
    let Ok(Value::Object(header)) = serde_json::from_slice(header) else {
        return false;
    };
    let is_media = |typ: &Value| {
        let typ = typ.as_str().map(str::to_ascii_lowercase);
        matches!(
            typ.as_deref(),
            Some("jwt" | "at+jwt" | "application/at+jwt")
        )
    };
    let refused = ["crit", "b64", "zip", "jku", "jwk", "x5u", "x5c", "cty"];
    let is_short = |kid: &Value| kid.as_str().is_some_and(|kid| kid.len() <= 256);
    header.get("alg").is_some_and(|alg| alg == "HS256")
        && header.get("typ").is_none_or(is_media)
        && header.get("kid").is_none_or(is_short)
        && !refused.iter().any(|name| header.contains_key(*name))
}

fn claims_hold(claims: &[u8], strict: bool) -> bool {
    let Ok(Value::Object(claims)) = serde_json::from_slice(claims) else {
        return false;
    };
    let time = |name: &str| match claims.get(name) {
        None => Some(None),
        Some(value) => value.as_u64().map(Some),
    };
    let text = |name: &str| match claims.get(name) {
        None => Some(None),
        Some(value) => value.as_str().map(Some),
    };
    let texts = |value: &Value| {
        let list = value.as_array()?.iter();
        list.map(|one| one.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
    };
    let audiences = match claims.get("aud") {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![one.clone()]),
        Some(several) => texts(several),
    };
    let (Some(Some(exp)), Some(nbf), Some(iat)) = (time("exp"), time("nbf"), time("iat")) else {
        return false;
    };
    let (Some(iss), Some(Some(sub)), Some(jti), Some(audiences)) =
        (text("iss"), text("sub"), text("jti"), audiences)
    else {
        return false;
    };
    let is_level = |name: &str| {
        let special = |c: char| c.is_control() || "/+#".contains(c);
        (1..=PRINCIPAL_BYTES_MAX).contains(&name.len())
            && !name.starts_with('$')
            && !name.contains(special)
    };
    NOW < exp.saturating_add(LEEWAY_S)
        && [nbf, iat].iter().flatten().all(|at| *at <= NOW + LEEWAY_S)
        && is_level(sub)
        && jti.is_none_or(|jti| jti.len() <= 256)
        && claims
            .get("roles")
            .is_none_or(|roles| texts(roles).is_some())
        && (!strict || iss == Some(ISSUER) && audiences.iter().any(|one| one == AUDIENCE))
}

/// What is read of the claims is what they say.
fn check(read: &Verified, claims: &[u8]) {
    let said: Value = serde_json::from_slice(claims).expect("it was accepted");
    assert_eq!(said["sub"], *read.claims.subject);
    assert_eq!(said["exp"], read.claims.expires);
    assert_eq!(said["iat"].as_u64(), read.claims.issued_at);
    assert_eq!(said["jti"].as_str(), read.claims.token_id.as_deref());
    let roles = said["roles"].as_array().map_or(0, Vec::len);
    assert_eq!(roles, read.claims.roles.len());
}
