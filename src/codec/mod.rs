//! Layer 2: payloads by schema. What a message of a FileDescriptorSet may hold, whether a
//! payload fits it, and the same payload in the other codec: JSON (proto3's mapping) and
//! protobuf.
//!
//! ```text
//!   FileDescriptorSet ─► Descriptors ─► Schema (one message)
//!                                         │ check(codec, payload)
//!                                         ▼
//!                    Misfit: which field ◄─┴─► Checked ─ write(other codec) ─► payload
//! ```
//!
//! The work is prost-reflect's: a payload becomes a tree of values and is written from it,
//! because neither codec can be written from the other without knowing the fields. Its cost
//! is that tree; who may not wait for that has a worker do it (`shard::check`).
//!
//! Payloads are hostile. Bounds: 128 levels of JSON (serde_json's), 100 of protobuf (ours,
//! see `depth`), and JSON that would be deeper than that as protobuf does not fit. What is
//! written is bounded by the caller: an enum's long name takes a byte in protobuf. The tree
//! has up to 100 bytes for each value, of which protobuf has one in a byte or two, so that a
//! payload may take a hundred times its size while it is looked at: 400 KB on a shard, and of
//! the largest messages 100 MB on each worker. A panic of a library is a misfit: no input ends
//! the server.
//!
//! Not done: fields that protobuf carries and the schema does not know pass, as protobuf
//! wants it, and are not in the JSON; JSON fields that the schema does not know do not fit.
//! `required` of proto2 is not asked for.

mod bounded;
mod depth;
mod locate;
mod schema;
#[cfg(test)]
mod tests;

pub use depth::{LEVELS_MAX, could_be_too_deep};
pub use schema::{Checked, Descriptors, Misfit, Schema, SchemaError, Untranslatable};
