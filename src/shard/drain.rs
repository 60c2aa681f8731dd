//! Orderly shutdown: every client is told, accepted work is answered, then CLOSE.
//!
//! ```text
//!   Drain(deadline) ── DRAIN to each client, accepting stops
//!        │  connections that listen to nothing, are owed nothing and are quiet ──► CLOSE
//!        ├── quiet on all shards, or ¾ of the time gone: all shards go deaf
//!        ├── everything said between shards is done ──► CLOSE to connections that are owed nothing
//!        ├── ⅘ of the time gone: CLOSE to all that are left
//!        └── just before the deadline: whatever is left is cut
//! ```
//!
//! Requests that arrive after DRAIN are still answered: they may have been sent before the client
//! read it. A client that wants to lose nothing stops sending requests when it reads DRAIN.
//!
//! Subscribers and servers are closed last, because until then what others publish to them is
//! confirmed. So first every shard goes deaf: it takes nothing from clients any more, and what
//! arrives is not confirmed. No CLOSE goes out before all shards have done so (`accord`).
//!
//! Quiet: nothing has been received for a while, and not only because DRAIN is still on its way;
//! what a client sent before it read DRAIN may arrive up to a round trip after DRAIN was sent. The
//! kernel knows when DRAIN has arrived: the peer's machine has acknowledged it.

use crate::base::clock::Instant;
use crate::base::id::Key;
use crate::base::reason::Reason;
use crate::broker::Broker;
use crate::broker::context::resource::Resources;
use crate::broker::mesh::accord::{DEAF, OPEN, TOLD};
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::Stage;
use crate::broker::publish::fanout_queue::Fanning;
use crate::proto::error::Code;
use crate::ring::driver::Driver;
use crate::shard::draining::{Drain, Look};
use crate::shard::state::Shard;
use crate::shard::stream::Stream;
use crate::wire::Notice;
use std::time::Duration;

/// How long a connection must have been silent to count as quiet.
const QUIET: Duration = Duration::from_millis(100);
/// How often a draining shard looks for connections that are done, and how often if it only waits
/// for other shards.
const STEP: Duration = Duration::from_millis(25);
const STEP_DEAF: Duration = Duration::from_millis(1);
/// Peers that have not acknowledged DRAIN by then are not waited for.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

impl<D: Driver> Shard<D> {
    pub(super) fn start_drain(&mut self, deadline: Instant) {
        if self.drain.is_some() {
            return;
        }
        self.driver.stop_accepting();
        self.broker.draining = true;
        self.accept_again = Instant::NEVER;
        let now = self.broker.resources.now;
        let left = deadline.since(now);
        // Without connections there is nothing to hear from.
        let is_empty = self.broker.connections.is_empty();
        self.drain = Some(Drain {
            began: now,
            deaf_at: now + left * 3 / 4,
            close_all: now + left * 4 / 5,
            // Slightly early, so that the process too has ended by the deadline.
            deadline: now + left * 19 / 20,
            next_look: if is_empty { now } else { now + STEP },
            phase: OPEN,
        });
        let busy_at = if is_empty { Instant::ZERO } else { now };
        self.broker.mesh.accord.note_busy(self.id, busy_at);
        tracing::info!(
            shard = self.id.0,
            connections = self.broker.connections.len(),
            "draining"
        );

        // Sessions can no longer be resumed here: no connection is accepted.
        while self.expire_oldest_session() {}
        for key in self.keys() {
            let spread_ms = self.spread(left);
            let Some(connection) = self.broker.connections.get_mut(key) else {
                continue;
            };
            connection.tell_drain(left, spread_ms, &mut self.broker.resources);
            self.broker.touch(key);
        }
    }

    /// A period over which clients spread their reconnects, so that they do not all come at once.
    fn spread(&mut self, left: Duration) -> u32 {
        let most = u32::try_from(left.as_millis() / 2)
            .unwrap_or(u32::MAX)
            .max(1);
        self.broker.entropy.u32() % most
    }

    pub(super) fn step_drain(&mut self) {
        let now = self.broker.resources.now;
        let is_due = |drain: &Drain| now >= drain.next_look;
        if !self.drain.as_ref().is_some_and(is_due) {
            return;
        }
        self.agree_on_end();
        let Some(drain) = &mut self.drain else { return };
        let (look, began) = (drain.look(now), drain.began);
        let is_brief = look == Look::Wait || self.broker.connections.is_empty();
        drain.next_look = now + if is_brief { STEP_DEAF } else { STEP };
        if look == Look::Wait {
            return;
        }
        for key in self.keys() {
            let Some(connection) = self.broker.connections.get_mut(key) else {
                continue;
            };
            let stream = self.streams.of(key.slot);
            if look == Look::Early
                && (!connection.may_end_early(began, now)
                    || is_on_its_way(connection, stream, began, now, &self.driver))
            {
                continue;
            }
            connection.step_drain(look, &mut self.broker.resources);
            self.broker.touch(key);
        }
    }

    /// Advances through the phases that the shards have agreed on.
    fn agree_on_end(&mut self) {
        let now = self.broker.resources.now;
        let is_busy = self.is_busy();
        let (broker, id) = (&mut self.broker, self.id);
        let Some(drain) = &mut self.drain else { return };
        let accord = broker.mesh.accord.clone();
        if drain.phase == OPEN {
            if is_busy {
                accord.note_busy(id, now);
            }
            let is_quiet = now.since(accord.busy_at()) >= QUIET;
            if !is_quiet && !accord.has_begun() && now < drain.deaf_at {
                return;
            }
            broker.go_deaf();
            drain.phase = DEAF;
            accord.enter(id, DEAF);
        }
        while drain.phase < TOLD && accord.have_all(drain.phase) && broker.has_said_all() {
            drain.phase += 1;
            accord.enter(id, drain.phase);
        }
    }

    /// Some connection of this shard was heard recently, is owed an answer, or is about to be.
    fn is_busy(&self) -> bool {
        let (broker, now) = (&self.broker, self.broker.resources.now);
        let Some(drain) = &self.drain else {
            return false;
        };
        if drain.phase != OPEN {
            return false;
        }
        let waits = !broker.fanouts.is_empty()
            || !broker.replays.ready.is_empty()
            || !broker.seeking.is_empty()
            || !broker.legacies.is_settled();
        let goes_on = |(key, one): (Key, &Connection)| {
            let stream = self.streams.of(key.slot);
            one.transport.stage == Stage::Running
                && (one.member.is_owed_answers()
                    || one.is_at_work()
                    || one.is_heard_since(now)
                    || is_on_its_way(one, stream, drain.began, now, &self.driver))
        };
        waits || broker.connections.iter().any(goes_on)
    }

    fn keys(&self) -> Vec<Key> {
        self.broker.connections.keys().collect()
    }
}

/// DRAIN, or what was sent after it, may not have reached the peer.
fn is_on_its_way(
    one: &Connection,
    stream: &Stream,
    began: Instant,
    now: Instant,
    driver: &impl Driver,
) -> bool {
    now.since(began) < ROUND_TRIP_MAX
        && (!one.transport.outbox.is_empty() || driver.unacknowledged(stream.socket) > 0)
}

impl Broker {
    /// Stops taking input from clients: it would be confirmed, but reach no one.
    fn go_deaf(&mut self) {
        self.deaf = true;
        // No ACK is heard from here on, and no session outlives the server: what waits for one goes
        // out now.
        self.resources.limits.session_buffer_bytes_max = usize::MAX;
        self.lists.take_blocked();
        for (_, connection) in self.connections.iter_mut() {
            // Never unblocked: it is in no list.
            connection.member.blocked = true;
        }
        let keys: Vec<Key> = self.connections.keys().collect();
        keys.into_iter().for_each(|key| self.touch(key));
    }

    /// Everything this shard has said to others is done, and there is nothing more to say.
    fn has_said_all(&self) -> bool {
        self.fanouts.is_empty()
            && self.replays.ready.is_empty()
            && self.seeking.is_empty()
            && self.legacies.is_settled()
            && self.mesh.is_done(self.mesh.mark())
            && !self.mesh.is_homing()
            && !self.mesh.owes()
    }
}

impl Connection {
    fn tell_drain(&mut self, left: Duration, reconnect_after_ms: u32, resources: &mut Resources) {
        if self.transport.stage != Stage::Running {
            return;
        }
        if self.transport.session.is_open() {
            let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
            let drain = Notice::Draining {
                deadline_ms,
                reconnect_after_ms,
            };
            self.transport.notify(drain, resources);
        } else if !self.transport.session.is_established() {
            self.transport.close(
                Code::Draining,
                "this server is shutting down",
                Reason::Drained,
                resources,
            );
        }
    }

    /// It has input left to handle, or waits for something this shard is doing.
    fn is_at_work(&self) -> bool {
        self.member.ready
            || self.member.blocked
            || self.member.fanning != Fanning::No
            || self.transport.held
            || self.is_moving()
    }

    fn is_heard_since(&self, now: Instant) -> bool {
        now.since(self.transport.session.heard()) < QUIET
    }

    /// It is silent, and nothing that others may still publish or request can be for it.
    fn may_end_early(&self, began: Instant, now: Instant) -> bool {
        let state = self.member.state.as_ref();
        let listens = state.is_some_and(|one| {
            let count = one.subscriptions.len() + one.servings.len();
            count > 0
        });
        !listens && !self.is_at_work() && !self.is_heard_since(now) && now.since(began) >= QUIET
    }

    fn step_drain(&mut self, look: Look, resources: &mut Resources) {
        if look == Look::Cut {
            return self.transport.abort(Reason::Shutdown, resources);
        }
        if self.transport.stage != Stage::Running {
            return;
        }
        let unsent = self.member.has_pending || !self.transport.outbox.is_empty();
        let reason = match look {
            _ if !self.member.is_owed_answers() && !unsent => Reason::Drained,
            Look::Everybody => Reason::Shutdown,
            Look::Early | Look::Wait | Look::Done | Look::Cut => return,
        };
        let text = "this server is shutting down";
        self.transport
            .close(Code::Shutdown, text, reason, resources);
    }
}
