//! The life of one server process: its clients work while faults strike, then it comes to
//! rest, drains or is killed, and the checker judges what its clients have written down.

use super::checker::{self, Breach};
use super::connection::{Connection, Dial, credential};
use super::crew::Crew;
use super::fault::{Fault, Field};
use super::history::{Clock, Fate, History, Label};
use super::network::Network;
use super::workload::{LONG_S, MESSAGE, read_stamp};
use super::world::Phase;
use crate::harness::{Server, get, metric};
use crate::operation::{CLOSE, OK, PUBLISH, publish, subscribe};
use crate::tls::authority::Authority;
use ringmail::auth::key;
use std::net::SocketAddr;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long a session outlives its connection.
pub const LINGER: Duration = Duration::from_secs(8);
/// Of a server that is short of them: for all clients, each twice, and then some.
const DESCRIPTORS: &str = "110";
const OPERATOR: &str = "operator.BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

const CONFIGURATION: &str = r##"
[auth]
mode = "required"

[auth.jwt]
secret = "SECRET"

leeway_s = 0

[[auth.api_key]]
id = "operator"
sha256 = "SHA256"
principal = "operator"
roles = ["admin"]

[roles.chaos]
publish = ["#"]
subscribe = ["#"]
request = ["#"]
serve = ["#"]

[roles.admin]
admin = true

[limits]
handshake_timeout_ms = 30000
auth_timeout_ms = 30000
frame_timeout_ms = 30000
request_timeout_ms = 3000

[rate]
auth_failures_per_min_per_ip = 0
"##;

/// What outlives a server: its address, its state, the authority of its certificates.
pub struct Ground {
    pub address: SocketAddr,
    pub state: tempfile::TempDir,
    pub authority: Authority,
    pub shards: usize,
    /// Keys of sessions that ended with the last server.
    pub stale: Vec<[u8; 16]>,
}

/// What a trial is made of; all of it follows from the seed.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    pub fate: Fate,
    pub has_tls: bool,
    /// Little may wait for a client: slow ones are ended, sessions that are away overflow.
    pub is_tight: bool,
    /// Few more descriptors than its clients need.
    pub is_short: bool,
    pub clients: u16,
    /// Those beside them that are the client library.
    pub natives: u16,
    /// Of each link, one way.
    pub delays: Vec<Duration>,
    pub faults: Vec<Fault>,
}

impl Plan {
    pub fn draw(seed: u64, faults: usize) -> Plan {
        let fates = [Fate::Killed, Fate::Drained, Fate::Calm];
        let fate = fates[usize::try_from(seed % 3).unwrap()];
        let mut random = fastrand::Rng::with_seed(seed);
        let clients = random.u16(8..24);
        let delays: Vec<_> = (0..3)
            .map(|_| Duration::from_millis([0, random.u64(25..150)][random.usize(..2)]))
            .collect();
        let is_tight = random.u8(..3) == 0;
        let drawn = (0..faults).map(|_| Fault::draw(&mut random, clients, delays.len()));
        Plan {
            faults: drawn.collect(),
            seed,
            fate,
            has_tls: random.bool(),
            is_tight,
            is_short: random.u8(..3) == 0,
            // A session that overflows is not the library's fault.
            natives: if is_tight { 0 } else { random.u16(..3) },
            clients,
            delays,
        }
    }
}

/// What came of a trial that found nothing.
pub struct Outcome {
    pub counts: [usize; 2],
    /// Of a server that came to rest, some of what it counted.
    pub met: Vec<(&'static str, u64)>,
    pub stale: Vec<[u8; 16]>,
}

fn serve(ground: &Ground, plan: &Plan) -> Server {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = CONFIGURATION.replace("SECRET", crate::auth::SECRET);
    let hash = key::hash(OPERATOR.split_once('.').unwrap().1);
    std::fs::write(&file, text.replace("SHA256", &hash)).unwrap();
    let mut settings = vec![
        "server.admin=127.0.0.1:0".to_owned(),
        "server.drain_timeout_ms=20000".to_owned(),
        format!("session.linger_ms={}", LINGER.as_millis()),
    ];
    if plan.is_tight {
        settings.push("limits.message_bytes_max=65536".to_owned());
        settings.push("limits.outbox_bytes_max=131072".to_owned());
        settings.push("session.buffer_bytes_max=131072".to_owned());
    }
    if plan.has_tls {
        settings.extend(ground.authority.settings("optional"));
    }
    let binary = std::env::var_os("RINGMAIL_CHAOS_BINARY");
    let binary = binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_ringmail").into());
    let mut command = Process::new("bash");
    let limit = if plan.is_short {
        DESCRIPTORS
    } else {
        "$(ulimit -n)"
    };
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "bash"]);
    command.arg(binary).arg("serve");
    command.args(["--listen", &ground.address.to_string()]);
    command.args(["--shards", &format!("0-{}", ground.shards - 1)]);
    command.args(["--log-format", "text"]);
    command.arg("--config").arg(file.path());
    command.arg("--state-directory").arg(ground.state.path());
    for setting in &settings {
        command.args(["--set", setting]);
    }
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    Server::spawn(command.stderr(Stdio::piped()))
}

/// Runs one trial.
///
/// # Errors
/// A promise was broken: all that helps to see why.
pub fn run(plan: &Plan, ground: &mut Ground) -> Result<Outcome, String> {
    let mut server = serve(ground, plan);
    ground.address = server.address;
    let baseline = server.open_descriptors();
    let network = Network::to(server.address, &plan.delays);
    let clock = Clock(Instant::now());
    let mut crew = Crew::hire(plan, ground, &server, &network, clock);
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut field = Field {
        server: &server,
        world: &crew.world,
        network: &network,
        commands: &crew.commands,
        seats: &crew.seats,
        authority: &ground.authority,
        operator: OPERATOR,
        strangers: Vec::new(),
    };
    for &fault in &plan.faults {
        // Some strike together.
        crew.go_on([1, random.u64(20..600), random.u64(20..2000)][random.usize(..3)]);
        field.strike(fault);
    }
    crew.go_on(random.u64(100..600));
    drop(field.strangers);
    let history = match plan.fate {
        Fate::Calm => rest(&mut crew, &server, &network),
        Fate::Drained => drain(&mut crew, &mut server),
        Fate::Killed => {
            server.signal(libc::SIGKILL);
            server.wait();
            crew.world.enter(Phase::Over);
            crew.join().map(|()| crew.history(Fate::Killed, None))
        }
    };
    drop(network);
    let history = history.map_err(|what| format!("{what}\nlog:\n{}", tail(&server)))?;
    judge(&history, &server)?;
    let mut met = Vec::new();
    if plan.fate == Fate::Calm {
        met = settle(&server, baseline)?;
        server.end();
    }
    let keys = crew.seats.iter();
    Ok(Outcome {
        counts: history.counts(),
        met,
        stale: keys.filter_map(|seat| *seat.key.lock().unwrap()).collect(),
    })
}

/// The last lines of the server's log.
fn tail(server: &Server) -> String {
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn judge(history: &History, server: &Server) -> Result<(), String> {
    let log = server.log();
    if log.contains("panicked") {
        return Err(format!("the server panicked:\n{log}"));
    }
    let mut breaches = checker::safety(history);
    breaches.extend(checker::owed(history));
    told(history, &breaches)
}

fn told(history: &History, breaches: &[Breach]) -> Result<(), String> {
    const SHOWN: usize = 3;
    if breaches.is_empty() {
        return Ok(());
    }
    let shown = breaches.iter().take(SHOWN);
    let shown: Vec<String> = shown.map(|breach| history.excerpt(breach)).collect();
    let all = breaches.iter().take(30);
    let all: Vec<String> = all
        .map(|breach| format!("  client {}: {:.200}", breach.client, breach.what))
        .collect();
    Err(format!(
        "{} breaches:\n{}\n\n{}",
        breaches.len(),
        all.join("\n"),
        shown.join("\n\n")
    ))
}

/// Faults are over: everybody comes back, everything asked is answered and everything owed has
/// come; then all leave.
fn rest(crew: &mut Crew, server: &Server, network: &Network) -> Result<History, String> {
    for link in &network.links {
        link.cut_after(0);
    }
    crew.world.enter(Phase::Rest);
    let all_rest = || {
        crew.seats
            .iter()
            .all(|seat| seat.at_rest.load(Ordering::SeqCst))
    };
    crew.until("everybody is at rest", all_rest)
        .map_err(|what| format!("{what}\n{}", crew.restless()))?;
    let end = Instant::now() + PATIENCE;
    let history = loop {
        let found = retained(server.address, false)?;
        let history = crew.history(Fate::Calm, Some(found));
        let missing = checker::owed(&history);
        if missing.is_empty() {
            break history;
        }
        if Instant::now() > end {
            return Err(told(&history, &missing).unwrap_err());
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    crew.world.enter(Phase::Leave);
    crew.join()?;
    retained(server.address, true)?;
    // What came since is judged for safety alone.
    let after = crew.history(Fate::Calm, None);
    let breaches = checker::safety(&after);
    told(&after, &breaches)?;
    Ok(history)
}

/// What a newcomer gets for the retained topics; if asked to, it clears them.
fn retained(address: SocketAddr, clears: bool) -> Result<Vec<(String, Label)>, String> {
    let dial = Dial {
        address,
        tls: None,
        checksum: false,
        client_id: "retained".to_owned(),
        credential: Some(credential("late", LONG_S)),
    };
    let failed = |broken| format!("a newcomer cannot see what is retained: {broken:?}");
    let mut connection = Connection::open(&dial).map_err(failed)?;
    let mut found = Vec::new();
    let mut ops = vec![subscribe("r/#").id(1)];
    if clears {
        ops.extend((0..3).map(|topic| publish(format!("r/{topic}"), "").retain().id(2 + topic)));
    }
    let end = Instant::now() + PATIENCE;
    for op in ops {
        connection.send(op.kind, &op.body()).map_err(failed)?;
        loop {
            match connection.poll().map_err(failed)? {
                Some(got) if got.kind == OK => break,
                Some(got) if got.kind == PUBLISH => {
                    let stamped = got.header(MESSAGE).and_then(read_stamp);
                    found.extend(stamped.map(|(label, _)| (got.name().to_owned(), label)));
                }
                Some(got) => return Err(format!("to a newcomer: {got:?}")),
                None if Instant::now() > end => return Err("a newcomer waits for OK".to_owned()),
                None => {}
            }
        }
    }
    connection.send(CLOSE, &[0, 0]).map_err(failed)?;
    while !matches!(connection.poll(), Err(_) | Ok(Some(_))) {}
    Ok(found)
}

/// SIGTERM while everybody works: it ends, and what it confirmed has come.
fn drain(crew: &mut Crew, server: &mut Server) -> Result<History, String> {
    crew.world.is_draining.store(true, Ordering::SeqCst);
    server.terminate();
    let status = server.wait();
    crew.world.enter(Phase::Over);
    crew.join()?;
    if status.code() != Some(0) {
        return Err(format!("the drain ended with {status}"));
    }
    Ok(crew.history(Fate::Drained, None))
}

/// Everybody has left: connections, memory and descriptors are back where they were, and each
/// connection ended for one reason.
pub fn settle(server: &Server, baseline: usize) -> Result<Vec<(&'static str, u64)>, String> {
    const MET: [&str; 8] = [
        "ringmail_sessions_resumed_total",
        "ringmail_sessions_overflowed_total",
        "ringmail_wills_total",
        "ringmail_group_messages_passed_on_total",
        "ringmail_answers_late_total",
        "ringmail_accept_pauses_total",
        "ringmail_connections_moved_total",
        "ringmail_slow_consumer_actions_total",
    ];
    // Not `retained_bytes`: of what was cleared the version is kept for a while.
    const EMPTY: [&str; 9] = [
        "ringmail_connections",
        "ringmail_sessions",
        "ringmail_subscriptions",
        "ringmail_calls_open",
        "ringmail_errands_open",
        "ringmail_fanouts",
        "ringmail_retained_messages",
        "ringmail_mesh_batches",
        "ringmail_memory_lent_bytes",
    ];
    let end = Instant::now() + PATIENCE;
    loop {
        let (_, text) = get(server.admin(), "/metrics");
        let sum = |name: &str| metric(&text, name);
        let held: Vec<_> = EMPTY.iter().filter(|name| sum(name) > 0).collect();
        let closed = sum("ringmail_connections_closed_total");
        let opened = sum("ringmail_connections_opened_total");
        let descriptors = server.open_descriptors();
        if held.is_empty() && closed == opened && descriptors <= baseline {
            return Ok(MET.map(|name| (name, sum(name))).to_vec());
        }
        if Instant::now() > end {
            return Err(format!(
                "everybody has left, and still: {held:?} are not 0, {closed} of {opened} \
                 connections have a reason, {descriptors} descriptors of {baseline} before\n{text}"
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A place for servers to live and die at, one after the other.
pub fn ground() -> Ground {
    Ground {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        state: tempfile::tempdir().unwrap(),
        authority: Authority::new(),
        shards: 2,
        stale: Vec::new(),
    }
}
