//! The binary under a small, mixed load for a long time: what it takes and how fast it answers
//! is as it was, and when all have left, everything is given back.
//!
//! In the tests for as long as it takes that each role has done something; by `scripts/soak` for
//! an hour, with a table of every second, which is then judged.

#[path = "soak/judge.rs"]
mod judge;
#[path = "soak/link.rs"]
mod link;
#[path = "soak/load.rs"]
mod load;
#[path = "soak/sample.rs"]
mod sample;

use crate::chaos::trial::settle;
use crate::harness::Server;
use crate::tls::authority::Authority;
use load::World;
use ringmail::auth::key;
use sample::{HEAD, Sample};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(120);
const KEY: &str = "soak.CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC";
const CONFIGURATION: &str = r##"
[auth]
mode = "required"

[[auth.api_key]]
id = "soak"
sha256 = "SHA256"
principal = "soak"
roles = ["soak"]

[roles.soak]
publish = ["#"]
subscribe = ["#"]
request = ["#", "$sys/stats", "$sys/echo"]
serve = ["#"]

[session]
linger_ms = 8000
"##;

fn serve(authority: &Authority) -> Server {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("ringmail.toml");
    let hash = key::hash(KEY.split_once('.').unwrap().1);
    std::fs::write(&file, CONFIGURATION.replace("SHA256", &hash)).unwrap();
    let binary = std::env::var_os("RINGMAIL_SOAK_BINARY");
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_ringmail").into());
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--shards", "0-1"]);
    command.args(["--log-format", "text", "--set", "server.admin=127.0.0.1:0"]);
    command.arg("--config").arg(file);
    command.arg("--state-directory").arg(state.path());
    for setting in authority.settings("optional") {
        command.args(["--set", &setting]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = Server::spawn(command.stderr(Stdio::piped()));
    (server.watch, server.state) = (Some(KEY.to_owned()), Some(state));
    server
}

/// How long, and where the table goes.
fn asked() -> Option<(u64, File)> {
    let seconds = std::env::var("RINGMAIL_SOAK_SECONDS").ok()?;
    let table = std::env::var_os("RINGMAIL_SOAK_TABLE").expect("RINGMAIL_SOAK_TABLE");
    let mut table = File::create(table).unwrap();
    writeln!(table, "{HEAD}").unwrap();
    Some((seconds.parse().expect("a number of seconds"), table))
}

/// Each role has done something.
fn has_begun(world: &World) -> bool {
    let wanted = [1000, 50, 4, 2, 4];
    let mut counts = world.tally.counts().into_iter().zip(wanted);
    counts.all(|((_, count), wanted)| count >= wanted)
}

/// A sample each second, until there are enough.
fn watch(server: &Server, world: &World, asked: &mut Option<(u64, File)>) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = vec![Sample::take(0, server, world)];
    loop {
        let second = samples.last().unwrap().second + 1;
        let due = began + Duration::from_secs(second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A busy machine may have slept over some.
        let second = began.elapsed().as_secs();
        let sample = Sample::take(second, server, world);
        let last = samples.last().unwrap();
        match asked {
            Some((seconds, table)) => {
                writeln!(table, "{}", sample.line(last)).unwrap();
                if second >= *seconds {
                    break;
                }
            }
            None if has_begun(world) => break,
            None => assert!(
                began.elapsed() < PATIENCE,
                "only {:?}",
                world.tally.counts()
            ),
        }
        samples.push(sample);
    }
    samples.remove(0);
    samples
}

#[test]
fn what_the_server_takes_stays_as_it_is_and_is_given_back() {
    let mut asked = asked();
    let authority = Authority::new();
    let server = serve(&authority);
    let descriptors = server.open_descriptors();
    let at_first = server.anonymous_bytes();
    let world = World::new(server.address, KEY, authority.path("ca.pem"));
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    let mut all = runtime.block_on(load::begin(&world));
    let samples = watch(&server, &world, &mut asked);
    world.is_over.store(true, Relaxed);
    runtime.block_on(async {
        let left = tokio::time::timeout(PATIENCE, all.join_next()).await;
        left.expect("all to leave").unwrap().unwrap();
    });
    drop(runtime);
    settle(&server, descriptors).unwrap();
    let mut wrong = world.failures.lock().unwrap().clone();
    if asked.is_some() {
        let last = samples.last().unwrap();
        println!(
            "{} s: anonymous memory {} KiB at first, {} under load, {} when all had left; over the later half {:+.0} KiB; \
             p50 and p99 over the floor's {:.2?} times what they were; {:?}",
            last.second,
            at_first / 1024,
            last.anonymous_bytes / 1024,
            server.anonymous_bytes() / 1024,
            judge::growth_bytes(&samples) / 1024.0,
            judge::slower(&samples),
            world.tally.counts(),
        );
        wrong.extend(judge::judge(&samples));
    }
    assert_eq!(wrong, [""; 0]);
    server.end();
}
