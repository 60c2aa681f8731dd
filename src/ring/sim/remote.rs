//! The clients' ends of connections: what a client's kernel does for it. It has no faults of its
//! own: a client's calls take effect at once.

use super::event_queue::Segment;
use super::id::ClientId;
use super::kernel::Kernel;
use super::link::{Direction, Link, LinkId};

impl Kernel {
    /// Opens a connection to one of the listening shards, picked at random, as a reuseport group
    /// picks by hash. `None`: no shard listens.
    pub(super) fn connect(&mut self, client: ClientId) -> Option<LinkId> {
        let listening = self.listening();
        let shard = self.rng.choice(listening)?;
        let id = self.links.insert(Link::new(client));
        self.note("connect", &[u64::from(client.0), u64::from(shard)]);
        self.dispatch(id, Direction::Up, Segment::Syn(shard));
        Some(id)
    }

    /// Writes as much as there is room for and returns how much. The client is poked when there is
    /// room again.
    pub(super) fn write(&mut self, id: LinkId, bytes: &[u8]) -> usize {
        let Some(link) = self.links.find_mut(id) else {
            return 0;
        };
        if link.up.shut || link.client_reset {
            return bytes.len();
        }
        let room = self.pipe_bytes.saturating_sub(link.up.len());
        let count = room.min(bytes.len());
        link.client_blocked = count < bytes.len();
        self.transmit(id, Direction::Up, &bytes[..count]);
        count
    }

    /// Reads at most `max` of the bytes that have arrived.
    pub(super) fn read(&mut self, id: LinkId, max: usize) -> Vec<u8> {
        let Some(link) = self.links.find_mut(id) else {
            return Vec::new();
        };
        let bytes = link.down.read(max);
        if !bytes.is_empty() {
            self.pump_send(id);
        }
        bytes
    }

    /// Whether bytes have arrived that are not yet read.
    pub(super) fn is_readable(&self, id: LinkId) -> bool {
        self.links
            .find(id)
            .is_some_and(|link| link.down.arrived() > 0)
    }

    /// Whether the server's end of stream has arrived and everything before it is read.
    pub(super) fn at_end(&self, id: LinkId) -> bool {
        let ended = |link: &Link| link.down.ended && link.down.arrived() == 0;
        self.links.find(id).is_none_or(ended)
    }

    /// Whether the connection is reset at the client's end, and everything that had arrived is
    /// read.
    pub(super) fn is_reset(&self, id: LinkId) -> bool {
        let reset = |link: &Link| link.client_reset && link.down.arrived() == 0;
        self.links.find(id).is_none_or(reset)
    }

    /// Whether an injected fault broke it, rather than one of the two sides.
    pub(super) fn is_broken(&self, id: LinkId) -> bool {
        self.links.find(id).is_some_and(|link| link.broken)
    }

    /// Shuts the client's sending side down.
    pub(super) fn finish_writing(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id)
            && !link.up.shut
        {
            link.up.shut = true;
            self.dispatch(id, Direction::Up, Segment::Fin);
        }
    }

    /// Closes the client's end: FIN, or a reset when bytes are left unread.
    pub(super) fn close_client(&mut self, id: LinkId) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        if link.down.arrived() > 0 && !link.client_reset {
            return self.reset_by_client(id);
        }
        self.finish_writing(id);
        if let Some(link) = self.links.find_mut(id) {
            link.client_closed = true;
        }
        self.drop_finished(id);
    }

    /// Ends the connection with a reset.
    pub(super) fn reset_by_client(&mut self, id: LinkId) {
        let Some(link) = self.links.find_mut(id) else {
            return;
        };
        link.client_closed = true;
        link.up.cut();
        self.dispatch(id, Direction::Up, Segment::Reset);
        self.drop_finished(id);
    }

    /// The client disappears: nothing more is delivered, and the server gets no reset.
    pub(super) fn vanish(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id) {
            link.vanished = true;
            self.drop_finished(id);
        }
    }

    pub(super) fn arrive_down(&mut self, id: LinkId, segment: Segment) -> Option<ClientId> {
        let room = self.pipe_bytes / 2;
        let link = self.links.find_mut(id)?;
        match segment {
            Segment::Bytes(_) if link.down.cut => return None,
            Segment::Bytes(_) if link.client_closed => {
                link.down.lost += link.down.len() - link.down.arrived().min(room);
                link.down.discard();
                link.down.cut();
                self.dispatch(id, Direction::Up, Segment::Reset);
                return None;
            }
            Segment::Bytes(count) => link.down.arrive(count as usize),
            Segment::Fin => link.down.ended |= !link.down.cut,
            Segment::Reset => {
                link.client_reset = true;
                link.up.cut();
            }
            Segment::Syn(_) => {}
        }
        let gone = link.vanished || link.client_closed;
        (!gone).then_some(link.client)
    }

    /// The server's end resets the connection: bytes that have not arrived never will.
    pub(super) fn reset_client_end_soon(&mut self, id: LinkId) {
        if let Some(link) = self.links.find_mut(id)
            && !link.down.cut
        {
            link.down.cut();
            self.dispatch(id, Direction::Down, Segment::Reset);
        }
        self.drop_finished(id);
    }

    /// Removes a link that neither end holds any more.
    pub(super) fn drop_finished(&mut self, id: LinkId) {
        let finished = |link: &Link| link.server_closed && (link.client_closed || link.vanished);
        if self.links.find(id).is_some_and(finished) {
            self.links.remove(id);
        }
    }
}
