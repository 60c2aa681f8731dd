//! Key sets as a provider may send them: whatever they are, a bounded number of usable keys comes
//! out, each of the algorithms asked for, and what is left out is said.
//!
//! A set is either the input's own text, or built of it: right keys, of which members are taken
//! away, replaced or said twice. Of a built set a second reading says which keys are usable, and
//! which tokens they verify.

use super::Draw;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ringmail::auth::keyring::{Algorithm, Keyring};
use ringmail::auth::token::{Requirements, verify};
use ringmail::base::limits::{KEY_ID_BYTES_MAX, KEY_SET_BYTES_MAX, KEYS_MAX};
use ringmail::base::limits::{RSA_BITS_MAX, RSA_BITS_MIN};
use serde_json::{Value, json};
use std::sync::LazyLock;

const ALL: &[Algorithm] = &[Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
const ENTRIES_MAX: usize = 6;
/// Keys that are tried for one token (the head of `auth::keyring`).
const TRIED_MAX: usize = 8;

const MEMBERS: &[&str] = &[
    "n", "e", "x", "y", "kty", "crv", "kid", "alg", "use", "key_ops", "d", "x5c",
];
const KIDS: &[&str] = &["a", "b", ""];
/// Points of P-256: the generator and its double (SEC 2), which share no coordinate.
const POINTS: [[&str; 2]; 2] = [
    [
        "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
        "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
    ],
    [
        "fPJ7GI0DT36KUjgDBLUaw8CJaeJ38hs1pgtI_EdmmXg",
        "B3dVENuO0EApPZrGn3Qw27p9reY86YIpngS3nSJ4c9E",
    ],
];

/// Ed25519 pairs, which sign the tokens.
static PAIRS: LazyLock<Vec<Ed25519KeyPair>> = LazyLock::new(|| {
    let pair = |seed: u8| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]);
    (1..4).map(|seed| pair(seed).expect("32 bytes")).collect()
});

/// What a member may be, as JSON.
static VALUES: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut all = vec![
        Value::Null,
        json!(1),
        json!([]),
        json!(["verify", 1]),
        json!(["sign"]),
        json!({ "a": 1 }),
        json!("k".repeat(KEY_ID_BYTES_MAX)),
        json!("k".repeat(KEY_ID_BYTES_MAX + 1)),
    ];
    let words = [
        "", "A", "AA", "AQ", "Ag", "Aw", "AQAB", "AAEAAQ", "AQAB==", "A+/-", "-_", "P-256",
        "Ed25519", "RSA", "EC", "OKP", "oct", "RS256", "ES256", "EdDSA", "HS256", "sig", "enc",
    ];
    all.extend(words.map(Value::from));
    all.extend(KIDS.iter().copied().map(Value::from));
    all.extend(POINTS.as_flattened().iter().copied().map(Value::from));
    all.extend(PAIRS.iter().map(|pair| encoded(pair.public_key().as_ref())));
    // The first number of so many bits, and ones that are padded, in the other alphabet, or even.
    for bits in [
        RSA_BITS_MIN - 1,
        RSA_BITS_MIN,
        RSA_BITS_MAX,
        RSA_BITS_MAX + 1,
    ] {
        all.push(encoded(&modulus(bits, 0xFF)));
    }
    let zeros = [&[0, 0][..], &modulus(RSA_BITS_MIN, 0xFF)].concat();
    all.push(encoded(&zeros));
    all.push(Value::from(STANDARD_NO_PAD.encode(&zeros) + "="));
    all.push(encoded(&modulus(RSA_BITS_MIN, 0xFE)));
    all
});

fn encoded(bytes: &[u8]) -> Value {
    Value::from(URL_SAFE_NO_PAD.encode(bytes))
}

fn modulus(bits: usize, last: u8) -> Vec<u8> {
    let mut number = vec![0xFF; bits.div_ceil(8)];
    number[0] = 0xFF >> (number.len() * 8 - bits);
    *number.last_mut().expect("2047 bits or more") = last;
    number
}

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    let flags = draw.byte();
    if flags & 1 == 0 {
        claims(draw.rest());
        return;
    }
    let mut entries = Vec::new();
    while !draw.is_empty() && entries.len() < ENTRIES_MAX {
        let entry = entry(&mut draw);
        // More than are read, each with a name of its own.
        let count = if draw.byte() == 0xFF { KEYS_MAX + 2 } else { 1 };
        for index in 0..count {
            let mut entry = entry.clone();
            if count > 1 {
                entry.push(("kid", Value::from(index.to_string())));
            }
            entries.push(entry);
        }
    }
    let texts: Vec<String> = entries.iter().map(written).collect();
    let set = match &texts[..] {
        [only] if flags & 2 != 0 => only.clone(),
        all => format!("{{\"keys\":[{}]}}", all.join(",")),
    };
    let listed = ALL.iter().zip(0..);
    let listed: Vec<Algorithm> = listed
        .filter(|(_, place)| flags >> 6 != place + 1)
        .map(|(algorithm, _)| *algorithm)
        .collect();
    if let Ok(read) = Keyring::from_jwks(set.as_bytes(), &listed) {
        check(&read, &entries, &listed, usize::from(flags >> 2 & 15));
    } else {
        assert!(!set.starts_with("{\"keys\""), "refused: {set}");
    }
}

/// What holds for any bytes.
fn claims(input: &[u8]) {
    let read = match Keyring::from_jwks(input, ALL) {
        Ok(read) => read,
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("; ") && text.contains("auth.jwt.jwks"),
                "{text}"
            );
            return;
        }
    };
    let entries = count(input);
    let (keys, skipped) = (read.len(), read.skipped().len());
    assert!(
        keys <= KEYS_MAX && keys + skipped <= entries,
        "{keys} and {skipped} of {entries}"
    );
    assert_eq!(read.is_empty(), keys == 0);
    // Each algorithm's keys are found without the others, and no key serves two.
    let of_each = ALL.iter().map(|one| {
        let only = Keyring::from_jwks(input, &[*one]).expect("it was read before");
        only.len()
    });
    let of_each: usize = of_each.sum();
    assert!(
        of_each == keys || keys == KEYS_MAX,
        "{of_each} keys one by one, {keys} together"
    );
    let none = Keyring::from_jwks(input, &[]).expect("it was read before");
    assert!(none.is_empty(), "a key of no algorithm");
    // A byte order mark and blanks say nothing.
    for padded in [[b"\xef\xbb\xbf", input].concat(), [input, b" \n"].concat()] {
        if padded.len() <= KEY_SET_BYTES_MAX && !input.starts_with(b"\xef") {
            let again = Keyring::from_jwks(&padded, ALL).expect("it was read before");
            assert_eq!((again.len(), again.skipped()), (keys, read.skipped()));
        }
    }
    assert_eq!(read.with(&read).len(), 2 * keys);
}

/// Entries that the set has, the last of its `keys` counting as in every reading of JSON.
fn count(input: &[u8]) -> usize {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(set)) => match set.get("keys") {
            Some(Value::Array(keys)) => keys.len(),
            _ => 1,
        },
        _ => 0,
    }
}

type Entry = Vec<(&'static str, Value)>;

/// A right key, and then up to three of its members made others.
fn entry(draw: &mut Draw<'_>) -> Entry {
    let choice = draw.byte();
    let [x, y] = POINTS[usize::from(choice >> 2 & 1)];
    let mut entry: Entry = match choice & 3 {
        0 => {
            let public = PAIRS[usize::from(choice >> 2) % PAIRS.len()].public_key();
            let x = encoded(public.as_ref());
            vec![("kty", json!("OKP")), ("crv", json!("Ed25519")), ("x", x)]
        }
        1 => vec![
            ("kty", json!("EC")),
            ("crv", json!("P-256")),
            ("x", json!(x)),
            ("y", json!(y)),
        ],
        2 => vec![
            ("kty", json!("RSA")),
            ("n", encoded(&modulus(RSA_BITS_MIN, 0xFF))),
            ("e", json!("AQAB")),
        ],
        _ => Vec::new(),
    };
    if choice & 32 != 0 {
        entry.push(("kid", json!(draw.word(KIDS))));
    }
    for _ in 0..choice >> 6 {
        let name = draw.word(MEMBERS);
        let value = draw.pick(&VALUES).clone();
        match draw.byte() & 7 {
            0 => entry.push((name, value)),
            1 => entry.retain(|member| member.0 != name),
            _ => {
                entry.retain(|member| member.0 != name);
                entry.push((name, value));
            }
        }
    }
    entry
}

/// As JSON, in which a member may appear twice.
fn written(entry: &Entry) -> String {
    let members = entry.iter();
    let members: Vec<String> = members
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A key by the second reading: its name, what it is, and its numbers.
#[derive(PartialEq)]
struct Usable {
    id: Option<String>,
    algorithm: Algorithm,
    numbers: Vec<Vec<u8>>,
}

/// `None`: it is left out.
fn usable(entry: &Entry) -> Option<Usable> {
    let is_twice = |name: &str| entry.iter().filter(|member| member.0 == name).count() > 1;
    if entry.iter().any(|member| is_twice(member.0)) {
        return None;
    }
    let member = |name: &str| {
        let found = entry.iter().find(|member| member.0 == name);
        found.map(|member| &member.1).filter(|one| !one.is_null())
    };
    // Outer `None`: it is no text.
    let text = |name: &str| match member(name) {
        None => Some(None),
        Some(value) => value.as_str().map(Some),
    };
    let number = |name: &str| {
        let text = text(name)??.trim_end_matches('=');
        let read = URL_SAFE_NO_PAD.decode(text);
        let bytes = read.or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some((bytes[zeros..].to_vec(), bytes))
    };
    let (id, crv) = (text("kid")?, text("crv")?);
    let (algorithm, numbers) = match text("kty")?? {
        "RSA" => {
            let (n, e) = (number("n")?.0, number("e")?.0);
            let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
            let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 != 0);
            // An exponent of 3 to 33 bits' length: AWS-LC's rule.
            let is_right = (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits)
                && is_odd(&n)
                && is_odd(&e)
                && e != [1]
                && (e.len() < 5 || e.len() == 5 && e[0] == 1);
            (Algorithm::Rs256, is_right.then(|| vec![n, e])?)
        }
        "EC" if crv == Some("P-256") => {
            let point = [number("x")?.1, number("y")?.1];
            let known = |one: &[&str; 2]| one.map(|part| URL_SAFE_NO_PAD.decode(part).ok());
            let is_right = POINTS
                .iter()
                .any(|one| known(one) == point.each_ref().map(|part| Some(part.clone())));
            (Algorithm::Es256, is_right.then(|| point.to_vec())?)
        }
        "OKP" if crv == Some("Ed25519") => {
            let x = number("x")?.1;
            (Algorithm::EdDsa, (x.len() == 32).then(|| vec![x])?)
        }
        _ => return None,
    };
    let is_meant = text("alg")?.is_none_or(|name| Algorithm::from_name(name) == Some(algorithm))
        && text("use")?.is_none_or(|usage| usage == "sig")
        && member("key_ops").is_none_or(|ops| {
            ops.as_array()
                .is_some_and(|ops| ops.contains(&json!("verify")))
        })
        && member("d").is_none()
        && id.is_none_or(|id| id.len() <= KEY_ID_BYTES_MAX);
    is_meant.then(|| Usable {
        id: id.map(str::to_owned),
        algorithm,
        numbers,
    })
}

/// The keys read are the usable ones, and each token is verified by the one it means.
fn check(read: &Keyring, entries: &[Entry], listed: &[Algorithm], choice: usize) {
    let (mut keys, mut left_out) = (Vec::new(), 0);
    for entry in entries {
        match usable(entry).filter(|key| listed.contains(&key.algorithm)) {
            Some(key) if keys.contains(&key) => {}
            Some(key) if keys.len() < KEYS_MAX => keys.push(key),
            _ => left_out += 1,
        }
    }
    assert_eq!(
        (read.len(), read.skipped().len()),
        (keys.len(), left_out),
        "{entries:?}: {:?}",
        read.skipped()
    );
    let id = KIDS.get(choice % (KIDS.len() + 1)).copied();
    let pair = &PAIRS[choice / (KIDS.len() + 1) % PAIRS.len()];
    keys.retain(|key| key.algorithm == Algorithm::EdDsa);
    let named = |id: Option<&str>| {
        let named = keys.iter().filter(|key| key.id.as_deref() == id);
        named.collect::<Vec<_>>()
    };
    let meant = match id.map(|id| named(Some(id))) {
        Some(meant) if !meant.is_empty() => meant,
        None if named(None).is_empty() && keys.len() == 1 => keys.iter().collect(),
        _ => named(None),
    };
    let public = pair.public_key().as_ref();
    let mut tried = meant.iter().take(TRIED_MAX);
    let expected = tried.any(|key| key.numbers[0] == public);
    let verified = verify(
        token(id, pair).as_bytes(),
        read,
        &Requirements::default(),
        0,
    );
    let is_listed = listed.contains(&Algorithm::EdDsa);
    assert_eq!(
        verified.is_ok(),
        expected && is_listed,
        "{verified:?} by {entries:?}"
    );
}

fn token(id: Option<&str>, pair: &Ed25519KeyPair) -> String {
    let header = match id {
        Some(id) => json!({ "alg": "EdDSA", "kid": id }),
        None => json!({ "alg": "EdDSA" }),
    };
    let claims = json!({ "sub": "a", "exp": 1 });
    let [header, claims] =
        [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}
