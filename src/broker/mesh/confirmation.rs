//! Answers to operations and their conditions, as values.

use crate::base::id::Key;
use crate::broker::mesh::Ticket;
use crate::proto::error::Refusal;
use std::collections::VecDeque;

#[derive(Default)]
pub(in crate::broker) struct Confirmations {
    pub(in crate::broker) queue: VecDeque<Pending>,
}

pub(in crate::broker) struct Pending {
    pub(in crate::broker) until: Until,
    pub(in crate::broker) connection: Key,
    pub(in crate::broker) answer: Answer,
}

/// What an answer waits for.
#[derive(Clone, Copy)]
pub(in crate::broker) struct Until {
    /// Everything up to this epoch has been handled.
    pub(in crate::broker) mark: u64,
    /// If set, also everything that the other shards had said before they handled it.
    pub(in crate::broker) heard: bool,
    /// If set, also the home's confirmation of this publication.
    pub(in crate::broker) ticket: Option<Ticket>,
}

/// The answer to one operation.
pub(in crate::broker) struct Answer {
    pub(in crate::broker) id: u32,
    /// It answers a PUBLISH that has just been accepted or refused: its id counts for the session.
    pub(in crate::broker) publish: bool,
    pub(in crate::broker) refusal: Option<Box<Refusal>>,
}

impl Answer {
    pub(in crate::broker) fn of(id: u32, done: Result<(), Refusal>) -> Answer {
        match done {
            Ok(()) => Answer::ok(id),
            Err(refusal) => Answer::refused(id, refusal),
        }
    }

    pub(in crate::broker) fn ok(id: u32) -> Answer {
        Answer {
            id,
            publish: false,
            refusal: None,
        }
    }

    pub(in crate::broker) fn published(id: u32) -> Answer {
        Answer {
            id,
            publish: true,
            refusal: None,
        }
    }

    /// Refuses a PUBLISH.
    pub(in crate::broker) fn unpublished(id: u32, refusal: Refusal) -> Answer {
        Answer {
            publish: true,
            ..Answer::refused(id, refusal)
        }
    }

    pub(in crate::broker) fn refused(id: u32, refusal: Refusal) -> Answer {
        Answer {
            id,
            publish: false,
            refusal: Some(Box::new(refusal)),
        }
    }
}

impl Confirmations {
    pub(in crate::broker) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
