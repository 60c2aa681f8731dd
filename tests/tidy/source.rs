//! Rust sources read as text: what is code (comments and literals blanked), where the tests
//! begin, and which paths of the crate a file names.
//!
//! A scanner of a few dozen lines instead of a parser crate: it must only tell code from
//! comments and literals, and follow `crate::`, `super::` and `use` groups. It expands no
//! macros; a path that only a macro builds is not seen.
//!
//! Invariant: blanking keeps every line break, so a line number of `code` is one of `text`.

use std::fs;
use std::path::{Path, PathBuf};

/// One file: where it stands (relative, with `/`), what it says, and what of that is code.
pub struct Source {
    pub path: String,
    pub text: String,
    pub code: String,
}

#[derive(Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        Source {
            path: path.into(),
            text: text.into(),
            code: blank(text),
        }
    }

    /// Names of the modules the file is: `src/proto/frame.rs` is `proto`, `frame`.
    pub fn modules(&self) -> Vec<String> {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut names: Vec<String> = inner.split('/').map(String::from).collect();
        if matches!(
            names.last().map(String::as_str),
            Some("mod" | "lib" | "main")
        ) {
            names.pop();
        }
        names
    }

    /// The 1-based line from which on all is test code: the first `#[cfg(test)]` of the file's
    /// margin that opens a module. A file `tests.rs` is test code from its first line.
    pub fn tests_from(&self) -> usize {
        if self.path.ends_with("/tests.rs") {
            return 1;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_module = |from: usize| {
            let next = lines[from..].iter().find(|line| !line.starts_with("#["));
            next.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        };
        let found = (0..lines.len()).find(|&i| lines[i] == "#[cfg(test)]" && opens_module(i));
        found.map_or(usize::MAX, |index| index + 1)
    }

    pub fn tokens(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        for (index, line) in self.code.lines().enumerate() {
            let mut rest = line.trim_start();
            while let Some(first) = rest.chars().next() {
                let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let length = match word {
                    0 if rest.starts_with("::") => 2,
                    0 => first.len_utf8(),
                    word => word,
                };
                tokens.push(Token {
                    text: rest[..length].into(),
                    line: index + 1,
                });
                rest = rest[length..].trim_start();
            }
        }
        tokens
    }

    /// Every path of this crate that the code names by `crate::` or `super::`, from the crate's
    /// root on, with its line. A glob ends in `*`; a group counts as its members.
    pub fn paths(&self) -> Vec<(usize, Vec<String>)> {
        self.named(&[])
    }

    /// The same, and what is named through the file's own modules: `child::Item`.
    pub fn names(&self) -> Vec<(usize, Vec<String>)> {
        self.named(&self.children())
    }

    /// Modules that are declared here and stand in files of their own.
    fn children(&self) -> Vec<String> {
        let tokens = self.tokens();
        let declares = |window: &&[Token]| window[0].text == "mod" && window[2].text == ";";
        let windows = tokens.windows(3).filter(declares);
        windows.map(|window| window[1].text.clone()).collect()
    }

    /// What each `use` of the file's margin makes of a path: the name it has here, `*` for all
    /// that is there.
    pub fn aliases(&self) -> Vec<(String, Vec<String>)> {
        let tokens = self.tokens();
        let children = self.children();
        let (mut found, mut depth) = (Vec::new(), 0);
        for (at, token) in tokens.iter().enumerate() {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                "use" if depth == 0 => self.alias(&tokens, at + 1, &children, &mut found),
                _ => {}
            }
        }
        found
    }

    fn alias(
        &self,
        tokens: &[Token],
        at: usize,
        children: &[String],
        found: &mut Vec<(String, Vec<String>)>,
    ) {
        let (base, from) = match tokens[at].text.as_str() {
            "crate" => (Vec::new(), at + 2),
            "self" => (self.modules(), at + 2),
            name if name == "super" || children.iter().any(|child| child == name) => {
                (self.modules(), at)
            }
            _ => return,
        };
        let mut paths = Vec::new();
        walk_named(tokens, from, base, &mut |name, _, path| {
            paths.push((name, path));
        });
        found.extend(paths);
    }

    fn named(&self, children: &[String]) -> Vec<(usize, Vec<String>)> {
        let tokens = self.tokens();
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        let mut found = Vec::new();
        let mut here = self.modules();
        let mut inline: Vec<usize> = Vec::new();
        let (mut depth, mut at) = (0, 0);
        while at < tokens.len() {
            let before = if at == 0 { "" } else { text(at - 1) };
            // Where a path says who may see an item it names nothing.
            let shows = at > 2 && [at - 3, at - 2, at - 1].map(text) == ["pub", "(", "in"];
            match text(at) {
                _ if shows => {}
                "{" => depth += 1,
                "}" => {
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        here.pop();
                    }
                    depth -= 1;
                }
                "mod" if text(at + 2) == "{" => {
                    here.push(text(at + 1).into());
                    inline.push(depth + 1);
                }
                "crate" if text(at + 1) == "::" => {
                    at = walk(&tokens, at + 2, Vec::new(), &mut found);
                    continue;
                }
                "ringmail" if text(at + 1) == "::" && before != "::" => {
                    at = walk(&tokens, at + 2, Vec::new(), &mut found);
                    continue;
                }
                "super" if text(at + 1) == "::" => {
                    at = walk(&tokens, at, here.clone(), &mut found);
                    continue;
                }
                name if inline.is_empty()
                    && text(at + 1) == "::"
                    && !matches!(before, "::" | ".")
                    && children.iter().any(|child| child == name) =>
                {
                    at = walk(&tokens, at, here.clone(), &mut found);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }
}

/// Follows one path (or the tree of a `use`) from `at`, below `base`; returns where it ends.
fn walk(
    tokens: &[Token],
    at: usize,
    base: Vec<String>,
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    walk_named(tokens, at, base, &mut |_, line, path| {
        found.push((line, path));
    })
}

/// The same; each path with the name that a `use` of it makes known.
fn walk_named(
    tokens: &[Token],
    mut at: usize,
    mut base: Vec<String>,
    found: &mut impl FnMut(String, usize, Vec<String>),
) -> usize {
    while let Some(token) = tokens.get(at) {
        let more = tokens.get(at + 1).is_some_and(|next| next.text == "::")
            && tokens.get(at + 2).is_some_and(|next| next.text != "<");
        match token.text.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = match tokens[at].text.as_str() {
                        "," => at + 1,
                        "as" => at + 2,
                        _ => walk_named(tokens, at, base.clone(), found),
                    };
                }
                return at + 1;
            }
            "super" => drop(base.pop()),
            "self" => {}
            name => base.push(name.into()),
        }
        if !more {
            let renamed = tokens.get(at + 1).is_some_and(|next| next.text == "as");
            let name = match renamed {
                true => tokens.get(at + 2).map(|token| token.text.clone()),
                false => base.last().cloned(),
            };
            found(name.unwrap_or_default(), token.line, base);
            return at + 1;
        }
        at += 2;
    }
    at
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` with comments and the insides of string and character literals as spaces.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_end(&chars, at) {
            Some(end) => end.min(chars.len()),
            None => {
                // A whole word at once: the `r` of `for` opens no raw string.
                let word = chars[at..]
                    .iter()
                    .take_while(|&&c| is_word(c))
                    .count()
                    .max(1);
                out.extend(&chars[at..at + word]);
                at += word;
                continue;
            }
        };
        out.extend(
            chars[at..end]
                .iter()
                .map(|&c| if c == '\n' { c } else { ' ' }),
        );
        at = end;
    }
    out
}

/// Where the comment or literal that begins at `at` ends, if one begins there.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let is = |offset: usize, wanted: char| chars.get(at + offset) == Some(&wanted);
    match chars[at] {
        '/' if is(1, '/') => Some(find(chars, at, |i| chars[i] == '\n')),
        '/' if is(1, '*') => Some(comment_end(chars, at)),
        '"' => Some(quote_end(chars, at + 1, '"')),
        '\'' if is(1, '\\') || is(2, '\'') => Some(quote_end(chars, at + 1, '\'')),
        'b' | 'c' if is(1, '"') => Some(quote_end(chars, at + 2, '"')),
        'r' => raw_end(chars, at + 1),
        'b' | 'c' if is(1, 'r') => raw_end(chars, at + 2),
        _ => None,
    }
}

fn find(chars: &[char], from: usize, hit: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|&i| hit(i)).unwrap_or(chars.len())
}

fn comment_end(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn quote_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_end(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from..].iter().take_while(|&&c| c == '#').count();
    if chars.get(from + hashes) != Some(&'"') {
        return None;
    }
    let closes = |i: usize| {
        chars[i] == '"'
            && chars[i + 1..]
                .iter()
                .take(hashes)
                .filter(|&&c| c == '#')
                .count()
                == hashes
    };
    Some(find(chars, from + hashes + 1, closes) + 1 + hashes)
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files at and under `entry` of the project, sorted, relative to its root.
pub fn files(entry: &str) -> Vec<String> {
    let path = root().join(entry);
    if path.is_file() {
        return vec![entry.into()];
    }
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.expect("readable folder").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into()).collect();
    names.sort();
    names
        .iter()
        .flat_map(|name| files(&format!("{entry}/{name}")))
        .collect()
}

/// The text files among `files(entry)`.
pub fn texts(entry: &str) -> Vec<Source> {
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).ok()?;
        Some(if has_ending(&path, "rs") {
            Source::new(&path, &text)
        } else {
            Source {
                path,
                text,
                code: String::new(),
            }
        })
    };
    files(entry).into_iter().filter_map(read).collect()
}

/// The Rust files under `entry`; there must be some, or a rule would hold over nothing.
pub fn rust(entry: &str) -> Vec<Source> {
    let sources: Vec<_> = texts(entry)
        .into_iter()
        .filter(|source| has_ending(&source.path, "rs"))
        .collect();
    assert!(!sources.is_empty(), "no Rust file under {entry}");
    sources
}

fn has_ending(path: &str, ending: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == ending)
}
