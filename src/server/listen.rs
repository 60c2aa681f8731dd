//! Listeners: one SO_REUSEPORT socket per shard on one address.

use crate::base::clock::Instant;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

/// How long to wait for an address in use: the kernel tears down the rings of a killed server, and
/// with them its listeners, a moment after the process has ended.
const TAKEN_MAX: Duration = Duration::from_secs(1);
/// The time between two attempts.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Binds `count` listeners to `address`; port 0 picks a port, the same for all.
///
/// # Errors
/// If the address is not one of this host, forbidden, or stays in use.
pub(super) fn bind(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    patiently(TAKEN_MAX, || bind_now(address, count, backlog))
}

/// Binds a single listener, for an address that is not the shards'.
///
/// # Errors
/// As [`bind`].
pub(super) fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
    patiently(TAKEN_MAX, || TcpListener::bind(address))
}

/// Retries while the address is in use, for at most `limit`.
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

/// The first listener listens before it shares its port, so that no other server can have it:
/// SO_REUSEPORT alone would silently admit a second server of the same user, which would take half
/// of the connections.
fn bind_now(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    let first = socket(address, false)?;
    first.listen(backlog)?;
    let address = local(&first)?;
    first.set_reuse_port(true)?;
    let others = (1..count).map(|_| {
        let socket = socket(address, true)?;
        socket.listen(backlog)?;
        Ok(socket)
    });
    let all = std::iter::once(Ok(first)).chain(others);
    let listeners = all.map(|socket| socket.map(TcpListener::from));
    Ok((address, listeners.collect::<io::Result<Vec<_>>>()?))
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
    use std::fs;
    use std::sync::{Barrier, mpsc};

    #[test]
    fn an_address_that_is_taken_is_tried_again_and_nothing_else_is() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = taken.local_addr().expect("an address");
        let (mut holder, mut tries) = (Some(taken), 0);
        // The holder releases it during the retries.
        let bound = patiently(Duration::MAX, || {
            tries += 1;
            if tries == 3 {
                holder = None;
            }
            bind_now(address, 2, 16)
        });
        let (found, listeners) = bound.expect("free at last");
        assert_eq!((found, listeners.len()), (address, 2));
        // More often if another connection uses the port in between.
        assert!(tries >= 3, "{tries}");
        // Not forever, and not for errors that do not pass.
        let again = || bind_now(address, 1, 16);
        let error = patiently(Duration::ZERO, again).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let nobodys = "192.0.2.1:1".parse().expect("an address");
        let error = patiently(Duration::MAX, || bind_now(nobodys, 1, 16)).expect_err("nobody's");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    }
    #[test]
    fn shards_and_the_admin_address_wait_until_the_address_is_released() {
        type Bind = fn(SocketAddr) -> io::Result<SocketAddr>;
        let shards: Bind = |address| Ok(bind(address, 2, 16)?.0);
        let alone: Bind = |address| bind_alone(address)?.local_addr();
        for bind in [shards, alone] {
            let taken = TcpListener::bind("127.0.7.3:0").expect("bound");
            let address = taken.local_addr().expect("an address");
            let (told, tries) = mpsc::channel();
            let waiting = thread::spawn(move || {
                told.send(rustix::thread::gettid()).expect("heard");
                bind(address)
            });
            // Released while the thread sleeps, hence between two attempts, since binding does not
            // sleep.
            let thread = tries.recv().expect("told").as_raw_pid();
            let state = format!("/proc/self/task/{thread}/stat");
            while fs::read_to_string(&state).is_ok_and(|text| !text.contains(") S ")) {
                thread::yield_now();
            }
            drop(taken);
            let bound = waiting.join().expect("no panic");
            assert_eq!(bound.expect("free in time"), address);
        }
    }

    /// As when several servers start at the same moment.
    #[test]
    fn of_many_servers_that_want_an_address_one_gets_it() {
        const RIVALS: usize = 4;
        // Used by this test alone: other tests bind to 127.0.0.1.
        let (free, _) = bind_now("127.0.7.1:0".parse().expect("an address"), 1, 16).expect("bound");
        let (start, mut had) = (Barrier::new(RIVALS), 0);
        let compete = || {
            start.wait();
            let bound = bind_now(free, 2, 16);
            start.wait();
            bound.is_ok()
        };
        for round in 0..200 {
            let owners = thread::scope(|scope| {
                let rivals = [(); RIVALS].map(|()| scope.spawn(compete));
                let owns = rivals.map(|rival| rival.join().expect("no panic"));
                owns.into_iter().filter(|owns| *owns).count()
            });
            assert!(owners <= 1, "round {round}: {owners} servers share a port");
            had += owners;
        }
        assert!(had > 0, "nobody ever had it");
    }
}
