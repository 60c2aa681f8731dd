//! The peer to beat under TLS: the same echo of whole messages on tokio, by tokio-rustls.
//!
//! The runtime, the acceptor and the codec are `tokio_echo`'s; what differs is the stream. rustls with aws-lc-rs is what
//! ringmail speaks too, so the comparison is of what stands around it: how bytes get to the sealing and back.
//!
//! A full handshake costs both the same work: no sessions kept, one stateless ticket given out. A client that wants
//! neither throws the ticket away.
//!
//! `tokio::io::split`, because a TLS stream has no borrowed halves: its lock is never contended, and is taken once for a
//! read and once for a write, not for a message.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio_rustls::TlsAcceptor;

use crate::tokio_echo;

/// Serves with the chain and the key in these PEM files.
///
/// # Errors
/// A file that cannot be read or does not hold what it must; what `tokio_echo::serve` fails with.
pub fn serve(
    listener: TcpListener,
    certificate: &Path,
    key: &Path,
    ready: impl FnOnce(&TcpListener) -> io::Result<()>,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config(certificate, key)?));
    tokio_echo::serve_by(listener, ready, move |stream| {
        let handshake = acceptor.accept(stream);
        async move {
            // Who cannot agree on TLS loses the connection; rustls has sent the alert.
            if let Ok(stream) = handshake.await {
                let (read, write) = tokio::io::split(stream);
                tokio_echo::echo(read, write).await;
            }
        }
    })
}

fn config(certificate: &Path, key: &Path) -> io::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| unusable(certificate, &error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn unusable(path: &Path, error: &impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
