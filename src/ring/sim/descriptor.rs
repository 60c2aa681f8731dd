//! The process's descriptor table: it hands out the lowest free number, as a kernel does, so that a
//! closed number is reused at once.

use super::link::LinkId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An open descriptor: its link, and which operations on it are in flight.
#[derive(Clone, Debug)]
pub(super) struct Descriptor {
    pub(super) link: LinkId,
    /// A receive, or a send, whose last completion the shard has not taken.
    pub(super) receiving: bool,
    pub(super) sending: bool,
}

/// Lower numbers are in use: standard streams, rings, listeners.
const FIRST: i32 = 8;

pub(super) struct Descriptors {
    entries: Vec<Option<Descriptor>>,
    free: BinaryHeap<Reverse<i32>>,
    open: usize,
    max: usize,
}

impl Descriptors {
    pub(super) fn new() -> Descriptors {
        Descriptors {
            entries: Vec::new(),
            free: BinaryHeap::new(),
            open: 0,
            max: usize::MAX,
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn is_full(&self) -> bool {
        self.open >= self.max
    }

    /// Hands out the lowest free number.
    pub(super) fn insert(&mut self, link: LinkId) -> i32 {
        let descriptor = Descriptor {
            link,
            receiving: false,
            sending: false,
        };
        self.open += 1;
        match self.free.pop() {
            Some(Reverse(number)) => {
                self.entries[Self::index(number)] = Some(descriptor);
                number
            }
            None => {
                self.entries.push(Some(descriptor));
                FIRST + self.entries.len() as i32 - 1
            }
        }
    }

    pub(super) fn remove(&mut self, number: i32) -> Option<Descriptor> {
        let descriptor = self.entries.get_mut(Self::index(number))?.take()?;
        self.free.push(Reverse(number));
        self.open -= 1;
        Some(descriptor)
    }

    pub(super) fn find(&self, number: i32) -> Option<&Descriptor> {
        self.entries.get(Self::index(number))?.as_ref()
    }

    pub(super) fn find_mut(&mut self, number: i32) -> Option<&mut Descriptor> {
        self.entries.get_mut(Self::index(number))?.as_mut()
    }

    /// The open numbers, ascending.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i32> + '_ {
        let open = self.entries.iter().enumerate().filter(|e| e.1.is_some());
        open.map(|(index, _)| FIRST + index as i32)
    }

    fn index(number: i32) -> usize {
        usize::try_from(number - FIRST).unwrap_or(usize::MAX)
    }
}
