//! Answers to operations, and what they wait for, as values.

use super::mesh::Ticket;
use crate::base::id::Key;
use crate::proto::error::Refusal;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Confirmations {
    pub(super) queue: VecDeque<Pending>,
}

pub(super) struct Pending {
    pub(super) until: Until,
    pub(super) connection: Key,
    pub(super) answer: Answer,
}

/// What an answer waits for.
#[derive(Clone, Copy)]
pub(super) struct Until {
    /// The epoch that has to be done.
    pub(super) mark: u64,
    /// And what others had said before they did that.
    pub(super) heard: bool,
    /// And the home's word.
    pub(super) ticket: Option<Ticket>,
}

/// The answer to one operation.
pub(super) struct Answer {
    pub(super) id: u32,
    /// It answers a PUBLISH that was taken or refused now: its id counts for the session.
    pub(super) publish: bool,
    pub(super) refusal: Option<Box<Refusal>>,
}

impl Answer {
    pub(super) fn of(id: u32, done: Result<(), Refusal>) -> Answer {
        match done {
            Ok(()) => Answer::ok(id),
            Err(refusal) => Answer::refused(id, refusal),
        }
    }

    pub(super) fn ok(id: u32) -> Answer {
        Answer {
            id,
            publish: false,
            refusal: None,
        }
    }

    pub(super) fn published(id: u32) -> Answer {
        Answer {
            id,
            publish: true,
            refusal: None,
        }
    }

    /// To a PUBLISH.
    pub(super) fn unpublished(id: u32, refusal: Refusal) -> Answer {
        Answer {
            publish: true,
            ..Answer::refused(id, refusal)
        }
    }

    pub(super) fn refused(id: u32, refusal: Refusal) -> Answer {
        Answer {
            id,
            publish: false,
            refusal: Some(Box::new(refusal)),
        }
    }
}

impl Confirmations {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
