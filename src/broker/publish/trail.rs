//! The trail: messages that were sent to a group member but may not have arrived. Each is kept
//! until the member's machine has acknowledged it, so that it can go to another member if this one
//! ends.
//!
//! ```text
//!   written to the outbox ──► taken by the kernel ──► acknowledged by the peer's machine
//!     end > left                 end > left − held      forgotten
//!   [ step │ step │ step │ … ]◄── pushed at the end
//! ```
//!
//! Positions count bytes of the connection's stream since the trail began. `left` is how much the
//! kernel has taken; how much of that it still holds is polled now and then, when enough has been
//! sent to be worth the call. Small messages lie back to back in one ring, so that a push allocates
//! only when the ring grows; large ones are shared.
//!
//! A session needs no trail, because its replay log keeps what its client has not acknowledged; for
//! its group members only what the kernel holds is tracked.
//!
//! It does not know whether a program has read what its machine has received.
//!
//! Invariants: the lengths of the unshared steps add up to `bytes.len()`; their ends increase.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::limits::{MEMBER_HELD_BYTES_MAX, TRAIL_ASK_BYTES, TRAIL_BYTES_MAX};
use crate::broker::context::ledger::Ledger;
use crate::broker::publish::parcel::Parcel;
use bytes::Bytes;
use std::collections::VecDeque;

/// Memory an empty trail keeps, so that it allocates nothing while its member keeps up.
const KEPT_BYTES: usize = 4 * TRAIL_ASK_BYTES;

struct Step {
    end: u64,
    group: Key,
    expires: Instant,
    length: u32,
    /// `None`: the message is in the ring.
    shared: Option<Bytes>,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Trail {
    steps: VecDeque<Step>,
    bytes: VecDeque<u8>,
    /// Bytes of the shared messages.
    shared_bytes: usize,
    left: u64,
    /// Bytes sent since the kernel was last polled.
    unasked: usize,
    /// The kernel holds so much for this member that it counts as stalled.
    pub(crate) backed_up: bool,
}

impl Trail {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Bytes of memory in use; shared messages carry their own charge.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.bytes.capacity() + self.steps.capacity() * size_of::<Step>()
    }

    /// Bytes of its messages, counting shared ones in full.
    pub(in crate::broker) fn held_bytes(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// A group's message was written into the outbox, which now holds `queued` bytes.
    pub(in crate::broker) fn push(
        &mut self,
        parcel: &mut Parcel<'_>,
        group: Key,
        expires: Instant,
        queued: usize,
        ledger: &Ledger,
    ) {
        let shared = parcel.is_large().then(|| parcel.share(ledger));
        match &shared {
            Some(message) => self.shared_bytes += message.len(),
            None => self.bytes.extend(parcel.bytes()),
        }
        self.steps.push_back(Step {
            end: self.left + queued as u64,
            group,
            expires,
            length: parcel.len() as u32,
            shared,
        });
        while self.held_bytes() > TRAIL_BYTES_MAX {
            // By then it is deep in the kernel's buffer, or all members are far behind.
            self.forget_first();
        }
    }

    /// The kernel has taken this many more bytes. True: it should be polled for what it holds.
    pub(crate) fn note_left(&mut self, bytes: usize) -> bool {
        self.left += bytes as u64;
        self.unasked += bytes;
        bytes > 0 && (self.unasked >= TRAIL_ASK_BYTES || self.held_bytes() >= TRAIL_ASK_BYTES)
    }

    /// The kernel holds this many bytes. True: `backed_up` has changed.
    pub(crate) fn note_held(&mut self, held: usize) -> bool {
        self.unasked = 0;
        let acknowledged = self.left.saturating_sub(held as u64);
        while self
            .steps
            .front()
            .is_some_and(|step| step.end <= acknowledged)
        {
            self.forget_first();
        }
        if self.steps.is_empty() && self.cost_bytes() > KEPT_BYTES {
            (self.steps, self.bytes) = Default::default();
        }
        let most = match self.backed_up {
            true => MEMBER_HELD_BYTES_MAX / 2,
            false => MEMBER_HELD_BYTES_MAX,
        };
        std::mem::replace(&mut self.backed_up, held > most) != self.backed_up
    }

    /// Yields, oldest first, what the peer's machine has not acknowledged while the kernel holds
    /// `held` bytes.
    pub(in crate::broker) fn take_rest(
        mut self,
        held: usize,
        ledger: &Ledger,
        mut each: impl FnMut(Key, Instant, Bytes),
    ) {
        self.note_held(held);
        let mut from = 0;
        let bytes = self.bytes.make_contiguous();
        for step in &self.steps {
            let message = step.shared.clone().unwrap_or_else(|| {
                let range = from..from + step.length as usize;
                from = range.end;
                ledger.share(Bytes::copy_from_slice(&bytes[range]))
            });
            each(step.group, step.expires, message);
        }
    }

    fn forget_first(&mut self) {
        let Some(step) = self.steps.pop_front() else {
            return;
        };
        match step.shared {
            Some(message) => self.shared_bytes -= message.len(),
            None => drop(self.bytes.drain(..step.length as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Key = Key {
        slot: 1,
        generation: 2,
    };

    fn rest(trail: Trail, held: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        trail.take_rest(held, &Ledger::default(), |group, _, message| {
            assert_eq!(group, GROUP);
            assert!(
                message
                    .iter()
                    .all(|&byte| usize::from(byte) == message.len() % 256)
            );
            lengths.push(message.len());
        });
        lengths
    }

    /// Messages of these lengths, each written after `beside` bytes of other messages.
    fn trail(lengths: &[usize], beside: usize) -> Trail {
        let (mut trail, mut queued) = (Trail::default(), 0);
        for &length in lengths {
            queued += beside + length;
            let message = vec![length as u8; length];
            let parcel = &mut Parcel::plain(&message);
            let ledger = &Ledger::default();
            trail.push(parcel, GROUP, Instant::NEVER, queued, ledger);
        }
        trail
    }

    #[test]
    fn what_was_not_taken_or_not_acknowledged_is_left() {
        const LENGTHS: [usize; 5] = [100, 20_000, 30, 17_000, 5];
        for beside in [0, 10] {
            let ends: Vec<usize> = (1..=5)
                .map(|n| LENGTHS[..n].iter().sum::<usize>() + n * beside)
                .collect();
            for left in [0, 1, 99, 100, 110, 20_150, ends[3], ends[4] - 1, ends[4]] {
                for held in [0, 1, 5, 6, 17_000, 100_000] {
                    let mut trail = trail(&LENGTHS, beside);
                    trail.note_left(left);
                    let acknowledged = left.saturating_sub(held);
                    let gone = ends.iter().filter(|&&end| end <= acknowledged).count();
                    assert_eq!(rest(trail, held), LENGTHS[gone..], "{left} {held}");
                }
            }
        }
    }

    #[test]
    fn it_asks_when_enough_has_gone_and_keeps_nothing_of_what_is_acknowledged() {
        let mut trail = trail(&[100, 100, 17_000], 0);
        assert!(trail.note_left(1), "much is kept");
        assert!(trail.note_left(17_199));
        assert!(!trail.note_held(17_100));
        assert!(!trail.note_left(100) || trail.held_bytes() > 17_000);
        assert!(!trail.note_held(0));
        assert!(trail.is_empty() && trail.cost_bytes() <= KEPT_BYTES);
        assert!(!trail.note_left(500) && trail.note_left(TRAIL_ASK_BYTES - 500));
        // Backed up above the bound, and no longer below half of it.
        for (held, changes) in [
            (MEMBER_HELD_BYTES_MAX, false),
            (MEMBER_HELD_BYTES_MAX + 1, true),
            (MEMBER_HELD_BYTES_MAX / 2 + 1, false),
            (MEMBER_HELD_BYTES_MAX / 2, true),
            (0, false),
        ] {
            assert_eq!(trail.note_held(held), changes, "{held}");
        }
    }

    #[test]
    fn what_it_holds_is_bounded() {
        let mut trail = Trail::default();
        for n in 0..2000 {
            let message = vec![0; [1000, 40_000][n % 2]];
            let parcel = &mut Parcel::plain(&message);
            trail.push(parcel, GROUP, Instant::NEVER, 1 << 30, &Ledger::default());
        }
        assert!(trail.held_bytes() <= TRAIL_BYTES_MAX);
        assert!(trail.held_bytes() > TRAIL_BYTES_MAX - 41_000);
    }
}
