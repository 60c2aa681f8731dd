//! The errors found in a configuration so far, and where; and how its files are read.

use super::error::{ConfigError, Origin};
use crate::base::file;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a configuration file, or of a file that a `*_file` key names: far more than any needs,
/// and a bound for endless ones (`/dev/zero`).
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The errors found so far, in all sources.
#[derive(Default)]
pub struct Ledger {
    pub errors: Vec<ConfigError>,
    /// For each key that is set, where it was set last.
    pub origins: BTreeMap<String, Origin>,
}

impl Ledger {
    pub fn is_faulty(&self, key: &str) -> bool {
        self.errors.iter().any(|error| error.key == key)
    }
}

/// A place in the text of a source, in bytes.
pub type Span = std::ops::Range<usize>;

/// A whole file as text, or why not.
pub fn read_text(path: &Path) -> Result<String, String> {
    let bytes = file::read(path, FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|b| **b == b'\n');
        format!("it is not UTF-8 (line {})", line.count() + 1)
    })
}
