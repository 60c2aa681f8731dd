//! Layer 3: the broker: who gets what. Everything of a shard but its sockets and its driver: the
//! connections and all that a message of one passes through to reach another. It speaks no
//! protocol ([`crate::wire`] does) and reads no clock.
//!
//! ```text
//!   bytes ─► session ─► REQUEST of a service here ─► answered in place
//!     (one connection)  everything else ──────────► dispatch: publish, subscribe, forward, …
//! ```
//!
//! | folder | idea |
//! |---|---|
//! | `input`, `dispatch` | received bytes become operations, an operation goes to whom it is for |
//! | `context` | what all parts share: time, limits, counters, work, memory |
//! | `peers` | connections, and the lists of whom to look at again |
//! | `admission` | who may connect, who it is, what it may do, how much it may send |
//! | `publish` | a publication: its route, fan-out, pending queues, retained messages, schemas |
//! | `subscribe` | what a connection wants of the broker |
//! | `request` | a request: served here, or forwarded |
//! | `session` | what lasts of a connection |
//! | `mesh` | what shards say to each other, and the answers that wait for it |
//!
//! Parts own their data and stand below this file, which holds them; chapters of what the
//! broker does with them (`impl Broker`) stand above. No file imports another in a circle.
//!
//! Invariant: a connection is freed by `shard::reconcile` only, so a key that is being handled
//! keeps its connection to the end of the turn.

pub(crate) mod admission;
pub(crate) mod context;
mod dispatch;
mod input;
pub mod mesh;
pub(crate) mod peers;
pub(crate) mod publish;
pub(crate) mod request;
pub(crate) mod session;
mod subscribe;

pub use crate::proto::outcome::{Answer, Failure, Outcome};
pub use admission::addresses::Admission;
pub use admission::authenticator::{Access, Wall};
pub use context::entropy::Entropy;
pub use context::mailbox::{Completion, ReplyTo, mailbox};
pub use context::resource::{Limits, Rates};
pub use context::scheduler::Pace;
pub use context::trace::Tracing;
pub use mesh::{Mesh, connect_shards};
pub use publish::schema::{Demand, Schemas};
pub use request::call::{Deferred, Job, LocalFuture};
pub use request::service::{Reply, Request, Service};

use crate::base::clock::Instant;
use crate::base::id::{Key, ShardId};
use crate::base::slab::Slab;
use crate::broker::context::ledger::Charge;
use crate::broker::context::mailbox::Slot;
use crate::broker::context::resource::Resources;
use crate::broker::mesh::confirmation::Confirmations;
use crate::broker::peers::connection::Connection;
use crate::broker::peers::holders::Holders;
use crate::broker::peers::lists::Lists;
use crate::broker::peers::slow::SlowReport;
use crate::broker::publish::backlog::{BackedUp, Legacies, Replays};
use crate::broker::publish::fanout_queue::Fanouts;
use crate::broker::publish::finding::Finding;
use crate::broker::request::forwarded::ForwardedRequests;
use crate::broker::request::service::Services;
use crate::broker::session::sessions::Sessions;
use crate::metrics::topics::Topics;
use crate::router::{Matches, Router};
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct Broker {
    pub(crate) id: ShardId,
    pub(crate) connections: Slab<Connection>,
    pub(crate) services: Services,
    pub(crate) resources: Resources,
    pub(crate) router: Router,
    pub(crate) mesh: Mesh,
    /// For what lies in the mesh.
    pub(crate) mesh_charge: Charge,
    /// For what stands in tables: brought in line at the end of each turn (`charge_tables`).
    pub(crate) table_charge: Charge,
    pub(in crate::broker) confirmations: Confirmations,
    pub(crate) forwarded: ForwardedRequests,
    /// For what workers have found of payloads.
    pub(in crate::broker) findings: Slot<Box<Finding>>,
    /// What the last look-up found; kept for its allocations.
    pub(in crate::broker) matches: Matches,
    /// Members of groups picked on other shards, kept likewise.
    pub(in crate::broker) picks: Vec<(ShardId, Key)>,
    /// The version of the last retained message.
    pub(in crate::broker) retained_at: Instant,
    pub(crate) sessions: Sessions,
    /// Slow consumers to be told of in the log.
    pub(crate) slow_reports: VecDeque<SlowReport>,
    pub(crate) entropy: Entropy,
    /// Scratch for messages that are built or re-framed.
    pub(in crate::broker) scratch: Vec<u8>,
    /// What a publication is the latest of, written down to be looked up.
    pub(in crate::broker) latest_key: Vec<u8>,
    /// Numbers the publications delivered here: a connection that several filters lead to
    /// takes one by its number once.
    pub(in crate::broker) publications: u64,
    /// Which topics are busy.
    pub(crate) topics: Topics,
    /// Who holds much memory.
    pub(crate) holders: Holders,
    /// Subscriptions and services of this shard's connections.
    pub(in crate::broker) memberships: usize,
    /// Publications that are being delivered to many.
    pub(crate) fanouts: Fanouts,
    /// What those who have gone have left to others.
    pub(crate) legacies: Legacies,
    /// Members for whom the kernel holds much.
    pub(crate) backed_up: BackedUp,
    /// Retained messages that are being brought to new subscriptions.
    pub(crate) replays: Replays,
    pub(in crate::broker) random: fastrand::Rng,
    /// Whom to look at again.
    pub(crate) lists: Lists,
    /// Who tells who someone is; none: nobody is asked.
    pub(crate) access: Option<Access>,
    /// Who may come at all, if not everybody.
    pub(crate) admission: Option<Arc<Admission>>,
    /// Topics whose payloads have a schema; none: no topic has.
    pub(crate) schemas: Option<Schemas>,
    /// Numbers what the control thread is asked.
    pub(in crate::broker) asked: u64,
    /// The server is ending: sessions end with their connections.
    pub(crate) draining: bool,
    /// It has ended so far that nothing is taken from clients any more.
    pub(crate) deaf: bool,
}

impl Broker {
    pub(crate) fn new(
        id: ShardId,
        slots: u32,
        resources: Resources,
        findings: Slot<Box<Finding>>,
        mut entropy: Entropy,
    ) -> Broker {
        let seed = u64::from(entropy.u32()) << 32 | u64::from(entropy.u32());
        let bytes_max = resources.limits.outbox_bytes_shard_max;
        Broker {
            id,
            connections: Slab::new(slots),
            services: Services::default(),
            router: Router::new(id),
            mesh: Mesh::default(),
            mesh_charge: Charge::default(),
            table_charge: Charge::default(),
            confirmations: Confirmations::default(),
            forwarded: ForwardedRequests::new(resources.limits.calls_open_max, resources.now),
            topics: Topics::new(seed, resources.now),
            resources,
            findings,
            matches: Matches::default(),
            picks: Vec::new(),
            retained_at: Instant::ZERO,
            sessions: Sessions::default(),
            slow_reports: VecDeque::new(),
            entropy,
            scratch: Vec::new(),
            latest_key: Vec::new(),
            publications: 0,
            holders: Holders::new(bytes_max),
            memberships: 0,
            fanouts: Fanouts::default(),
            legacies: Legacies::default(),
            backed_up: BackedUp::default(),
            replays: Replays::default(),
            random: fastrand::Rng::with_seed(seed),
            lists: Lists::default(),
            access: None,
            admission: None,
            schemas: None,
            asked: 0,
            draining: false,
            deaf: false,
        }
    }

    /// Connections that have a slot; sessions without one aside.
    pub(crate) fn connection_count(&self) -> u32 {
        self.connections.len() - self.sessions.count_absent() as u32
    }

    /// Puts a connection on the list to reconcile this turn.
    #[inline]
    pub(crate) fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.member.touched
        {
            connection.member.touched = true;
            self.lists.touch(key);
        }
    }
}
