//! Operations and what comes back of them, as bytes by hand from PROTOCOL.md §2: types, flags,
//! header keys, codes, an envelope under construction and a message that came.

use std::fmt;

pub const PING: u8 = 0x01;
pub const PONG: u8 = 0x02;
pub const CLOSE: u8 = 0x03;
pub const ERROR: u8 = 0x04;
pub const OK: u8 = 0x05;
pub const AUTH: u8 = 0x06;
pub const AUTH_OK: u8 = 0x07;
pub const DRAIN: u8 = 0x08;
pub const ACK: u8 = 0x09;
pub const SESSION: u8 = 0x0A;
pub const SESSION_OK: u8 = 0x0B;
pub const PUBLISH: u8 = 0x10;
pub const SUBSCRIBE: u8 = 0x11;
pub const UNSUBSCRIBE: u8 = 0x12;
pub const WILL: u8 = 0x13;
pub const REQUEST: u8 = 0x20;
pub const RESPONSE: u8 = 0x21;
pub const SERVE: u8 = 0x22;
pub const UNSERVE: u8 = 0x23;

pub const RETAIN: u8 = 1;
pub const HEADERS: u8 = 2;
pub const FAILED: u8 = 4;

pub const TRACEPARENT: u8 = 1;
pub const TIMEOUT_MS: u8 = 2;
pub const EXPIRES_MS: u8 = 3;
pub const GROUP: u8 = 4;
pub const SLOW_POLICY: u8 = 5;
pub const KEY: u8 = 6;
pub const SCHEMA: u8 = 7;
pub const TIMESTAMP_NS: u8 = 8;

/// The codes of PROTOCOL.md §3 that the tests speak of.
pub mod code {
    pub const AUTH_REQUIRED: u16 = 0x0101;
    pub const AUTH_FAILED: u16 = 0x0102;
    pub const AUTH_EXPIRED: u16 = 0x0103;
    pub const FORBIDDEN: u16 = 0x0104;
    pub const RATE_LIMITED: u16 = 0x0201;
    pub const TOO_LARGE: u16 = 0x0005;
    pub const TOO_MANY_CONNECTIONS: u16 = 0x0202;
    pub const TOO_MANY_SUBSCRIPTIONS: u16 = 0x0203;
    pub const SLOW_CONSUMER: u16 = 0x0204;
    pub const OVERLOADED: u16 = 0x0205;
    pub const TOO_MANY_REQUESTS: u16 = 0x0206;
    pub const UNAVAILABLE: u16 = 0x0207;
    pub const NO_SERVICE: u16 = 0x0301;
    pub const REQUEST_TIMEOUT: u16 = 0x0302;
    pub const SERVICE_GONE: u16 = 0x0303;
    pub const BAD_NAME: u16 = 0x0304;
    pub const SESSION_UNKNOWN: u16 = 0x0305;
    pub const SESSION_TAKEN: u16 = 0x0306;
    pub const NOT_SUBSCRIBED: u16 = 0x0307;
    pub const BAD_PAYLOAD: u16 = 0x0308;
}

/// An envelope under construction; `id` is filled in by the peer unless the test chooses it.
#[derive(Clone)]
pub struct Op {
    pub kind: u8,
    pub id: Option<u32>,
    flags: u8,
    codec: u8,
    pub name: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

pub fn op(kind: u8, name: impl AsRef<[u8]>) -> Op {
    Op {
        kind,
        id: None,
        flags: 0,
        codec: 0,
        name: name.as_ref().to_vec(),
        headers: Vec::new(),
        payload: Vec::new(),
    }
}

pub fn publish(topic: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Op {
    op(PUBLISH, topic).payload(payload)
}

pub fn subscribe(filter: impl AsRef<[u8]>) -> Op {
    op(SUBSCRIBE, filter)
}

pub fn request(service: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> Op {
    op(REQUEST, service).payload(payload)
}

impl Op {
    pub fn id(mut self, id: u32) -> Op {
        self.id = Some(id);
        self
    }

    pub fn codec(mut self, codec: u8) -> Op {
        self.codec = codec;
        self
    }

    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Op {
        self.payload = payload.as_ref().to_vec();
        self
    }

    pub fn flag(mut self, flag: u8) -> Op {
        self.flags |= flag;
        self
    }

    pub fn retain(self) -> Op {
        self.flag(RETAIN)
    }

    pub fn header(mut self, key: u8, value: impl AsRef<[u8]>) -> Op {
        let value = value.as_ref();
        self.headers.push(key);
        self.headers
            .extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        self.headers.extend(value);
        self.flag(HEADERS)
    }

    pub fn group(self, group: &str) -> Op {
        self.header(GROUP, group)
    }

    /// The envelope, as it stands behind the message's header.
    pub fn body(&self) -> Vec<u8> {
        let mut body = self.id.unwrap_or(0).to_be_bytes().to_vec();
        body.extend([self.flags, self.codec]);
        body.push(u8::try_from(self.name.len()).expect("a str8"));
        body.extend(&self.name);
        if self.flags & HEADERS != 0 {
            body.extend(u16::try_from(self.headers.len()).unwrap().to_be_bytes());
            body.extend(&self.headers);
        }
        body.extend(&self.payload);
        body
    }
}

/// A message that came: its type, and its payload without the CRC.
#[derive(Clone, PartialEq, Eq)]
pub struct Got {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl fmt::Debug for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(96)];
        let (kind, bytes) = (self.kind, self.body.len());
        write!(
            f,
            "type {kind:#04x}, {bytes} bytes: {}",
            shown.escape_ascii()
        )
    }
}

impl Got {
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.body[at..at + 2].try_into().unwrap())
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.u32(0)
    }

    pub fn flags(&self) -> u8 {
        self.body[4]
    }

    pub fn codec(&self) -> u8 {
        self.body[5]
    }

    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.body[7..self.name_end()]).unwrap()
    }

    fn name_end(&self) -> usize {
        7 + usize::from(self.body[6])
    }

    /// The envelope behind its id: flags, codec, name, headers and payload.
    pub fn content(&self) -> &[u8] {
        &self.body[4..]
    }

    /// The value of a header, if it is there.
    pub fn header(&self, key: u8) -> Option<&[u8]> {
        if self.flags() & HEADERS == 0 {
            return None;
        }
        let from = self.name_end() + 2;
        let mut rest = &self.body[from..from + usize::from(self.u16(from - 2))];
        while let [found, high, low, after @ ..] = rest {
            let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            if *found == key {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    pub fn payload(&self) -> &[u8] {
        let end = self.name_end();
        match self.flags() & HEADERS {
            0 => &self.body[end..],
            _ => &self.body[end + 2 + usize::from(self.u16(end))..],
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(self.payload()).unwrap()
    }

    /// A RESPONSE's payload, or the code it failed with.
    pub fn result(&self) -> Result<&[u8], u16> {
        assert_eq!(self.kind, RESPONSE, "{self:?}");
        assert_eq!(self.name(), "", "a RESPONSE has no name: {self:?}");
        match self.flags() & FAILED {
            0 => Ok(self.payload()),
            _ => Err(u16::from_be_bytes(self.payload()[..2].try_into().unwrap())),
        }
    }
}
