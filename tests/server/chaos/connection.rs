//! One connection of a client, as raw bytes: it says what broke instead of failing, for here
//! connections break all the time.

use crate::operation::{AUTH, AUTH_OK, CLOSE, DRAIN, ERROR, Got, PING, PONG, SESSION, SESSION_OK};
use crate::peer::control_frame;
use crate::stream::Stream;
use rustls::ClientConfig;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a step of connecting may take before it is tried anew.
const STEP: Duration = Duration::from_secs(30);
/// How long one read waits.
const READ: Duration = Duration::from_millis(2);

/// Why a connection is none, or is none any more.
/// (It is for people: `Off`'s words are in the record.)
#[derive(Debug)]
pub enum Broken {
    /// The end of the stream, a reset, nobody there.
    Off(#[expect(dead_code)] String),
    /// RST, or a fatal ERROR: its code.
    Refused(u16),
    /// What no server may say.
    Nonsense(String),
}

fn off(error: impl std::fmt::Display) -> Broken {
    Broken::Off(error.to_string())
}

/// How to connect.
#[derive(Clone)]
pub struct Dial {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
    pub checksum: bool,
    pub client_id: String,
    /// AUTH's method and credential.
    pub credential: Option<(u8, String)>,
}

/// A token of this principal's that lives so long, as AUTH takes it.
pub fn credential(principal: &str, seconds: u64) -> (u8, String) {
    let token = crate::auth::token(principal, &["chaos"], seconds);
    (crate::auth::JWT, token)
}

pub struct Connection {
    stream: Stream,
    received: Vec<u8>,
    used: usize,
    checksum: bool,
    /// DRAIN came before an answer to what connecting takes.
    pub is_draining: bool,
}

impl Connection {
    /// Connects, shakes hands and shows the credential.
    pub fn open(dial: &Dial) -> Result<Connection, Broken> {
        let tcp = TcpStream::connect_timeout(&dial.address, STEP).map_err(off)?;
        tcp.set_nodelay(true).map_err(off)?;
        // The first write completes the TLS handshake, and reads for that.
        tcp.set_read_timeout(Some(STEP)).map_err(off)?;
        tcp.set_write_timeout(Some(STEP)).map_err(off)?;
        let mut connection = Connection {
            stream: Stream::over(tcp, dial.tls.as_ref()),
            received: Vec::new(),
            used: 0,
            checksum: false,
            is_draining: false,
        };
        connection.shake(dial)?;
        let stream = &connection.stream;
        stream.set_read_timeout(Some(READ)).map_err(off)?;
        if let Some((method, credential)) = &dial.credential {
            let body = [&[*method], credential.as_bytes()].concat();
            connection.send(AUTH, &body)?;
            let got = connection.await_answer()?;
            if got.kind != AUTH_OK {
                return Err(Broken::Nonsense(format!("to AUTH: {got:?}")));
            }
        }
        Ok(connection)
    }

    fn shake(&mut self, dial: &Dial) -> Result<(), Broken> {
        const SEQ: u32 = 0xFFFF_FFFF;
        let features = u8::from(dial.checksum);
        let mut options = vec![3, 4, 0, 0, 0, features, 4];
        options.push(u8::try_from(dial.client_id.len()).unwrap());
        options.extend(dial.client_id.as_bytes());
        self.write(&control_frame(1, SEQ, &options))?;
        let header = self.take_within(13)?;
        let length = usize::from(u16::from_be_bytes([header[7], header[8]]));
        let payload = self.take_within(length)?;
        match (&header[..3], payload.get(..4)) {
            (b"MC\x02", Some([0, 0, 0, 0])) => {}
            (b"MC\x04", Some([high, low, ..])) => {
                return Err(Broken::Refused(u16::from_be_bytes([*high, *low])));
            }
            _ => return Err(Broken::Nonsense(format!("to SYN: {header:?} {payload:?}"))),
        }
        let theirs = u32::from_be_bytes(header[3..7].try_into().unwrap());
        let acknowledgement = theirs.wrapping_add(1).to_be_bytes();
        self.write(&control_frame(3, SEQ.wrapping_add(1), &acknowledgement))?;
        self.checksum = dial.checksum;
        Ok(())
    }

    /// SESSION's answer: the key, whether it was resumed, and the last PUBLISH id confirmed;
    /// or the code of an ERROR that is not fatal.
    #[expect(clippy::type_complexity)]
    pub fn session(
        &mut self,
        key: [u8; 16],
        counted: u32,
    ) -> Result<Result<([u8; 16], bool, u32), u16>, Broken> {
        self.send(SESSION, &[&key[..], &counted.to_be_bytes()].concat())?;
        let got = self.await_answer()?;
        match got.kind {
            SESSION_OK => {
                let key = got.body[..16].try_into().unwrap();
                Ok(Ok((key, got.body[16] == 1, got.u32(17))))
            }
            ERROR => Ok(Err(got.u16(0))),
            _ => Err(Broken::Nonsense(format!("to SESSION: {got:?}"))),
        }
    }

    /// The next message, which must come.
    fn await_answer(&mut self) -> Result<Got, Broken> {
        let end = Instant::now() + STEP;
        loop {
            match self.poll()? {
                Some(got) if got.kind == DRAIN => self.is_draining = true,
                Some(got) if got.kind == CLOSE => return Err(Broken::Refused(got.u16(0))),
                Some(got) => return Ok(got),
                None => {}
            }
            if Instant::now() > end {
                return Err(off("no answer in time"));
            }
        }
    }

    /// A message that is there or comes within a moment. PINGs are answered, and a fatal
    /// ERROR ends the connection.
    pub fn poll(&mut self) -> Result<Option<Got>, Broken> {
        loop {
            let Some(got) = self.parse()? else {
                if self.receive()? {
                    continue;
                }
                return Ok(None);
            };
            match got.kind {
                PING => self.send(PONG, &got.body)?,
                ERROR if got.body[6] == 1 => return Err(Broken::Refused(got.u16(0))),
                _ => return Ok(Some(got)),
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Got>, Broken> {
        let rest = &self.received[self.used..];
        let Some((header, rest)) = rest.split_first_chunk::<8>() else {
            return Ok(None);
        };
        if header[..3] != *b"MC\x01" {
            // The server may have given up while the ACK was on its way.
            if header[..3] == *b"MC\x04" && rest.len() >= 7 {
                return Err(Broken::Refused(u16::from_be_bytes([rest[5], rest[6]])));
            }
            return Err(Broken::Nonsense(format!("no message: {header:?}")));
        }
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        let Some(mut body) = rest.get(..length) else {
            return Ok(None);
        };
        if self.checksum {
            let (sum, whole) = (&body[length - 4..], 8 + length - 4);
            let whole = &self.received[self.used..][..whole];
            if crc32fast::hash(whole).to_be_bytes() != *sum {
                return Err(Broken::Nonsense("a wrong CRC".to_owned()));
            }
            body = &body[..length - 4];
        }
        let got = Got {
            kind: header[3],
            body: body.to_vec(),
        };
        self.used += 8 + length;
        if self.used > 1 << 16 || self.used == self.received.len() {
            self.received.drain(..self.used);
            self.used = 0;
        }
        Ok(Some(got))
    }

    /// Whether something came within a moment.
    fn receive(&mut self) -> Result<bool, Broken> {
        let mut chunk = [0; 65_536];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(off("the end of the stream")),
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(false),
                _ => Err(off(error)),
            },
        }
    }

    fn take_within(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        let end = Instant::now() + STEP;
        while self.received.len() < count {
            self.receive()?;
            if Instant::now() > end {
                return Err(off("no frame in time"));
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    pub fn send(&mut self, kind: u8, body: &[u8]) -> Result<(), Broken> {
        let bytes = self.framed(kind, body);
        self.write(&bytes)
    }

    pub fn framed(&self, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = body.len() + if self.checksum { 4 } else { 0 };
        let mut bytes = vec![b'M', b'C', 1, kind];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes.extend(body);
        if self.checksum {
            bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        }
        bytes
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).map_err(off)
    }

    /// Ends this side alone: FIN. What still comes is read as ever.
    pub fn shut(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends without a word: RST.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
}
