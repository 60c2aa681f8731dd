//! Circles of files: the graph of what each file of `src` names, and what of it is circular.
//!
//! An edge goes to the file that *defines* what is named: imports and re-exports on the way
//! (`pub use child::Item` in a `mod.rs`, a parent's private `use`) are followed, so that no
//! detour hides an edge, and none invents one. What is named through a glob, or only as a
//! module, counts as an import of that module's file. Test code imports what it likes. Calls
//! of methods name no file, and are not seen: what a file calls it has the type of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::rule::Breach;
use super::source::Source;

/// What the modules of one file declare: children with a file of their own, names that only
/// stand for something elsewhere, and where globs lead.
#[derive(Default)]
struct Module {
    file: String,
    aliases: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    items: BTreeSet<String>,
}

type Tree = BTreeMap<Vec<String>, Module>;

/// File to file, with the line that first names it.
pub type Graph = BTreeMap<String, BTreeMap<String, usize>>;

/// Imports followed at most, so that two that name each other end.
const DETOURS_MAX: usize = 16;

pub fn graph(sources: &[Source]) -> Graph {
    let tree: Tree = sources
        .iter()
        .filter(|source| source.tests_from() > 1)
        .map(|source| (source.modules(), module(source)))
        .collect();
    let mut graph = Graph::new();
    for source in sources.iter().filter(|source| source.tests_from() > 1) {
        let tests_from = source.tests_from();
        let edges = graph.entry(source.path.clone()).or_default();
        for (line, path) in source.names() {
            let file = resolve(&tree, &path, DETOURS_MAX);
            if let Some(file) = file.filter(|file| line < tests_from && *file != source.path) {
                edges.entry(file).or_insert(line);
            }
        }
    }
    graph
}

fn module(source: &Source) -> Module {
    let mut module = Module {
        file: source.path.clone(),
        ..Module::default()
    };
    for (alias, path) in source.aliases() {
        match alias.as_str() {
            "*" => module.globs.push(path),
            _ => drop(module.aliases.insert(alias, path)),
        }
    }
    let tokens = source.tokens();
    for pair in tokens.windows(2) {
        let defines = matches!(
            pair[0].text.as_str(),
            "struct" | "enum" | "trait" | "type" | "fn" | "const" | "static" | "union" | "mod"
        );
        if defines {
            module.items.insert(pair[1].text.clone());
        }
    }
    module
}

/// The file that defines what `path` names; none if it is nothing of this crate's.
fn resolve(tree: &Tree, path: &[String], detours: usize) -> Option<String> {
    let mut here: Vec<String> = Vec::new();
    for (at, name) in path.iter().enumerate() {
        here.push(name.clone());
        if tree.contains_key(&here) {
            continue;
        }
        here.pop();
        let module = tree.get(&here)?;
        if detours > 0 && !module.items.contains(name) {
            let onwards = |target: &[String]| {
                let rest = path[at..].iter().skip(1);
                let path: Vec<String> = target.iter().chain(rest).cloned().collect();
                resolve(tree, &path, detours - 1)
            };
            if let Some(target) = module.aliases.get(name) {
                return onwards(target);
            }
            let through = |glob: &Vec<String>| {
                let path: Vec<String> = glob.iter().chain(&path[at..]).cloned().collect();
                let file = resolve(tree, &path, detours - 1)?;
                (Some(&file) != tree.get(glob).map(|module| &module.file)).then_some(file)
            };
            if let Some(file) = module.globs.iter().find_map(through) {
                return Some(file);
            }
        }
        break;
    }
    tree.get(&here).map(|module| module.file.clone())
}

/// The groups of files that reach each other, largest first.
pub fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = graph
        .keys()
        .map(|file| (file, reached(graph, file)))
        .collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (file, ahead) in &reach {
        let known = found.iter().any(|circle| circle.contains(*file));
        if ahead.contains(file) && !known {
            let back = |other: &&&String| reach.get(**other).is_some_and(|r| r.contains(file));
            found.push(
                ahead
                    .iter()
                    .filter(back)
                    .map(|file| (*file).clone())
                    .collect(),
            );
        }
    }
    found.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    found
}

fn reached<'a>(graph: &'a Graph, file: &String) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = graph[file].keys().collect();
    while let Some(file) = next.pop() {
        if seen.insert(file) {
            next.extend(graph.get(file).into_iter().flat_map(|edges| edges.keys()));
        }
    }
    seen
}

/// The shortest way from `file` back to it, as `a.rs:3 → b.rs:7 → a.rs`.
fn round(graph: &Graph, file: &str) -> String {
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([file]);
    while let Some(at) = queue.pop_front() {
        for next in graph[at].keys() {
            if !from.contains_key(next.as_str()) {
                from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    let mut way = vec![file.to_owned()];
    let mut at = file;
    while let Some(before) = from.get(at) {
        way.push(format!("{before}:{}", graph[*before][at]));
        at = before;
        if at == file {
            break;
        }
    }
    way.reverse();
    way.join(" → ")
}

/// Each circle that is not one of `known`, and each of `known` that is no circle as listed.
pub fn strange(graph: &Graph, known: &[&[&str]]) -> Vec<Breach> {
    let found = circles(graph);
    let listed: Vec<BTreeSet<String>> = known
        .iter()
        .map(|files| files.iter().map(|file| String::from(*file)).collect())
        .collect();
    let mut breaches = Vec::new();
    for circle in &found {
        let within = listed.iter().find(|files| circle.is_subset(files));
        if within.is_none() {
            let of_none = |file: &&String| !listed.iter().any(|files| files.contains(*file));
            let news: Vec<_> = circle.iter().filter(of_none).map(String::as_str).collect();
            let first = news.first().copied().or(circle.first().map(String::as_str));
            let first = first.unwrap_or_default();
            breaches.push(Breach {
                path: first.into(),
                line: graph[first].values().copied().min().unwrap_or(1),
                rule: format!(
                    "a circle of {} files, new in it: {}; one way round: {}; all: {}",
                    circle.len(),
                    news.join(", "),
                    round(graph, first),
                    Vec::from_iter(circle.iter().map(String::as_str)).join(", "),
                ),
                remedy: "put what both need into a file below them",
            });
        }
    }
    for file in listed.iter().flatten() {
        if !found.iter().any(|circle| circle.contains(file)) {
            breaches.push(Breach {
                path: file.clone(),
                line: 1,
                rule: "a file listed as part of a circle that is none any more".into(),
                remedy: "take it off CIRCLES, so that the circle stays open",
            });
        }
    }
    breaches
}
