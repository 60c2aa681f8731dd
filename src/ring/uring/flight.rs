//! Sends in flight: the memory the kernel reads from, kept here until its completion.

use crate::base::chunk::Chunk;
use crate::base::id::Key;
use crate::base::page::Paged;

/// All sends in flight of one ring; at most one per key, hence per connection.
#[derive(Default)]
pub(super) struct Flights {
    places: Vec<Option<(Key, Chunk)>>,
    vacant: Vec<u32>,
    /// By the slot of a key: the index of its last send, which holds its key.
    by_slot: Paged<u32>,
}

impl Flights {
    /// Keeps a chunk until `land`; the returned index identifies it in the completion.
    pub(super) fn launch(&mut self, key: Key, chunk: Chunk) -> u32 {
        let index = match self.vacant.pop() {
            Some(index) => {
                self.places[index as usize] = Some((key, chunk));
                index
            }
            None => {
                self.places.push(Some((key, chunk)));
                self.places.len() as u32 - 1
            }
        };
        while self.by_slot.len() <= u64::from(key.slot) {
            self.by_slot.add_page(|_| u32::MAX);
        }
        self.by_slot[key.slot] = index;
        index
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
        let index = *self.by_slot.get(key.slot)?;
        match self.places.get(index as usize) {
            Some(Some((of, _))) if *of == key => Some(index),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_found_by_its_key_while_it_is_in_flight() {
        let key = |slot, generation| Key { slot, generation };
        let chunk = |byte| Chunk::Own(vec![byte]);
        let mut flights = Flights::default();
        let keys = [key(700, 1), key(3, 0), key(0, 9)];
        for (byte, key) in (0..).zip(keys) {
            assert_eq!(flights.find(key), None);
            let index = flights.launch(key, chunk(byte));
            assert_eq!(flights.bytes(index), [byte]);
        }
        for (index, key) in (0..).zip(keys) {
            assert_eq!(flights.find(key), Some(index));
        }
        assert_eq!(flights.find(key(3, 1)), None, "of another tenant");
        assert_eq!(flights.land(1).map(|landed| landed.0), Some(keys[1]));
        assert_eq!(flights.find(keys[1]), None);
        assert!(flights.land(1).is_none());
        // Another send reuses its index.
        assert_eq!(flights.launch(key(5, 5), chunk(7)), 1);
        assert_eq!(flights.find(keys[1]), None);
        assert_eq!(flights.find(key(5, 5)), Some(1));
        assert_eq!(flights.find(key(1_000_000, 0)), None);
    }
}
