//! The effective configuration as a tree that keeps the keys in the order of the schema
//! (`toml::Table` would sort them): `ringmail check` prints it, and two configurations are
//! compared by it. Secrets are redacted before they get here.

/// A value, a section, or an array of sections.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Value(toml::Value),
    Section(Vec<(String, Tree)>),
    Rows(Vec<Tree>),
}

impl Tree {
    /// The part at `path`, `limits.connections_max` or `topic.0.filter`.
    pub fn find(&self, path: &str) -> Option<&Tree> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let below = match self {
            Tree::Value(_) => None,
            Tree::Section(entries) => entries.iter().find(|(k, _)| k == first).map(|(_, t)| t),
            Tree::Rows(rows) => rows.get(first.parse::<usize>().ok()?),
        }?;
        match rest {
            Some(rest) => below.find(rest),
            None => Some(below),
        }
    }

    /// The tree without the keys and sections whose path `is_hidden`.
    pub fn without(&self, is_hidden: &dyn Fn(&str) -> bool) -> Tree {
        self.pruned("", is_hidden)
    }

    fn pruned(&self, path: &str, is_hidden: &dyn Fn(&str) -> bool) -> Tree {
        let Tree::Section(entries) = self else {
            return self.clone();
        };
        let mut kept = Vec::with_capacity(entries.len());
        for (key, tree) in entries {
            let path = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            if !is_hidden(&path) {
                kept.push((key.clone(), tree.pruned(&path, is_hidden)));
            }
        }
        Tree::Section(kept)
    }

    /// The tree as TOML text that reads back to the same configuration (but for secrets).
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, "", false);
        out
    }

    /// TOML wants a section's values before its subsections.
    fn write(&self, out: &mut String, path: &str, is_row: bool) {
        let Tree::Section(entries) = self else { return };
        let values = || entries.iter().filter(|(_, t)| matches!(t, Tree::Value(_)));
        if is_row {
            out.push_str(&format!("\n[[{path}]]\n"));
        } else if !path.is_empty() && values().next().is_some() {
            out.push_str(&format!("\n[{path}]\n"));
        }
        for (key, tree) in values() {
            if let Tree::Value(value) = tree {
                out.push_str(&format!("{} = {value}\n", quoted(key)));
            }
        }
        for (key, tree) in entries {
            let path = match path {
                "" => quoted(key),
                path => format!("{path}.{}", quoted(key)),
            };
            match tree {
                Tree::Value(_) => {}
                Tree::Section(_) => tree.write(out, &path, false),
                Tree::Rows(rows) => rows.iter().for_each(|row| row.write(out, &path, true)),
            }
        }
    }
}

/// A key as TOML writes it: bare where it may be.
fn quoted(key: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(is_bare) {
        key.to_owned()
    } else {
        toml::Value::from(key).to_string()
    }
}
