//! The clients' clock: tokio's, by which their timers run too. It is the machine's, unless a test
//! has paused it.

use crate::base::clock::Instant;

pub(super) fn now() -> Instant {
    Instant::of(tokio::time::Instant::now().into_std())
}
