//! The connection's bytes: a non-blocking socket, plain or with TLS.
//!
//! Reading and writing return `WouldBlock`; [`Stream::ready`] waits. With TLS, both directions
//! have a buffer between the socket and the caller, so the socket's readiness alone is not
//! enough:
//!
//! ```text
//!   write ──► rustls ── wants_write ──► socket     what was taken may not have gone yet
//!   read  ◄── rustls ◄── pending ────── socket     what has come may not have been read yet
//! ```
//!
//! The handshake happens along the way: bytes written before it ends wait in rustls.

use super::socket::{Socket, Trust};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use tokio::io::Interest;

/// How many reads discard pending input before a connection ends at once.
const UNREAD_READS_MAX: usize = 64;

pub(super) struct Stream {
    socket: Socket,
    tls: Option<Box<Tls>>,
}

struct Tls {
    connection: ClientConnection,
    /// Decrypted bytes that are not yet read.
    pending: usize,
}

impl Stream {
    pub(super) fn plain(socket: Socket) -> Stream {
        Stream { socket, tls: None }
    }

    /// With TLS, to a server with a certificate for `host`.
    ///
    /// # Errors
    /// If `host` is not a name that a certificate could be for.
    pub(super) fn secure(
        socket: Socket,
        config: Arc<ClientConfig>,
        host: &str,
    ) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let tls = Tls {
            connection,
            pending: 0,
        };
        Ok(Stream {
            socket,
            tls: Some(Box::new(tls)),
        })
    }

    /// Waits until the socket is ready for one of these.
    pub(super) async fn ready(&self, interest: Interest) -> io::Result<()> {
        self.socket.ready(interest).await
    }

    /// Whether there is something to read, whatever the socket says.
    pub(super) fn has_pending(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.pending > 0)
    }

    /// Whether something taken by `write` waits for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.connection.wants_write())
    }

    /// Sends what `write` has taken, as far as there is room.
    pub(super) fn flush_out(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        while tls.connection.wants_write() {
            match tls
                .connection
                .write_tls(&mut Trying(&self.socket, Trust::Runtime))
            {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what the kernel has room for and ends the connection, if there is no runtime to wait
    /// for more.
    pub(super) fn end_now(&mut self, bytes: &[u8], buffer: &mut [u8]) {
        let _ = self.write_now(bytes);
        // Unread input would turn the end into a reset, and written bytes would be lost.
        for _ in 0..UNREAD_READS_MAX {
            match self.socket.read_now(buffer) {
                Ok(1..) => {}
                _ => break,
            }
        }
        self.socket.finish();
    }

    fn write_now(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return Direct(&self.socket).write_all(bytes);
        };
        while !bytes.is_empty() && !tls.connection.is_handshaking() {
            let taken = tls.connection.writer().write(bytes)?;
            while tls.connection.wants_write() {
                tls.connection.write_tls(&mut Direct(&self.socket))?;
            }
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Nothing more will be written: sends everything accepted before.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
        }
        let _ = self.flush_out();
        self.socket.finish();
    }

    /// Reads what there is; `WouldBlock` if there is nothing.
    pub(super) fn read(&mut self, buffer: &mut [u8], trust: Trust) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.read(buffer, trust);
        };
        loop {
            match tls.connection.reader().read(buffer) {
                Ok(count) => {
                    tls.pending = tls.pending.saturating_sub(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => tls.pending = 0,
                // The stream ended without close_notify: the protocol notices truncation.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            let shaking = tls.connection.is_handshaking();
            if tls.connection.read_tls(&mut Trying(&self.socket, trust))? == 0 && shaking {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    rustls::Error::General(
                        "the connection ended during the TLS handshake".to_owned(),
                    ),
                ));
            }
            match tls.connection.process_new_packets() {
                Ok(state) => tls.pending = state.plaintext_bytes_to_read(),
                Err(error) => {
                    // Sends the alert with the reason.
                    let _ = self.flush_out();
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
            if tls.connection.wants_write() && shaking {
                // The server's reason for ending, if it sent one, is still on its way here.
                let _ = self.flush_out();
                return Err(ErrorKind::Interrupted.into());
            }
        }
    }
}

/// The socket as `Read` and `Write`, for rustls.
struct Trying<'a>(&'a Socket, Trust);

impl Read for Trying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer, self.1)
    }
}

impl Write for Trying<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket without the runtime.
struct Direct<'a>(&'a Socket);

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_now(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.socket.write(bytes);
        };
        let taken = tls.connection.writer().write(bytes)?;
        self.flush_out()?;
        match taken {
            0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_out()
    }
}
