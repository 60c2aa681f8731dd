//! The result of a worker's check of a payload.

use crate::base::id::Key;
use crate::broker::publish::publication::{Form, SchemaId};
use crate::codec::Misfit;
use crate::proto::trace::TraceContext;
use bytes::Bytes;

/// What a message is for whose payload a worker checks.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) enum Purpose {
    Publish,
    KeepWill,
}

/// A message whose payload a worker has checked.
pub struct Finding {
    pub(in crate::broker) connection: Key,
    pub(in crate::broker) purpose: Purpose,
    /// The whole message, without CRC.
    pub(in crate::broker) message: Bytes,
    /// The context of its `receive` span, if it is sampled.
    pub(in crate::broker) context: Option<TraceContext>,
    pub(in crate::broker) schema: SchemaId,
    pub(in crate::broker) found: Result<Form, Misfit>,
}
