//! Reports the server's state to the service manager (sd_notify(3)): to systemd, if it started
//! us with Type=notify, or to any other that speaks its protocol.
//!
//! NOTIFY_SOCKET is a path, or with `@` before it a name in Linux's abstract namespace
//! (unix(7)), as containers use it.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The longest wait for a manager that does not read.
const SEND_MAX: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
pub(super) enum State {
    Ready,
    Stopping,
}

/// Reports a state to the service manager, if there is one.
pub(super) fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(
            "the service manager could not be notified at NOTIFY_SOCKET={}: {error}",
            socket.display()
        );
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let text = match state {
        State::Ready => "READY=1\n",
        State::Stopping => "STOPPING=1\n",
    };
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(SEND_MAX))?;
    datagram.connect_addr(&address)?;
    datagram.send(text.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_notified_by_path_or_abstract_name_in_bounded_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        // Unique, as the directory is.
        let name = format!("@{}", path.display());
        let of_name = SocketAddr::from_abstract_name(&name[1..]).expect("a name");
        let rows = [
            (path.as_os_str(), UnixDatagram::bind(&path)),
            (OsStr::new(&name), UnixDatagram::bind_addr(&of_name)),
        ];
        for (socket, manager) in rows {
            let manager = manager.expect("bound");
            let mut heard = [0; 64];
            for (state, text) in [
                (State::Ready, "READY=1\n"),
                (State::Stopping, "STOPPING=1\n"),
            ] {
                send(socket, state).expect("sent");
                let length = manager.recv(&mut heard).expect("heard");
                assert_eq!(&heard[..length], text.as_bytes());
            }
            // It no longer reads, so its queue fills up.
            let refused = (0..100_000).find_map(|_| send(socket, State::Ready).err());
            let kind = refused.expect("full").kind();
            assert_eq!(kind, io::ErrorKind::WouldBlock);
        }
        assert!(send(OsStr::new("/no/such"), State::Ready).is_err());
    }
}
