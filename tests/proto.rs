//! The protocol core from outside, by its public faces alone: PROTOCOL.md's vectors, its
//! tables, its rules one by one, properties over random input, and pairs of sessions under
//! virtual time.
//!
//! The promises that one session can keep (`tests/README.md`: 1, 2, 6) are claims here; what needs
//! sockets or a shard is tried elsewhere.

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
