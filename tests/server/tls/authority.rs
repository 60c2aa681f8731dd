//! A certificate authority of a test's own: files for the server, settings for its clients.

use crate::harness::Server;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

pub struct Authority {
    directory: tempfile::TempDir,
    pub certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM and in DER.
pub struct Pair {
    pub certificate_pem: String,
    pub key_pem: String,
    pub certificate: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

/// What a client does otherwise than usual.
#[derive(Default)]
pub struct Habit {
    pub version: Option<&'static SupportedProtocolVersion>,
    pub alpn: Vec<&'static str>,
    pub identity: Option<Pair>,
}

impl Authority {
    /// One whose `server.pem` and `server.key` are there for 127.0.0.1, and its own `ca.pem`.
    pub fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        let own = params.self_signed(&key).unwrap();
        let authority = Authority {
            directory: tempfile::tempdir().unwrap(),
            certificate: own.der().clone(),
            issuer: Issuer::new(params, key),
        };
        authority.write("ca.pem", &own.pem());
        authority.put(&authority.issue("the server"));
        authority
    }

    /// A certificate for 127.0.0.1 and this name.
    pub fn issue(&self, common_name: &str) -> Pair {
        self.issue_within(common_name, 1975, 4000)
    }

    /// The same, valid from the begin of a year to that of another.
    pub fn issue_within(&self, common_name: &str, from: i32, until: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// Makes it the server's.
    pub fn put(&self, pair: &Pair) {
        self.write("server.pem", &pair.certificate_pem);
        self.write("server.key", &pair.key_pem);
    }

    /// Replaces a file as a whole, as those do who renew certificates.
    pub fn write(&self, name: &str, text: &str) {
        let (path, new) = (self.path(name), self.path("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `tls.certificate` and `tls.key`.
    pub fn settings(&self, mode: &str) -> Vec<String> {
        vec![
            format!("tls.mode={mode}"),
            format!("tls.certificate={}", self.path("server.pem").display()),
            format!("tls.key={}", self.path("server.key").display()),
        ]
    }

    /// `tls.client_ca`: clients must present a certificate of this authority's.
    pub fn client_ca(&self) -> String {
        format!("tls.client_ca={}", self.path("ca.pem").display())
    }

    /// A server that speaks TLS only, and is asked in TLS.
    pub fn server(&self, more: &[&str]) -> Server {
        let mut settings = self.settings("required");
        settings.extend(more.iter().map(|&one| one.to_owned()));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Server::start(&settings).secured(&self.client())
    }

    pub fn client(&self) -> Arc<ClientConfig> {
        self.client_with(Habit::default())
    }

    pub fn client_with(&self, habit: Habit) -> Arc<ClientConfig> {
        let versions = habit.version.map_or(VERSIONS.to_vec(), |one| vec![one]);
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match habit.identity {
            None => builder.with_no_client_auth(),
            Some(Pair {
                certificate, key, ..
            }) => builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
        };
        config.alpn_protocols = habit
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }
}
