//! One connection of the generator: socket, speaker, requests in flight, bytes both ways.
//!
//! Nothing is allocated per message: requests are encoded into one buffer, which one write
//! empties; received bytes are parsed in the thread's receive buffer, and only a partial
//! message is kept. A write that fails is not reported here: what the server said before
//! it went is still to be read, and reading ends with the same fault.

use super::fault::Fault;
use super::flight::Flight;
use super::speaker::{Speaker, Taken};
use crate::base::clock::Instant;
use crate::proto::reassembly::Reassembly;
use mio::event::Event;
use mio::net::TcpStream;
use std::io::{self, Read, Write};

pub struct Connection<S> {
    pub stream: TcpStream,
    speaker: S,
    flight: Flight,
    input: Reassembly,
    output: Vec<u8>,
    /// Bytes of `output` already written.
    written: usize,
    /// Requests encoded since the last flush.
    fresh: usize,
    connected: bool,
    /// The socket takes no more until it says so.
    blocked: bool,
}

impl<S: Speaker> Connection<S> {
    /// `output` holds what the speaker says first.
    pub fn new(stream: TcpStream, speaker: S, output: Vec<u8>) -> Connection<S> {
        Connection {
            stream,
            speaker,
            flight: Flight::default(),
            input: Reassembly::default(),
            output,
            written: 0,
            fresh: 0,
            connected: false,
            blocked: true,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.connected && self.speaker.is_ready()
    }

    /// Bytes that wait for the socket.
    pub fn backlog_bytes(&self) -> usize {
        self.output.len() - self.written
    }

    /// Encodes one request, measured from `since`.
    #[inline]
    pub fn request(&mut self, since: Instant) {
        let id = self.flight.push(since);
        self.speaker.request(id, &mut self.output);
        self.fresh += 1;
    }

    /// The times that the requests of the next flush are measured from.
    pub fn fresh(&self) -> impl Iterator<Item = Instant> + '_ {
        self.flight.latest(self.fresh)
    }

    /// Acts on what epoll reported; `answered` gets, for each answer, the time its request
    /// is measured from and the time it was received. A flush is due afterwards.
    #[inline]
    pub fn handle(
        &mut self,
        event: &Event,
        scratch: &mut [u8],
        answered: impl FnMut(Instant, Instant),
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
            self.receive(ending, scratch, answered)?;
        }
        Ok(())
    }

    /// Whether the connection is there.
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
        mut answered: impl FnMut(Instant, Instant),
    ) -> Result<(), Fault> {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(Fault::Eof),
                Ok(count) => {
                    self.parse(&scratch[..count], Instant::now(), &mut answered)?;
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

    #[inline]
    fn parse(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        answered: &mut impl FnMut(Instant, Instant),
    ) -> Result<(), Fault> {
        loop {
            let view = self.input.view(bytes);
            match self.speaker.take(view, now, &mut self.output)? {
                Taken::Answer { used, id } => {
                    self.input.consume(used, &mut bytes);
                    answered(self.flight.take(id)?, now);
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

    /// Writes what is to be written, as far as the socket takes it.
    #[inline]
    pub fn flush(&mut self) {
        self.fresh = 0;
        while !self.blocked && self.written < self.output.len() {
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

    /// Says farewell; nothing is waited for.
    pub fn close(&mut self) {
        self.speaker.close(&mut self.output);
        self.flush();
    }
}
