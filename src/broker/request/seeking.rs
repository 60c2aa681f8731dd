//! Requests whose servers are still being looked for, as values (see `seek`).

use crate::base::id::Key;
use crate::broker::mesh::Call;
use crate::proto::trace::TraceContext;
use crate::router::ServerSearch;
use bytes::Bytes;
use std::collections::VecDeque;

/// The requests of a shard's connections whose servers are still being looked for.
#[derive(Default)]
pub(crate) struct Seeking {
    queue: VecDeque<SeekingRequest>,
}

/// One of them.
pub(in crate::broker) struct SeekingRequest {
    pub(in crate::broker) requester: Key,
    pub(in crate::broker) call: Call,
    pub(in crate::broker) message: Bytes,
    /// It is sampled.
    pub(in crate::broker) traced: Option<TraceContext>,
    pub(in crate::broker) search: ServerSearch,
}

impl Seeking {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(in crate::broker) fn push(&mut self, sought: SeekingRequest) {
        self.queue.push_back(sought);
    }

    pub(in crate::broker) fn pop(&mut self) -> Option<SeekingRequest> {
        self.queue.pop_front()
    }

    /// Gives the queue's memory back if nothing is in it: little ever is.
    pub(in crate::broker) fn tidy(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    /// Bytes of memory of the queue, without its messages.
    pub(in crate::broker) fn cost_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<SeekingRequest>()
    }
}
