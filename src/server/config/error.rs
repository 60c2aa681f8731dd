//! What can be wrong with a configuration, and where it was written.
//!
//! One error is one line: source, problem, remedy. All errors of one load are collected
//! and sorted, because an operator should not have to start a server five times to find
//! five mistakes.

use std::fmt::{self, Write};

/// Where a value was written. Ordered as errors are listed: by place in the file, then
/// environment, then command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Line and column count from 1, columns in characters; line 0 is the file as a whole.
    File {
        name: String,
        line: usize,
        column: usize,
    },
    /// The name of the variable.
    Environment(String),
    /// The flag as it is typed, `--listen`.
    Flag(String),
    /// No single place: a conflict of values with each other or with the host.
    Configuration,
}

impl Origin {
    /// Whether both are of the same rank in the precedence flag > environment > file.
    pub(super) fn same_layer(&self, other: &Origin) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, line: 0, .. } => f.write_str(name),
            Origin::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
            Origin::Configuration => f.write_str("configuration"),
        }
    }
}

/// One error. Displayed as one line, `origin: problem; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub origin: Origin,
    /// The key's full path, `limits.connections_max`; empty where no key is to blame.
    pub key: String,
    pub problem: String,
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of keys and files may contain anything; an error must stay one line.
        let line = format!("{}: {}; {}", self.origin, self.problem, self.remedy);
        for c in line.chars() {
            match c.is_control() {
                true => write!(f, "{}", c.escape_default())?,
                false => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// All errors, in the order of [`Origin`]. Displayed one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(in crate::server) fn new(mut errors: Vec<ConfigError>) -> ConfigErrors {
        errors.sort_by(|a, b| a.origin.cmp(&b.origin));
        ConfigErrors(errors)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> ConfigErrors {
        ConfigErrors(vec![error])
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
