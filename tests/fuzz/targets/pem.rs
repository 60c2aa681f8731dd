//! PEM from an operator's files: what is read does not depend on how lines end, comes back when
//! it is written again, and what is refused is named by its line without a word of the file.
//!
//! A file is either the input's own text, or built of it block by block. Of a built one it is
//! known what every block holds and where it begins or, if one of them is damaged, in which line.

use super::Draw;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringmail::auth::keyring::{Algorithm, Keyring};
use ringmail::base::pem::{Kind, PemError, blocks, certificates, private_keys};

const BLOCKS_MAX: usize = 8;
const LABELS: &[(&str, Kind)] = &[
    ("CERTIFICATE", Kind::Certificate),
    ("X509 CERTIFICATE", Kind::Certificate),
    ("TRUSTED CERTIFICATE", Kind::Certificate),
    ("PRIVATE KEY", Kind::Pkcs8),
    ("RSA PRIVATE KEY", Kind::Pkcs1),
    ("EC PRIVATE KEY", Kind::Sec1),
    ("ENCRYPTED PRIVATE KEY", Kind::Locked),
    ("PUBLIC KEY", Kind::PublicKey),
    ("RSA PUBLIC KEY", Kind::RsaPublicKey),
    ("EC PARAMETERS", Kind::Beside),
    ("CERTIFICATE REQUEST", Kind::Beside),
    ("PKCS7", Kind::Unknown),
    ("", Kind::Unknown),
];
const BESIDE: &[&str] = &[
    "",
    "text\n",
    "\n",
    "\u{feff}",
    " \t",
    "\r\n\r",
    "a - b: c\r",
];
const ENDS: &[&str] = &["\n", "\r\n", "\r", " \n"];

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    if !draw.bool() {
        claims(draw.rest());
        return;
    }
    let (mut text, mut expected) = (String::new(), Vec::new());
    let mut damaged = None;
    while !draw.is_empty() && expected.len() < BLOCKS_MAX && damaged.is_none() {
        match block(&mut draw, &mut text) {
            Ok(block) => expected.push(block),
            Err(line) => damaged = Some(line),
        }
    }
    claims(text.as_bytes());
    match (blocks(text.as_bytes()), damaged) {
        (Ok(read), None) => {
            let read = read.into_iter();
            let read: Vec<_> = read
                .map(|block| (block.kind, block.der, block.line))
                .collect();
            assert_eq!(read, expected, "{text:?}");
        }
        (Err(error), Some(line)) => {
            let told = error.problem.contains(&format!("line {line} "));
            assert!(told, "{error} instead of line {line} of {text:?}");
        }
        (read, damaged) => panic!("{read:?} instead of {damaged:?}: {text:?}"),
    }
}

/// How many lines there are, of which the last has not ended.
fn lines(text: &str) -> usize {
    let ends = text.replace("\r\n", "\n");
    1 + ends.matches(['\n', '\r']).count()
}

/// Adds a block. `Err`: the line in which it is damaged.
fn block(draw: &mut Draw<'_>, text: &mut String) -> Result<(Kind, Vec<u8>, usize), usize> {
    text.push_str(draw.word(BESIDE));
    let (label, kind) = *draw.pick(LABELS);
    let (choice, damage) = (draw.byte(), draw.byte());
    let end = draw.word(ENDS);
    // Text before a marker in its line hides it; only a block's end does not.
    if text.ends_with([' ', '\t', '\n', '\r', '\u{feff}', '-']) || text.is_empty() {
    } else {
        text.push('\n');
    }
    let begun = lines(text);
    let content = draw.take(usize::from(choice & 31));
    let mut der = vec![0x30, content.len() as u8];
    der.extend_from_slice(content);
    text.push_str(&format!("-----BEGIN {label}-----{end}"));
    if damage == 1 {
        text.push_str(&format!("-----BEGIN {label}-----{end}"));
        return Err(lines(text) - 1);
    }
    let is_read = !matches!(kind, Kind::Unknown | Kind::Beside);
    let mut body = STANDARD.encode(&der);
    if damage == 2 {
        body.replace_range(..4, "****");
    }
    let width = [1, 4, 7, 64][usize::from(choice >> 5 & 3)];
    for line in body.as_bytes().chunks(width) {
        text.push_str(std::str::from_utf8(line).expect("base64"));
        text.push_str(end);
    }
    if damage == 3 {
        text.push_str(&format!("-----END {label} -----{end}"));
        return Err(lines(text) - 1);
    }
    text.push_str(&format!("-----END {label}-----"));
    if choice & 128 != 0 {
        text.push_str(end);
    }
    if damage == 2 && is_read {
        return Err(begun + 1);
    }
    match is_read {
        true => Ok((kind, der, begun)),
        false => Ok((kind, Vec::new(), begun)),
    }
}

/// What holds for any bytes.
fn claims(input: &[u8]) {
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
