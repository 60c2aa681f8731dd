//! Opens a connection: resolves the name, connects the socket, prepares TLS, writes the SYN.

use super::socket::Socket;
use super::stream::Stream;
use crate::client::address::Address;
use crate::client::builder::Options;
use crate::client::clock;
use crate::client::error::Error;
use crate::client::link::Link;
use crate::client::tls::Tls;
use rustls::ClientConfig;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// A new connection, with its SYN written.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) peer: SocketAddr,
    pub(super) link: Link,
}

/// Connects to `address`, with TLS if it is `secure`.
///
/// # Errors
/// `Invalid`, `Tls`, `Connect`.
pub(super) async fn open(options: &Options, address: &Address) -> Result<Opened, Error> {
    let settings = Arc::new(options.settings()?);
    let unreachable = |source| Error::Connect {
        address: address.to_string(),
        source,
    };
    let seq = getrandom::u32().map_err(|error| unreachable(io::Error::other(error)))?;
    let tls = match address.secure {
        true => Some(config(options.tls.clone().unwrap_or_default()).await?),
        false => None,
    };
    let (socket, peer) = connect(options, address).await.map_err(unreachable)?;
    let stream = match tls {
        None => Stream::plain(socket),
        Some(config) => Stream::secure(socket, config, &address.host).map_err(unreachable)?,
    };
    let link = Link::new(settings, &options.hello(), seq, clock::now());
    Ok(Opened { stream, peer, link })
}

/// Reads the files, on a thread that may block.
async fn config(tls: Tls) -> Result<Arc<ClientConfig>, Error> {
    let read = tokio::task::spawn_blocking(move || tls.config()).await;
    read.unwrap_or_else(|_| {
        Err(Error::tls(
            "TLS: the runtime is shutting down; connect again",
        ))
    })
}

async fn connect(options: &Options, address: &Address) -> io::Result<(Socket, SocketAddr)> {
    #[cfg(feature = "sim")]
    if let Some(network) = &options.network {
        let dialing = network.0.dial(&address.to_string());
        let wire = timeout(options.connect_timeout, dialing).await;
        let wire = wire.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))?;
        return Ok((Socket::Wire(wire), SocketAddr::from(([127, 0, 0, 1], 1))));
    }
    let (socket, peer) = dial(address, options.connect_timeout).await?;
    Ok((Socket::Tcp(socket), peer))
}

/// Connects to the first of the name's addresses that accepts, or returns the last failure.
async fn dial(address: &Address, within: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    let resolved = lookup_host((address.host.as_str(), address.port)).await;
    // NotFound marks an error of name resolution rather than of the connection: see
    // `Error::Connect`.
    let peers = resolved
        .map_err(|error| io::Error::new(ErrorKind::NotFound, format!("no such host: {error}")))?;
    let deadline = clock::now() + within;
    for peer in peers {
        let rest = deadline - clock::now();
        match timeout(rest, TcpStream::connect(peer)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                return Ok((socket, peer));
            }
            Ok(Err(error)) => failure = error,
            Err(_) => return Err(ErrorKind::TimedOut.into()),
        }
    }
    Err(failure)
}
