//! Key sets as a provider may send them: whatever they are, a bounded number of usable keys comes
//! out, each of the algorithms asked for, and what is left out is said.

use ringmail::auth::keyring::{Algorithm, Keyring};
use ringmail::base::limits::{KEY_SET_BYTES_MAX, KEYS_MAX};
use serde_json::Value;

const ALL: &[Algorithm] = &[Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

pub fn run(input: &[u8]) {
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
    let entries = entries(input);
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
fn entries(input: &[u8]) -> usize {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(set)) => match set.get("keys") {
            Some(Value::Array(keys)) => keys.len(),
            _ => 1,
        },
        _ => 0,
    }
}
