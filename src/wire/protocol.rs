//! The protocols that clients may speak, and what tells them apart.

use crate::proto::frame::MAGIC;

/// A client's protocol. What else a new one takes: `src/ARCHITECTURE.md`, "Where to add".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Mcp,
}

impl Protocol {
    pub const ALL: &[Protocol] = &[Protocol::Mcp];

    /// The protocol of a connection without TLS that begins with this byte; `None`: none of them.
    pub fn of(first: u8) -> Option<Protocol> {
        let mut all = Protocol::ALL.iter().copied();
        all.find(|protocol| protocol.first_byte() == first)
    }

    /// The first byte that its clients send (PROTOCOL.md §4).
    const fn first_byte(self) -> u8 {
        match self {
            Protocol::Mcp => MAGIC[0],
        }
    }

    /// Its name in ALPN, by which clients choose it inside TLS (RFC 7301).
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Mcp => crate::proto::ALPN,
        }
    }
}
