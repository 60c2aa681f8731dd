//! Sends in flight: the memory the kernel reads from, kept here until its completion.

use crate::base::id::Key;
use crate::ring::driver::Chunk;

/// All sends in flight of one ring; at most one a key, so at most one a connection.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<Option<(Key, Chunk)>>,
    vacant: Vec<u32>,
}

impl Flights {
    /// Keeps a chunk until `land`; the index names it in the completion.
    pub(super) fn launch(&mut self, key: Key, chunk: Chunk) -> u32 {
        if let Some(index) = self.vacant.pop() {
            self.places[index as usize] = Some((key, chunk));
            return index;
        }
        self.places.push(Some((key, chunk)));
        self.places.len() as u32 - 1
    }

    /// The bytes of a chunk in flight. A chunk's bytes do not move when the table grows:
    /// both kinds keep them on the heap.
    pub(super) fn bytes(&self, index: u32) -> &[u8] {
        match self.places.get(index as usize) {
            Some(Some((_, chunk))) => chunk.as_slice(),
            _ => &[],
        }
    }

    pub(super) fn land(&mut self, index: u32) -> Option<(Key, Chunk)> {
        let landed = self.places.get_mut(index as usize)?.take();
        if landed.is_some() {
            self.vacant.push(index);
        }
        landed
    }

    pub(super) fn find(&self, key: Key) -> Option<u32> {
        let of_key = |place: &Option<(Key, Chunk)>| place.as_ref().is_some_and(|p| p.0 == key);
        self.places
            .iter()
            .position(of_key)
            .map(|index| index as u32)
    }
}
