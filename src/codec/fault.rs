//! What is wrong with a payload, and where: found in the innermost value, reported with the path to
//! it.

use crate::base::protobuf::Malformed;
use std::fmt::Display;

#[derive(Debug)]
pub(super) struct Fault {
    /// For example `values[3].celsius`; empty: the whole payload.
    pub(super) path: String,
    pub(super) problem: String,
}

impl Fault {
    #[cold]
    pub(super) fn new(problem: impl Into<String>) -> Fault {
        Fault {
            path: String::new(),
            problem: problem.into(),
        }
    }

    /// Prepends a field, an index in brackets, or a key of a map to the path.
    #[cold]
    pub(super) fn within(mut self, part: impl Display) -> Fault {
        self.path = match self.path.as_str() {
            "" => part.to_string(),
            inner if inner.starts_with('[') => format!("{part}{inner}"),
            inner => format!("{part}.{inner}"),
        };
        self
    }
}

impl From<Malformed> for Fault {
    #[cold]
    fn from(malformed: Malformed) -> Fault {
        Fault::new(malformed.to_string())
    }
}
