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
//! written from the other without knowing the fields. Its cost is that tree, by the value and
//! not by the byte ([`Checked::values`]); who may not wait for that has a worker do it
//! (`shard::check`).
//!
//! All of it is written here. prost-reflect, which did it before, takes a schema file on trust
//! and panics where it is not protoc's (or has an edition), follows lengths out of the message
//! they stand in, and so as deep as the sender likes, refuses a known field of another wire
//! type, and has a mapping to JSON of its own: infinities in wrappers were null, −0.0 was 0, 2^64
//! was 2^64 − 1, durations of two signs were written, and a dozen more. What is right is Google's
//! `json_format`, which tests/python.rs compares this with, value by value and refusal by
//! refusal. Where it does otherwise than its later versions and C++ that is not followed: `read`,
//! `scalar` and `judge` say where.
//!
//! Payloads are hostile. Bounds: 128 levels of JSON, and 100 of protobuf, which JSON has to
//! fit in too. What is written is bounded by the caller: an enum's long name takes a byte in
//! protobuf. The tree has 40 bytes for each value, of which protobuf has one in a byte or two,
//! and a message of one value as much again, so that a payload may take a hundred times its
//! size while it is looked at: 400 KB on a shard, and of the largest messages 100 MB on each
//! worker. A panic is a misfit: no input ends the server.
//!
//! Not done: fields that protobuf carries and the schema does not know pass, as protobuf
//! wants it, and are not in the JSON; JSON fields that the schema does not know do not fit.
//! `required` of proto2 is not asked for. MessageSets are messages like others.

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
