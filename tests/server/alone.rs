//! A program that is a client alone: how little it stands on, and that it works.
//!
//! The program is a package of its own among the build's temporary files. It has this
//! project's Cargo.lock, profiles and target directory, so that what both stand on is built
//! once; its path is always the same, so that it is not built again as another one.

use crate::harness::Server;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Packages of the client: this one, and what it is built from and by.
const PACKAGES_MAX: usize = 60;

/// Beginnings of the names of what only a server or a command line stands on.
const OTHERS: &[&str] = &[
    "axum",
    "clap",
    "glommio",
    "hyper",
    "io-uring",
    "jemalloc",
    "opentelemetry",
    "plotters",
    "ratatui",
    "redb",
    "reqwest",
    "tikv-",
    "tracing",
];

/// What the program stands on, up to where that is.
///
/// libc has the features that it has in the whole project. With others cargo would share it
/// with the build scripts, and so build aws-lc-sys again, by far the longest of all.
const MANIFEST: &str = r#"
[package]
name = "alone"
edition = "2024"

[workspace]

[dependencies]
libc = { version = "0.2", features = ["extra_traits"] }

[dependencies.ringmail]
default-features = false
features = ["client"]
"#;

fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let done = Command::new(env!("CARGO"))
        .current_dir(ROOT)
        .args(args)
        .arg("--offline")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}:\n{said}", done.status);
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn it_stands_on_few_packages_and_on_none_of_a_servers() {
    let tree = cargo([
        "tree",
        "--no-default-features",
        "--features=client",
        "--edges=normal,build",
        "--prefix=none",
        "--no-dedupe",
        "--format={p}",
    ]);
    let mut packages: Vec<&str> = tree.lines().collect();
    packages.sort_unstable();
    packages.dedup();
    let list = packages.join("\n");
    assert!(
        packages.iter().any(|name| name.starts_with("tokio ")),
        "{list}"
    );
    let count = packages.len();
    assert!(
        count <= PACKAGES_MAX,
        "{count} packages, more than {PACKAGES_MAX}:\n{list}"
    );
    for other in OTHERS {
        let found = packages.iter().find(|name| name.starts_with(other));
        assert_eq!(found, None, "a client needs no such thing");
    }
}

#[test]
fn it_talks_to_a_server() {
    let program = build();
    let server = Server::start(&[]);
    let done = Command::new(program)
        .arg(server.address.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}:\n{said}", done.status);
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "12 bytes back, 3 messages, 1 answer\n"
    );
    server.end();
}

/// Builds the program; where it is then.
fn build() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let package = temporary.join("alone");
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    // With other profiles all would be built again.
    let profile = manifest.find("[profile.dev]").expect("a profile");
    let profiles = &manifest[profile..];
    let profiles = &profiles[..profiles.find("[[").unwrap_or(profiles.len())];
    fs::create_dir_all(package.join("src")).unwrap();
    for (file, text) in [
        (
            "Cargo.toml",
            format!("{MANIFEST}path = {ROOT:?}\n\n{profiles}"),
        ),
        ("src/main.rs", include_str!("alone/program.rs").to_owned()),
        (
            "Cargo.lock",
            fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).unwrap(),
        ),
    ] {
        let path = package.join(file);
        // One that is newer would be built again.
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(path, text).unwrap();
        }
    }
    let target = temporary.parent().expect("the target directory");
    cargo([
        OsStr::new("build"),
        OsStr::new("--manifest-path"),
        package.join("Cargo.toml").as_os_str(),
        OsStr::new("--target-dir"),
        target.as_os_str(),
    ]);
    target.join("debug/alone")
}
