//! What a client holds, looked at from outside, for this crate's tests (feature `sim`).

use super::driver::Shared;
use super::handle::Client;
use super::network::Held;
use std::sync::{Arc, Weak};

/// A look at a client that does not keep it alive.
#[derive(Clone)]
pub struct Glance(Weak<Shared>);

impl Glance {
    pub fn at(client: &Client) -> Glance {
        Glance(Arc::downgrade(client.shared()))
    }

    /// `None`: nothing of the client is left.
    pub fn held(&self) -> Option<Held> {
        let shared = self.0.upgrade()?;
        let held = shared.lock().held();
        Some(held)
    }
}
