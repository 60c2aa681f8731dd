//! PEM (RFC 7468), for all its users: everything in a file is either read, or refused with its
//! line. Nothing is skipped silently.
//!
//! ```text
//!   text between blocks, which may be anything but half a block
//!   -----BEGIN CERTIFICATE-----
//!   MIIB…                        base64, in lines of any length
//!   -----END CERTIFICATE----------BEGIN …      a new line in between may be missing
//! ```
//!
//! Also accepted: a byte order mark, blanks around lines, lines that end in CR. No error text
//! repeats a file's content: it may be a key.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// Base64 characters of a line.
const LINE: usize = 64;
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct PemError {
    /// What is wrong, after the file's name: "has no end …".
    pub problem: String,
    pub remedy: &'static str,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Certificate,
    /// A private key in PKCS #8, PKCS #1 (RSA) or SEC1 (EC).
    Pkcs8,
    Pkcs1,
    Sec1,
    /// A private key encrypted with a passphrase.
    Locked,
    PublicKey,
    RsaPublicKey,
    /// Accompanies certificates and keys, and is ignored: parameters, requests.
    Beside,
    Unknown,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub kind: Kind,
    pub der: Vec<u8>,
    /// Where it begins, from 1.
    pub line: usize,
}

impl Block {
    /// The usual PEM form, with the label of a public key.
    pub fn to_public_pem(&self) -> String {
        let label = match self.kind {
            Kind::RsaPublicKey => "RSA PUBLIC KEY",
            _ => "PUBLIC KEY",
        };
        let body = STANDARD.encode(&self.der);
        let lines: Vec<&str> = (0..body.len())
            .step_by(LINE)
            .filter_map(|at| body.get(at..(at + LINE).min(body.len())))
            .collect();
        let lines = lines.join("\n");
        format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
    }
}

/// All blocks, in order.
///
/// # Errors
/// The first line that is neither part of a block nor clearly outside of one.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block>, PemError> {
    let is_wide = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    if is_wide {
        let problem = "is text in UTF-16".to_owned();
        let remedy = "save it as UTF-8";
        return Err(PemError { problem, remedy });
    }
    if matches!(bytes, [0x30, 0x81..=0x84, ..]) {
        let problem = "is DER, not PEM".to_owned();
        let remedy = "convert it: openssl x509 (or pkey) -inform der -in FILE";
        return Err(PemError { problem, remedy });
    }
    let (mut found, mut open) = (Vec::new(), None);
    for (index, line) in lines(bytes).enumerate() {
        read_line(line, index + 1, &mut open, &mut found)?;
    }
    match open {
        None => Ok(found),
        Some(Open { line, .. }) => Err(broken(line, "starts a block that does not end")),
    }
}

/// The certificates.
///
/// # Errors
/// As [`blocks`]; or there is no certificate, or a block that is neither a certificate nor a key.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut found = Vec::new();
    for block in blocks(bytes)? {
        match block.kind {
            Kind::Certificate => found.push(block.der.into()),
            Kind::Unknown => return Err(unknown(block.line)),
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(PemError {
            problem: "holds no certificate".to_owned(),
            remedy: "it must contain PEM blocks that start with -----BEGIN CERTIFICATE-----",
        });
    }
    Ok(found)
}

/// The private keys, one at least.
///
/// # Errors
/// As [`blocks`]; or there is no key, or one that cannot be read.
pub fn private_keys(bytes: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, PemError> {
    let mut found: Vec<PrivateKeyDer<'static>> = Vec::new();
    for block in blocks(bytes)? {
        found.push(match block.kind {
            Kind::Pkcs8 => PrivatePkcs8KeyDer::from(block.der).into(),
            Kind::Pkcs1 => PrivatePkcs1KeyDer::from(block.der).into(),
            Kind::Sec1 => PrivateSec1KeyDer::from(block.der).into(),
            Kind::Locked => {
                return Err(PemError {
                    problem: format!("holds a key with a passphrase (line {})", block.line),
                    remedy: "remove the passphrase: openssl pkey -in FILE -out FILE",
                });
            }
            Kind::Unknown => return Err(unknown(block.line)),
            _ => continue,
        });
    }
    if found.is_empty() {
        return Err(PemError {
            problem: "holds no private key".to_owned(),
            remedy: "it must contain one in PEM (PKCS #8, SEC1 or PKCS #1), without a passphrase",
        });
    }
    Ok(found)
}

fn broken(line: usize, what: &str) -> PemError {
    PemError {
        problem: format!("is not valid PEM: line {line} {what}"),
        remedy: "write the file again",
    }
}

fn unknown(line: usize) -> PemError {
    PemError {
        problem: format!("contains an unsupported block, which starts in line {line}"),
        remedy: "keep only certificates and keys in it, each in its own block (no PKCS #7, no \
                 revocation lists)",
    }
}

/// Lines without their ends: LF, CRLF or CR.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').flat_map(|line| {
        line.strip_suffix(b"\r")
            .unwrap_or(line)
            .split(|byte| *byte == b'\r')
    })
}

/// A block whose end has not come yet.
struct Open<'a> {
    label: &'a [u8],
    line: usize,
    /// Its lines so far, with their numbers.
    body: Vec<(usize, &'a [u8])>,
}

fn read_line<'a>(
    text: &'a [u8],
    line: usize,
    open: &mut Option<Open<'a>>,
    found: &mut Vec<Block>,
) -> Result<(), PemError> {
    let mut rest = text;
    loop {
        rest = rest.strip_prefix(MARK).unwrap_or(rest).trim_ascii();
        let Some(mut block) = open.take() else {
            let Some(begun) = rest.strip_prefix(BEGIN) else {
                return match is_half_a_marker(rest) {
                    true => Err(broken(
                        line,
                        "has an incomplete BEGIN or END line, or one that follows other text",
                    )),
                    false => Ok(()),
                };
            };
            let (label, behind) = label(begun, line)?;
            let body = Vec::new();
            *open = Some(Open { label, line, body });
            rest = behind;
            continue;
        };
        let Some(end) = find(rest, END) else {
            if find(rest, DASHES).is_some() {
                let what = format!(
                    "does not belong to the block that starts in line {}",
                    block.line
                );
                return Err(broken(line, &what));
            }
            block.body.push((line, rest));
            *open = Some(block);
            return Ok(());
        };
        block.body.push((line, &rest[..end]));
        let (ended, behind) = label(&rest[end + END.len()..], line)?;
        if ended != block.label {
            let what = format!(
                "does not match the block that starts in line {}",
                block.line
            );
            return Err(broken(line, &what));
        }
        found.push(decoded(&block)?);
        rest = behind;
    }
}

/// A label, and what follows its dashes.
fn label(text: &[u8], line: usize) -> Result<(&[u8], &[u8]), PemError> {
    match find(text, DASHES) {
        Some(end) => Ok((&text[..end], &text[end + DASHES.len()..])),
        None => Err(broken(line, "lacks the five dashes at its end")),
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Whether a line has dashes and BEGIN or END: it was meant as a block's marker.
fn is_half_a_marker(line: &[u8]) -> bool {
    let upper = line.to_ascii_uppercase();
    let dashed = |at: usize| {
        let before = upper[..at].trim_ascii_end();
        // A hyphen, or the last byte of a longer dash that an editor substituted.
        before.ends_with(b"-")
            || before.ends_with(b"\xe2\x80\x93")
            || before.ends_with(b"\xe2\x80\x94")
    };
    [&b"BEGIN "[..], b"END "].iter().any(|word| {
        let starts = upper.windows(word.len()).enumerate();
        starts
            .filter(|(_, window)| window == word)
            .any(|(at, _)| dashed(at))
    })
}

fn decoded(block: &Open<'_>) -> Result<Block, PemError> {
    let kind = match block.label {
        b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE" => Kind::Certificate,
        b"PRIVATE KEY" => Kind::Pkcs8,
        b"RSA PRIVATE KEY" => Kind::Pkcs1,
        b"EC PRIVATE KEY" => Kind::Sec1,
        b"ENCRYPTED PRIVATE KEY" => Kind::Locked,
        b"PUBLIC KEY" => Kind::PublicKey,
        b"RSA PUBLIC KEY" => Kind::RsaPublicKey,
        b"EC PARAMETERS" | b"DH PARAMETERS" | b"X9.42 DH PARAMETERS" => Kind::Beside,
        b"CERTIFICATE REQUEST" | b"NEW CERTIFICATE REQUEST" => Kind::Beside,
        _ => Kind::Unknown,
    };
    let whole = |kind, der| Block {
        kind,
        der,
        line: block.line,
    };
    // RFC 1421's headers, which OpenSSL writes above an encrypted key.
    if block.body.iter().any(|(_, line)| line.contains(&b':')) {
        return Ok(match kind {
            Kind::Pkcs1 | Kind::Sec1 | Kind::Pkcs8 => whole(Kind::Locked, Vec::new()),
            _ => whole(Kind::Unknown, Vec::new()),
        });
    }
    if matches!(kind, Kind::Unknown | Kind::Beside) {
        return Ok(whole(kind, Vec::new()));
    }
    let mut der = base64_of(block)?;
    if kind == Kind::Certificate {
        take_settings(block, &mut der)?;
    }
    Ok(whole(kind, der))
}

fn base64_of(block: &Open<'_>) -> Result<Vec<u8>, PemError> {
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    for (line, part) in &block.body {
        text.extend(part.iter().filter(|byte| !byte.is_ascii_whitespace()));
        ends.push((text.len(), *line));
    }
    STANDARD.decode(&text).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
        };
        let line = ends.iter().find(|(end, _)| at < *end).or(ends.last());
        let line = line.map_or(block.line, |(_, line)| *line);
        broken(line, "is not base64, or part of it is missing")
    })
}

/// The trust settings that OpenSSL writes after a TRUSTED CERTIFICATE are not supported, so they
/// must not be silently ignored.
fn take_settings(block: &Open<'_>, der: &mut Vec<u8>) -> Result<(), PemError> {
    let whole = sequence_bytes(der).filter(|length| *length <= der.len());
    let Some(length) = whole else {
        return Err(broken(
            block.line,
            "starts a block that is not a certificate",
        ));
    };
    if block.label != b"TRUSTED CERTIFICATE" || is_empty(&der[length..]) {
        der.truncate(length);
        return Ok(());
    }
    Err(PemError {
        problem: format!(
            "contains a TRUSTED CERTIFICATE with trust settings (line {})",
            block.line
        ),
        remedy: "trust settings are not supported here: convert it to CERTIFICATE (openssl x509 -in FILE)",
    })
}

/// Whether settings are absent, or an empty sequence.
fn is_empty(settings: &[u8]) -> bool {
    matches!(settings, [] | [0x30, 0])
}

/// The length in all of the DER sequence that `der` begins with (X.690 §8.1.3).
fn sequence_bytes(der: &[u8]) -> Option<usize> {
    match der {
        [0x30, length @ 0..=0x7f, ..] => Some(2 + usize::from(*length)),
        [0x30, form @ 0x81..=0x84, rest @ ..] => {
            let count = usize::from(form - 0x80);
            let length = rest.get(..count)?;
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            Some(2 + count + length)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    struct Made {
        one: String,
        two: String,
        key: String,
    }

    fn made() -> Made {
        let key = KeyPair::generate().expect("a key");
        let certificate = |name: &str| {
            let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
            params.self_signed(&key).expect("signed").pem()
        };
        Made {
            one: certificate("one"),
            two: certificate("two"),
            key: key.serialize_pem(),
        }
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        use rustls_pki_types::pem::PemObject;
        CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
    }

    fn each_line(text: &str, change: impl Fn(&str) -> String) -> String {
        text.lines().map(change).collect()
    }

    #[test]
    fn two_certificates_are_two_however_they_are_written() {
        let Made { one, two, key } = made();
        let both = format!("{one}{two}");
        let joined = |text: &str| text.lines().collect::<Vec<_>>().join(" ");
        let x509 = two.replace("CERTIFICATE", "X509 CERTIFICATE");
        let trusted = two.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let rows = [
            ("plain", both.clone()),
            ("CRLF", both.replace('\n', "\r\n")),
            ("CR", both.replace('\n', "\r")),
            ("no line between", format!("{}{two}", one.trim_end())),
            ("no line at the end", both.trim_end().to_owned()),
            ("a mark", format!("\u{feff}{both}")),
            ("a mark in the middle", format!("{one}\u{feff}{two}")),
            ("indented", each_line(&both, |line| format!("    {line}\n"))),
            (
                "blanks behind",
                each_line(&both, |line| format!("{line} \t\n")),
            ),
            (
                "empty lines",
                each_line(&both, |line| format!("{line}\n\n")),
            ),
            ("one line", joined(&both)),
            ("X509", format!("{one}{x509}")),
            ("TRUSTED", format!("{trusted}{one}")),
            (
                "text",
                format!("BEGIN of it - END\n---- 1 ----\n{one}caf\u{e9}: {{\n{two}"),
            ),
            ("a key first", format!("{key}{both}")),
            ("a key last", format!("{both}{key}")),
        ];
        for (name, text) in rows {
            let found =
                certificates(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut expected = vec![der(&one), der(&two)];
            if name == "TRUSTED" {
                expected.reverse();
            }
            assert!(found == expected, "{name}");
        }
        assert_eq!(
            private_keys(format!("{both}{key}").as_bytes()).map(|keys| keys.len()),
            Ok(1)
        );
    }

    #[test]
    fn unreadable_content_is_refused_with_its_line() {
        let Made { one, two, key } = made();
        let count = one.lines().count();
        let line = |number: usize| format!("line {number} ");
        let cut = |text: &str, keep: usize| text.lines().take(keep).collect::<Vec<_>>().join("\n");
        let settings = {
            let mut der = der(&one).to_vec();
            der.extend([0x30, 3, 0x0c, 1, b'x']);
            let label = "TRUSTED CERTIFICATE";
            format!(
                "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
                STANDARD.encode(der)
            )
        };
        let bad = one.replacen("MII", "M!I", 1);
        let rows = [
            (format!("# {one}"), line(1)),
            (format!("{one}# two: {two}"), line(count + 1)),
            (
                format!("{one}{}", two.replace("-----BEGIN", "----BEGIN")),
                line(count + 1),
            ),
            (
                format!("{one}{}", two.replace("-----BEGIN", "- ----begin")),
                line(count + 1),
            ),
            (
                format!("{one}{}", two.replace("-----BEGIN", "\u{2014}BEGIN")),
                line(count + 1),
            ),
            (format!("{one}{}", two.to_lowercase()), line(count + 1)),
            (
                one.replace("CERTIFICATE-----\nM", "CERTIFICATE--\nM"),
                line(1),
            ),
            (format!("{one}{}", cut(&two, 4)), line(count + 1)),
            (format!("{}\n{two}", cut(&one, 4)), line(5)),
            (
                one.replace("END CERTIFICATE", "END X509 CERTIFICATE"),
                line(count),
            ),
            (format!("\n{bad}"), line(3)),
            (format!("{one}{}", bad), line(count + 2)),
            (format!("\0{one}"), line(1)),
            (
                format!("{one}{}", two.replace("CERTIFICATE", "PKCS7")),
                format!("line {}", count + 1),
            ),
            (
                format!("{one}{}", two.replace("CERTIFICATE", "X509 CRL")),
                format!("line {}", count + 1),
            ),
            (settings, "(line 1)".to_owned()),
            (key.clone(), "holds no certificate".to_owned()),
            (String::new(), "holds no certificate".to_owned()),
            (
                one.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
                "holds no certificate".to_owned(),
            ),
        ];
        for (text, told) in rows {
            let error = certificates(text.as_bytes()).expect_err(&text).to_string();
            assert!(error.contains(&told), "{error}, not {told}:\n{text}");
        }
    }

    #[test]
    fn a_file_that_is_not_pem_is_named_for_what_it_is() {
        let Made { one, .. } = made();
        let wide: Vec<u8> = format!("\u{feff}{one}")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (bytes, told) in [(&wide[..], "UTF-16"), (&der(&one)[..], "DER")] {
            let error = certificates(bytes).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_says_why() {
        let Made { one, key, .. } = made();
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let headers = "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\n";
        let old = key.replacen("PRIVATE KEY-----\n", headers, 1);
        let foreign = key.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY");
        for (text, told) in [
            (&one, "holds no private key"),
            (&locked, "passphrase (line 1)"),
            (&old, "passphrase (line 1)"),
            (&foreign, "line 1"),
        ] {
            let error = private_keys(text.as_bytes()).expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
