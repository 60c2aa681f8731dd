//! The sources of the configuration: file, environment, flags. All become TOML tables in which
//! every place maps to an [`Origin`], so that one reader serves them all.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::ledger::{Ledger, Span, read_text};

/// Environment variables with this prefix set keys; one that names no key is an error. An empty
/// variable counts as not set: only the file or a flag can set an empty value.
pub const ENVIRONMENT_PREFIX: &str = "RINGMAIL__";

/// Everything one configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file; it must exist.
    pub file: Option<PathBuf>,
    /// Variables of any name; those with [`ENVIRONMENT_PREFIX`] are read.
    pub environment: Vec<(OsString, OsString)>,
    pub flags: Vec<Flag>,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The key's full path, `server.listen`.
    pub key: String,
    /// As typed: text, or a number or list as TOML writes it.
    pub value: String,
    /// The flag as typed, `--listen`.
    pub flag: String,
}

impl Sources {
    /// No file, no environment, no flags: the defaults.
    pub fn new() -> Sources {
        Sources::default()
    }

    pub fn file(mut self, path: impl Into<PathBuf>) -> Sources {
        self.file = Some(path.into());
        self
    }

    /// Takes variables as [`std::env::vars_os`] gives them.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Sources {
        self.environment.extend(variables);
        self
    }

    pub fn flag(mut self, key: &str, value: impl ToString, flag: &str) -> Sources {
        self.flags.push(Flag {
            key: key.to_owned(),
            value: value.to_string(),
            flag: flag.to_owned(),
        });
        self
    }
}

/// One source: maps a place in it to an [`Origin`].
pub enum Source<'t> {
    File {
        name: &'t str,
        text: &'t str,
        /// Offset of each line's first byte.
        lines: Vec<usize>,
    },
    /// One variable or one flag.
    Text(Origin),
}

impl<'t> Source<'t> {
    pub fn of_text(name: &'t str, text: &'t str) -> Source<'t> {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Source::File {
            name,
            text,
            lines: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// Whether values come as plain text rather than as TOML.
    pub fn is_text(&self) -> bool {
        matches!(self, Source::Text(_))
    }

    pub fn origin(&self, span: Span) -> Origin {
        match self {
            Source::Text(origin) => origin.clone(),
            Source::File { name, text, lines } => {
                let line = lines.partition_point(|start| *start <= span.start);
                let start = lines[line - 1];
                let column = text.get(start..span.start).map_or(0, |t| t.chars().count());
                Origin::File {
                    name: (*name).to_owned(),
                    line,
                    column: column + 1,
                }
            }
        }
    }
}

/// A source with its content.
pub struct Layer<'t> {
    pub source: Source<'t>,
    pub table: Spanned<DeValue<'t>>,
}

impl<'t> Layer<'t> {
    /// A TOML text. Lines that are not TOML are recorded, one error a line; the rest is read.
    pub fn of_toml(name: &'t str, text: &'t str, ledger: &mut Ledger) -> Layer<'t> {
        let source = Source::of_text(name, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = source.origin(error.span().unwrap_or(0..0));
            let is_first = !ledger.errors.iter().any(|e| same_line(&e.origin, &origin));
            if is_first {
                ledger.errors.push(ConfigError {
                    origin,
                    key: String::new(),
                    problem: format!("not TOML: {}", error.message().replace('\n', " ")),
                    remedy: "correct the syntax of this line".to_owned(),
                });
            }
        }
        let table = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
        Layer { source, table }
    }

    /// `value` as the only key of a source, at `path`.
    pub fn of_key(path: &[&str], value: &str, at: Origin) -> Layer<'t> {
        let leaf = Spanned::new(0..0, DeValue::String(Cow::Owned(value.to_owned())));
        let table = path.iter().rev().fold(leaf, |below, name| {
            let mut table = DeTable::new();
            table.insert(Spanned::new(0..0, Cow::Owned((*name).to_owned())), below);
            Spanned::new(0..0, DeValue::Table(table))
        });
        Layer {
            source: Source::Text(at),
            table,
        }
    }
}

pub fn same_line(a: &Origin, b: &Origin) -> bool {
    match (a, b) {
        (Origin::File { line: a, .. }, Origin::File { line: b, .. }) => a == b,
        _ => false,
    }
}

/// The configuration file, if one is named and can be read: its name and its text.
pub fn file(sources: &Sources, ledger: &mut Ledger) -> Option<(String, String)> {
    let path = sources.file.as_ref()?;
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => Some((name, text)),
        Err(why) => {
            ledger.errors.push(ConfigError {
                origin: Origin::File {
                    name,
                    line: 0,
                    column: 0,
                },
                key: String::new(),
                problem: format!("the configuration file cannot be read: {why}"),
                remedy: "name a file that exists, or none to use the defaults".to_owned(),
            });
            None
        }
    }
}

/// Environment and flags in the order of precedence, the strongest last.
pub fn texts<'t>(sources: &Sources, ledger: &mut Ledger) -> Vec<Layer<'t>> {
    let mut layers = Vec::new();
    let mut variables: Vec<_> = sources
        .environment
        .iter()
        .map(|(name, value)| (name.to_string_lossy(), value))
        .filter(|(name, value)| name.starts_with(ENVIRONMENT_PREFIX) && !value.is_empty())
        .collect();
    variables.sort();
    for (name, value) in variables {
        let origin = Origin::Environment(name.to_string());
        match value.to_str() {
            Some(value) => {
                let path = name[ENVIRONMENT_PREFIX.len()..].to_lowercase();
                layers.push(Layer::of_key(
                    &path.split("__").collect::<Vec<_>>(),
                    value,
                    origin,
                ));
            }
            None => ledger.errors.push(ConfigError {
                origin,
                key: String::new(),
                problem: "the value is not UTF-8".to_owned(),
                remedy: "set it to valid UTF-8".to_owned(),
            }),
        }
    }
    for flag in &sources.flags {
        let origin = Origin::Flag(flag.flag.clone());
        layers.push(Layer::of_key(
            &flag.key.split('.').collect::<Vec<_>>(),
            &flag.value,
            origin,
        ));
    }
    layers
}
