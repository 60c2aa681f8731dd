//! Test binaries: which tests they have, and one run of some of them.

use crate::project::Project;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Address space and file size of what a mutant may make grow without end, in KiB.
const MEMORY_KIB: u64 = 16 << 20;
const FILE_KIB: u64 = 1 << 20;

pub struct Suite {
    pub name: String,
    pub program: PathBuf,
    pub tests: Vec<Test>,
}

pub struct Test {
    pub name: String,
    /// Mutants that it asks for; none if it fails without any.
    pub reached: Vec<usize>,
    pub passes: bool,
    pub time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// Its process ended, or was ended, before it had.
    Unfinished,
}

/// Builds the suites, and the programs that they start; returns each one's program.
pub fn build(project: &Project, names: &[String]) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut build = project.cargo();
    build.args([
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--quiet",
    ]);
    for name in names {
        match name.as_str() {
            "lib" => build.arg("--lib"),
            name => build.args(["--test", name]),
        };
    }
    let mut child = build.spawn()?;
    let output = child
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("no output of cargo"))?;
    let mut programs = BTreeMap::new();
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or_default();
        let name = match message["target"]["kind"][0].as_str() {
            Some("lib") => "lib",
            Some("test") => message["target"]["name"].as_str().unwrap_or_default(),
            _ => continue,
        };
        if let Some(program) = message["executable"].as_str() {
            programs.insert(name.to_owned(), PathBuf::from(program));
        }
    }
    if !child.wait()?.success() {
        return Err(io::Error::other("the tests of the copy do not compile"));
    }
    Ok(programs)
}

/// The tests of each suite, by its program.
pub fn read(project: &Project, programs: BTreeMap<String, PathBuf>) -> io::Result<Vec<Suite>> {
    let suite = |(name, program): (String, PathBuf)| {
        Ok(Suite {
            tests: list(project, &program)?,
            name,
            program,
        })
    };
    programs.into_iter().map(suite).collect()
}

fn list(project: &Project, program: &Path) -> io::Result<Vec<Test>> {
    let listed = Command::new(program)
        .current_dir(&project.copy)
        .args(["--list", "--format", "terse"])
        .output()?;
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let tests = names.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(tests
        .map(|name| Test {
            name: name.into(),
            reached: Vec::new(),
            passes: false,
            time: Duration::ZERO,
        })
        .collect())
}

/// What a run is told beside the names of its tests.
#[derive(Clone, Default)]
pub struct Order<'a> {
    pub mutant: Option<usize>,
    pub reached: Option<&'a Path>,
    pub limit: Duration,
}

/// Runs some tests of a suite in one process. Whatever it has started ends with it.
pub fn run(
    project: &Project,
    suite: &Suite,
    tests: &[&str],
    order: &Order,
) -> io::Result<BTreeMap<String, Outcome>> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let own = project.build.with_file_name(format!(
        "run-{}-{}",
        std::process::id(),
        RUNS.fetch_add(1, Ordering::Relaxed)
    ));
    fs::create_dir_all(&own)?;
    let said = own.join("said");
    let mut command = Command::new("bash");
    command
        .args([
            "-c",
            &format!("ulimit -c 0 -v {MEMORY_KIB} -f {FILE_KIB}; exec \"$@\""),
            "-",
        ])
        .arg(&suite.program)
        .args(["--exact", "--test-threads", "2"])
        .args(tests)
        .current_dir(&project.copy)
        .env("TMPDIR", &own)
        .stdin(Stdio::null())
        .stdout(File::create(&said)?)
        .stderr(File::create(own.join("errors"))?)
        .process_group(0);
    if let Some(mutant) = order.mutant {
        command.env("RINGMAIL_MUTANT", mutant.to_string());
    }
    if let Some(path) = order.reached {
        command.env("RINGMAIL_REACHED", path);
    }
    let mut child = command.spawn()?;
    let until = Instant::now() + order.limit;
    while child.try_wait()?.is_none() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    if let Some(group) = Pid::from_raw(child.id() as i32) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait()?;
    let said = fs::read(&said)?;
    let outcomes = outcomes(tests, &String::from_utf8_lossy(&said));
    let _ = fs::remove_dir_all(&own);
    Ok(outcomes)
}

fn outcomes(tests: &[&str], said: &str) -> BTreeMap<String, Outcome> {
    let mut outcomes: BTreeMap<_, _> = tests
        .iter()
        .map(|test| ((*test).to_owned(), Outcome::Unfinished))
        .collect();
    for line in said.lines() {
        let Some((name, word)) = line
            .strip_prefix("test ")
            .and_then(|line| line.rsplit_once(" ... "))
        else {
            continue;
        };
        let name = name.trim_end_matches(" - should panic");
        if let Some(outcome) = outcomes.get_mut(name) {
            *outcome = match word {
                "ok" | "ignored" => Outcome::Passed,
                word if word.starts_with("ignored") => Outcome::Passed,
                _ => Outcome::Failed,
            };
        }
    }
    outcomes
}

/// Runs each test alone, without a mutant, and notes which mutants it asks for.
pub fn explore(project: &Project, suite: &mut Suite, jobs: usize) -> io::Result<()> {
    let program = suite
        .program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let modified = fs::metadata(&suite.program)?.modified()?;
    let age = modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let folder = project
        .build
        .with_file_name("reached")
        .join(format!("{program}-{age}"));
    fs::create_dir_all(&folder)?;
    let next = AtomicUsize::new(0);
    let shared: &Suite = suite;
    let one = |test: &Test| -> io::Result<(Vec<usize>, bool, Duration)> {
        let file = folder.join(test.name.replace("::", "."));
        let done = folder.join(format!("{}.done", test.name.replace("::", ".")));
        if let Ok(text) = fs::read_to_string(&done) {
            let (passes, micros) = text.split_once(' ').unwrap_or_default();
            let micros = Duration::from_micros(micros.parse().unwrap_or(0));
            return Ok((reached(&file)?, passes == "true", micros));
        }
        fs::write(&file, vec![0; project.mutants.len()])?;
        let order = Order {
            reached: Some(&file),
            limit: Duration::from_secs(300),
            ..Order::default()
        };
        let begin = Instant::now();
        let passes = run(project, shared, &[&test.name], &order)?[&test.name] == Outcome::Passed;
        let time = begin.elapsed();
        fs::write(&done, format!("{passes} {}", time.as_micros()))?;
        Ok((reached(&file)?, passes, time))
    };
    let worker = || -> io::Result<Vec<(usize, (Vec<usize>, bool, Duration))>> {
        let mut all = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(test) = shared.tests.get(index)
        {
            all.push((index, one(test)?));
        }
        Ok(all)
    };
    let found = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker"))
            .collect::<io::Result<Vec<_>>>()
    })?;
    for (index, (reached, passes, time)) in found.into_iter().flatten() {
        let test = &mut suite.tests[index];
        (test.reached, test.passes, test.time) = (reached, passes, time);
    }
    Ok(())
}

fn reached(file: &Path) -> io::Result<Vec<usize>> {
    let bytes = fs::read(file)?;
    Ok(bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == 1)
        .map(|(index, _)| index)
        .collect())
}
