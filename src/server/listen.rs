//! Listeners: one SO_REUSEPORT socket per shard on one address.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Binds `count` listeners to `address`; port 0 picks a port, the same for all.
///
/// # Errors
/// The address is not this host's, forbidden, or taken.
pub(super) fn bind(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    // Alone first: SO_REUSEPORT would let a second server of the same user share the port
    // in silence and take half of the connections.
    let alone = socket(address, false)?;
    let address = local(&alone)?;
    drop(alone);
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let listeners = (0..count)
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(backlog)?;
            Ok(TcpListener::from(socket))
        })
        .collect::<io::Result<Vec<_>>>()?;
    Ok((address, listeners))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it: no system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("not an IP address"))
}
