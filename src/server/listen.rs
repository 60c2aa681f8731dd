//! Listeners: one SO_REUSEPORT socket per shard on one address.

use crate::base::clock::Instant;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

/// How long an address may stay taken: the kernel takes the rings of a killed server down,
/// and with them its listeners, a moment after the process is gone.
const TAKEN_MAX: Duration = Duration::from_secs(1);
/// Between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Binds `count` listeners to `address`; port 0 picks a port, the same for all.
///
/// # Errors
/// The address is not this host's, forbidden, or taken for longer than a moment.
pub(super) fn bind(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    patiently(TAKEN_MAX, || bind_now(address, count, backlog))
}

/// Binds one listener for an address that is no shard's.
///
/// # Errors
/// As [`bind`].
pub(super) fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
    patiently(TAKEN_MAX, || TcpListener::bind(address))
}

/// Does it again while the address is taken, for as long as `limit`.
fn patiently<T>(limit: Duration, mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + limit;
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(TRY_AGAIN);
            }
            done => return done,
        }
    }
}

fn bind_now(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_tried_again_and_nothing_else_is() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("an address");
        let (mut holder, mut tries) = (Some(taken), 0);
        // Whoever has it lets go while it is tried.
        let bound = patiently(Duration::MAX, || {
            tries += 1;
            if tries == 3 {
                holder = None;
            }
            bind_now(address, 2, 16)
        });
        let (found, listeners) = bound.expect("free at last");
        assert_eq!((found, listeners.len()), (address, 2));
        // More often if somebody's connection has the port in between.
        assert!(tries >= 3, "{tries}");
        // Not for ever, and not for what does not go by itself.
        let again = || bind_now(address, 1, 16);
        let error = patiently(Duration::ZERO, again).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let nobodys = "192.0.2.1:1".parse().expect("an address");
        let error = patiently(Duration::MAX, || bind_now(nobodys, 1, 16)).expect_err("nobody's");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }
}
