//! Who answers a request, as far as it is known: matched in one step or in several, as a
//! publication is (see `search`), but without a list of all who might. Of the servers that have been
//! seen so far one is drawn already.

use super::group::Draw;
use super::trie::Place;

/// See the module's head.
#[derive(Default)]
pub struct ServerSearch {
    pub(super) place: Place,
    pub(super) draw: Draw,
}

impl ServerSearch {
    /// It has seen a server, which may have ended since.
    pub fn has_found(&self) -> bool {
        self.draw.drawn().is_some()
    }
}
