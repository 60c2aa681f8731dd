//! Group members for which the kernel holds much unsent data: the shard polls how much is left,
//! because the kernel does not report it.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::broker::peers::transport::Stage;
use crate::broker::publish::backlog::{LOOK_MAX, LOOK_MIN};
use crate::ring::driver::Driver;
use crate::shard::state::Shard;

impl<D: Driver> Shard<D> {
    /// The kernel has taken this many more bytes for a group member.
    #[cold]
    pub(super) fn follow_trail(&mut self, key: Key, went: usize) {
        let broker = &mut self.broker;
        let Some(connection) = broker.connections.get_mut(key) else {
            return;
        };
        let Some(state) = &mut connection.member.state else {
            return;
        };
        if !state.trail.note_left(went) {
            return;
        }
        let socket = self.streams.of(key.slot).socket;
        let held = self.driver.unacknowledged(socket);
        let changed = state.trail.note_held(held);
        let backed_up = state.trail.backed_up;
        connection.member.recharge(&mut broker.resources);
        if changed && backed_up {
            broker.backed_up.add(key, broker.resources.now);
            broker.note_stalled(key, true);
        } else if changed {
            broker.note_kept_up(key);
        } else if backed_up {
            let now = broker.resources.now;
            broker.backed_up.hurry(key, now);
        }
    }

    /// Polls the members for which the kernel held much.
    pub(super) fn look_at_backed_up(&mut self) {
        let broker = &mut self.broker;
        let now = broker.resources.now;
        if now < broker.backed_up.next_look {
            return;
        }
        let mut members = std::mem::take(&mut broker.backed_up.members);
        members.retain_mut(|one| {
            let Some(connection) = broker.connections.get_mut(one.member) else {
                return false;
            };
            let Some(state) = &mut connection.member.state else {
                return false;
            };
            if connection.transport.stage != Stage::Running || !state.trail.backed_up {
                return false;
            }
            if now < one.next_look {
                return true;
            }
            let socket = self.streams.of(one.member.slot).socket;
            let held = self.driver.unacknowledged(socket);
            if !state.trail.note_held(held) {
                let reads = held < std::mem::replace(&mut one.held, held);
                one.pause = match reads {
                    true => LOOK_MIN,
                    false => (one.pause * 2).min(LOOK_MAX),
                };
                one.next_look = now + one.pause;
                return true;
            }
            connection.member.recharge(&mut broker.resources);
            broker.note_kept_up(one.member);
            false
        });
        let looks = members.iter().map(|one| one.next_look);
        broker.backed_up.next_look = looks.min().unwrap_or(Instant::NEVER);
        broker.backed_up.members = members;
    }
}
