//! A TCP connection as its two ends see it: two byte pipes, each with its end of stream; and the
//! slab of all connections.
//!
//! ```text
//!            client's write                     server's receive
//!  Up      ───►[ in flight ······ | arrived ]───►
//!  Down    ◄───[ arrived | ······ in flight ]◄───   server's send
//!            client's read
//! ```
//!
//! A pipe holds all bytes from the writer's call to the reader's; `arrived` counts those
//! at its front that the reader may have. A pipe is made when the first byte goes in and
//! dropped when the last comes out, so an idle connection is some eighty bytes.
//!
//! Invariant: `arrived ≤ bytes.len() ≤ capacity`.

use super::id::ClientId;
use crate::base::clock::Instant;
use crate::base::id::Key;
use std::collections::VecDeque;

/// Names a link while it exists; an event for one that is gone finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId {
    index: u32,
    generation: u32,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    /// From the client to the server.
    Up,
    Down,
}

#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    arrived: usize,
}

/// One direction of a link.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pipe: Option<Box<Pipe>>,
    /// When the last segment arrives: later ones may not overtake it.
    pub(super) last_arrival: Instant,
    /// The writer has shut its side down, or is gone.
    pub(super) shut: bool,
    /// The end of the stream has arrived: no more bytes will.
    pub(super) ended: bool,
    /// A reset is on its way: bytes that had not arrived never will.
    pub(super) cut: bool,
    /// Bytes that never arrived.
    pub(super) lost: usize,
}

impl Stream {
    pub(super) fn len(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.bytes.len())
    }

    /// Bytes that the reader may have.
    pub(super) fn arrived(&self) -> usize {
        self.pipe.as_ref().map_or(0, |pipe| pipe.arrived)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.pipe.get_or_insert_default().bytes.extend(bytes);
    }

    pub(super) fn arrive(&mut self, count: usize) {
        if let Some(pipe) = &mut self.pipe {
            pipe.arrived += count;
            assert!(pipe.arrived <= pipe.bytes.len(), "more arrived than left");
        }
    }

    /// Takes `count` bytes that have arrived.
    pub(super) fn read(&mut self, count: usize) -> Vec<u8> {
        let Some(pipe) = &mut self.pipe else {
            return Vec::new();
        };
        let count = count.min(pipe.arrived);
        let taken = pipe.bytes.drain(..count).collect();
        pipe.arrived -= count;
        self.drop_empty();
        taken
    }

    /// A reset: drops the bytes that have not arrived.
    pub(super) fn cut(&mut self) {
        self.cut = true;
        self.shut = true;
        if let Some(pipe) = &mut self.pipe {
            self.lost += pipe.bytes.len() - pipe.arrived;
            pipe.bytes.truncate(pipe.arrived);
        }
        self.drop_empty();
    }

    pub(super) fn discard(&mut self) {
        self.pipe = None;
    }

    fn drop_empty(&mut self) {
        if self.len() == 0 {
            self.pipe = None;
        }
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: ClientId,
    pub(super) up: Stream,
    pub(super) down: Stream,
    /// The armed receive and the pending send at the server's end.
    pub(super) receiver: Option<(u16, Key)>,
    pub(super) sender: Option<(u16, Key)>,
    /// A reset has arrived at the server's end, or at the client's.
    pub(super) server_reset: bool,
    pub(super) client_reset: bool,
    /// The server has closed its descriptor.
    pub(super) server_closed: bool,
    pub(super) client_closed: bool,
    /// The client has disappeared: bytes to it are lost, and the server gets no reset.
    pub(super) vanished: bool,
    /// The client has bytes to write and found the pipe full.
    pub(super) client_blocked: bool,
    /// An injected fault ended it: neither side is to blame.
    pub(super) broken: bool,
}

impl Link {
    pub(super) fn new(client: ClientId) -> Link {
        Link {
            client,
            up: Stream::default(),
            down: Stream::default(),
            receiver: None,
            sender: None,
            server_reset: false,
            client_reset: false,
            server_closed: false,
            client_closed: false,
            vanished: false,
            client_blocked: false,
            broken: false,
        }
    }

    pub(super) fn stream_mut(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// All links.
#[derive(Default)]
pub(super) struct Links {
    entries: Vec<(u32, Option<Link>)>,
    free: Vec<u32>,
}

impl Links {
    pub(super) fn insert(&mut self, link: Link) -> LinkId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(link);
        LinkId {
            index,
            generation: entry.0,
        }
    }

    pub(super) fn find(&self, id: LinkId) -> Option<&Link> {
        let (generation, link) = self.entries.get(id.index as usize)?;
        link.as_ref().filter(|_| *generation == id.generation)
    }

    pub(super) fn find_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        let (generation, link) = self.entries.get_mut(id.index as usize)?;
        link.as_mut().filter(|_| *generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: LinkId) {
        if self.find(id).is_some() {
            let entry = &mut self.entries[id.index as usize];
            *entry = (entry.0.wrapping_add(1), None);
            self.free.push(id.index);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}
