//! The mutated copy: what git knows of the project, in `target/mutation/project`, with each
//! file of `src` rewritten; and what the compiler refuses of that, taken back.

use crate::fixed::Fixed;
use crate::rewrite::{self, Kind, Mutated, Site};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SWITCH: &str = include_str!("../switch.rs");
/// Tools of tests, and programs without logic.
const LEFT_OUT: [&str; 5] = [
    "src/ring/sim/",
    "/harness.rs",
    "src/main.rs",
    "src/guide.rs",
    "tests.rs",
];
/// Each round takes back what the last one's errors point at, and lets the compiler see more.
const ROUNDS_MAX: usize = 40;

pub struct Source {
    pub path: String,
    text: String,
    pub sites: Vec<Site>,
    freed: Vec<Range<usize>>,
    refused: HashSet<usize>,
    mutated: Option<Mutated>,
}

pub struct Mutant {
    pub path: String,
    pub line: usize,
    pub kind: Kind,
    pub change: String,
}

pub struct Project {
    pub root: PathBuf,
    pub copy: PathBuf,
    pub build: PathBuf,
    sources: BTreeMap<String, Source>,
    pub mutants: Vec<Mutant>,
}

impl Project {
    /// Copies the project at `root` and finds its mutants.
    pub fn read(root: &Path) -> io::Result<Project> {
        let work = root.join("target/mutation");
        let copy = work.join("project");
        let mut project = Project {
            root: root.into(),
            build: work.join("build"),
            sources: BTreeMap::new(),
            mutants: Vec::new(),
            copy,
        };
        let listed = Command::new("git")
            .arg("-C")
            .arg(root)
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let (mut fixed, mut parsed) = (Fixed::default(), Vec::new());
        for path in listed
            .split_terminator('\0')
            .filter(|path| !path.starts_with("tests/mutation/"))
        {
            let Ok(bytes) = fs::read(root.join(path)) else {
                continue;
            };
            if path.ends_with(".rs") && !path.starts_with("tests/fuzz/src") {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let file = syn::parse_file(&text)
                    .map_err(|error| io::Error::other(format!("{path}: {error}")))?;
                fixed.read(&file);
                if path.starts_with("src/") && !LEFT_OUT.iter().any(|part| path.contains(part)) {
                    parsed.push((path.to_owned(), text, file));
                    continue;
                }
            }
            project.put(path, &bytes)?;
            fs::set_permissions(
                project.copy.join(path),
                fs::metadata(root.join(path))?.permissions(),
            )?;
        }
        fixed.close();
        for (path, text, file) in parsed {
            let (sites, freed) = rewrite::find(&text, &file, &fixed);
            let source = Source {
                path: path.clone(),
                text,
                sites,
                freed,
                refused: HashSet::new(),
                mutated: None,
            };
            project.sources.insert(path, source);
        }
        project.remember()?;
        Ok(project)
    }

    /// Writes a file of the copy, unless it is as it was: what cargo has built then stands.
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.copy.join(path);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, bytes)
    }

    pub fn write(&mut self) -> io::Result<()> {
        self.mutants.clear();
        let mut sources = std::mem::take(&mut self.sources);
        for source in sources.values_mut() {
            let mut numbers = Vec::new();
            for (index, site) in source.sites.iter().enumerate() {
                numbers.push((!source.refused.contains(&index)).then_some(self.mutants.len()));
                if source.refused.contains(&index) {
                    continue;
                }
                self.mutants
                    .extend(site.changes.iter().map(|change| Mutant {
                        path: source.path.clone(),
                        line: site.line,
                        kind: site.kind,
                        change: change.clone(),
                    }));
            }
            let mut mutated = rewrite::write(&source.text, &source.sites, &numbers, &source.freed);
            match source.path.as_str() {
                "src/lib.rs" => {
                    mutated.text =
                        mutated
                            .text
                            .replacen("#![deny(unsafe_code)]", "#![allow(warnings)]", 1)
                }
                "src/base/mod.rs" => mutated
                    .text
                    .push_str("#[allow(unsafe_code)]\npub mod mutant;\n"),
                _ => {}
            }
            self.put(&source.path, mutated.text.as_bytes())?;
            source.mutated = Some(mutated);
        }
        self.sources = sources;
        let count = format!("const COUNT: usize = {};\n", self.mutants.len());
        // Its page comes first in a module, the constant behind.
        self.put(
            "src/base/mutant.rs",
            format!("{SWITCH}\n{count}").as_bytes(),
        )
    }

    pub fn cargo(&self) -> Command {
        let mut command = Command::new("cargo");
        command
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.build)
            .stdout(Stdio::piped());
        command
    }

    /// Writes the copy, and takes back what rustc refuses until nothing is.
    pub fn settle(&mut self) -> io::Result<()> {
        for round in 1..=ROUNDS_MAX {
            self.write()?;
            let mut check = self.cargo();
            check
                .args([
                    "check",
                    "--lib",
                    "--features",
                    "bench,sim",
                    "--message-format=json",
                    "--quiet",
                ])
                .stderr(Stdio::null());
            let mut child = check.spawn()?;
            let output = child
                .stdout
                .take()
                .ok_or_else(|| io::Error::other("no output of cargo"))?;
            let mut refused = 0;
            let mut unknown = Vec::new();
            for line in BufReader::new(output).lines() {
                let message: Value = serde_json::from_str(&line?).unwrap_or_default();
                let message = &message["message"];
                if message["level"] != "error" {
                    continue;
                }
                match self.refuse(message) {
                    0 => unknown.push(message["rendered"].as_str().unwrap_or_default().to_owned()),
                    count => refused += count,
                }
            }
            let passed = child.wait()?.success();
            eprintln!(
                "scripts/mutate: round {round}: {} mutants, {refused} places refused",
                self.mutants.len()
            );
            self.keep()?;
            if passed {
                return Ok(());
            }
            if refused == 0 {
                return Err(io::Error::other(format!(
                    "the copy does not compile:\n{}",
                    unknown.join("\n")
                )));
            }
        }
        Err(io::Error::other(format!(
            "after {ROUNDS_MAX} rounds the copy still does not compile"
        )))
    }

    /// Takes back the innermost places that an error points at; how many that were.
    fn refuse(&mut self, message: &Value) -> usize {
        let spans = message["spans"].as_array().cloned().unwrap_or_default();
        // Moved or borrowed twice, on a way that a `return` has kept apart, or because what took
        // it for good is left out.
        let moved = [
            "E0381", "E0382", "E0384", "E0499", "E0502", "E0503", "E0505", "E0506", "E0597",
        ];
        if moved.iter().any(|code| message["code"]["code"] == *code) {
            for (leaves, margin) in [(true, 0), (false, 0), (true, 200), (true, 4000)] {
                let count = self.refuse_between(&spans, leaves, margin);
                if count > 0 {
                    return count;
                }
            }
        }
        let primary = |span: &&Value| span["is_primary"] == true;
        let count: usize = spans
            .iter()
            .filter(primary)
            .map(|span| self.refuse_at(span))
            .sum();
        if count > 0 {
            return count;
        }
        spans.iter().map(|span| self.refuse_at(span)).sum()
    }

    /// Takes back the statements between the places of an error, or around them.
    fn refuse_between(&mut self, spans: &[Value], leaves: bool, margin: usize) -> usize {
        let path = spans.first().and_then(|span| span["file_name"].as_str());
        let Some(source) = path.and_then(|path| self.sources.get_mut(path)) else {
            return 0;
        };
        let Some(mutated) = &source.mutated else {
            return 0;
        };
        let here = spans
            .iter()
            .filter(|span| span["file_name"].as_str() == path);
        let places: Vec<usize> = here
            .filter_map(|span| Some(mutated.source(span["byte_start"].as_u64()? as usize)))
            .collect();
        let first = places
            .iter()
            .min()
            .copied()
            .unwrap_or(0)
            .saturating_sub(margin);
        let last = places.iter().max().copied().unwrap_or(0) + margin;
        let is_between = |(index, site): &(usize, &Site)| {
            let range = &site.range;
            let is_meant = site.kind == Kind::Statement && (site.leaves || !leaves);
            is_meant
                && first <= range.start
                && range.start <= last
                && !source.refused.contains(index)
        };
        let sites = source.sites.iter().enumerate();
        let all: Vec<usize> = sites.filter(is_between).map(|(index, _)| index).collect();
        source.refused.extend(&all);
        all.len()
    }

    fn refuse_at(&mut self, span: &Value) -> usize {
        let path = span["file_name"].as_str().unwrap_or_default();
        let place = |key: &str| span[key].as_u64().unwrap_or(0) as usize;
        let (start, end) = (place("byte_start"), place("byte_end"));
        let Some(source) = self.sources.get_mut(path) else {
            return 0;
        };
        let Some(mutated) = &source.mutated else {
            return 0;
        };
        let inserted = mutated
            .inserted
            .iter()
            .find(|(range, _)| range.start <= start && end <= range.end);
        if let Some((_, site)) = inserted {
            return usize::from(source.refused.insert(*site));
        }
        let (start, end) = (mutated.source(start), mutated.source(end));
        let left = |index: &usize| !source.refused.contains(index);
        let around = |range: &Range<usize>| range.start <= start && end <= range.end;
        let within = |range: &Range<usize>| start <= range.start && range.end <= end;
        let indices = || (0..source.sites.len()).filter(left);
        let innermost = indices()
            .filter(|site| around(&source.sites[*site].range))
            .map(|site| source.sites[site].range.len())
            .min();
        let mut all: Vec<usize> = indices()
            .filter(|site| within(&source.sites[*site].range))
            .collect();
        if all.is_empty() {
            all = indices()
                .filter(|site| {
                    around(&source.sites[*site].range)
                        && Some(source.sites[*site].range.len()) == innermost
                })
                .collect();
        }
        if all.is_empty() {
            // What was taken back there did not help: then what stands beside it.
            all = indices()
                .filter(|site| {
                    let range = &source.sites[*site].range;
                    start < range.end + 100 && range.start < end + 100
                })
                .collect();
        }
        source.refused.extend(&all);
        all.len()
    }

    fn memory(&self) -> PathBuf {
        self.build.with_file_name("refused.json")
    }

    /// What was refused stays so while as much of its file can be changed: what is wrong about
    /// that after an edit is refused anew.
    fn keep(&self) -> io::Result<()> {
        let all: BTreeMap<_, _> = self
            .sources
            .iter()
            .map(|(path, source)| (path, (source.sites.len(), &source.refused)))
            .collect();
        fs::write(self.memory(), serde_json::to_vec(&all)?)
    }

    fn remember(&mut self) -> io::Result<()> {
        let Ok(bytes) = fs::read(self.memory()) else {
            return Ok(());
        };
        let all: BTreeMap<String, (usize, HashSet<usize>)> = serde_json::from_slice(&bytes)?;
        for (path, (count, refused)) in all {
            if let Some(source) = self.sources.get_mut(&path)
                && source.sites.len() == count
            {
                source.refused = refused;
            }
        }
        Ok(())
    }
}
