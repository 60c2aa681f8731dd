//! Prometheus' own tool, as Debian packages it.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs it in `tuning/` with this on its standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let spawned = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("promtool is not installed: apt-get install prometheus (.ci/run does)")
        }
        spawned => spawned.unwrap(),
    };
    // It may end before it has read everything: what it says then is in the output.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What it says is wrong; `None`: nothing.
pub fn complaint(arguments: &[&str], input: &str) -> Option<String> {
    let output = run(arguments, input);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (!output.status.success()).then_some(said)
}

/// Fails unless it is content.
pub fn approves(arguments: &[&str], input: &str) {
    if let Some(complaint) = complaint(arguments, input) {
        panic!("promtool {}:\n{complaint}", arguments.join(" "));
    }
}

#[test]
fn what_is_wrong_is_told() {
    let bad = "# TYPE a_total counter\na_total 1\n";
    assert!(complaint(&["check", "metrics"], bad).is_some_and(|said| said.contains("help")));
}
