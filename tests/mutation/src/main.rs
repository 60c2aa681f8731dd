//! Changes the code a little, and looks whether a test notices (`scripts/mutate --help`).
//!
//! One build holds all mutants, each behind a number that the environment turns on: a build
//! for each would take minutes. Each test runs once alone and tells which mutants it asks for;
//! a mutant then meets those tests only.

mod fixed;
mod judge;
mod project;
mod rewrite;
mod suite;

use judge::{Judge, told};
use project::Project;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{fs, io};

struct Args {
    suites: Vec<String>,
    files: Vec<String>,
    revision: Option<String>,
    tests: Vec<String>,
    count: usize,
    numbers: Vec<usize>,
    tries: usize,
    seconds: u64,
    seed: u64,
    jobs: usize,
    list: bool,
    built: bool,
}

impl Args {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut all = Args {
            suites: Vec::new(),
            files: Vec::new(),
            revision: None,
            tests: Vec::new(),
            count: 100,
            numbers: Vec::new(),
            tries: 20,
            seconds: 60,
            seed: 0,
            jobs: 2,
            list: false,
            built: false,
        };
        while let Some(name) = args.next() {
            if name == "--list" || name == "--built" {
                all.list |= name == "--list";
                all.built |= name == "--built";
                continue;
            }
            let value = args
                .next()
                .ok_or_else(|| format!("{name} wants a value (see --help)"))?;
            let number = || {
                value
                    .parse()
                    .map_err(|_| format!("{name} {value}: give a whole number"))
            };
            match name.as_str() {
                "--suite" => all.suites.push(value),
                "--files" => all.files.push(value),
                "--tests" => all.tests.push(value),
                "--in-diff" => all.revision = Some(value),
                "--count" => all.count = number()? as usize,
                "--mutant" => all.numbers.push(number()? as usize),
                "--tries" => all.tries = number()? as usize,
                "--seconds" => all.seconds = number()?,
                "--seed" => all.seed = number()?,
                "--jobs" => all.jobs = number()?.max(1) as usize,
                _ => return Err(format!("unknown argument {name} (see --help)")),
            }
        }
        if all.suites.is_empty() {
            all.suites = vec!["lib".into(), "proto".into()];
        }
        Ok(all)
    }
}

fn main() -> ExitCode {
    let outcome = Args::read(std::env::args().skip(1)).map_err(|text| (2, text));
    match outcome.and_then(|args| work(&args).map_err(|error| (1, error.to_string()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            eprintln!("scripts/mutate: {text}");
            ExitCode::from(code)
        }
    }
}

fn work(args: &Args) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()?;
    let mut project = Project::read(&root)?;
    if !args.built {
        project.settle()?;
    } else {
        project.write()?;
    }
    let drawn = draw(&project, args)?;
    if args.list {
        for number in drawn {
            println!("{number}\t{}", told(&project.mutants[number]));
        }
        return Ok(());
    }
    let built = project.build.with_file_name("programs.json");
    let mut programs: BTreeMap<String, PathBuf> = match fs::read(&built) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => BTreeMap::new(),
    };
    if !args.built {
        programs.extend(suite::build(&project, &args.suites)?);
        fs::write(&built, serde_json::to_vec(&programs)?)?;
    }
    programs.retain(|name, _| args.suites.contains(name));
    let mut suites = suite::read(&project, programs)?;
    for suite in &mut suites {
        let named = |name: &str| {
            args.tests.is_empty()
                || args
                    .tests
                    .iter()
                    .any(|start| name.starts_with(start.as_str()))
        };
        suite.tests.retain(|test| named(&test.name));
        eprintln!(
            "scripts/mutate: {}: {} tests, each alone",
            suite.name,
            suite.tests.len()
        );
        suite::explore(&project, suite, args.jobs)?;
        for test in suite.tests.iter().filter(|test| !test.passes) {
            println!(
                "not judged, for it fails without a mutant: {} {}",
                suite.name, test.name
            );
        }
    }
    let reached: HashSet<usize> = suites
        .iter()
        .flat_map(|suite| &suite.tests)
        .flat_map(|test| test.reached.iter().copied())
        .collect();
    let (asked, unasked): (Vec<usize>, Vec<usize>) = drawn
        .into_iter()
        .partition(|mutant| reached.contains(mutant));
    let judge = Judge::new(&project, &suites, args.jobs);
    let survivors = judge.survivors(&asked, Duration::from_secs(args.seconds))?;
    println!(
        "{} mutants, of which these suites reach {}; {} drawn",
        project.mutants.len(),
        reached.len(),
        asked.len() + unasked.len()
    );
    println!("\nMutants that no test reaches: {}", unasked.len());
    for mutant in &unasked {
        println!("  {mutant}\t{}", told(&project.mutants[*mutant]));
    }
    println!(
        "\nMutants that survive: {} of {}",
        survivors.len(),
        asked.len()
    );
    for (mutant, met) in &survivors {
        println!(
            "  {mutant}\t{} ({met} tests)",
            told(&project.mutants[*mutant])
        );
    }
    let unmoved = if args.tries > 0 {
        judge.unmoved(args.tries)?
    } else {
        Vec::new()
    };
    println!("\nTests that never failed: {}", unmoved.len());
    for (test, met) in &unmoved {
        println!("  {} ({met} mutants)", judge.name(*test));
    }
    fs::write(project.build.with_file_name("matrix.tsv"), judge.matrix())
}

/// The mutants that are asked for: by number, or some of those that files and changes leave.
fn draw(project: &Project, args: &Args) -> io::Result<Vec<usize>> {
    if !args.numbers.is_empty() {
        return Ok(args
            .numbers
            .iter()
            .copied()
            .filter(|number| *number < project.mutants.len())
            .collect());
    }
    let changed = args
        .revision
        .as_deref()
        .map(|revision| changed(&project.root, revision))
        .transpose()?;
    let mut drawn: Vec<usize> = (0..project.mutants.len())
        .filter(|number| {
            let mutant = &project.mutants[*number];
            let in_files = args.files.is_empty()
                || args
                    .files
                    .iter()
                    .any(|files| mutant.path.starts_with(files.as_str()));
            let in_diff = changed.as_ref().is_none_or(|changed| {
                changed
                    .get(&mutant.path)
                    .is_some_and(|lines| lines.contains(&mutant.line))
            });
            in_files && in_diff
        })
        .collect();
    fastrand::Rng::with_seed(args.seed).shuffle(&mut drawn);
    drawn.truncate(args.count);
    Ok(drawn)
}

/// Lines of each file that are not as they were in a revision.
fn changed(root: &Path, revision: &str) -> io::Result<BTreeMap<String, HashSet<usize>>> {
    let diff = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["diff", "-U0", "--no-prefix", revision, "--", "src"])
        .output()?;
    if !diff.status.success() {
        return Err(io::Error::other(
            String::from_utf8_lossy(&diff.stderr).trim().to_owned(),
        ));
    }
    let mut lines: BTreeMap<String, HashSet<usize>> = BTreeMap::new();
    let mut path = String::new();
    for line in String::from_utf8_lossy(&diff.stdout).lines() {
        if let Some(name) = line.strip_prefix("+++ ") {
            path = name.into();
        } else if let Some(place) = line
            .strip_prefix("@@ ")
            .and_then(|hunk| hunk.split(' ').nth(1))
        {
            let (first, count) = place[1..].split_once(',').unwrap_or((&place[1..], "1"));
            let (first, count) = (
                first.parse().unwrap_or(0),
                count.parse::<usize>().unwrap_or(0),
            );
            lines
                .entry(path.clone())
                .or_default()
                .extend(first..first + count);
        }
    }
    Ok(lines)
}
