//! Time stands still.

use crate::base::clock::Instant;

pub(super) fn now() -> Instant {
    Instant::from_nanos(1_000_000_000)
}
