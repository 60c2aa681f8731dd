//! Layer 3: the broker decides who gets what. It holds everything of a shard but the sockets and
//! the driver: the connections, and all that a message passes through from one to another. It
//! speaks no protocol ([`crate::wire`] does) and reads no clock.
//!
//! ```text
//!   bytes ─► session ─► REQUEST of a service here ─► answered in place
//!     (one connection)  everything else ──────────► dispatch: publish, subscribe, forward, …
//! ```
//!
//! | folder | idea |
//! |---|---|
//! | `input`, `dispatch` | received bytes become operations; each operation goes to its part |
//! | `context` | what all parts share: time, limits, counters, work, memory |
//! | `peers` | connections, and the lists of those to look at again |
//! | `admission` | who may connect, who they are, what they may do, how much they may send |
//! | `publish` | a publication: its route, fan-out, pending queues, retained messages, schemas |
//! | `subscribe` | subscriptions, services and wills of a connection |
//! | `request` | a request: answered here, or forwarded |
//! | `session` | what outlives a connection |
//! | `mesh` | messages between shards, and the answers that wait for them |
//!
//! Parts own their data and are below this file, which holds them; the `impl Broker` files, which
//! combine parts, are above it. There are no import cycles.
//!
//! Invariant: nothing that handles a connection's bytes frees one. Connections are freed and moved
//! by the shard, between such handlings (`shard::reconcile`, `shard::resume`), so a key being
//! handled keeps its connection.

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
pub use mesh::{LinkSize, Mesh, connect_shards};
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
use crate::broker::request::seeking::Seeking;
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
    /// Covers what waits in the mesh.
    pub(crate) mesh_charge: Charge,
    /// Covers tables; updated at the end of each turn (`charge_tables`).
    pub(crate) table_charge: Charge,
    pub(in crate::broker) confirmations: Confirmations,
    pub(crate) forwarded: ForwardedRequests,
    /// Requests whose servers are still being looked for.
    pub(crate) seeking: Seeking,
    /// Where workers post the results of payload checks.
    pub(in crate::broker) findings: Slot<Box<Finding>>,
    /// Result of the last router look-up; kept to reuse its allocations.
    pub(in crate::broker) matches: Matches,
    /// Group members chosen on other shards; kept for the same reason.
    pub(in crate::broker) picks: Vec<(ShardId, Key)>,
    /// Version of the last retained message.
    pub(in crate::broker) retained_at: Instant,
    pub(crate) sessions: Sessions,
    /// Slow consumers to report in the log.
    pub(crate) slow_reports: VecDeque<SlowReport>,
    pub(crate) entropy: Entropy,
    /// Scratch buffer for messages that are built or re-framed.
    pub(in crate::broker) scratch: Vec<u8>,
    /// Scratch buffer for the key under which a publication is the latest one.
    pub(in crate::broker) latest_key: Vec<u8>,
    /// Numbers the publications delivered here, so that a connection matched by several filters
    /// gets each once.
    pub(in crate::broker) publications: u64,
    /// The busiest topics.
    pub(crate) topics: Topics,
    /// The largest memory holders.
    pub(crate) holders: Holders,
    /// Number of subscriptions and services of this shard's connections.
    pub(in crate::broker) memberships: usize,
    /// Publications being delivered to many subscribers.
    pub(crate) fanouts: Fanouts,
    /// Messages that departed members left to others.
    pub(crate) legacies: Legacies,
    /// Members for which the kernel holds much unsent data.
    pub(crate) backed_up: BackedUp,
    /// Retained messages being delivered to new subscriptions.
    pub(crate) replays: Replays,
    pub(in crate::broker) random: fastrand::Rng,
    /// Connections to look at again.
    pub(crate) lists: Lists,
    /// Verifies credentials; `None`: authentication is off.
    pub(crate) access: Option<Access>,
    /// Limits which addresses may connect; `None`: all may.
    pub(crate) admission: Option<Arc<Admission>>,
    /// Topics whose payloads have a schema; `None`: no topic has one.
    pub(crate) schemas: Option<Schemas>,
    /// Numbers the requests sent to the control thread.
    pub(in crate::broker) asked: u64,
    /// The server is shutting down: sessions end with their connections.
    pub(crate) draining: bool,
    /// Shutdown has come so far that input from clients is no longer handled.
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
            seeking: Seeking::default(),
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

    /// Connections that occupy a slot; sessions without a connection are not counted.
    pub(crate) fn connection_count(&self) -> u32 {
        self.connections.len() - self.sessions.count_absent() as u32
    }

    /// Lists a connection for reconciliation in this turn.
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
