//! A client's certificate as a credential: TLS has verified it against `tls.client_ca`.
//!
//! Its principal is the subject's common name, its roles are the subject's organizational
//! units (those that are roles of the configuration) and those of the API keys with the same
//! principal. It counts as issued at `notBefore` and expires at `notAfter`. Authorities backdate
//! new certificates, so that one issued after a revocation of its principal may count as issued
//! before it: to revoke one of several, use its fingerprint, which is its `jti`.

use super::identity::is_principal;
use super::key::to_hex;
use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::parse_x509_certificate;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub principal: Box<str>,
    pub units: Box<[Box<str>]>,
    /// Unix seconds.
    pub issued_at: u64,
    pub expires: u64,
    /// SHA-256 of it, in lower-case hexadecimal.
    pub fingerprint: Box<str>,
}

impl Certificate {
    /// Parses a certificate in DER. `None` if it is not one, does not have exactly one common name,
    /// or that name is not a valid principal.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let mut names = subject.iter_common_name();
        let name = text(names.next()?.attr_value())?;
        if names.next().is_some() || !is_principal(&name) {
            return None;
        }
        let units = subject.iter_organizational_unit();
        let units = units.filter_map(|unit| text(unit.attr_value()).map(Box::from));
        let validity = certificate.validity();
        let unix = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Some(Certificate {
            principal: name.into(),
            units: units.collect(),
            issued_at: unix(validity.not_before),
            expires: unix(validity.not_after),
            fingerprint: to_hex(digest(&SHA256, der).as_ref()).into(),
        })
    }
}

/// A name, in any type of a DirectoryString (RFC 5280 §4.1.2.4). Of a TeletexString, whose encoding
/// is ambiguous, only ASCII is accepted.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.header.tag() {
        Tag::Utf8String => String::from_utf8(bytes.to_vec()).ok(),
        Tag::PrintableString | Tag::Ia5String | Tag::T61String if bytes.is_ascii() => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        Tag::BmpString => {
            let (units, rest) = bytes.as_chunks();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            let text = char::decode_utf16(units).collect::<Result<String, _>>();
            text.ok().filter(|_| rest.is_empty())
        }
        Tag::UniversalString => {
            let (units, rest) = bytes.as_chunks();
            let units = units
                .iter()
                .map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            units
                .collect::<Option<String>>()
                .filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::DnType::{CommonName, OrganizationName, OrganizationalUnitName};

    fn made(names: &[(rcgen::DnType, &str)]) -> Option<Certificate> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        Certificate::read(params.self_signed(&key).unwrap().der())
    }

    #[test]
    fn the_principal_is_the_only_common_name_and_units_are_roles() {
        let found = made(&[
            (OrganizationName, "Works"),
            (OrganizationalUnitName, "device"),
            (CommonName, "pump-7"),
        ]);
        let expected = Certificate {
            principal: "pump-7".into(),
            units: ["device".into()].into(),
            issued_at: 1_767_225_600,
            expires: 1_798_761_600,
            fingerprint: found.as_ref().unwrap().fingerprint.clone(),
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn a_name_is_read_from_any_string_type() {
        let any = |tag: Tag, bytes: &[u8]| text(&Any::from_tag_and_data(tag, bytes));
        let wide = |text: &str| {
            text.encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect::<Vec<_>>()
        };
        let wider = |text: &str| {
            text.chars()
                .flat_map(|c| u32::from(c).to_be_bytes())
                .collect::<Vec<_>>()
        };
        let name = "pump-8";
        for (tag, bytes) in [
            (Tag::Utf8String, name.as_bytes().to_vec()),
            (Tag::PrintableString, name.as_bytes().to_vec()),
            (Tag::Ia5String, name.as_bytes().to_vec()),
            (Tag::T61String, name.as_bytes().to_vec()),
            (Tag::BmpString, wide(name)),
            (Tag::UniversalString, wider(name)),
        ] {
            assert_eq!(any(tag, &bytes).as_deref(), Some(name), "{tag:?}");
        }
        assert_eq!(
            any(Tag::BmpString, &wide("pumpe-ü")).as_deref(),
            Some("pumpe-ü")
        );
        for (tag, bytes) in [
            (Tag::BmpString, &b"\0p\0"[..]),
            (Tag::BmpString, b"\xd8\0"),
            (Tag::UniversalString, b"\0\x11\0\0"),
            (Tag::UniversalString, b"\0\0\0"),
            (Tag::T61String, b"\xe4"),
            (Tag::Utf8String, b"\xff"),
            (Tag::OctetString, b"a"),
        ] {
            assert_eq!(any(tag, bytes), None, "{tag:?} {bytes:?}");
        }
        let bmp = rcgen::DnValue::BmpString("pump-8".try_into().unwrap());
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(CommonName, bmp);
        let found = Certificate::read(params.self_signed(&key).unwrap().der());
        assert_eq!(found.map(|found| found.principal), Some("pump-8".into()));
    }

    #[test]
    fn a_certificate_without_a_valid_name_is_refused() {
        assert_eq!(made(&[(OrganizationName, "Works")]), None);
        for name in ["a/b", "$sys", "+", ""] {
            assert_eq!(made(&[(CommonName, name)]), None, "{name:?}");
        }
        assert_eq!(Certificate::read(&[1, 2, 3]), None);
        assert_eq!(Certificate::read(&[]), None);
    }
}
