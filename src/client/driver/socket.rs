//! A connected socket, with or without the runtime's word on what it is ready for.

#[cfg(feature = "sim")]
use crate::client::network::Wire;
use socket2::SockRef;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A peer that has gone is an error rather than SIGPIPE. Where `send` has no flag for that, the
/// runtime has set it on the socket.
#[cfg(target_os = "linux")]
const NO_SIGNAL: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
const NO_SIGNAL: libc::c_int = 0;

/// How to find out whether there is something to read. A busy runtime polls its sockets only now
/// and then; asking the kernel costs another system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::driver) enum Trust {
    Runtime,
    Kernel,
}

pub(in crate::client::driver) enum Socket {
    Tcp(TcpStream),
    /// A test's, in memory.
    #[cfg(feature = "sim")]
    Wire(std::sync::Arc<dyn Wire>),
}

impl Socket {
    /// Waits until it is ready for one of these.
    pub(super) async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.ready(interest).await.map(|_| ()),
            #[cfg(feature = "sim")]
            Socket::Wire(wire) => {
                let (read, write) = (interest.is_readable(), interest.is_writable());
                std::future::poll_fn(|cx| wire.poll_ready(read, write, cx)).await;
                Ok(())
            }
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8], trust: Trust) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => match stream.try_read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && trust == Trust::Kernel => {
                    (&*SockRef::from(stream)).read(buffer)
                }
                other => other,
            },
            #[cfg(feature = "sim")]
            Socket::Wire(wire) => wire.read(buffer),
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            #[cfg(feature = "sim")]
            Socket::Wire(wire) => wire.write(bytes),
        }
    }

    /// Writes without the runtime. The socket is non-blocking, as the runtime made it.
    pub(super) fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => SockRef::from(stream).send_with_flags(bytes, NO_SIGNAL),
            #[cfg(feature = "sim")]
            Socket::Wire(wire) => wire.write(bytes),
        }
    }

    /// Reads without the runtime.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&*SockRef::from(stream)).read(buffer),
            #[cfg(feature = "sim")]
            Socket::Wire(wire) => wire.read(buffer),
        }
    }

    /// Nothing more will be written.
    pub(super) fn finish(&self) {
        match self {
            Socket::Tcp(stream) => {
                let _ = SockRef::from(stream).shutdown(Shutdown::Write);
            }
            #[cfg(feature = "sim")]
            Socket::Wire(wire) => wire.finish(),
        }
    }
}
