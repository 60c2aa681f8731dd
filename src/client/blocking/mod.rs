//! A client for one thread: every call waits for its answer.
//!
//! ```no_run
//! use ringmail::blocking::Client;
//!
//! let mut client = Client::connect("127.0.0.1:7411")?;
//! let response = client.request("$sys/echo", "hello")?;
//! assert_eq!(response.payload, b"hello");
//! println!("round trip {:?}", client.ping()?);
//! client.close()?;
//! # Ok::<(), ringmail::client::Error>(())
//! ```
//!
//! # Nothing runs between calls
//! There is no thread behind the client. While a call waits, it answers the server's PINGs
//! and watches the connection's own deadlines; between calls nobody does, and a server ends
//! a connection it has not heard from for its `heartbeat.timeout_ms` (90 s by default).
//! Whoever keeps an idle client calls [`Client::keep_alive`] at least once per
//! [`ServerInfo::heartbeat`]. There is no reconnecting yet: after an error that ends the
//! connection every call fails, and [`Client::connect`] makes a new one.
//!
//! The socket does not block; waiting is one `poll` for whatever comes first of bytes, room
//! to send and the nearest deadline, so that a server that writes while this side writes
//! cannot lock both up. At most one request is open at a time.

mod builder;
mod publish;
mod subscribe;

pub use builder::Builder;

use super::error::Error;
use super::link::{Arrival, Drain, Link, ServerInfo};
use super::request::{Request, Response};
use crate::base::clock::Instant;
use crate::base::limits::PING_BYTES_MAX;
use crate::proto::envelope::{Envelope, Headers};
use crate::proto::message::{Message, MessageType};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes taken from the socket at once.
const RECEIVE_BYTES: usize = 64 * 1024;
/// How long [`Client::close`] waits for the server's CLOSE at most.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a server. Dropped, it says CLOSE without waiting for the answer.
pub struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    link: Link,
    buffer: Box<[u8]>,
    request_timeout: Duration,
    request_id: u32,
    ping_id: u64,
}

impl Client {
    /// Connects with the defaults of [`Client::builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub fn connect(address: &str) -> Result<Client, Error> {
        Client::builder().connect(address)
    }

    /// Timeouts, name, heartbeat, sizes, checksum.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// What the server told about itself.
    pub fn server(&self) -> &ServerInfo {
        self.link.server()
    }

    /// The address connected to, after resolution.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Set once the server has said that it goes down: finish, and connect again as it asks.
    pub fn drain(&self) -> Option<&Drain> {
        self.link.drain()
    }

    // ---- calls ----

    /// Asks `service` and waits for its answer, for the builder's `request_timeout`.
    ///
    /// # Errors
    /// `Failed` if the answer is a failure, `Timeout`, and what ends the connection.
    pub fn request(&mut self, service: &str, payload: impl AsRef<[u8]>) -> Result<Response, Error> {
        self.request_with(&Request::new(service).payload(payload.as_ref()))
    }

    /// Asks with a codec, headers or a timeout of the request's own.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn request_with(&mut self, request: &Request<'_>) -> Result<Response, Error> {
        let block = request.check()?;
        let headers = Headers::check(&block).map_err(|refusal| Error::invalid(refusal.text))?;
        let id = self.next_request_id();
        let envelope = Envelope {
            id,
            flags: 0,
            codec: request.codec,
            name: request.service,
            headers,
            payload: request.payload,
        };
        let (bytes, bytes_max) = (envelope.encoded_len(), self.link.body_bytes_max());
        if bytes > bytes_max {
            return Err(Error::invalid(format!(
                "a message of {bytes} bytes; the server takes at most {bytes_max} \
                 (its limits.message_bytes_max)"
            )));
        }
        self.begin()?;
        self.link
            .send(&Message::Envelope(MessageType::Request, envelope));
        let timeout = request.timeout.unwrap_or(self.request_timeout);
        self.wait("the request", timeout, |incoming| incoming.answer_to(id))?
    }

    /// One round trip of a PING with 8 bytes, on this side's clock.
    ///
    /// # Errors
    /// `Timeout`, and what ends the connection.
    pub fn ping(&mut self) -> Result<Duration, Error> {
        self.ping_with(8, self.request_timeout)
    }

    /// One round trip of a PING with `bytes` bytes (0 to 64), waiting for `timeout`.
    ///
    /// With fewer than 8 bytes an answer that comes after its timeout cannot always be told
    /// from the next one's.
    ///
    /// # Errors
    /// As [`Client::ping`].
    pub fn ping_with(&mut self, bytes: usize, timeout: Duration) -> Result<Duration, Error> {
        if bytes > PING_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a PING carries at most {PING_BYTES_MAX} bytes, not {bytes}"
            )));
        }
        self.ping_id += 1;
        let mut payload = [0; PING_BYTES_MAX];
        // Little-endian: what changes from PING to PING comes first, however few bytes go.
        payload[..8].copy_from_slice(&self.ping_id.to_le_bytes());
        let payload = &payload[..bytes];
        self.begin()?;
        let started = Instant::now();
        self.link.send(&Message::Ping(payload));
        self.wait("the ping", timeout, |incoming| match *incoming {
            Arrival::Pong(bytes) if bytes == payload => Some(Ok(Instant::now() - started)),
            Arrival::Error { id: 0, code, text } => Some(Err(Error::Failed {
                code,
                text: text.to_owned(),
            })),
            _ => None,
        })?
    }

    /// Takes what the server has sent, answers its PINGs, and sends one if it is due. Does
    /// not wait for anything.
    ///
    /// # Errors
    /// What ended the connection.
    pub fn keep_alive(&mut self) -> Result<(), Error> {
        self.begin()?;
        let now = Instant::now();
        if now >= self.link.timeout() {
            self.link.handle_timeout(now);
        }
        self.write_out()?;
        self.check()
    }

    /// Says CLOSE and waits for the server's, 5 s at most.
    ///
    /// # Errors
    /// `Timeout` if the server does not answer, and what had ended the connection before.
    pub fn close(mut self) -> Result<(), Error> {
        self.begin()?;
        self.link.close();
        let timeout = CLOSE_TIMEOUT.min(self.request_timeout);
        match self.wait("the close", timeout, |_| None::<()>) {
            Err(_) if self.link.is_closed() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    // ---- the loop ----

    fn next_request_id(&mut self) -> u32 {
        self.request_id = self.request_id.checked_add(1).unwrap_or(1);
        self.request_id
    }

    /// What has come since the last call is heard first: who was told to leave must not go
    /// on talking, and what was never sent can be asked again elsewhere.
    fn begin(&mut self) -> Result<(), Error> {
        self.check()?;
        self.link.resume(Instant::now());
        self.read_in(Instant::now() + Duration::from_secs(1), &mut |_| {})?;
        self.write_out()?;
        self.check()
    }

    /// Sends, receives and keeps the deadlines until `take` has found its answer.
    fn wait<T>(
        &mut self,
        what: &'static str,
        timeout: Duration,
        mut take: impl FnMut(&Arrival<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + timeout;
        let mut answer = None;
        loop {
            self.write_out()?;
            self.check()?;
            let now = Instant::now();
            if now >= deadline {
                let after = timeout;
                return Err(Error::Timeout { what, after });
            }
            if self.poll(deadline.min(self.link.timeout()), now)? {
                let received = self.read_in(deadline, &mut |incoming| {
                    if answer.is_none() {
                        answer = take(&incoming);
                    }
                });
                if let Some(answer) = answer {
                    // What came behind the answer, the end included, is the next call's.
                    let _ = self.write_out();
                    return Ok(answer);
                }
                received?;
            } else if Instant::now() >= self.link.timeout() {
                self.link.handle_timeout(Instant::now());
            }
        }
    }

    /// Waits until there is something to read (true), room to send, or `until` has come.
    fn poll(&mut self, until: Instant, now: Instant) -> Result<bool, Error> {
        let mut wanted = PollFlags::IN;
        if !self.link.unsent().is_empty() {
            wanted |= PollFlags::OUT;
        }
        let timeout = Timespec::try_from(until - now).ok();
        let mut polled = [PollFd::new(&self.stream, wanted)];
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => Ok(polled[0].revents().intersects(!PollFlags::OUT)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(self.lose("waiting for the server failed", errno.into())),
        }
    }

    /// Reads all there is, until `deadline` at the latest.
    fn read_in(
        &mut self,
        deadline: Instant,
        deliver: &mut impl FnMut(Arrival<'_>),
    ) -> Result<(), Error> {
        while !self.link.is_ended() {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => {
                    let source = ErrorKind::UnexpectedEof.into();
                    return Err(self.lose("the server ended the connection", source));
                }
                Ok(count) => {
                    let now = Instant::now();
                    self.link.receive(&self.buffer[..count], now, deliver);
                    // A short read has emptied the socket.
                    if count < self.buffer.len() || now >= deadline {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lose("the connection broke", error)),
            }
        }
        Ok(())
    }

    /// Sends as much as there is room for.
    fn write_out(&mut self) -> Result<(), Error> {
        while !self.link.unsent().is_empty() {
            match self.stream.write(self.link.unsent()) {
                Ok(count) => self.link.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Who closed the other end may have said why before.
                    let _ = self.read_in(Instant::now(), &mut |_| {});
                    self.check()?;
                    return Err(self.lose("the connection broke", error));
                }
            }
        }
        Ok(())
    }

    /// Err once the connection has ended; this side's last words have been sent.
    fn check(&mut self) -> Result<(), Error> {
        let Some(error) = self.link.ending() else {
            return Ok(());
        };
        let _ = self.stream.write_all(self.link.unsent());
        self.link.advance(self.link.unsent().len());
        let _ = self.stream.shutdown(Shutdown::Write);
        Err(error)
    }

    fn lose(&mut self, what: &'static str, source: io::Error) -> Error {
        self.link.lose();
        Error::Io { what, source }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.link.is_ended() {
            self.link.close();
            let _ = self.write_out();
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer)
            .field("server", self.server())
            .field("is_ended", &self.link.is_ended())
            .finish_non_exhaustive()
    }
}
