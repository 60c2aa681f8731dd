//! The protocol core from outside, by its public faces alone: PROTOCOL.md's vectors, its
//! tables, its rules one by one, properties over random input, and pairs of sessions under
//! virtual time.
//!
//! The rows of the promise catalogue that one session can keep (F1–F5, F7, F8, H2, H3) are
//! claims here; what needs sockets or a shard is tried elsewhere.

mod proto {
    mod close;
    mod deadline;
    mod handshake;
    mod message;
    mod page;
    mod pair;
    mod property;
    mod random;
    mod schema;
    mod vector;
}
