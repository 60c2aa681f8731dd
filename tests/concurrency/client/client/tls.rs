//! No TLS.

use std::path::PathBuf;

#[derive(Clone, Debug, Default)]
pub struct Tls;

impl Tls {
    pub(super) fn ca(self, _: impl Into<PathBuf>) -> Tls {
        self
    }

    pub(super) fn identity(self, _: impl Into<PathBuf>, _: impl Into<PathBuf>) -> Tls {
        self
    }
}
