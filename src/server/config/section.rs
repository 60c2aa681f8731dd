//! How the schema is read: each key finds its field, each error is recorded, and reading goes on.
//!
//! `section!` generates the struct, its defaults, the known keys, the reader and the printer from
//! one list of keys, so that a key is added on one line of `schema.rs`.
//!
//! File, environment and flags all become TOML tables (see `source`) and are merged in the order of
//! precedence: a later value replaces an earlier one.
//!
//! Invariant: a field changes only to a value that its type and its rule accept.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};
use super::ledger::{Ledger, Span, read_text};
use super::rule::Verdict;
use super::setting::Setting;
use super::source::Source;
use super::tree::Tree;
use super::unsupported::is_unsupported;

/// A part of the configuration: a value, a section, or several sections.
pub trait Node: Clone {
    /// See [`Setting::FROM_FILE`].
    const FROM_FILE: bool = false;

    /// Merges `value` into this.
    fn merge(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>);
    /// The effective values, for printing and comparing.
    fn tree(&self) -> Tree;
    /// The full paths of all keys at or below `path`.
    fn keys(path: &str, out: &mut Vec<String>);
}

impl<T: Setting> Node for T {
    const FROM_FILE: bool = T::FROM_FILE;

    fn merge(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        let read = T::read(value.get_ref()).or_else(|| {
            // Outside a file everything is a string: numbers and lists as TOML writes them.
            let text = reader
                .source
                .is_text()
                .then(|| value.get_ref().as_str())??;
            T::read(DeValue::parse(text).ok()?.get_ref())
        });
        match read {
            Some(read) => *self = read,
            None => reader.mistyped::<T>(value, &self.tree()),
        }
    }

    fn tree(&self) -> Tree {
        Tree::Value(self.write())
    }

    fn keys(path: &str, out: &mut Vec<String>) {
        out.push(path.to_owned());
        if T::FROM_FILE {
            out.push(format!("{path}_file"));
        }
    }
}

/// A struct that `section!` made: what a table in TOML stands for.
pub trait Section: Node + Default {
    /// The section's own keys, in order.
    const KEYS: &'static [&'static str];
}

/// `[[topic]]`: a layer that has any replaces those of the layer below.
pub fn merge_rows<S: Section>(
    rows: &mut Vec<S>,
    value: &Spanned<DeValue<'_>>,
    reader: &mut Reader<'_>,
) {
    let Some(written) = value.get_ref().as_array() else {
        let path = reader.path.join(".");
        return reader.fault(
            value.span(),
            format!("{path} is a list of sections, not a value"),
            format!("write [[{path}]] in the configuration file"),
        );
    };
    rows.clear();
    for (index, row) in written.iter().enumerate() {
        reader.enter(&index.to_string(), row.span(), |reader| {
            let mut section = S::default();
            section.merge(row, reader);
            rows.push(section);
        });
    }
}

/// Sections that may be given several times, `[[topic]]`.
macro_rules! rows {
    ($($name:ident),*) => {$(
        impl Node for Vec<$name> {
            fn merge(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
                super::section::merge_rows(self, value, reader);
            }

            fn tree(&self) -> Tree {
                Tree::Rows(self.iter().map(Node::tree).collect())
            }

            fn keys(path: &str, out: &mut Vec<String>) {
                $name::keys(path, out);
            }
        }
    )*};
}

/// `[roles.NAME]`.
impl<S: Section> Node for BTreeMap<String, S> {
    fn merge(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        for (name, value) in reader.table(value) {
            reader.enter(name.get_ref(), name.span(), |reader| {
                let section = self.entry(name.get_ref().to_string()).or_default();
                section.merge(value, reader);
            });
        }
    }

    fn tree(&self) -> Tree {
        Tree::Section(self.iter().map(|(k, s)| (k.clone(), s.tree())).collect())
    }

    fn keys(path: &str, out: &mut Vec<String>) {
        S::keys(&format!("{path}.NAME"), out);
    }
}

/// Reads one source into the configuration.
pub struct Reader<'a> {
    pub source: &'a Source<'a>,
    pub ledger: &'a mut Ledger,
    /// The path of the current key: `limits`, `connections_max`.
    path: Vec<String>,
    /// Appends all known keys to a list.
    keys: fn(&str, &mut Vec<String>),
}

impl<'a> Reader<'a> {
    /// A reader for a whole configuration of type `Whole`.
    pub fn new<Whole: Node>(source: &'a Source<'a>, ledger: &'a mut Ledger) -> Reader<'a> {
        Reader {
            source,
            ledger,
            path: Vec::new(),
            keys: Whole::keys,
        }
    }

    /// The entries of a section; none, and an error, if it is a plain value.
    pub fn table<'v, 'i>(&mut self, value: &'v Spanned<DeValue<'i>>) -> &'v DeTable<'i> {
        static NONE: std::sync::LazyLock<DeTable<'static>> = std::sync::LazyLock::new(DeTable::new);
        value.get_ref().as_table().unwrap_or_else(|| {
            let path = self.path.join(".");
            self.fault(
                value.span(),
                format!("{path} is a section, not a value"),
                format!("set its keys, [{path}] in a file"),
            );
            &NONE
        })
    }

    /// Runs `work` one level down, at `name`.
    pub fn enter(&mut self, name: &str, span: Span, work: impl FnOnce(&mut Self)) {
        self.path.push(name.to_owned());
        let origin = self.source.origin(span);
        self.ledger.origins.insert(self.path.join("."), origin);
        work(self);
        self.path.pop();
    }

    /// Merges `value` into the field `node` and checks it against its rules.
    pub fn field<N: Node>(
        &mut self,
        node: &mut N,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        rules: &[&dyn Fn(&N) -> Verdict],
    ) {
        self.path.push(name.to_owned());
        let path = self.path.join(".");
        let origin = self.source.origin(value.span());
        let earlier = self.ledger.origins.insert(path.clone(), origin.clone());
        let is_twin = |e: &Origin| N::FROM_FILE && e.same_layer(&origin) && *e != origin;
        if let Some(earlier) = earlier.filter(is_twin) {
            self.fault(
                value.span(),
                format!("{path} and {path}_file are both set (the other one in {earlier})"),
                "keep one of them".to_owned(),
            );
        }
        let before = node.clone();
        let errors = self.ledger.errors.len();
        node.merge(value, self);
        if self.ledger.errors.len() == errors {
            for demand in rules.iter().filter_map(|rule| rule(node).err()) {
                let found = match N::FROM_FILE {
                    true => kind(value.get_ref()).to_owned(),
                    false => brief(value.get_ref()),
                };
                let problem = format!("{path} {demand}, not {found}");
                let remedy = match before.tree() {
                    Tree::Value(before) => format!("this line overrides {before}"),
                    _ => "correct it".to_owned(),
                };
                self.fault(value.span(), problem, remedy);
            }
        }
        if self.ledger.errors.len() > errors && matches!(before.tree(), Tree::Value(_)) {
            *node = before;
        }
        self.path.pop();
    }

    /// The same for `KEY_file`: the value is the text in the file, without the newline that editors
    /// put at its end.
    pub fn field_from_file<N: Node>(
        &mut self,
        node: &mut N,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        rules: &[&dyn Fn(&N) -> Verdict],
    ) {
        self.path.push(format!("{name}_file"));
        let path = self.path.join(".");
        let content = match value.get_ref().as_str() {
            Some(file) => read_text(Path::new(file)).map_err(|why| {
                let problem = format!("{path}: {file:?} cannot be read: {why}");
                (problem, "name a file that this user may read")
            }),
            None => Err((
                format!("{path}: expected a path, found {}", kind(value.get_ref())),
                "write it as a string",
            )),
        };
        self.path.pop();
        match content {
            Ok(content) => {
                let text = content.trim_end_matches(['\r', '\n']).to_owned();
                let content = Spanned::new(value.span(), DeValue::String(text.into()));
                self.field(node, name, &content, rules);
            }
            Err((problem, remedy)) => {
                self.fault_at(&path, value.span(), problem, remedy.to_owned());
            }
        }
    }

    /// Records that the current section `S` does not have this key.
    pub fn unknown<S: Section>(&mut self, name: &str, span: Span) {
        let here = self.path.join(".");
        let mut siblings: Vec<String> = S::KEYS.iter().map(|key| (*key).to_owned()).collect();
        S::keys("", &mut siblings);
        let at = |key: &str| match here.as_str() {
            "" => key.to_owned(),
            here => format!("{here}.{key}"),
        };
        let path = at(name);
        let mut keys = S::KEYS.to_vec();
        keys.retain(|key| !is_unsupported(&at(key)));
        let mut all = Vec::new();
        (self.keys)("", &mut all);
        let remedy = match nearest(name, &siblings, &all) {
            Some(known) => format!("did you mean {known}?"),
            None if here.is_empty() => format!("the sections are {}", keys.join(", ")),
            None => format!("[{here}] has {}", keys.join(", ")),
        };
        self.fault_at(&path, span, format!("unknown key {path}"), remedy);
    }

    fn mistyped<T: Setting>(&mut self, value: &Spanned<DeValue<'_>>, instead: &Tree) {
        let found = match T::SECRET {
            true => kind(value.get_ref()).to_owned(),
            false => brief(value.get_ref()),
        };
        let path = self.path.join(".");
        let problem = format!("{path}: expected {}, found {found}", T::EXPECTED);
        let remedy = match (instead, self.path.last()) {
            (Tree::Value(value), Some(key)) if !T::SECRET => format!("for example {key} = {value}"),
            _ => "correct it".to_owned(),
        };
        self.fault(value.span(), problem, remedy);
    }

    /// Records an error in the value of the current key.
    pub fn fault(&mut self, span: Span, problem: String, remedy: String) {
        let path = self.path.join(".");
        self.fault_at(&path, span, problem, remedy);
    }

    fn fault_at(&mut self, key: &str, span: Span, problem: String, remedy: String) {
        self.ledger.errors.push(ConfigError {
            origin: self.source.origin(span),
            key: key.to_owned(),
            problem,
            remedy,
        });
    }
}

/// The value as written, shortened and on one line.
fn brief(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > 60 => {
            format!("{:?}…", text.chars().take(60).collect::<String>())
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        other => kind(other).to_owned(),
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// The known key that was probably meant: the same in another section, or one here that is
/// spelled much like it.
fn nearest(name: &str, siblings: &[String], all: &[String]) -> Option<String> {
    if let Some(elsewhere) = all.iter().find(|k| k.rsplit('.').next() == Some(name)) {
        return Some(elsewhere.clone());
    }
    let likeness = |known: &str| {
        let is_begun = name.len() >= 3 && known.starts_with(name);
        let spelling = strsim::normalized_damerau_levenshtein(name, known);
        if is_begun {
            spelling.max(0.5)
        } else {
            spelling
        }
    };
    let best = siblings
        .iter()
        .filter(|known| !known.contains('.'))
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= 0.5).then(|| best.clone())
}

/// Keys become a section: `name: Type = default, rule;`, each with its doc. The rule, what
/// a value of the type must also fulfil, may be left out.
macro_rules! section {
    ($(
        $(#[$meta:meta])*
        $name:ident {$(
            $(#[$doc:meta])*
            $key:ident: $type:ty = $default:expr $(, $rule:expr)?;
        )*}
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {$(
            $(#[$doc])*
            pub $key: $type,
        )*}

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key),)*];
        }

        impl Node for $name {
            fn merge(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
                for (key, value) in reader.table(value) {
                    let name = key.get_ref().as_ref();
                    match (name, name.strip_suffix("_file")) {
                        $((stringify!($key), _) => {
                            reader.field(&mut self.$key, name, value, &[$(&$rule)?]);
                        })*
                        $((_, Some(stringify!($key))) if <$type as Node>::FROM_FILE => {
                            let name = stringify!($key);
                            reader.field_from_file(&mut self.$key, name, value, &[$(&$rule)?]);
                        })*
                        _ => reader.unknown::<Self>(name, key.span()),
                    }
                }
            }

            fn tree(&self) -> Tree {
                Tree::Section(vec![$((stringify!($key).to_owned(), self.$key.tree()),)*])
            }

            fn keys(path: &str, out: &mut Vec<String>) {
                let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
                $(<$type as Node>::keys(&format!("{prefix}{}", stringify!($key)), out);)*
            }
        }
    )*};
}

pub(super) use {rows, section};
