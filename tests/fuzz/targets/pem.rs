//! PEM from an operator's files: what is read does not depend on how lines end, comes back when
//! it is written again, and what is refused is named by its line without a word of the file.

use ringmail::auth::keyring::{Algorithm, Keyring};
use ringmail::base::pem::{Kind, PemError, blocks, certificates, private_keys};

pub fn run(input: &[u8]) {
    let read = blocks(input);
    if !input.contains(&b'\r') {
        let with = |end: &str| {
            let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
            blocks(&lines.join(end.as_bytes()))
        };
        assert_eq!(with("\r\n"), read);
        assert_eq!(with("\r"), read);
    }
    let lines = 1 + input
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count();
    let (found, chain, keys) = match (read, certificates(input), private_keys(input)) {
        (Ok(found), chain, keys) => (found, chain, keys),
        (Err(error), chain, keys) => {
            check_error(&error, lines);
            assert_eq!(chain.err().as_ref(), Some(&error));
            assert_eq!(keys.err().as_ref(), Some(&error));
            return;
        }
    };
    let count = |kinds: &[Kind]| {
        found
            .iter()
            .filter(|block| kinds.contains(&block.kind))
            .count()
    };
    let is_odd = count(&[Kind::Unknown]) > 0;
    match chain {
        Ok(chain) => assert_eq!((chain.len(), is_odd), (count(&[Kind::Certificate]), false)),
        Err(error) => {
            check_error(&error, lines);
            assert!(is_odd || count(&[Kind::Certificate]) == 0);
        }
    }
    let private = [Kind::Pkcs8, Kind::Pkcs1, Kind::Sec1];
    match keys {
        Ok(keys) => assert_eq!(keys.len(), count(&private)),
        Err(error) => {
            check_error(&error, lines);
            assert!(is_odd || count(&[Kind::Locked]) > 0 || count(&private) == 0);
        }
    }
    for block in &found {
        assert!(
            (1..=lines).contains(&block.line),
            "line {} of {lines}",
            block.line
        );
        let written = block.to_public_pem();
        let again = blocks(written.as_bytes()).expect("it was written here");
        assert_eq!((again.len(), &again[0].der), (1, &block.der));
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let all = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
        match Keyring::from_config(&all, "", text) {
            Ok(keyring) => assert!(keyring.len() == 1 || text.trim().is_empty()),
            Err(error) => assert!(error.to_string().contains("auth.jwt.public_key")),
        }
    }
}

fn check_error(error: &PemError, lines: usize) {
    assert!(!error.problem.is_empty() && !error.remedy.is_empty());
    let mut words = error.problem.split(|c: char| !c.is_alphanumeric());
    while let Some(word) = words.next() {
        if word == "line"
            && let Some(number) = words.next().and_then(|number| number.parse::<usize>().ok())
        {
            assert!((1..=lines).contains(&number), "{error} of {lines} lines");
        }
    }
}
