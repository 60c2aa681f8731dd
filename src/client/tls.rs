//! How a client uses TLS: whose certificates it trusts, and the one it may present.
//!
//! Files are read again for each connection, so that renewed ones take effect at the next
//! reconnect. No error text contains anything from a file.

use super::error::Error;
use crate::base::file;
use crate::base::pem::{self, PemError};
use crate::proto::ALPN;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of a file: the list of all public authorities has a fifth of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// TLS options. By default the client trusts the system's certificate authorities and presents
/// no certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Trusts only the authorities in this PEM file.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Tls {
        self.ca = Some(file.into());
        self
    }

    /// Presents this certificate (PEM, followed by its chain), whose key is in another PEM file
    /// or in the same.
    pub fn identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Tls {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// The configuration for rustls, with the files read.
    ///
    /// # Errors
    /// `Tls`: a file cannot be read or lacks what it must contain.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::tls(format!("TLS: {error}")))?
            .with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                // The first key that belongs to the certificate.
                let tries = private_keys(key)?.into_iter().map(|private| {
                    let builder = builder.clone();
                    builder.with_client_auth_cert(chain.clone(), private)
                });
                let tried = tries.reduce(Result::or);
                let unfit = |why: &dyn std::fmt::Display| {
                    let files = (certificate.display(), key.display());
                    Error::tls(format!(
                        "certificate {} and key {}: {why}; name a matching pair",
                        files.0, files.1
                    ))
                };
                tried
                    .ok_or_else(|| unfit(&"there is no key"))?
                    .map_err(|error| unfit(&error))?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            // Some of the system's may be invalid; a missing one shows in the handshake.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::tls(
                    "this system has no certificate authorities; install them \
                     (ca-certificates), or name a file of your own (--tls-ca)",
                ));
            }
            return Ok(roots);
        };
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| {
                let file = ca.display();
                Error::tls(format!("{file}: {error}; it must hold certificates in PEM"))
            })?;
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    pem::certificates(&read(file)?).map_err(|error| unusable(file, &error))
}

fn private_keys(file: &Path) -> Result<Vec<PrivateKeyDer<'static>>, Error> {
    pem::private_keys(&read(file)?).map_err(|error| unusable(file, &error))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    file::read(file, FILE_BYTES_MAX).map_err(|error| {
        let (shown, remedy) = (file.display(), "name a PEM file that this user may read");
        Error::tls(format!("{shown} cannot be read: {error}; {remedy}"))
    })
}

fn unusable(file: &Path, error: &PemError) -> Error {
    Error::tls(format!("{} {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_will_not_do_is_named_and_not_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("no.pem");
        std::fs::write(&file, "hush").unwrap();
        let missing = dir.path().join("missing.pem");
        for (tls, part) in [
            (Tls::default().ca(&missing), "cannot be read"),
            (Tls::default().ca(&file), "no certificate"),
        ] {
            let text = tls.config().unwrap_err().to_string();
            assert!(text.contains(part) && text.contains(".pem"), "{text}");
            assert!(!text.contains("hush"), "{text}");
        }
    }
}
