//! The detectors: each takes sources and returns every place that breaks its rule.
//!
//! They read what is written, not what is compiled: a rule that a macro or a build flag could
//! slip past is still a rule for honest authors, which is whom it is for.

use std::collections::BTreeSet;
use std::fmt;

use super::Folder;
use super::source::{Source, Token};

/// Lines of a source file before its tests, and of one function.
pub const FILE_LINES_MAX: usize = 500;
/// Of the pages that stand beside the code.
pub const COLUMNS_MAX: usize = 120;
pub const FUNCTION_LINES_MAX: usize = 70;
/// Message types that one arm may name together.
pub const TYPES_LISTED_MAX: usize = 2;
/// `main.rs` turns a result into an exit code; what needs more lines than this is logic.
pub const MAIN_LINES_MAX: usize = 60;

/// One place that breaks a rule, and what to do about it.
#[derive(Debug)]
pub struct Breach {
    pub path: String,
    pub line: usize,
    pub rule: String,
    pub remedy: &'static str,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}; {}",
            self.path, self.line, self.rule, self.remedy
        )
    }
}

fn breach(path: &str, line: usize, rule: impl Into<String>, remedy: &'static str) -> Breach {
    Breach {
        path: path.into(),
        line,
        rule: rule.into(),
        remedy,
    }
}

/// The top-level folder of `src` that a file stands in; none for `src/main.rs` and its like.
fn folder(path: &str) -> Option<&str> {
    path.strip_prefix("src/")?
        .split_once('/')
        .map(|(folder, _)| folder)
}

pub fn imports(table: &[Folder], source: &Source) -> Vec<Breach> {
    let Some(own) = folder(&source.path) else {
        let known = matches!(
            source.path.as_str(),
            "src/main.rs" | "src/lib.rs" | "src/guide.rs"
        );
        let rule = "a file beside main.rs, lib.rs and guide.rs is in no layer";
        let remedy = "put it into the folder of its layer";
        return Vec::from_iter((!known).then(|| breach(&source.path, 1, rule, remedy)));
    };
    let Some(own) = table.iter().find(|folder| folder.name == own) else {
        let rule = format!("folder {own} is in no layer");
        let remedy = "give it one, in ARCHITECTURE's table and in this test's";
        return vec![breach(&source.path, 1, rule, remedy)];
    };
    let allowed = |path: &[String]| {
        let below = |entry: &str| {
            let mut path = path.iter();
            entry
                .split("::")
                .all(|wanted| path.next().is_some_and(|name| name == wanted))
        };
        path.first().is_some_and(|top| top == own.name) || own.may.iter().any(|entry| below(entry))
    };
    let judge = |(line, path): (usize, Vec<String>)| {
        let known = path
            .first()
            .is_some_and(|top| table.iter().any(|folder| folder.name == *top));
        let remedy = match known {
            true => "move the code up, or what it needs down; see ARCHITECTURE's layers",
            false => "name the folder the item lives in, not the crate's root",
        };
        let rule = format!(
            "{} (layer {}) reaches crate::{}",
            own.name,
            own.layer,
            path.join("::")
        );
        (!allowed(&path)).then(|| breach(&source.path, line, rule, remedy))
    };
    source.paths().into_iter().filter_map(judge).collect()
}

/// `main.rs` and `lib.rs`: exit codes, the crate's map and its public names. `guide.rs` is
/// documentation: not a line of code.
pub fn logic(source: &Source) -> Vec<Breach> {
    let tokens = source.tokens();
    let functions: Vec<_> = tokens.iter().filter(|token| token.text == "fn").collect();
    let (most, lines_max) = match source.path.as_str() {
        "src/main.rs" => (1, MAIN_LINES_MAX),
        "src/lib.rs" => (0, usize::MAX),
        "src/guide.rs" => (0, 0),
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    for function in functions.iter().skip(most) {
        let rule = "a function in a file that holds no logic";
        let remedy = "move it into the layer that owns it";
        found.push(breach(&source.path, function.line, rule, remedy));
    }
    let lines = source
        .code
        .lines()
        .filter(|line| !line.trim().is_empty())
        .count();
    if lines > lines_max {
        let rule = format!("{lines} lines of code, at most {lines_max}");
        found.push(breach(&source.path, lines, rule, "move the logic into cli"));
    }
    found
}

/// A word of the language, or a crate's name, that only some folders may use. `word` also
/// stands for the crates named after it (`tokio_util`).
pub fn confined(word: &str, folders: &[&str], source: &Source) -> Vec<Breach> {
    if folder(&source.path).is_some_and(|own| folders.contains(&own)) {
        return Vec::new();
    }
    let family = format!("{word}_");
    // A symbol's name is given in the program alone, and with this word.
    let lines: Vec<&str> = source.code.lines().collect();
    let exports = |token: &Token| {
        let line = lines[token.line - 1].trim_start();
        source.path == "src/main.rs" && line.starts_with("#[unsafe(export_name")
    };
    let named = |token: &&Token| {
        !exports(token) && token.text == word
            || (word != "unsafe" && token.text.starts_with(&family))
    };
    let rule = format!("{word} outside of {}", folders.join(", "));
    let remedy = "keep it behind the folder that owns it";
    let tell = |token: &Token| breach(&source.path, token.line, rule.clone(), remedy);
    source.tokens().iter().filter(named).map(tell).collect()
}

/// Each `unsafe` says in a SAFETY note why it is sound: above it (above its statement), on its
/// line, or as the first line inside. An `unsafe fn` states its contract under `# Safety`.
pub fn safety(source: &Source) -> Vec<Breach> {
    let lines: Vec<&str> = source.text.lines().collect();
    let code: Vec<&str> = source.code.lines().collect();
    let noted = |line: usize| lines[line].contains("SAFETY") || lines[line].contains("# Safety");
    let explained = |at: usize| {
        if noted(at) || (at + 1 < lines.len() && lines[at].ends_with('{') && noted(at + 1)) {
            return true;
        }
        // Upwards through comments, attributes and the beginning of the same statement.
        let above = (0..at).rev().take_while(|&line| {
            let written = code[line].trim();
            let comment = written.is_empty() && !lines[line].trim().is_empty();
            comment
                || written.starts_with("#[")
                || !written.ends_with([';', '{', '}', ',']) && !written.is_empty()
        });
        above.into_iter().any(noted)
    };
    let tokens = source.tokens();
    let unexplained = |token: &&Token| token.text == "unsafe" && !explained(token.line - 1);
    let remedy = "write above it who owns the memory, and until when";
    let tell = |token: &Token| {
        breach(
            &source.path,
            token.line,
            "unsafe without a SAFETY note",
            remedy,
        )
    };
    tokens.iter().filter(unexplained).map(tell).collect()
}

pub fn size(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    let lines = source.text.lines().count().min(source.tests_from() - 1);
    if lines > FILE_LINES_MAX {
        let rule = format!("{lines} lines before the tests, at most {FILE_LINES_MAX}");
        found.push(breach(
            &source.path,
            FILE_LINES_MAX + 1,
            rule,
            "give the second idea a file",
        ));
    }
    let code: Vec<&str> = source.code.lines().collect();
    for (start, line) in code.iter().enumerate() {
        let inner = line.trim_start();
        let mut words = inner
            .split_whitespace()
            .filter(|word| !word.starts_with('"'));
        let modifier = |word: &&str| {
            matches!(*word, "const" | "async" | "unsafe" | "extern") || word.starts_with("pub")
        };
        if words.find(|word| !modifier(word)) != Some("fn") {
            continue;
        }
        let indent = line.len() - inner.len();
        let ends = |line: &&str| {
            let closes = line.trim_start().starts_with('}') || line.trim_end().ends_with(';');
            closes && line.len() - line.trim_start().len() == indent
        };
        let length = code[start..]
            .iter()
            .position(ends)
            .unwrap_or(code.len() - start);
        if length > FUNCTION_LINES_MAX {
            let rule = format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}");
            let remedy = "split it where its steps have names";
            found.push(breach(&source.path, start + 1, rule, remedy));
        }
    }
    found
}

/// Where types of messages are told apart a new one is asked about: no arm takes what is left.
pub fn told_apart(source: &Source) -> Vec<Breach> {
    let lines: Vec<&str> = source.code.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let takes_rest = |line: &str| {
        let arm = line.trim_start().split(" => ").next().unwrap_or_default();
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        arm != line.trim_start() && !arm.is_empty() && arm.chars().all(is_name)
    };
    let rests = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| takes_rest(line));
    let of_types = rests.filter(|&(at, line)| {
        let deep = |other: &&&str| other.trim().is_empty() || indent(other) >= indent(line);
        let arms = lines[..at].iter().rev().take_while(deep);
        let mut own = arms.filter(|other| indent(other) == indent(line));
        own.any(|other| {
            let arm = other.trim_start();
            [
                "MessageType::",
                "Class::",
                "Change::",
                "Control::",
                "Operation::",
            ]
            .iter()
            .any(|name| arm.starts_with(name))
        })
    });
    let rule = "an arm takes all message types that are left";
    let remedy = "name them, so that the compiler asks what becomes of a new one";
    of_types
        .map(|(at, _)| breach(&source.path, at + 1, rule, remedy))
        .collect()
}

/// What is so of some types of messages the table says, in a column: elsewhere no arm lists
/// more than [`TYPES_LISTED_MAX`], and all are named in full, so that this is seen.
pub fn listed(source: &Source) -> Vec<Breach> {
    if source.path == "src/proto/kind.rs" {
        return Vec::new();
    }
    let tokens = source.tokens();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    let (mut at, mut count) = (0, 0);
    while at < tokens.len() {
        if [text(at), text(at + 1)] != ["MessageType", "::"] {
            at += 1;
            continue;
        }
        if text(at + 2) == "*" {
            let rule = "all message types are imported";
            let remedy = "write MessageType:: before each";
            found.push(breach(&source.path, tokens[at].line, rule, remedy));
        }
        count = if at > 0 && text(at - 1) == "|" {
            count + 1
        } else {
            1
        };
        if count == TYPES_LISTED_MAX + 1 {
            let line = tokens[at - 4 * TYPES_LISTED_MAX].line;
            let rule = "an arm lists message types";
            let remedy = "give the table in proto/kind.rs the column that tells them apart";
            found.push(breach(&source.path, line, rule, remedy));
        }
        at += 3;
    }
    found
}

pub fn head(source: &Source) -> Vec<Breach> {
    let headed = source
        .text
        .lines()
        .next()
        .is_some_and(|line| line.starts_with("//! "));
    let rule = "no module head";
    let remedy = "begin with //! lines: what it is, why this way, what it does not do";
    Vec::from_iter((!headed).then(|| breach(&source.path, 1, rule, remedy)))
}

/// File and folder names that say nothing about what is inside.
pub fn name(path: &str) -> Vec<Breach> {
    let banned = |part: &str| {
        let stem = part.split('.').next().unwrap_or(part);
        ["util", "common", "type", "manager", "helper", "misc"]
            .iter()
            .any(|word| stem.strip_suffix('s').unwrap_or(stem) == *word)
    };
    let rule = "a file name that says nothing";
    let found = path.split('/').any(banned);
    Vec::from_iter(found.then(|| breach(path, 1, rule, "name it after what it holds")))
}

/// Notes to self. They are spelled in two halves here, so that this file obeys them.
pub fn notes(source: &Source) -> Vec<Breach> {
    let banned = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| banned.contains(word)) {
            let remedy = "do it, or open an issue";
            found.push(breach(
                &source.path,
                index + 1,
                format!("{word} in the tree"),
                remedy,
            ));
        }
    }
    found
}

/// Macros that say "not finished", `.unwrap()` outside of tests, functions named `get_` (but the
/// collections' `get_mut`).
pub fn words(source: &Source) -> Vec<Breach> {
    let tokens = source.tokens();
    let tests_from = source.tests_from();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let library = source.path.starts_with("src/") && token.line < tests_from;
        let (rule, remedy) = match (token.text.as_str(), text(at + 1), text(at + 2)) {
            (macro_name @ ("todo" | "unimplemented" | "dbg"), "!", _) => {
                (format!("{macro_name}! in the tree"), "finish it")
            }
            (".", "unwrap", "(") if library => (
                ".unwrap() outside of tests".into(),
                "handle it, or make it impossible by type",
            ),
            ("fn", name, _) if name.starts_with("get_") && name != "get_mut" => {
                (format!("fn {name}"), "name it after what it returns")
            }
            _ => continue,
        };
        found.push(breach(&source.path, token.line, rule, remedy));
    }
    found
}

/// Places that may read a clock: all others take `now` as an argument.
pub fn clock(source: &Source) -> Vec<Breach> {
    let own = folder(&source.path);
    let may = matches!(own, Some("ring" | "server" | "client" | "cli"));
    if may || source.path == "src/base/clock.rs" {
        return Vec::new();
    }
    let tokens = source.tokens();
    let tests_from = source.tests_from();
    let reads = |window: &[Token]| match [0, 1, 2].map(|at| window[at].text.as_str()) {
        ["Instant" | "SystemTime" | "Local" | "Utc", "::", "now"] => true,
        [".", "elapsed", "("] => true,
        [_, _, name] => name == "clock_gettime",
    };
    let mut found = Vec::new();
    for window in tokens
        .windows(3)
        .filter(|window| reads(window) && window[0].line < tests_from)
    {
        let rule = "a clock read below the drivers";
        found.push(breach(
            &source.path,
            window[0].line,
            rule,
            "take `now` as an argument",
        ));
    }
    found
}

/// Paths that only exist on the machine somebody builds on.
pub fn machine_path(source: &Source) -> Vec<Breach> {
    let prefixes = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let starts = |line: &str, prefix: &str| {
        line.match_indices(prefix).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '/' | '.' | '_' | '-' | '}'))
        })
    };
    let mut found = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        if let Some(prefix) = prefixes.iter().find(|prefix| starts(line, prefix)) {
            let rule = format!("a path under {prefix}");
            found.push(breach(
                &source.path,
                index + 1,
                rule,
                "write it relative to the project",
            ));
        }
    }
    found
}

/// Links of a page to files and headings of this project that are not there. `read` gives a
/// file's text, or that of a folder or a picture: none.
pub fn links(source: &Source, read: impl Fn(&str) -> Option<String>) -> Vec<Breach> {
    let mut found = Vec::new();
    for (index, line) in prose(&source.text) {
        let inline = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', ' ']).next());
        let reference = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "));
        for target in inline.chain(reference.map(|(_, target)| target.trim())) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => source.path.clone(),
                file => beside(&source.path, file),
            };
            let text = read(&path);
            let is_page = path.ends_with(".md");
            let is_there = match &text {
                Some(text) => !is_page || anchor.is_empty() || anchors(text).contains(anchor),
                None => false,
            };
            if !is_there {
                let rule = format!("a link to {target}, which is not there");
                found.push(breach(&source.path, index + 1, rule, "mend the link"));
            }
        }
    }
    found
}

/// What a page about the tree says in backticks: paths from the project's root, `src/x.rs`, and
/// items, `src/x.rs::name`. `find` gives the text of a file, an empty one of a folder.
pub fn named(page: &Source, find: impl Fn(&str) -> Option<String>) -> Vec<Breach> {
    let is_path = |token: &str| {
        let file = token.split("::").next().unwrap_or(token);
        let top = ["src/", "tests/", "benches/", "scripts/", "tuning/", ".ci/"];
        let ending = [".rs", ".md", ".proto", ".py"];
        !token.contains([' ', '$', '*'])
            && (top.iter().any(|top| file.starts_with(top))
                || ending.iter().any(|ending| file.ends_with(ending)))
    };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in page.text.lines().enumerate() {
        fenced ^= line.starts_with("```");
        let spans = line.split('`').skip(1).step_by(2);
        for token in spans.filter(|token| !fenced && is_path(token)) {
            let (file, item) = token.split_once("::").unwrap_or((token, ""));
            let has_item = |text: String| {
                item.is_empty() || text.split(|c| !is_word(c)).any(|word| word == item)
            };
            let rule = match find(file).map(has_item) {
                Some(true) => continue,
                Some(false) => format!("{file} has no {item}"),
                None => format!("{file} is not there"),
            };
            let remedy = "say where it is now, by its path from the project's root";
            found.push(breach(&page.path, index + 1, rule, remedy));
        }
    }
    found
}

/// Lines of a page that are wider than `COLUMNS_MAX`; a row of a table, or what is pasted,
/// cannot be broken.
pub fn width(page: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    for (index, line) in prose(&page.text) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !line.starts_with('|') {
            let rule = format!("a line of {columns} columns, at most {COLUMNS_MAX}");
            found.push(breach(&page.path, index + 1, rule, "break it"));
        }
    }
    found
}

/// The lines of a page that stand in no fenced block, each with its index.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// The path of what a page at `page` names as `link`.
fn beside(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Names by which a page's headings can be linked to, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|(_, line)| line.starts_with('#'));
    let name = |(_, line): (usize, &str)| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter),
            _ => None,
        });
        kept.collect()
    };
    headings.map(name).collect()
}

/// A page that is longer than a stranger reads.
pub fn length(source: &Source, lines_max: usize) -> Vec<Breach> {
    let lines = source.text.lines().count();
    let rule = format!("{lines} lines, {lines_max} are allowed");
    let remedy = "move a chapter to the page beside what it describes";
    let is_long = lines > lines_max;
    is_long
        .then(|| breach(&source.path, lines, rule, remedy))
        .into_iter()
        .collect()
}

/// A script says how it is called, near its top, and can be called.
pub fn script(source: &Source, executable: bool) -> Vec<Breach> {
    let mut lines = source.text.lines().take(12);
    let mut found = Vec::new();
    if !lines.next().is_some_and(|line| line.starts_with("#!")) || !executable {
        found.push(breach(
            &source.path,
            1,
            "not executable",
            "add a #! line and chmod +x",
        ));
    }
    if !lines.any(|line| line.to_lowercase().starts_with("# usage:")) {
        found.push(breach(
            &source.path,
            2,
            "no usage comment",
            "write `# Usage: …` at its top",
        ));
    }
    found
}

/// Names at the project's top that nobody allowed.
pub fn top(allowed: &[&str], names: &[String]) -> Vec<Breach> {
    let strange = |name: &&String| !name.starts_with('.') && !allowed.contains(&name.as_str());
    let tell = |name: &String| {
        breach(
            name,
            1,
            "a top-level entry without need",
            "put it where its kind lives",
        )
    };
    names.iter().filter(strange).map(tell).collect()
}
