//! The server's certificate, its key and the CA of its clients: read from the files that
//! `[tls]` names, at start and again when they have changed.
//!
//! The files are checked together (the key must belong to the certificate) and replaced together;
//! existing connections keep the certificate they started with. If a change is invalid, the log
//! says so once, the current certificate stays in use, and reading is retried until it succeeds: a
//! file may become readable, and a short lack of descriptors may end, without a change that `Mark`
//! could see.
//!
//! No error text contains anything from a file.

use super::config::{Config, Tls, TlsMode};
use super::validity;
use crate::base::clock::unix_seconds;
use crate::base::file;
use crate::base::pem::{self, PemError};
use crate::shard::tls::{IdentityVerifier, TlsSettings};
use crate::wire::Protocol;
use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use x509_parser::parse_x509_certificate;

/// How often the files are checked for changes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of a file: far more than a chain or a list of CAs has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file of `[tls]` that cannot be used. Displayed as `key "path": problem; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateError {
    /// The configuration's key.
    pub key: &'static str,
    pub path: String,
    pub problem: String,
    pub remedy: &'static str,
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CertificateError {
            key,
            path,
            problem,
            remedy,
        } = self;
        write!(f, "{key} {path:?} {problem}; {remedy}")
    }
}

impl std::error::Error for CertificateError {}

/// One of the files.
struct Source<'a> {
    key: &'static str,
    path: &'a str,
}

impl Source<'_> {
    fn error(&self, problem: impl Into<String>, remedy: &'static str) -> CertificateError {
        CertificateError {
            key: self.key,
            path: self.path.to_owned(),
            problem: problem.into(),
            remedy,
        }
    }

    fn read(&self) -> Result<Vec<u8>, CertificateError> {
        file::read(Path::new(self.path), FILE_BYTES_MAX).map_err(|error| {
            self.error(
                format!("cannot be read: {error}"),
                "name a PEM file that this user may read",
            )
        })
    }

    fn unusable(&self, PemError { problem, remedy }: PemError) -> CertificateError {
        self.error(problem, remedy)
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        pem::certificates(&self.read()?).map_err(|error| self.unusable(error))
    }

    fn private_keys(&self) -> Result<Vec<PrivateKeyDer<'static>>, CertificateError> {
        pem::private_keys(&self.read()?).map_err(|error| self.unusable(error))
    }
}

/// Checks that the files of `[tls]` can be used.
///
/// # Errors
/// If a file cannot be read or lacks what it must contain, or the files do not fit together.
pub fn check(config: &Config) -> Result<(), CertificateError> {
    CertificateWatcher::open(config).map(drop)
}

/// What was read.
struct Loaded {
    config: ServerConfig,
    /// See [`CertificateWatcher::expires`].
    expires: i64,
    /// Reasons in its dates for which clients will refuse it.
    outdated: Vec<String>,
}

fn load(tls: &Tls) -> Result<Loaded, CertificateError> {
    let certificate = Source {
        key: "tls.certificate",
        path: &tls.certificate,
    };
    let key = Source {
        key: "tls.key",
        path: &tls.key,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            certificate.error(
                error.to_string(),
                "this is a bug in ringmail: \
                                                               report it",
            )
        })?;
    let builder = match tls.client_ca.as_str() {
        "" => builder.with_no_client_auth(),
        path => builder.with_client_cert_verifier(verifier(path, &provider)?),
    };
    let chain = certificate.certificates()?;
    let expires = expiry(&chain);
    let outdated = validity::faults(&tls.certificate, &chain, unix_seconds());
    // The first key that belongs to the certificate, or what is wrong with the last one.
    let tries = key.private_keys()?.into_iter().map(|private| {
        let tried = builder.clone().with_single_cert(chain.clone(), private);
        tried.map_err(|error| refused(&error, &certificate, &key))
    });
    let mut config = tries
        .reduce(Result::or)
        .unwrap_or_else(|| Err(key.error("holds no private key", "name the certificate's key")))?;
    let names = Protocol::ALL.iter().map(|protocol| protocol.alpn());
    config.alpn_protocols = names.map(<[u8]>::to_vec).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    resume(&mut config, tls).map_err(|error| certificate.error(error, "try again"))?;
    Ok(Loaded {
        config,
        expires,
        outdated,
    })
}

/// Why a certificate and a key cannot be used.
fn refused(error: &rustls::Error, certificate: &Source<'_>, key: &Source<'_>) -> CertificateError {
    match error {
        rustls::Error::InconsistentKeys(_) => key.error(
            format!("is not the key of tls.certificate {:?}", certificate.path),
            "name a matching pair",
        ),
        rustls::Error::InvalidCertificate(error) => certificate.error(
            format!("cannot be used: {error:?}"),
            "it must be an X.509 certificate of version 3, the server's own first",
        ),
        _ => key.error(
            "is of a kind that cannot be used",
            "use a key for ECDSA (P-256, P-384), Ed25519 or RSA from 2048 bits",
        ),
    }
}

/// When the first of a chain's certificates expires, in Unix seconds. One that cannot be parsed
/// here never does: TLS has its own parser, which may accept it.
fn expiry(chain: &[CertificateDer<'_>]) -> i64 {
    let expiries = chain.iter().filter_map(|one| {
        let (_, certificate) = parse_x509_certificate(one).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    expiries.min().unwrap_or(i64::MAX)
}

/// Lets clients resume without a new signature, by a ticket that only this process can read. Not
/// clients that present a certificate, which is verified each time.
fn resume(config: &mut ServerConfig, tls: &Tls) -> Result<(), String> {
    config.send_tls13_tickets = 0;
    if tls.client_ca.is_empty() {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        config.send_tls13_tickets = 1;
    }
    Ok(())
}

fn verifier(
    path: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<IdentityVerifier>, CertificateError> {
    let source = Source {
        key: "tls.client_ca",
        path,
    };
    let unusable = |cause: String| {
        source.error(
            format!("holds a certificate that cannot be used: {cause}"),
            "it must be a CA's X.509 certificate of version 3",
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in source.certificates()? {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    Ok(Arc::new(IdentityVerifier(verifier)))
}

/// Warnings about the files, one line each: a key that others may read, a certificate that has
/// expired or is not valid yet.
pub fn warnings(config: &Config) -> Vec<String> {
    let tls = &config.tls;
    if tls.mode == TlsMode::Off {
        return Vec::new();
    }
    let mode = fs::metadata(&tls.key).map_or(0, |file| file.mode());
    let mut warnings = Vec::new();
    if mode & 0o077 != 0 {
        warnings.push(format!(
            "tls.key {:?} is readable by users other than its owner (mode {:03o}): run chmod \
             600 on it",
            tls.key,
            mode & 0o777
        ));
    }
    if let Ok(loaded) = load(tls) {
        warnings.extend(loaded.outdated);
    }
    warnings
}

// ---- reloading ----

/// How a changed file is recognised: its inode, size and time of change.
type Mark = Option<(u64, u64, i64, i64)>;

fn marks(tls: &Tls) -> [Mark; 3] {
    [&tls.certificate, &tls.key, &tls.client_ca].map(|path| {
        let file = fs::metadata(path).ok()?;
        Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    })
}

/// Keeps the certificate in use up to date with the files.
pub(super) struct CertificateWatcher {
    tls: Tls,
    config: Arc<ArcSwap<ServerConfig>>,
    expires: Arc<AtomicI64>,
    seen: [Mark; 3],
    /// Why the files as last seen are not in use.
    failure: Option<CertificateError>,
}

impl CertificateWatcher {
    /// Reads the files; `None` when TLS is off.
    ///
    /// # Errors
    /// As [`check`].
    pub(super) fn open(config: &Config) -> Result<Option<CertificateWatcher>, CertificateError> {
        let tls = &config.tls;
        if tls.mode == TlsMode::Off {
            return Ok(None);
        }
        let seen = marks(tls);
        let Loaded {
            config, expires, ..
        } = load(tls)?;
        Ok(Some(CertificateWatcher {
            config: Arc::new(ArcSwap::from_pointee(config)),
            expires: Arc::new(AtomicI64::new(expires)),
            tls: tls.clone(),
            seen,
            failure: None,
        }))
    }

    /// When the first certificate of the chain in force expires, in Unix seconds; it follows
    /// the files.
    pub(super) fn expires(&self) -> Arc<AtomicI64> {
        self.expires.clone()
    }

    /// The TLS settings for a shard.
    pub(super) fn settings(&self) -> TlsSettings {
        TlsSettings {
            is_required: self.tls.mode == TlsMode::Required,
            asks_certificate: !self.tls.client_ca.is_empty(),
            config: self.config.clone(),
        }
    }

    /// Watches the files on a thread, which runs `prepare` first, until the returned sender is
    /// dropped.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn watch(
        self,
        prepare: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Sender<()>> {
        let (stop_in, stop) = bounded(0);
        thread::Builder::new()
            .name("certificate".to_owned())
            .spawn(move || {
                prepare();
                self.run(&stop);
            })?;
        Ok(stop_in)
    }

    fn look(&mut self) {
        // Taken before the files are read, so that a change in between is seen the next time.
        let marks = marks(&self.tls);
        if marks == self.seen && self.failure.is_none() {
            return;
        }
        self.seen = marks;
        match load(&self.tls) {
            Ok(Loaded {
                config,
                expires,
                outdated,
            }) => {
                self.config.store(Arc::new(config));
                self.expires.store(expires, Relaxed);
                self.failure = None;
                tracing::info!("certificate reloaded: new connections use it");
                for fault in outdated {
                    tracing::warn!("{fault}");
                }
            }
            Err(error) => {
                if self.failure.as_ref() != Some(&error) {
                    tracing::warn!(
                        "keeping the current certificate: {error}; trying again every second"
                    );
                }
                self.failure = Some(error);
            }
        }
    }

    fn run(mut self, stop: &Receiver<()>) {
        while stop.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            self.look();
        }
    }
}
