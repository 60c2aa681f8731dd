//! New connections: their slot and shard, or why they are refused.
//!
//! Beyond `connections_max` a new connection is refused, unless there are sessions: then it may be
//! a client resuming one, because its old connection has ended, or still exists without the client
//! knowing. It is accepted on trial: it may authenticate and resume a session, whose place it then
//! takes, and nothing else. So clients with sessions find room however many strangers connect, and
//! the slots needed never exceed those in the budget: connections, waiting sessions, and a few for
//! refusals.
//!
//! SO_REUSEPORT distributes connections by a hash, unevenly when there are few. So a shard that has
//! clearly more of them than the emptiest one passes a new descriptor on; the connection counts
//! they compare are written once per connection, not per message.

use crate::base::id::Key;
use crate::base::limits::REFUSALS_OPEN_MAX;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::transport::Transport;
use crate::metrics::counter::Counter;
use crate::proto::error::Refusal;
use crate::ring::driver::{Driver, Socket};
use crate::shard::command::Command;
use crate::shard::state::Shard;
use crate::shard::stream::Stream;
use crate::wire::{Protocol, Session};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// How long accepting pauses after a shortage of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<D: Driver> Shard<D> {
    pub(super) fn take_accepted(&mut self, socket: Socket) {
        self.accept_short = false;
        if self.drain.is_some() {
            return self.driver.close(socket);
        }
        let shard = if self.balance {
            self.connection_counts.choose(self.id)
        } else {
            self.id
        };
        self.connection_counts.join(shard);
        if shard != self.id
            && let Some(peer) = self.peers.get(shard.index())
            && peer.post(Command::Adopt(socket)).is_ok()
        {
            return self.broker.resources.counters.add(Counter::HandedOver, 1);
        }
        if shard != self.id {
            // The mailbox is full, or that shard is ending: this shard keeps the connection.
            self.connection_counts.leave(shard);
            self.connection_counts.join(self.id);
        }
        self.open(socket);
    }

    pub(super) fn arm_accept(&mut self) {
        self.accepting = true;
        self.driver.accept();
    }

    pub(super) fn take_accept_ended(&mut self, error: Option<io::Error>) {
        self.accepting = false;
        if self.drain.is_some() {
            return;
        }
        let Some(error) = error else {
            return self.arm_accept();
        };
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return self.arm_accept();
        }
        self.broker.resources.counters.add(Counter::AcceptPaused, 1);
        self.accept_again = self.broker.resources.now + ACCEPT_PAUSE;
        if std::mem::replace(&mut self.accept_short, true) {
            return; // Already logged; once per shortage is enough.
        }
        tracing::warn!(
            shard = self.id.0,
            "accepting pauses for {ACCEPT_PAUSE:?}: {error}; raise LimitNOFILE (ulimit -n), \
             or lower limits.connections_max"
        );
    }

    /// Takes over a connection that another shard accepted and counted for this one.
    pub(super) fn adopt(&mut self, socket: Socket) {
        if self.drain.is_some() {
            self.connection_counts.leave(self.id);
            self.driver.close(socket);
        } else {
            self.open(socket);
        }
    }

    fn open(&mut self, socket: Socket) {
        let (address, unwelcome) = self.check_admission(socket);
        let room = self.room();
        if room == Room::None || (room != Room::Free && unwelcome.is_some()) {
            // Even the slots for refusals, or the memory they may use, are taken: no memory is
            // spent on saying why.
            self.leave_admission(address);
            self.connection_counts.leave(self.id);
            return self.driver.close(socket);
        }
        let (settings, now) = (self.settings.clone(), self.broker.resources.now);
        let seq = self.broker.entropy.u32();
        // Before a byte has come: who is refused here is told so in MCP.
        let session = Session::accept(Protocol::Mcp, settings, seq, now);
        let made = |key: Key| Connection::new(key, Transport::new(session, now));
        let Some(key) = self.broker.connections.insert_with(made) else {
            debug_assert!(false, "there was room");
            self.leave_admission(address);
            self.connection_counts.leave(self.id);
            return self.driver.close(socket);
        };
        self.broker.resources.counters.add(Counter::Opened, 1);
        if let Some(tracer) = &mut self.broker.resources.tracer {
            tracer.accept(key, now);
        }
        let may_be_tls = self.streams.tls.is_some();
        self.streams.put(key.slot, Stream::new(socket, may_be_tls));
        tracing::debug!(shard = self.id.0, connection = %key, "accepted");
        let full = (room == Room::Refusal).then(Session::full);
        if let Some(Connection { transport, .. }) = self.broker.connections.get_mut(key) {
            if address.is_some() {
                transport.principal_mut().address = address;
            }
            if room == Room::Trial {
                transport.session.put_on_trial(now);
            }
            if let Some(refusal) = unwelcome.or(full) {
                transport.refuse_with(&refusal, &mut self.broker.resources);
            }
        }
        self.broker.touch(key);
    }

    /// What kind of new connection there is room for.
    fn room(&self) -> Room {
        let broker = &self.broker;
        let most = broker.resources.limits.connections_max;
        let connections = broker.connection_count();
        let slots = broker.connections.vacant();
        if connections < most {
            // Enough of them: waiting sessions have slots of their own.
            Room::Free
        } else if self.connection_counts.has_sessions() && slots > REFUSALS_OPEN_MAX {
            Room::Trial
        } else if slots > 0
            && (connections - most < REFUSALS_OPEN_MAX || slots <= REFUSALS_OPEN_MAX)
        {
            Room::Refusal
        } else {
            Room::None
        }
    }
}

/// The kind of place a new connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// Only to resume a session.
    Trial,
    /// Only to be told that the server is full.
    Refusal,
    None,
}

impl<D: Driver> Shard<D> {
    /// A connection from this address, if it was counted, has ended.
    pub(super) fn leave_admission(&self, address: Option<IpAddr>) {
        if let (Some(admission), Some(address)) = (&self.broker.admission, address) {
            admission.leave(address);
        }
    }

    /// The address of a new connection, if addresses matter, and why it is refused, if it is.
    pub(super) fn check_admission(&self, socket: Socket) -> (Option<IpAddr>, Option<Refusal>) {
        let Some(admission) = &self.broker.admission else {
            return (None, None);
        };
        // No address: the peer has already reset it, and it ends with the first receive.
        let Some(address) = self.driver.peer(socket).map(|peer| peer.ip()) else {
            return (None, None);
        };
        match admission.admit(address, self.broker.resources.now) {
            Ok(()) => (Some(address), None),
            Err(refusal) => {
                let counters = &self.broker.resources.counters;
                counters.add(Counter::AddressRefused, 1);
                (None, Some(refusal))
            }
        }
    }
}
