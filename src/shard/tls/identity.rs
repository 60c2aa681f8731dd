//! Who a client's certificate says it is: the subject's common name, which must be a valid
//! principal. Asked while the handshake can still be refused, so that a connection either
//! has a principal or does not come about.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use std::sync::Arc;
use x509_parser::parse_x509_certificate;

/// Bytes of a principal.
const PRINCIPAL_BYTES_MAX: usize = 128;

/// Whether a name can stand for a client: one level of a topic, and none of the server's.
pub fn is_principal(name: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !matches!(c, '/' | '+' | '#');
    (1..=PRINCIPAL_BYTES_MAX).contains(&name.len())
        && !name.starts_with('$')
        && name.chars().all(allowed)
}

/// The subject's common name, if there is exactly one and it is a valid principal.
pub(super) fn principal_of(certificate: &CertificateDer<'_>) -> Option<Box<str>> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    (names.next().is_none() && is_principal(name)).then(|| name.into())
}

/// Verifies a client's certificate as another verifier does, and asks for a principal.
#[derive(Debug)]
pub struct IdentityVerifier(pub Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for IdentityVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match principal_of(end_entity) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_one_level_and_not_the_servers() {
        for name in ["a", "pump 7", "Müller", &"x".repeat(128), "a$b", "."] {
            assert!(is_principal(name), "{name:?}");
        }
        for name in [
            "",
            "a/b",
            "+",
            "a#",
            "$sys",
            "a\n",
            "\u{85}",
            &"x".repeat(129),
        ] {
            assert!(!is_principal(name), "{name:?}");
        }
    }

    #[test]
    fn the_principal_is_the_only_common_name() {
        let made = |names: &[(rcgen::DnType, &str)]| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, name) in names {
                params.distinguished_name.push(kind.clone(), *name);
            }
            principal_of(params.self_signed(&key).unwrap().der())
        };
        use rcgen::DnType::{CommonName, OrganizationName};
        let found = made(&[(OrganizationName, "Works"), (CommonName, "pump-7")]);
        assert_eq!(found.as_deref(), Some("pump-7"));
        assert_eq!(made(&[(OrganizationName, "Works")]), None);
        assert_eq!(made(&[(CommonName, "a/b")]), None);
        assert_eq!(principal_of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
