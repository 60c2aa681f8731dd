//! Layer 2: payloads by schema. What a message of a FileDescriptorSet may hold, whether a
//! payload fits it, and the same payload in the other codec: JSON (proto3's mapping) and
//! protobuf.
//!
//! ```text
//!   FileDescriptorSet ─ set ─► resolve ─► Types: Descriptors ─► Schema (one message)
//!                                                                 │ check(codec, payload)
//!   JSON ───── read ────┐                                         ▼
//!                       ├─► Tree ─► judge ─► Checked, or Misfit: which field, and why
//!   protobuf ─ decode ──┘     │
//!                             ├─ write ──► JSON         Checked::write(codec)
//!                             └─ encode ─► protobuf
//! ```
//!
//! A payload becomes a tree of values and is written from it, because neither codec can be
//! written from the other without knowing the fields. The tree is the cost, which grows with the
//! number of values rather than bytes ([`Checked::values`]); a caller that must not wait for it
//! uses a worker (`broker::publish::check`).
//!
//! This is an implementation of our own. prost-reflect, which it replaced, trusts schema files and
//! panics if one was not made by protoc (or uses an edition); follows lengths beyond the enclosing
//! message, and so nests as deep as the sender likes; refuses a known field with another wire type;
//! and deviates in its mapping to JSON: infinities in wrappers became null, −0.0 became 0, 2^64
//! became 2^64 − 1, durations with mixed signs were written, and a dozen more. The reference is
//! Google's `json_format`, with which tests/python.rs compares this code, value by value and
//! refusal by refusal. Where that differs from its later versions and from C++, this code does not
//! follow it: `read`, `scalar` and `judge` say where.
//!
//! Payloads are hostile. Bounds: 128 levels of JSON, and 100 of protobuf, which also apply to
//! JSON. The caller bounds the output, since an enum's long name takes one byte in protobuf. The
//! tree takes 40 bytes per value, which protobuf may write in a byte or two, and as much again
//! for a message of one value, so that a payload may take a hundred times its size while it is
//! checked: 400 KB on a shard, and 100 MB on each worker for the largest messages. A panic
//! counts as a misfit: no input ends the server.
//!
//! Limits: protobuf fields that the schema does not know are accepted, as protobuf requires, and
//! left out of the JSON; JSON fields that the schema does not know are refused. `required` of
//! proto2 is not enforced. MessageSets are treated like other messages.

mod decode;
mod descriptor;
mod encode;
mod fault;
mod judge;
mod mask;
mod moment;
mod read;
mod resolve;
mod scalar;
mod schema;
mod set;
mod special;
#[cfg(test)]
mod tests;
mod text;
mod tree;
mod write;

pub use schema::{Checked, Descriptors, Misfit, Schema, SchemaError, Untranslatable};
