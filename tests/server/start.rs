//! It starts, or it says why not: one line with cause and remedy, and the exit code for it.

use crate::harness::{Server, after, command, refused};
use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn ringmail(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmail"));
    command.args(args);
    command
}

/// The last line, which is the only one that is no log.
fn complaint(errors: &str) -> &str {
    let mut said = errors.lines().filter(|line| line.starts_with("ringmail: "));
    let line = said
        .next()
        .unwrap_or_else(|| panic!("no complaint: {errors}"));
    assert_eq!(said.next(), None, "{errors}");
    line
}

#[test]
fn a_start_tells_the_budget_and_the_address() {
    let server = Server::start(&[]);
    let log = server.log();
    assert!(log.contains("memory budget: 2 × (slab"), "{log}");
    assert!(log.contains("listening on 127.0.0.1:"), "{log}");
    server.greet().echoes();
    server.end();
}

#[test]
fn without_lockable_memory_it_does_not_start_and_says_so() {
    let (code, errors) = refused(&mut after("ulimit -l 0", &[]));
    let line = complaint(&errors);
    assert_eq!(code, 77, "{errors}");
    assert!(
        line.contains("LimitMEMLOCK") && line.contains("ulimit -l"),
        "{line}"
    );
}

/// As much as glommio asks for is not what two shards need, where the kernel counts it all
/// (from 6.14 on), and for a user who has no privilege.
#[test]
fn with_too_little_lockable_memory_it_serves_or_says_what_is_needed() {
    // For none of the shards, for some of its rings, for one shard and some of the other's.
    for kib in [520, 600, 900, 1100, 1300] {
        let drop_rights = format!(
            "ulimit -l {kib}; [ $(id -u) != 0 ] || set -- setpriv --reuid=61007 \
             --regid=61007 --clear-groups --inh-caps=-all \"$@\""
        );
        let mut child = after(&drop_rights, &[]).spawn().unwrap();
        let mut errors = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let serves = loop {
            let begin = errors.len();
            if lines.read_line(&mut errors).unwrap() == 0 {
                break false;
            }
            if errors[begin..].contains("listening on") {
                break true;
            }
        };
        if serves {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        if !serves && !errors.contains("Permission denied") {
            let line = complaint(&errors);
            assert_eq!(status.code(), Some(77), "{errors}");
            for told in [&format!(" {kib} KiB"), "LimitMEMLOCK", "ring.entries"] {
                assert!(line.contains(told), "{line}");
            }
        }
    }
}

/// Has a system call of the process fail, as a container's filter does (seccomp(2)).
fn forbid(command: &mut Command, call: libc::c_long, errno: libc::c_int) {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let step = |code: u32, jf, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    // The number of the call is what a filter's data begins with.
    let filter = [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, 1, call as u32),
        step(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(BPF_RET | BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_ptr().cast_mut(),
        };
        let [zero, one, mode]: [libc::c_ulong; 3] = [0, 1, libc::SECCOMP_MODE_FILTER.into()];
        // SAFETY: two system calls with integers, and a program that is there for the call.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) == 0
        };
        done.then_some(()).ok_or_else(io::Error::last_os_error)
    };
    // SAFETY: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(install) };
}

#[test]
fn a_system_call_that_is_forbidden_is_named_with_its_remedy() {
    // With the exit status where the call seems not to exist.
    let rows = [
        (libc::SYS_io_uring_setup, "io_uring_setup", 69),
        (libc::SYS_io_uring_enter, "io_uring_enter", 69),
        (libc::SYS_io_uring_register, "io_uring_register", 69),
        (libc::SYS_eventfd2, "eventfd2", 77),
        (libc::SYS_sched_setaffinity, "sched_setaffinity", 77),
    ];
    for (call, name, missing) in rows {
        for (errno, status) in [
            (libc::EPERM, 77),
            (libc::EACCES, 77),
            (libc::ENOSYS, missing),
        ] {
            let mut command = command(env!("CARGO_BIN_EXE_ringmail"), &[], &[]);
            forbid(&mut command, call, errno);
            let (code, errors) = refused(&mut command);
            let line = complaint(&errors);
            assert_eq!(code, status, "{name} {errno}: {errors}");
            for told in ["allow ", name] {
                assert!(line.contains(told), "{name} {errno}: {line}");
            }
            assert!(!errors.contains("panicked"), "{name} {errno}: {errors}");
        }
    }
}

#[test]
fn the_soft_limit_of_lockable_memory_is_raised_to_what_is_needed() {
    let server = Server::start_after("ulimit -Sl 512", &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let mut lines = limits.lines();
    let line = lines.find(|line| line.starts_with("Max locked memory"));
    let mut fields = line.unwrap().split_whitespace().skip(3);
    let [soft, hard] = [(); 2].map(|()| fields.next().unwrap().parse().unwrap_or(u64::MAX));
    // Of two shards, each with about 855 KiB.
    assert!(soft >= hard.min(1600 << 10), "{line:?}");
    server.end();
}

#[test]
fn with_too_few_descriptors_it_does_not_start_and_says_so() {
    let (code, errors) = refused(&mut after("ulimit -n 40", &[]));
    let line = complaint(&errors);
    assert_eq!(code, 77, "{errors}");
    assert!(line.contains("LimitNOFILE"), "{line}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    // By another program, and by another server, whose SO_REUSEPORT must not let it share.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start(&[]);
    for taken in [other.local_addr().unwrap(), server.address] {
        let address = taken.to_string();
        let (code, errors) = refused(&mut ringmail(&[
            "serve",
            "--listen",
            &address,
            "--set",
            "server.admin=",
        ]));
        let line = complaint(&errors);
        assert_eq!(code, 69, "{errors}");
        assert!(
            line.contains(&address) && line.contains("--listen"),
            "{line}"
        );
    }
    server.end();
}

#[test]
fn an_address_of_another_host_is_named() {
    // 192.0.2.0/24 is nobody's (RFC 5737).
    let args = [
        "serve",
        "--listen",
        "192.0.2.1:7411",
        "--set",
        "auth.mode=none",
    ];
    let (code, errors) = refused(&mut ringmail(&args));
    assert_eq!(code, 69, "{errors}");
    assert!(complaint(&errors).contains("192.0.2.1"), "{errors}");
}

/// What a server ends with, `check` says, in the same words.
#[test]
fn what_serve_refuses_check_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("no-set.json"), "{}").unwrap();
    let auth = "auth.mode=required";
    let set = |place: &str| vec![auth.to_owned(), format!("auth.jwt.jwks={place}")];
    let pem = |name: &str| {
        let tls = ["mode=required", "certificate=", "key="];
        let named = |one: &str| match one.ends_with('=') {
            true => format!("tls.{one}{}", path(name)),
            false => format!("tls.{one}"),
        };
        tls.map(named).to_vec()
    };
    let cases = [
        set("http://127.0.0.1:1/keys"),
        set("https://"),
        set("https://127.0.0.1:99999/keys"),
        set("file:///etc/keys.json"),
        set("~/keys.json"),
        set(&path("missing.json")),
        set(&path("no-set.json")),
        set(&path("")),
        pem("missing.pem"),
        pem("no-set.json"),
        vec!["trace.endpoint=collector:4318".to_owned()],
        vec!["trace.endpoint=http://collector:99999".to_owned()],
    ];
    for settings in cases {
        let told = ["check", "serve"].map(|name| {
            let mut command = ringmail(&[name, "--set", "server.admin="]);
            for setting in &settings {
                command.args(["--set", setting]);
            }
            command.env("RINGMAIL_STATE_DIRECTORY", directory.path());
            let (code, errors) = refused(&mut command);
            assert_eq!(code, 78, "{name} {settings:?}: {errors}");
            complaint(&errors).to_owned()
        });
        assert_eq!(told[0], told[1], "{settings:?}");
    }
}

/// An address is looked at as it will be used, and nothing is fetched; what a file holds is
/// said if nothing can be verified by it.
#[test]
fn check_reads_a_key_set_and_fetches_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, r#"{"keys":[{"kty":"oct","k":"eA"}]}"#).unwrap();
    for (place, said) in [
        ("https://127.0.0.1:1/keys", None),
        (
            path.to_str().unwrap(),
            Some("0 keys; left out: key 1 of the set"),
        ),
    ] {
        let jwks = format!("auth.jwt.jwks={place}");
        let settings = ["--set", "auth.mode=required", "--set", &jwks];
        let (code, errors) = refused(ringmail(&["check"]).args(settings));
        assert_eq!(code, 0, "{errors}");
        assert_eq!(errors.contains("0 keys"), said.is_some(), "{errors}");
        assert!(errors.contains(said.unwrap_or_default()), "{errors}");
    }
}

#[test]
fn an_endpoint_of_the_environment_that_is_not_heeded_is_told_at_check_and_start() {
    const NAME: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let told = |line: &str| line.contains(NAME) && line.contains("nothing is traced");
    let (code, errors) = refused(ringmail(&["check"]).env(NAME, "grpc://collector:4317"));
    assert_eq!(code, 0, "{errors}");
    assert_eq!(
        errors.lines().filter(|line| told(line)).count(),
        1,
        "{errors}"
    );
    let mut command = command(env!("CARGO_BIN_EXE_ringmail"), &[], &[]);
    let server = Server::spawn(command.env(NAME, "collector:4318"));
    server.expect_lines(1, told);
    server.end();
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringmail.toml");
    let text =
        "[limits]\nconections_max = 5\n\n[ring]\nbuffers = 3\n\n[heartbeat]\ntimeout_ms = true\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    for args in [
        &["check", "--config", path][..],
        &["serve", "--config", path],
    ] {
        let (code, errors) = refused(&mut ringmail(args));
        assert_eq!(code, 78, "{args:?}: {errors}");
        for told in [
            "connections_max",
            ":2:",
            "ring.buffers",
            ":5:",
            "timeout_ms",
            ":8:",
        ] {
            assert!(errors.contains(told), "{args:?}: no {told} in\n{errors}");
        }
    }
}
