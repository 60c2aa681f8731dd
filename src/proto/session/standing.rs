//! What a server's session lets its client do.

/// A client on trial may stay only if it resumes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not authenticated.
    Stranger,
    StrangerOnTrial,
    /// It has authenticated, or need not, and is on trial.
    OnTrial,
    Admitted,
}
