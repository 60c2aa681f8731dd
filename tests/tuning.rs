//! The files of `tuning/`: no line without a reason and a source, and none that contradicts
//! the program it is for.

#[path = "tuning/alert.rs"]
mod alert;
#[path = "tuning/board.rs"]
mod board;
#[path = "tuning/latency.rs"]
mod latency;
#[path = "tuning/name.rs"]
mod name;
#[path = "tuning/promtool.rs"]
mod promtool;
#[path = "tuning/scrape.rs"]
mod scrape;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ringmail::base::exit::Status;

/// The keys the unit uses, by section: systemd ignores a key in the wrong one with a mere warning.
#[rustfmt::skip]
const UNIT_KEYS: &[(&str, &[&str])] = &[
    ("Unit", &["Description", "Wants", "After", "StartLimitIntervalSec"]),
    ("Service", &[
        "Type", "NotifyAccess", "ExecStartPre", "ExecStart", "TimeoutStartSec", "KillSignal",
        "TimeoutStopSec", "Restart", "RestartSec", "RestartPreventExitStatus", "LimitNOFILE",
        "LimitMEMLOCK", "DynamicUser", "CapabilityBoundingSet", "AmbientCapabilities",
        "NoNewPrivileges", "PrivateUsers", "StateDirectory", "StateDirectoryMode", "ProtectSystem", "ProtectHome", "PrivateTmp",
        "PrivateDevices", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
        "ProtectControlGroups", "ProtectClock", "ProtectHostname", "ProtectProc",
        "RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID",
        "LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC", "UMask",
        "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber",
    ]),
    ("Install", &["WantedBy"]),
];

fn read(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tuning")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Settings without a comment directly above (or behind, where the format has that) which ends
/// in a source: `[man tcp(7)]`.
fn unexplained(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_setting = |line: &str| line.contains('=') && !line.starts_with('#');
    let explained = |at: usize| {
        let above = lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with('#'));
        let behind = lines[at].split_once('#').map(|(_, comment)| comment);
        let reason: String = above.copied().chain(behind).collect();
        let source = reason
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        source.is_some_and(|(source, _)| source.len() > 3) && reason.len() > 20
    };
    (0..lines.len())
        .filter(|&at| is_setting(lines[at]) && !explained(at))
        .map(|at| at + 1)
        .collect()
}

/// `key = value` lines; `section` is empty in files that have none. A repeated key keeps all values.
fn settings(text: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut section = String::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
    {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name.into();
        } else if let Some((key, value)) = line.split_once('=') {
            let key = (section.clone(), key.trim().trim_start_matches('-').into());
            found.entry(key).or_default().push(value.trim().into());
        } else {
            assert!(
                line.is_empty(),
                "neither section, setting nor comment: {line}"
            );
        }
    }
    found
}

fn service(key: &str) -> String {
    let settings = settings(&read("ringmail.service"));
    settings[&("Service".to_string(), key.to_string())].join(" ")
}

fn sysctl(key: &str) -> Vec<u64> {
    let settings = settings(&read("sysctl.conf"));
    let value = settings[&(String::new(), key.to_string())].join(" ");
    value
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect()
}

#[test]
fn each_setting_has_its_reason_and_source() {
    for name in ["sysctl.conf", "ringmail.service"] {
        let text = read(name);
        assert!(!settings(&text).is_empty(), "no settings in {name}");
        let lines = unexplained(&text);
        assert!(
            lines.is_empty(),
            "tuning/{name}: lines {lines:?} lack `# reason [source]` above them"
        );
    }
}

#[test]
fn a_setting_without_reason_or_source_is_found() {
    let text = "# Long enough to be a reason. [man tcp(7)]\na = 1\nb = 2\n\n# A reason that has no source.\n\
        c = 3\n[Section]\nd = 4 # A reason behind it. [man x(5)]\n# e = 5\n";
    assert_eq!(unexplained(text), [3, 6]);
}

#[test]
fn each_key_of_the_unit_stands_in_a_section_that_knows_it() {
    for (section, key) in settings(&read("ringmail.service")).keys() {
        let known = UNIT_KEYS.iter().find(|(name, _)| name == section);
        let (_, keys) = known.unwrap_or_else(|| panic!("unknown section [{section}]"));
        assert!(
            keys.contains(&key.as_str()),
            "{key} is not known in [{section}]"
        );
    }
}

#[test]
fn the_unit_retries_only_what_a_retry_can_mend() {
    let prevented = service("RestartPreventExitStatus");
    let prevented: Vec<u8> = prevented
        .split(' ')
        .map(|code| code.parse().unwrap())
        .collect();
    let hopeless = [Status::Usage, Status::Permission, Status::Config].map(Status::code);
    assert_eq!(prevented, hopeless);
}

#[test]
fn the_unit_outwaits_a_drain_and_checks_the_file_it_serves() {
    let stop_s: u64 = service("TimeoutStopSec").parse().unwrap();
    let drain_s = 10; // server.drain_timeout_ms by default
    assert!(
        stop_s > drain_s,
        "TimeoutStopSec={stop_s} cuts a drain of {drain_s} s short"
    );
    let (check, serve) = (service("ExecStartPre"), service("ExecStart"));
    assert_eq!(check.replace(" check ", " serve "), serve);
}

#[test]
fn the_unit_permits_what_a_shard_calls() {
    let filter = service("SystemCallFilter");
    let removed = filter.split_once('~').map_or("", |(_, removed)| removed);
    assert!(filter.starts_with("@system-service"));
    for needed in [
        "@aio",
        "@resources",
        "@memlock",
        "@network-io",
        "@io-event",
        "@ipc",
    ] {
        assert!(!removed.contains(needed), "{needed} is taken away");
    }
}

#[test]
fn sysctl_agrees_with_the_defaults_it_serves() {
    let backlog = 4096; // accept.backlog by default
    assert!(sysctl("net.core.somaxconn")[0] >= backlog);
    assert!(sysctl("net.ipv4.tcp_max_syn_backlog")[0] >= backlog);
    let ports = sysctl("net.ipv4.ip_local_port_range");
    assert!(
        ports[0] > 7412 && ports[0] < ports[1],
        "the server's ports lie in {ports:?}"
    );
    let outbox_bytes = 4_194_304; // limits.outbox_bytes_max by default
    assert!(sysctl("net.ipv4.tcp_wmem")[2] <= outbox_bytes);
}
