//! What a server's session lets its client do.

/// On trial is who may stay only if it resumes a
/// session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has not shown who it is.
    Stranger,
    StrangerOnTrial,
    /// It has, or need not.
    OnTrial,
    Admitted,
}
