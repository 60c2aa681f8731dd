//! One connection of the generator: socket, speaker, bytes both ways.
//!
//! Nothing is allocated per message: messages are encoded into one buffer, which one write empties;
//! received bytes are parsed in the thread's receive buffer, and only a partial message is kept. A
//! failed write is not reported: what the server sent before it ended is still to be read, and
//! reading ends with the same fault.

use super::fault::Fault;
use super::speaker::{Speaker, Taken};
use crate::base::clock::Instant;
use crate::proto::reassembly::Reassembly;
use mio::event::Event;
use mio::net::TcpStream;
use rustls::ClientConnection;
use std::io::{self, Read, Write};

pub struct Connection<S> {
    pub stream: TcpStream,
    /// TLS, if used, between the socket and the buffers.
    tls: Option<Box<ClientConnection>>,
    speaker: S,
    input: Reassembly,
    output: Vec<u8>,
    /// Bytes of `output` already written.
    written: usize,
    connected: bool,
    /// Whether the socket is full, until epoll reports room.
    blocked: bool,
}

impl<S: Speaker> Connection<S> {
    /// `output` holds the speaker's first bytes.
    pub fn new(
        stream: TcpStream,
        tls: Option<Box<ClientConnection>>,
        speaker: S,
        output: Vec<u8>,
    ) -> Connection<S> {
        Connection {
            stream,
            tls,
            speaker,
            input: Reassembly::default(),
            output,
            written: 0,
            connected: false,
            blocked: true,
        }
    }

    /// Whether the load may begin. TLS has to be ready as well: a bare echo's speaker is ready at
    /// once, but a handshake must not fall into the measured time.
    pub fn is_ready(&self) -> bool {
        self.connected && self.speaker.is_ready() && !self.is_handshaking()
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// How many bytes wait for the socket.
    pub fn backlog_bytes(&self) -> usize {
        self.output.len() - self.written
    }

    pub fn speaker(&self) -> &S {
        &self.speaker
    }

    /// The speaker, and the buffer that the next flush sends.
    #[inline]
    pub fn say(&mut self) -> (&mut S, &mut Vec<u8>) {
        (&mut self.speaker, &mut self.output)
    }

    /// Acts on what epoll reported; calls `taken` for each message the run waits for, with its mark
    /// and the time it was received. A flush is due afterwards.
    #[inline]
    pub fn handle(
        &mut self,
        event: &Event,
        scratch: &mut [u8],
        taken: impl FnMut(S::Mark, Instant) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.connected && !self.connect()? {
            return Ok(());
        }
        if event.is_writable() {
            self.blocked = false;
        }
        // Edge-triggered: a read that does not fill the buffer has emptied the socket, but
        // the end of the stream behind it is announced only once.
        let ending = event.is_read_closed() || event.is_error();
        if event.is_readable() || ending {
            self.receive(ending, scratch, taken)?;
        }
        Ok(())
    }

    /// Whether the connection is established.
    #[cold]
    fn connect(&mut self) -> Result<bool, Fault> {
        if let Some(error) = self.stream.take_error().map_err(Fault::connect)? {
            return Err(Fault::connect(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(Fault::connect(error)),
        }
        self.stream.set_nodelay(true).map_err(Fault::connect)?;
        self.connected = true;
        Ok(true)
    }

    fn receive(
        &mut self,
        ending: bool,
        scratch: &mut [u8],
        mut taken: impl FnMut(S::Mark, Instant) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(mut tls) = self.tls.take() {
            let result = self.receive_records(&mut tls, scratch, taken);
            self.tls = Some(tls);
            return result;
        }
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(Fault::Eof),
                Ok(count) => {
                    self.parse(&scratch[..count], Instant::now(), &mut taken)?;
                    if count < scratch.len() && !ending {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Broken(error)),
            }
        }
    }

    /// The same with TLS, until the socket is empty.
    fn receive_records(
        &mut self,
        tls: &mut ClientConnection,
        scratch: &mut [u8],
        mut taken: impl FnMut(S::Mark, Instant) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            match tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(Fault::Eof),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::Broken(error)),
            }
            let opened = tls.process_new_packets();
            let opened = opened.map_err(|error| Fault::Broken(io::Error::other(error)))?;
            let mut left = opened.plaintext_bytes_to_read();
            while left > 0 {
                let count = tls.reader().read(scratch).map_err(Fault::Broken)?;
                left = left.saturating_sub(count);
                self.parse(&scratch[..count], Instant::now(), &mut taken)?;
            }
        }
    }

    #[inline]
    fn parse(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        taken: &mut impl FnMut(S::Mark, Instant) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            let view = self.input.view(bytes);
            match self.speaker.take(view, now, &mut self.output)? {
                Taken::Answer { used, mark } => {
                    self.input.consume(used, &mut bytes);
                    taken(mark, now)?;
                }
                Taken::Other { used } => self.input.consume(used, &mut bytes),
                Taken::Incomplete { need } => {
                    if !self.input.fill(need, &mut bytes) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Writes pending output, as far as the socket takes it.
    #[inline]
    pub fn flush(&mut self) {
        if self.tls.is_some() {
            self.seal();
        }
        while self.tls.is_none() && !self.blocked && self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A broken socket is blocked for good; see the head of this file.
                Err(_) => self.blocked = true,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        } else if self.written > self.output.len() / 2 {
            self.output.drain(..self.written);
            self.written = 0;
        }
    }

    /// Encrypts pending output, and writes records as far as the socket takes them.
    fn seal(&mut self) {
        let Some(tls) = &mut self.tls else {
            return;
        };
        loop {
            // TLS accepts only a bounded number of bytes ahead of the socket.
            let sealed = tls.writer().write(&self.output[self.written..]);
            let sealed = sealed.unwrap_or_default();
            self.written += sealed;
            while !self.blocked && tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => self.blocked = true,
                }
            }
            if self.blocked || sealed == 0 {
                return;
            }
        }
    }

    /// Sends the protocol's farewell without waiting for an answer.
    pub fn close(&mut self) {
        self.speaker.close(&mut self.output);
        self.flush();
    }
}
