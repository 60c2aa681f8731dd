//! Whom a REQUEST goes to, where finding that out takes more than one step: its name visits very
//! many filters of services.
//!
//! ```text
//!   REQUEST ─► some nodes of the trie ─► that was all: forwarded, or NO_SERVICE
//!                                     └► more: its call is open, the connection is not read from
//!   [ REQUEST │ REQUEST │ … ]  some nodes of each, within the lane's share ─► forwarded
//! ```
//!
//! One connection has at most one of them here, so requests to one service stay in order, and none
//! waits for more than the others' shares of the lane. Its timeout runs meanwhile.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::context::scheduler::Lane;
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::group::load;
use crate::broker::publish::parcel::Parcel;
use crate::broker::request::forward::{no_server, shard_of};
use crate::broker::request::seeking::SeekingRequest;
use crate::proto::encoded::Encoded;
use crate::proto::envelope::Envelope;
use crate::router::{Choice, ServerSearch};
use crate::wire::Received;

impl Broker {
    /// Looks for the server of a request, at some nodes. True: all have been looked at.
    pub(in crate::broker) fn seek_server(
        &mut self,
        service: &str,
        search: &mut ServerSearch,
    ) -> bool {
        let most = self.resources.limits.pace.match_looks;
        let (nodes, is_done) = (self.router).seek_server(service, search, &mut self.random, most);
        self.resources.work.spend_nodes(nodes);
        is_done
    }

    pub(in crate::broker) fn found_server(&mut self, search: &ServerSearch) -> Option<Choice> {
        let connections = &self.connections;
        let load = |key| load(connections, key);
        self.router.found_server(search, &mut self.random, load)
    }

    /// Queues a REQUEST whose search is not over.
    #[cold]
    pub(in crate::broker) fn seek_later(
        &mut self,
        requester: Key,
        request: &Envelope<'_>,
        message: Received<'_>,
        search: ServerSearch,
    ) {
        let Some(call) = self.open_call(requester, request, self.id) else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut parcel = Parcel::of(message.encoded(&mut scratch));
        let tracer = self.resources.tracer.as_ref();
        self.seeking.push(SeekingRequest {
            requester,
            call,
            message: parcel.share(&self.resources.pool.ledger),
            traced: tracer.and_then(|tracer| tracer.received()),
            search,
        });
        self.scratch = scratch;
        if let Some(connection) = self.connections.get_mut(requester) {
            connection.member.fanning = Fanning::Waits;
        }
    }

    /// Goes on with all searches, within the turn's share: some nodes of each.
    pub(crate) fn step_seeking(&mut self) {
        if self.seeking.is_empty() {
            return;
        }
        self.resources.work.begin(Lane::Seek);
        while !self.resources.work.is_over()
            && let Some(mut sought) = self.seeking.pop()
        {
            let envelope = Encoded::of(&sought.message).envelope();
            let name = envelope.map_or("", |envelope| envelope.name);
            let is_open = self.resources.calls.is_open(sought.call.key);
            if is_open && !self.seek_server(name, &mut sought.search) {
                self.seeking.push(sought);
                continue;
            }
            if is_open {
                self.forward_sought(&sought, name);
            }
            self.go_on(sought.requester);
        }
        self.seeking.tidy();
    }

    fn forward_sought(&mut self, sought: &SeekingRequest, service: &str) {
        let SeekingRequest {
            requester,
            call,
            ref message,
            traced,
            ref search,
        } = *sought;
        let Some(choice) = self.found_server(search) else {
            return self.fail_call(call, &no_server(service, search));
        };
        let shard = shard_of(choice, self.id);
        self.resources.calls.assign(call.key, shard);
        let parcel = Parcel::shared(message);
        self.pass_on_first((requester, service), choice, parcel, call, traced);
    }
}
