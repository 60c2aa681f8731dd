//! The loop under every call: sends, receives, keeps the deadlines and connects again, until
//! what the call waits for has come.

use super::Client;
use crate::base::clock::Instant;
use crate::client::conversation::Conversation;
use crate::client::error::Error;
use crate::client::registry::Change;
use crate::client::request::Response;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// By when a call must be done, and how long that was when it began.
pub(super) struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    pub(super) fn within(timeout: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + timeout,
            after: timeout,
        }
    }

    pub(super) const NEVER: Deadline = Deadline {
        at: Instant::NEVER,
        after: Duration::MAX,
    };

    fn timeout(&self, what: &'static str) -> Error {
        let after = self.after;
        Error::Timeout { what, after }
    }
}

impl Client {
    // ---- what calls are made of ----

    /// What has come since the last call is heard first: who was told to leave must not go
    /// on talking, and what was never sent can be asked again elsewhere.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.check()?;
        self.conversation.resume(Instant::now());
        if !self.conversation.ledger.inbox.is_full() {
            self.read_in(Instant::now() + Duration::from_secs(1))?;
        }
        self.conversation.acknowledge(true);
        self.check()
    }

    /// The handshake of the first connection.
    pub(super) fn stand_first(&mut self) -> Result<(), Error> {
        let deadline = Deadline::within(self.builder.connect_timeout);
        self.wait("the handshake", &deadline, |conversation| {
            conversation.can_answer().then_some(())
        })
    }

    /// Waits until there is a connection that takes operations.
    pub(super) fn stand(&mut self, what: &'static str, deadline: &Deadline) -> Result<(), Error> {
        self.stand_for(what, deadline, Conversation::is_open)
    }

    /// Waits for a connection that is good enough; what kept it away is the better error.
    pub(super) fn stand_for(
        &mut self,
        what: &'static str,
        deadline: &Deadline,
        is_ready: impl Fn(&Conversation) -> bool,
    ) -> Result<(), Error> {
        if is_ready(&self.conversation) {
            return Ok(());
        }
        let stands = self.wait(what, deadline, |conversation| {
            is_ready(conversation).then_some(())
        });
        match stands {
            Err(Error::Timeout { .. }) if self.dial_failure.is_some() => {
                Err(self.dial_failure.take().unwrap_or(deadline.timeout(what)))
            }
            other => other,
        }
    }

    /// Sends an operation or request and waits for its answer.
    pub(super) fn ask(
        &mut self,
        what: &'static str,
        deadline: &Deadline,
        kind: MessageType,
        envelope: Envelope<'_>,
        change: Change,
    ) -> Result<Response, Error> {
        let id = self.conversation.ask(kind, envelope, change)?;
        let answer = self.wait(what, deadline, |conversation| conversation.take_answer(id));
        if answer.is_err() {
            self.conversation.ledger.forget(id);
        }
        answer?
    }

    /// Goes on until `take` has found what it looks for.
    pub(super) fn wait<T>(
        &mut self,
        what: &'static str,
        deadline: &Deadline,
        mut take: impl FnMut(&mut Conversation) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            if let Some(found) = take(&mut self.conversation) {
                // An answer of this side's own may be due, the handshake's for one.
                let _ = self.write_out();
                return Ok(found);
            }
            if let Err(error) = self.turn(what, deadline) {
                // What came behind the answer, the end included, is the next call's.
                return take(&mut self.conversation).ok_or(error);
            }
        }
    }

    /// One step: sends, then waits for bytes, room or a deadline, and handles what it was.
    pub(super) fn turn(&mut self, what: &'static str, deadline: &Deadline) -> Result<(), Error> {
        if let Some(retry_at) = self.conversation.retry_at() {
            return self.redial(retry_at, what, deadline);
        }
        if Instant::now() >= self.conversation.timeout() {
            self.conversation.handle_timeout(Instant::now());
            return self.check();
        }
        self.conversation.acknowledge(true);
        let unsent = self.conversation.unsent().len();
        self.write_out()?;
        self.check()?;
        if self.conversation.unsent().len() < unsent {
            return Ok(()); // room to send may be what is waited for
        }
        let now = Instant::now();
        if now >= deadline.at {
            return Err(deadline.timeout(what));
        }
        let inbox = &self.conversation.ledger.inbox;
        if inbox.is_full() {
            let bytes = inbox.bytes();
            return Err(Error::InboxFull { bytes });
        }
        let until = deadline.at.min(self.conversation.timeout());
        if self.poll(until, now)? {
            self.read_in(deadline.at)?;
        }
        Ok(())
    }

    // ---- connecting again ----

    /// Without a connection: waits until the next attempt is due, or makes it.
    fn redial(
        &mut self,
        retry_at: Instant,
        what: &'static str,
        deadline: &Deadline,
    ) -> Result<(), Error> {
        self.hang_up();
        let now = Instant::now();
        if now < retry_at {
            if now >= deadline.at {
                return Err(deadline.timeout(what));
            }
            std::thread::sleep(retry_at.min(deadline.at) - now);
            return Ok(());
        }
        let Some(schedule) = self.conversation.schedule() else {
            return self.check();
        };
        match self.builder.open(schedule.address()) {
            Ok((stream, peer, link)) => {
                (self.stream, self.peer) = (Some(stream), peer);
                self.dial_failure = None;
                self.conversation.connect(link, Instant::now());
            }
            Err(error) => {
                self.conversation.connect_failed(Instant::now());
                if self.conversation.retry_at().is_none() {
                    return Err(error);
                }
                self.dial_failure = Some(error);
            }
        }
        Ok(())
    }

    /// Lets go of the socket, with the answer to the server's CLOSE if that is due. Nothing
    /// else: a CLOSE of this side's own would end the session too.
    pub(super) fn hang_up(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        if self.conversation.link().is_left() {
            let _ = stream.write_all(self.conversation.unsent());
        }
        stream.finish();
    }

    // ---- bytes ----

    /// Waits until there is something to read (true), room to send, or `until` has come.
    fn poll(&mut self, until: Instant, now: Instant) -> Result<bool, Error> {
        let Some(stream) = &self.stream else {
            return Ok(false);
        };
        if stream.has_pending() {
            return Ok(true);
        }
        let mut wanted = PollFlags::IN;
        if !self.conversation.unsent().is_empty() || stream.has_unsent() {
            wanted |= PollFlags::OUT;
        }
        let timeout = Timespec::try_from(until - now).ok();
        let mut polled = [PollFd::new(stream, wanted)];
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) => Ok(polled[0].revents().intersects(!PollFlags::OUT)),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => {
                self.lose("waiting for the server failed", errno.into())?;
                Ok(false)
            }
        }
    }

    /// Reads all there is, until `deadline` at the latest, or until the inbox is full.
    pub(super) fn read_in(&mut self, deadline: Instant) -> Result<(), Error> {
        while !self.conversation.link().is_ended() {
            let Some(stream) = &mut self.stream else {
                return Ok(());
            };
            match stream.read(&mut self.buffer) {
                Ok(0) => {
                    let source = ErrorKind::UnexpectedEof.into();
                    return self.lose("the server ended the connection", source);
                }
                Ok(count) => {
                    let now = Instant::now();
                    self.conversation.receive(&self.buffer[..count], now);
                    let is_full = self.conversation.ledger.inbox.is_full();
                    // A short read has emptied the socket, unless records are read.
                    let is_empty = count < self.buffer.len() && stream.is_plain();
                    if is_empty || now >= deadline || is_full {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lose("the connection broke", error),
            }
        }
        Ok(())
    }

    /// Sends as much as there is room for.
    pub(super) fn write_out(&mut self) -> Result<(), Error> {
        while let Some(stream) = &mut self.stream {
            let unsent = self.conversation.unsent();
            if unsent.is_empty() && !stream.has_unsent() {
                return Ok(());
            }
            let written = match unsent.is_empty() {
                true => stream.flush().map(|()| 0),
                false => stream.write(unsent),
            };
            match written {
                // Under TLS all is taken, and what has no room in the socket waits.
                Ok(0) => return Ok(()),
                Ok(count) => self.conversation.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Who closed the other end may have said why before.
                    let _ = self.read_in(Instant::now());
                    self.check()?;
                    return self.lose("the connection broke", error);
                }
            }
        }
        Ok(())
    }

    /// Err once there will be no connection any more; this side's last words have been sent.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let Some(error) = self.conversation.ending() else {
            return Ok(());
        };
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.write_all(self.conversation.unsent());
            stream.finish();
        }
        Err(error)
    }

    /// The connection is gone: an error, unless another will be made.
    fn lose(&mut self, what: &'static str, source: io::Error) -> Result<(), Error> {
        self.conversation.lose(Instant::now());
        if self.conversation.retry_at().is_some() {
            return Ok(());
        }
        Err(Error::of_stream(what, source))
    }
}
