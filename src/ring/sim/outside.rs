//! Connections whose client's end is in the harness's hands: it moves their bytes itself, from and to
//! a client that runs elsewhere.

use super::client::ClientId;
use super::link::LinkId;
use super::world::World;
use crate::base::clock::Instant;

/// The client's end of such a connection.
#[derive(Clone, Copy, Debug)]
pub struct Outside(LinkId);

/// What the client's end has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    /// Everything has been read, and no more will come.
    Ended,
    Reset,
}

impl World {
    /// Connects to one of the listening shards; `None`: none listens.
    pub fn dial(&self) -> Option<Outside> {
        // A number that no client has: nobody is poked.
        self.state().kernel.connect(ClientId(u32::MAX)).map(Outside)
    }

    /// Writes as much as there is room for; returns how much.
    pub fn write(&self, end: Outside, bytes: &[u8]) -> usize {
        self.state().kernel.write(end.0, bytes)
    }

    /// Reads at most `max` of the bytes that have arrived.
    pub fn read(&self, end: Outside, max: usize) -> Vec<u8> {
        self.state().kernel.read(end.0, max)
    }

    pub fn fate(&self, end: Outside) -> Fate {
        let kernel = &self.state().kernel;
        match () {
            () if kernel.is_reset(end.0) => Fate::Reset,
            () if kernel.at_end(end.0) => Fate::Ended,
            () => Fate::Open,
        }
    }

    /// Nothing more will be written.
    pub fn finish(&self, end: Outside) {
        self.state().kernel.finish_writing(end.0);
    }

    /// Closes the client's end: in order, or by a reset.
    pub fn hang_up(&self, end: Outside, in_order: bool) {
        let kernel = &mut self.state().kernel;
        match in_order {
            true => kernel.close_client(end.0),
            false => kernel.reset_by_client(end.0),
        }
    }

    /// When something happens next, if nobody does anything: now, if a shard is awake.
    pub fn due(&self) -> Instant {
        self.state().kernel.due()
    }
}
