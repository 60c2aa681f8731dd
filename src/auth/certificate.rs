//! A client's certificate as a credential: TLS has verified it against `tls.client_ca`.
//!
//! Its principal is the subject's common name, its roles are the subject's organizational
//! units (those that are roles of the configuration) and those of the API keys with the same
//! principal. It counts as issued at `notBefore` and expires at `notAfter`.

use super::identity::is_principal;
use x509_parser::parse_x509_certificate;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub principal: Box<str>,
    pub units: Box<[Box<str>]>,
    /// Unix seconds.
    pub issued_at: u64,
    pub expires: u64,
}

impl Certificate {
    /// Reads a certificate in DER. `None` if it is none, or has not exactly one common name,
    /// or that is no principal.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let subject = certificate.subject();
        let mut names = subject.iter_common_name();
        let name = names.next()?.as_str().ok()?;
        if names.next().is_some() || !is_principal(name) {
            return None;
        }
        let units = subject.iter_organizational_unit();
        let units = units.filter_map(|unit| unit.as_str().ok().map(Box::from));
        let validity = certificate.validity();
        let unix = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Some(Certificate {
            principal: name.into(),
            units: units.collect(),
            issued_at: unix(validity.not_before),
            expires: unix(validity.not_after),
        })
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
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_names_nobody_is_refused() {
        assert_eq!(made(&[(OrganizationName, "Works")]), None);
        for name in ["a/b", "$sys", "+", ""] {
            assert_eq!(made(&[(CommonName, name)]), None, "{name:?}");
        }
        assert_eq!(Certificate::read(&[1, 2, 3]), None);
        assert_eq!(Certificate::read(&[]), None);
    }
}
