//! What a worker has found of a payload.

use super::publication::{Form, SchemaId};
use crate::base::id::Key;
use crate::codec::Misfit;
use crate::proto::message::MessageType;
use crate::proto::trace::TraceContext;
use bytes::Bytes;

/// A message whose payload a worker has checked.
pub struct Finding {
    pub(super) connection: Key,
    pub(super) kind: MessageType,
    /// Whole, without CRC.
    pub(super) message: Bytes,
    /// Its `receive` span, if it is sampled.
    pub(super) context: Option<TraceContext>,
    pub(super) schema: SchemaId,
    pub(super) found: Result<Form, Misfit>,
}
