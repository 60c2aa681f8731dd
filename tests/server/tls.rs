//! TLS on the port (PROTOCOL.md §4): the same protocol, told apart by the first byte. Whatever
//! else the server promises, it promises through TLS: the trials of the other files are
//! repeated here where TLS could make a difference.

#[path = "tls/authority.rs"]
pub mod authority;
#[path = "tls/hostile.rs"]
mod hostile;
#[path = "tls/identity.rs"]
mod identity;
#[path = "tls/mode.rs"]
mod mode;
#[path = "tls/reload.rs"]
mod reload;
#[path = "tls/session.rs"]
mod session;
#[path = "tls/volume.rs"]
mod volume;
