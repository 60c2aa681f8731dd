//! The configuration as an operator meets it: what is accepted, what is refused, and what
//! the refusal says.

use std::collections::HashSet;
use std::ffi::OsString;

use proptest::prelude::*;
use ringmail::base::id::ShardId;
use ringmail::server::config::{
    AuthMode, Balance, Config, ConfigErrors, ControlCore, Origin, Secret, Shards, Sources,
};

/// Everything there is, with its default.
const DEFAULTS: &str = r##"
[server]
listen = "127.0.0.1:7411"
admin = "127.0.0.1:7412"
shards = "all"
control_core = "any"
drain_timeout_ms = 10000

[limits]                           # per shard; [shard.3.limits] overrides for shard 3
connections_max = 65536
connections_per_ip_max = 0
message_bytes_max = 1048576
handshake_timeout_ms = 2000
auth_timeout_ms = 5000
frame_timeout_ms = 10000
outbox_bytes_max = 4194304
outbox_bytes_shard_max = 268435456
subscriptions_max = 1024
requests_open_max = 1024
calls_open_max = 4096
request_timeout_ms = 10000
request_timeout_max_ms = 600000
sessions_waiting_max = 65536

[heartbeat]
interval_ms = 30000
timeout_ms = 90000

[ring]
entries = 4096
completions = 16384
buffers = 4096
buffer_bytes = 4096
busy_poll_us = 0
completions_per_turn = 1024

[accept]
balance = "least-connections"
backlog = 4096

[slow_consumer]
policy = "disconnect"

[session]
linger_ms = 60000
buffer_bytes_max = 4194304

[tls]
mode = "off"
certificate = ""
key = ""
client_ca = ""

[auth]
mode = "none"

[auth.jwt]
algorithms = ["HS256"]
secret = ""
public_key = ""
jwks = ""
issuer = ""
audience = ""
leeway_s = 30

[auth.issuer]
signing_secret = ""
access_ttl_s = 900
refresh_ttl_s = 604800

[access]
allow = []
deny = []

[rate]
messages_per_s = 0
message_burst = 0
bytes_per_s = 0
connects_per_s_per_ip = 0
auth_failures_per_min_per_ip = 30

[log]
level = "info"
format = "auto"
file = ""

[trace]
endpoint = ""
sample_ratio = 0.01
"##;

fn config(text: &str) -> Config {
    Config::from_toml(text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn refusal(text: &str) -> ConfigErrors {
    Config::from_toml(text).expect_err("accepted")
}

/// The one error of `text`, which must stand at `place`, "line:column".
fn only_error(text: &str, place: &str) -> String {
    let errors = refusal(text);
    assert_eq!(errors.iter().count(), 1, "{errors}");
    let error = errors.to_string();
    assert!(error.starts_with(&format!("<toml>:{place}: ")), "{error}");
    error
}

/// Asserts that `text` has one error, at `place`, that says all of `words`.
fn assert_refused(text: &str, place: &str, words: &[&str]) {
    let error = only_error(text, place);
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error}");
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let pair = |(name, value): &(&str, &str)| (name.into(), value.into());
    variables.iter().map(pair).collect()
}

fn with_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(&Sources::new().environment(environment(variables)))
}

#[test]
fn the_documented_defaults_are_the_defaults() {
    assert_eq!(config(DEFAULTS), Config::default());
    assert_eq!(config(""), Config::default());
}

#[test]
fn the_documented_keys_are_all_the_keys_there_are() {
    let printed = Config::default().to_toml();
    let lines = |text: &str| -> HashSet<String> {
        let code = text.lines().map(|l| l.split("  #").next().unwrap().trim());
        code.filter(|l| !l.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(lines(&printed), lines(DEFAULTS));
}

#[test]
fn values_reach_their_fields() {
    let config = config(
        r#"
        limits = { connections_max = 7, message_bytes_max = 0x1_0000 }
        [server]
        listen = "[::1]:0"
        admin = ""
        shards = "1-3"
        control_core = 0
        [accept]
        balance = "reuseport"
        [log]
        level = "info,ringmail::shard=debug"
        [ring]
        busy_poll_us = 50
        "#,
    );
    assert_eq!(config.limits.connections_max, 7);
    assert_eq!(config.limits.message_bytes_max, 65_536);
    assert_eq!(config.server.listen, "[::1]:0".parse().unwrap());
    assert_eq!(config.server.admin, None);
    assert_eq!(config.server.shards, Shards::Range(1..=3));
    assert_eq!(config.server.control_core, ControlCore::Core(0));
    assert_eq!(config.accept.balance, Balance::Reuseport);
    assert_eq!(config.log.level, "info,ringmail::shard=debug");
    assert_eq!(config.ring.busy_poll_us, 50);
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    let text = "[limits]\nconnections_max = 9\n[shard.3.limits]\nconnections_max = 5\n\
                [server]\nshards = [4, 2, 0, 9]\n[log]\nfile = \"a \\\"b\\\" \\\\ c\"";
    let config = config(text);
    assert_eq!(Config::from_toml(&config.to_toml()), Ok(config));
}

#[test]
fn a_shard_overrides_the_limits_it_names_and_no_others() {
    let text = "[shard.3.limits]\nconnections_max = 5\n[limits]\nconnections_max = 9\nsubscriptions_max = 2";
    let config = config(text);
    assert_eq!(config.limits_of(ShardId(0)).connections_max, 9);
    assert_eq!(config.limits_of(ShardId(3)).connections_max, 5);
    assert_eq!(config.limits_of(ShardId(3)).subscriptions_max, 2);
}

#[test]
fn a_shards_own_limit_beats_the_general_one_of_a_stronger_source() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "[shard.3.limits]\nconnections_max = 5").unwrap();
    let sources = Sources::new()
        .file(file.path())
        .flag("limits.connections_max", 7, "--connections-max")
        .flag("limits.calls_open_max", 8, "--calls-open-max");
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.limits_of(ShardId(0)).connections_max, 7);
    assert_eq!(config.limits_of(ShardId(3)).connections_max, 5);
    assert_eq!(config.limits_of(ShardId(3)).calls_open_max, 8);
}

#[test]
fn a_shard_that_cannot_exist_is_refused() {
    assert_refused(
        "[shard.x.limits]",
        "1:8",
        &["shard.x is not a shard", "[shard.0.limits]"],
    );
    let text = "[server]\nshards = [0, 1]\n[shard.2.limits]\nconnections_max = 1";
    assert_refused(text, "3:8", &["[shard.2]", "server.shards"]);
    assert_refused(
        "[shard.0.limit]",
        "1:10",
        &["shard.0.limit", "did you mean limits?"],
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    assert_refused(
        "[limits]\n  conection_max = 5",
        "2:3",
        &[
            "unknown key limits.conection_max",
            "did you mean connections_max?",
        ],
    );
    assert_refused(
        "[limit]\nconnections_max = 5",
        "1:2",
        &["did you mean limits?"],
    );
    assert_refused(
        "[server]\nbacklog = 5",
        "2:1",
        &["did you mean accept.backlog?"],
    );
    assert_refused(
        "listen = \"127.0.0.1:1\"",
        "1:1",
        &["did you mean server.listen?"],
    );
    assert_refused("[ring]\nbusy = 5", "2:1", &["did you mean busy_poll_us?"]);
    assert_refused(
        "[server]\nzzzzz = 5",
        "2:1",
        &["[server] has listen, admin, shards"],
    );
    assert_refused("zzzzz = 5", "1:1", &["the sections are server, limits"]);
    assert_refused(
        "[auth.jwt]\nsecret_fil = \"\"",
        "2:1",
        &["did you mean secret_file?"],
    );
}

#[test]
fn a_value_of_the_wrong_type_says_what_is_expected_and_what_was_found() {
    for (text, words) in [
        (
            "[limits]\nconnections_max = \"x\"",
            ["a whole number", "found \"x\"", "connections_max = 65536"],
        ),
        (
            "[limits]\nconnections_max = -1",
            [
                "limits.connections_max: expected",
                "found -1",
                "a whole number",
            ],
        ),
        (
            "[limits]\nconnections_max = 1.5",
            [
                "limits.connections_max: expected",
                "found 1.5",
                "a whole number",
            ],
        ),
        (
            "[limits]\nconnections_max = 99999999999999999999",
            ["to 4294967295", "found 99999999999999999999", ""],
        ),
        (
            "[server]\nlisten = \"localhost\"",
            [
                "an IP address and a port",
                "found \"localhost\"",
                "127.0.0.1:7411",
            ],
        ),
        (
            "[server]\nlisten = 7411",
            [
                "an IP address and a port",
                "found 7411",
                "listen = \"127.0.0.1:7411\"",
            ],
        ),
        (
            "[server]\nadmin = \"x\"",
            ["or \"\" for none", "found \"x\"", ""],
        ),
        (
            "[server]\nshards = \"some\"",
            ["\"all\", a range", "found \"some\"", "[0, 2]"],
        ),
        (
            "[server]\nshards = [0, \"1\"]",
            ["server.shards: expected", "found a list", ""],
        ),
        (
            "[server]\ncontrol_core = \"two\"",
            ["\"any\" or the number", "found \"two\"", ""],
        ),
        (
            "[accept]\nbalance = \"random\"",
            [
                "\"least-connections\" or \"reuseport\"",
                "found \"random\"",
                "",
            ],
        ),
        (
            "[auth.jwt]\nalgorithms = [\"none\"]",
            ["auth.jwt.algorithms: expected", "\"EdDSA\"", ""],
        ),
        (
            "[trace]\nsample_ratio = \"1\"",
            ["trace.sample_ratio: expected a number", "found \"1\"", ""],
        ),
        (
            "[nats]\nshare = \"#\"",
            ["nats.share: expected a list of strings", "found \"#\"", ""],
        ),
        (
            "[log]\nlevel = 2026-01-01",
            ["log.level: expected a string", "found a date", ""],
        ),
    ] {
        let column = text.lines().nth(1).unwrap().find("= ").unwrap() + 3;
        assert_refused(text, &format!("2:{column}"), &words);
    }
    assert_refused("limits = 5", "1:10", &["limits is a section, not a value"]);
    assert_refused(
        "topic = 5",
        "1:9",
        &["topic is a list of sections", "[[topic]]"],
    );
}

#[test]
fn a_value_out_of_its_range_says_the_range() {
    for (text, demand) in [
        (
            "[limits]\nconnections_max = 0",
            "must be from 1 to 16777216",
        ),
        (
            "[limits]\nmessage_bytes_max = 1023",
            "must be from 1024 to 1073741824",
        ),
        (
            "[limits]\nmessage_bytes_max = 1073741825",
            "must be from 1024 to 1073741824",
        ),
        (
            "[limits]\nhandshake_timeout_ms = 0",
            "must be from 1 to 86400000",
        ),
        ("[limits]\nauth_timeout_ms = 0", "must be from 1 to"),
        ("[limits]\nframe_timeout_ms = 0", "must be from 1 to"),
        ("[limits]\nrequest_timeout_ms = 0", "must be from 1 to"),
        ("[limits]\noutbox_bytes_max = 0", "must be from 1024 to"),
        ("[limits]\ncalls_open_max = 0", "must be from 1 to"),
        ("[server]\ndrain_timeout_ms = 0", "must be from 1 to"),
        ("[server]\nshards = []", "must name at least one"),
        ("[server]\nshards = [1, 1]", "each once"),
        ("[server]\nshards = \"3-1\"", "must name at least one"),
        ("[server]\nshards = \"0-4294967295\"", "at most 1024"),
        ("[heartbeat]\ninterval_ms = 0", "must be from 10 to"),
        (
            "[ring]\nentries = 100",
            "must be a power of two from 8 to 32768",
        ),
        (
            "[ring]\nbuffers = 65536",
            "must be a power of two from 1 to 32768",
        ),
        (
            "[ring]\nbuffers = 0",
            "must be a power of two from 1 to 32768",
        ),
        (
            "[ring]\ncompletions = 131072",
            "must be a power of two from 8 to 65536",
        ),
        ("[ring]\nbuffer_bytes = 255", "must be from 256 to 65536"),
        (
            "[ring]\nbusy_poll_us = 1000001",
            "must be from 0 to 1000000",
        ),
        (
            "[ring]\ncompletions_per_turn = 0",
            "must be from 1 to 65536",
        ),
        ("[accept]\nbacklog = 0", "must be from 1 to 65535"),
        ("[trace]\nsample_ratio = 1.5", "must be from 0 to 1"),
        ("[trace]\nsample_ratio = nan", "must be from 0 to 1"),
        (
            "[log]\nlevel = \"loud\"",
            "must be off, error, warn, info, debug or trace",
        ),
        ("[log]\nlevel = \"info,=debug\"", "must be off, error"),
    ] {
        let value = text.split("= ").nth(1).unwrap();
        let column = text.lines().nth(1).unwrap().find("= ").unwrap() + 3;
        let found = if value == "[]" || value == "[1, 1]" {
            "a list"
        } else {
            value
        };
        assert_refused(
            text,
            &format!("2:{column}"),
            &[demand, &format!("not {found};")],
        );
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_where_one_of_them_stands() {
    assert_refused(
        "[heartbeat]\ninterval_ms = 90000",
        "2:15",
        &["heartbeat.timeout_ms (90000) must be above heartbeat.interval_ms (90000)"],
    );
    assert_refused(
        "[ring]\nentries = 64\ncompletions = 32",
        "3:15",
        &["ring.completions (32) must be at least ring.entries (64)"],
    );
    assert_refused(
        "[limits]\noutbox_bytes_shard_max = 65536",
        "2:26",
        &["limits.outbox_bytes_shard_max (65536) must be at least outbox_bytes_max (4194304)"],
    );
    assert_refused(
        "[shard.0.limits]\noutbox_bytes_shard_max = 65536",
        "2:26",
        &["shard.0.limits.outbox_bytes_shard_max (65536)"],
    );
    assert_refused(
        "[session]\nbuffer_bytes_max = 1048575",
        "2:20",
        &["session.buffer_bytes_max (1048575) must be at least limits.message_bytes_max (1048576)"],
    );
    assert_refused(
        "[shard.0.limits]\nmessage_bytes_max = 4194305",
        "2:21",
        &["at least shard.0.limits.message_bytes_max (4194305)"],
    );
    // Room for less than two is said, and no more.
    for (text, said) in [
        ("[limits]\noutbox_bytes_max = 2097152", None),
        (
            "[limits]\noutbox_bytes_max = 2097151",
            Some("limits.outbox_bytes_max (2097151) is less than twice limits.message_bytes_max"),
        ),
        (
            "[session]\nbuffer_bytes_max = 1048576",
            Some("session.buffer_bytes_max (1048576) is less than twice"),
        ),
        (
            "[shard.0.limits]\nmessage_bytes_max = 2097153\noutbox_bytes_max = 8388608",
            Some("session.buffer_bytes_max (4194304) is less than twice shard.0.limits"),
        ),
    ] {
        let warnings = ringmail::server::inspect(&config(text)).unwrap();
        let warned: Vec<_> = warnings
            .iter()
            .filter(|one| one.contains("twice"))
            .collect();
        assert_eq!(warned.len(), usize::from(said.is_some()), "{warned:?}");
        assert!(
            said.is_none_or(|said| warned[0].starts_with(said)),
            "{warned:?}"
        );
    }
    assert_refused(
        "[server]\nlisten = \"127.0.0.1:7412\"",
        "2:10",
        &["server.listen and server.admin are both 127.0.0.1:7412"],
    );
    assert_refused(
        "[heartbeat]\ninterval_ms = 90000\ntimeout_ms = \"x\"",
        "3:14",
        &["expected"],
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_place_and_the_rest_still_checked() {
    assert_refused("[server]\nlisten = ", "2:10", &["not TOML", "quoted"]);
    assert_refused("[log]\nlevel = debug", "2:9", &["not TOML", "quoted"]);
    assert_refused("[log]\n[log]", "2:2", &["duplicate key"]);
    assert_refused(
        "[ring]\nentries = 8\nentries = 16",
        "3:1",
        &["duplicate key"],
    );
    let text = "[limits\nconnections_max = 0\n[server]\nlisten = \"abc\n[ring]\nbufers = 1\n\
                [nats]\nurl = \"x\"\n[heartbeat]\ninterval_ms = 90000";
    let errors: Vec<_> = refusal(text).iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 4, "{errors:#?}");
    assert!(errors[0].starts_with("<toml>:1:8: not TOML"), "{errors:#?}");
    assert!(
        errors[1].starts_with("<toml>:4:14: not TOML"),
        "{errors:#?}"
    );
    assert!(
        errors[2].starts_with("<toml>:6:1: unknown key"),
        "{errors:#?}"
    );
    assert!(
        errors[3].starts_with("<toml>:8:7: nats.url is not yet supported"),
        "{errors:#?}"
    );
}

#[test]
fn columns_count_characters() {
    assert_refused(
        "log = { file = \"äöü\", levle = \"info\" }",
        "1:23",
        &["did you mean"],
    );
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_file_environment_flags() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        &file,
        "[ring]\nbufers = 1\n[limits]\nconnections_max = \"many\"\nframe_timeout_ms = 0\n\
         [auth]\nmode = \"required\"\n[heartbeat]\ninterval_ms = 90000\n",
    )
    .unwrap();
    let sources = Sources::new()
        .file(file.path())
        .environment(environment(&[
            ("RINGMAIL__RING__ENTRIES", "100"),
            ("RINGMAIL__LIMIT__X", "1"),
        ]))
        .flag("server.listen", "nowhere", "--listen");
    let errors = Config::load(&sources).unwrap_err();
    let name = file.path().display();
    let starts = [
        format!("{name}:2:1: unknown key ring.bufers; did you mean buffers?"),
        format!("{name}:4:19: limits.connections_max: expected a whole number"),
        format!("{name}:5:20: limits.frame_timeout_ms must be from 1 to"),
        format!(
            "{name}:7:8: auth.mode is \"required\", but nothing is configured to authenticate with"
        ),
        format!("{name}:9:15: heartbeat.timeout_ms (90000) must be above"),
        "environment RINGMAIL__LIMIT__X: unknown key limit; did you mean limits?".to_owned(),
        "environment RINGMAIL__RING__ENTRIES: ring.entries must be a power of two".to_owned(),
        "flag --listen: server.listen: expected an IP address and a port".to_owned(),
    ];
    let text = errors.to_string();
    assert_eq!(text.lines().count(), starts.len(), "{text}");
    for (line, start) in text.lines().zip(starts) {
        assert!(
            line.starts_with(&start),
            "{line}\n  does not start with\n{start}"
        );
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        &file,
        "[limits]\nconnections_max = 1\nsubscriptions_max = 1\nrequests_open_max = 1",
    )
    .unwrap();
    let sources = Sources::new()
        .flag("limits.connections_max", 3, "--connections-max")
        .environment(environment(&[
            ("RINGMAIL__LIMITS__CONNECTIONS_MAX", "2"),
            ("RINGMAIL__LIMITS__SUBSCRIPTIONS_MAX", "2"),
        ]))
        .file(file.path());
    let limits = Config::load(&sources).unwrap().limits;
    assert_eq!(limits.connections_max, 3);
    assert_eq!(limits.subscriptions_max, 2);
    assert_eq!(limits.requests_open_max, 1);
    assert_eq!(limits.calls_open_max, 4_096);
}

#[test]
fn a_flag_repairs_a_contradiction_but_does_not_hide_a_mistake() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let flagged = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let sources = Sources::new().file(file.path());
        Config::load(&sources.flag("heartbeat.interval_ms", 10_000, "--heartbeat"))
    };
    assert!(flagged("[heartbeat]\ninterval_ms = 90000").is_ok());
    assert!(flagged("[heartbeat]\ninterval_ms = 0").is_err());
}

#[test]
fn the_environment_sets_numbers_words_lists_and_nested_keys() {
    let config = with_environment(&[
        ("RINGMAIL__RING__BUSY_POLL_US", "50"),
        ("RINGMAIL__SERVER__LISTEN", "127.0.0.1:0"),
        ("RINGMAIL__SERVER__SHARDS", "[0, 2]"),
        ("RINGMAIL__SERVER__CONTROL_CORE", "1"),
        ("RINGMAIL__AUTH__JWT__ALGORITHMS", "[\"HS256\"]"),
        ("RINGMAIL__SHARD__1__LIMITS__CONNECTIONS_MAX", "9"),
        ("RINGMAIL__LOG__FILE", "12"),
        ("RINGMAIL_CONFIG", "not ours"),
        ("RINGMAIL__SERVER__ADMIN", ""),
        ("RINGMAIL__LIMITS__CONNECTIONS_MAX", ""),
        ("RINGMAIL__NO_SUCH_KEY", ""),
        ("PATH", "/bin"),
    ])
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.ring.busy_poll_us, 50);
    assert_eq!(config.server.listen.port(), 0);
    assert_eq!(config.server.shards, Shards::List(vec![0, 2]));
    assert_eq!(config.server.control_core, ControlCore::Core(1));
    assert_eq!(config.limits_of(ShardId(1)).connections_max, 9);
    assert_eq!(config.log.file, "12");
    // Empty is not set.
    assert_eq!(config.server.admin, Config::default().server.admin);
    let error = with_environment(&[("RINGMAIL__NATS__URL", "x")]).unwrap_err();
    let start = "environment RINGMAIL__NATS__URL: nats.url is not yet supported";
    assert!(error.to_string().starts_with(start), "{error}");
}

#[test]
fn opentelemetrys_variables_stand_below_all_others() {
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://base:4318/");
    let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    let share = ("OTEL_TRACES_SAMPLER_ARG", "0.5");
    let trace = |variables: &[(&str, &str)]| {
        let config = with_environment(variables).unwrap_or_else(|errors| panic!("{errors}"));
        (config.trace.endpoint, config.trace.sample_ratio)
    };
    let is = |endpoint: &str, share: f64| (endpoint.to_owned(), share);
    let general = is("http://base:4318/v1/traces", 0.5);
    assert_eq!(trace(&[base, sampler, share]), general);
    let special = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces/in");
    assert_eq!(trace(&[base, special]), is("https://traces/in", 0.01));
    let ours = ("RINGMAIL__TRACE__ENDPOINT", "http://ours");
    let all = [ours, base, special, sampler, share];
    assert_eq!(trace(&all), is("http://ours", 0.5));
    let ratio = ("RINGMAIL__TRACE__SAMPLE_RATIO", "0.1");
    assert_eq!(trace(&[ratio, sampler, share]), is("", 0.1));
    // What does not fit is not heeded, as the specification wants it.
    let unfit = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector"),
        ("OTEL_TRACES_SAMPLER", "xray"),
    ];
    assert_eq!(trace(&unfit), is("", 0.01));
}

#[test]
fn an_endpoint_that_is_none_is_refused_without_repeating_it() {
    for endpoint in ["collector:4318", "http://me:secret@collector"] {
        let errors = refusal(&format!("[trace]\nendpoint = \"{endpoint}\""));
        let text = errors.to_string();
        assert!(text.starts_with("<toml>:2:12: trace.endpoint "), "{text}");
        assert!(text.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn what_the_environment_cannot_mean_is_refused() {
    for (name, value, words) in [
        (
            "RINGMAIL__LIMITS__CONECTIONS_MAX",
            "1",
            "did you mean connections_max?",
        ),
        (
            "RINGMAIL__LIMITS__CONNECTIONS_MAX",
            "many",
            "found \"many\"",
        ),
        ("RINGMAIL__LIMITS", "1", "limits is a section, not a value"),
        ("RINGMAIL__", "1", "unknown key"),
        (
            "RINGMAIL__TOPIC",
            "1",
            "write [[topic]] in the configuration file",
        ),
        ("RINGMAIL__SERVER__LISTEN__PORT", "1", "found a section"),
    ] {
        let error = with_environment(&[(name, value)]).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("environment {name}: ")),
            "{error}"
        );
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
}

#[cfg(unix)]
#[test]
fn an_environment_value_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let name = OsString::from("RINGMAIL__LOG__FILE");
    let value = OsString::from_vec(vec![0xff]);
    let error = Config::load(&Sources::new().environment([(name, value)])).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("RINGMAIL__LOG__FILE: the value is not UTF-8"),
        "{error}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = Config::load(&Sources::new().file("/nowhere/ringmail.toml")).unwrap_err();
    let text = missing.to_string();
    assert!(text.starts_with("/nowhere/ringmail.toml: "), "{text}");
    assert!(text.contains("No such file"), "{text}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, b"[log]\nfile = \"\xff\"").unwrap();
    let text = Config::load(&Sources::new().file(file.path()))
        .unwrap_err()
        .to_string();
    assert!(text.contains("it is not UTF-8 (line 2)"), "{text}");
    let endless = Config::load(&Sources::new().file("/dev/zero")).unwrap_err();
    assert!(
        endless.to_string().contains("max 1048576 bytes"),
        "{endless}"
    );
}

#[test]
fn what_is_not_built_yet_is_refused_and_never_ignored() {
    let keys = [
        ("nats", "url = \"nats://127.0.0.1\""),
        ("nats", "prefix = \"x\""),
        ("nats", "password = \"x\""),
        ("mqtt", "enabled = false"),
        ("mqtt", "listen = \"127.0.0.1:1883\""),
        ("websocket", "origins = [\"https://a.example\"]"),
        ("store", "durable = [\"a/#\"]"),
        ("store", "sync = \"interval\""),
        ("server", "advertise = \"a.example:7411\""),
        ("auth", "mode = \"optional\""),
        ("auth", "anonymous = [\"guest\"]"),
    ];
    for (section, line) in keys {
        let text = format!("[{section}]\n{line}");
        let column = line.find('=').unwrap() + 3;
        let words = ["is not yet supported", "remove it"];
        assert_refused(&text, &format!("2:{column}"), &words);
    }
    // At its default a key says nothing; and what has no meaning is not printed.
    let text = "[mqtt]\nenabled = true\n[store]\nsync = \"always\"\n[nats]\nreplicas = 3";
    assert_eq!(config(text).to_toml(), Config::default().to_toml());
}

/// A `[[topic]]` that is right.
fn topic(filter: &str, schema_file: &str, message: &str) -> String {
    format!(
        "[[topic]]\nfilter = {filter:?}\nschema_file = {schema_file:?}\nmessage = {message:?}\n"
    )
}

const SET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema/site.binpb");

#[test]
fn a_topic_with_a_schema_is_taken_and_what_is_wrong_with_one_is_told() {
    let right = [
        topic("site/+/reading", SET, "site.Reading"),
        topic("site/#", SET, "site.Measurement"),
    ];
    let config = Config::from_toml(&right.concat()).unwrap();
    assert_eq!(config.topic.len(), 2);
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (text, place, words) in [
        (
            topic("a", "/nowhere/a", "site.Reading"),
            "3:15",
            [
                "\"/nowhere/a\" cannot be read: No such file",
                "protoc --include_imports",
            ],
        ),
        (
            topic("a", manifest, "site.Reading"),
            "3:15",
            ["is not a FileDescriptorSet", "protoc --include_imports"],
        ),
        (
            topic("a", "/dev/null", "site.Reading"),
            "3:15",
            ["defines no messages", "protoc --include_imports"],
        ),
        (
            topic("a", SET, "Reading"),
            "4:11",
            [
                "is not one of the 2 messages",
                "did you mean \"site.Reading\"?",
            ],
        ),
        (
            topic("a", SET, "zzzzzzzz"),
            "4:11",
            [
                "is not one of the 2 messages",
                "name a message with its package",
            ],
        ),
        (
            topic("a/#/b", SET, "site.Reading"),
            "2:10",
            [
                "# is allowed only as the last level",
                "write a topic filter",
            ],
        ),
        (
            topic("$sys/a", SET, "site.Reading"),
            "2:10",
            ["nobody can publish there", "write a topic filter"],
        ),
        (
            "[[topic]]\nfilter = \"a\"".to_owned(),
            "1:1",
            ["topic.0.schema_file is not set", "protoc"],
        ),
        (
            topic("", SET, ""),
            "4:11",
            ["topic.0.message is not set", "name a message"],
        ),
        (
            topic("a", SET, "site.Reading").repeat(2),
            "6:10",
            ["\"a\" is already in topic.0", "remove one of them"],
        ),
    ] {
        assert_refused_among(&text, place, &words);
    }
}

#[test]
fn a_schema_file_of_an_edition_is_taken_or_told_and_so_is_one_that_is_not_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set");
    let path = path.to_str().unwrap();
    // Of one file, `e.proto`, with a message M.
    let edition = |last: u8| {
        let set = b"\x0a\x1b\x0a\x07e.proto\x22\x03\x0a\x01M\x62\x08editions\x70";
        [set, &[last, 7][..]].concat()
    };
    let importing = b"\x0a\x12\x0a\x07e.proto\x1a\x02zz\x22\x03\x0a\x01M".to_vec();
    for (set, wanted) in [
        (edition(0xe8), None), // 2023
        (edition(0xef), Some("\"e.proto\" uses edition number")),
        (
            importing.clone(),
            Some("\"e.proto\" imports \"zz\", which is not in it"),
        ),
        (importing[..12].to_vec(), Some("is not a FileDescriptorSet")),
    ] {
        std::fs::write(path, set).unwrap();
        let text = topic("a", path, "M");
        match wanted {
            Some(words) => assert_refused_among(&text, "3:15", &[words]),
            None => assert!(Config::from_toml(&text).is_ok()),
        }
    }
}

/// As `assert_refused`, where other errors may stand beside this one.
fn assert_refused_among(text: &str, place: &str, words: &[&str]) {
    let errors = refusal(text);
    let all = errors.to_string();
    let found = all.lines().find(|line| {
        line.starts_with(&format!("<toml>:{place}: "))
            && words.iter().all(|word| line.contains(word))
    });
    assert!(
        found.is_some(),
        "no line at {place} with {words:?} in:\n{all}"
    );
}

#[test]
fn keys_of_what_is_not_built_yet_are_checked_all_the_same() {
    for (text, words) in [
        ("[roles.device]\npublsh = []", "did you mean publish?"),
        (
            "[[auth.api_key]]\nprincipl = \"x\"",
            "did you mean principal?",
        ),
        (
            "[[auth.api_key]]\nsha256 = \"abc\"",
            "must be 64 hexadecimal digits",
        ),
        ("[[topic]]\nfiltr = \"x\"", "did you mean filter?"),
        ("[roles]\ndevice = 5", "roles.device is a section"),
    ] {
        let errors = refusal(text).to_string();
        assert!(errors.contains(words), "{words:?} is not in {errors}");
    }
}

#[test]
fn an_open_address_without_authentication_must_be_meant() {
    for address in [
        "0.0.0.0:7411",
        "[::]:7411",
        "192.0.2.1:7411",
        "[2001:db8::1]:1",
    ] {
        let text = format!("[server]\nlisten = \"{address}\"");
        assert_refused(
            &text,
            "2:10",
            &[address, "authenticate", "auth.mode = \"none\""],
        );
        assert!(Config::from_toml(&format!("{text}\n[auth]\nmode = \"none\"")).is_ok());
    }
    for address in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        config(&format!("[server]\nlisten = \"{address}\""));
    }
    let open = ("RINGMAIL__SERVER__LISTEN", "0.0.0.0:7411");
    let error = with_environment(&[open]).unwrap_err().to_string();
    assert!(
        error.starts_with("environment RINGMAIL__SERVER__LISTEN: "),
        "{error}"
    );
    let meant = with_environment(&[open, ("RINGMAIL__AUTH__MODE", "none")]).unwrap();
    assert_eq!(meant.auth.mode, AuthMode::None);
    let flagged = Sources::new().flag("server.listen", open.1, "--listen");
    assert!(
        Config::load(&flagged)
            .unwrap_err()
            .to_string()
            .starts_with("flag --listen: ")
    );
    assert!(Config::load(&flagged.flag("auth.mode", "none", "--auth")).is_ok());
    let admin = refusal("[server]\nadmin = \"0.0.0.0:7412\"").to_string();
    assert!(
        admin.contains("server.admin 0.0.0.0:7412 is reachable from other hosts"),
        "{admin}"
    );
}

#[test]
fn secrets_appear_in_no_message_and_no_print() {
    let (secret, other) = ("hunter2-hunter2", "correct-horse");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, other).unwrap();
    let path = file.path().display();
    for text in [
        format!(
            "[auth.jwt]\nalgorithms = [\"RS256\"]\nsecret = \"{secret}\"\n\
             [auth.issuer]\nsigning_secret_file = \"{path}\""
        ),
        format!("[auth.jwt]\nsecret = [\"{secret}\"]"),
        format!("[auth.jwt]\nsecret = {secret}"),
        format!("[auth.jwt]\nsecret = \"{secret}"),
        format!("[auth.jwt]\nsecret = \"{secret}\"\nsecret_file = \"{path}\""),
    ] {
        let errors = refusal(&text);
        let printed = format!("{errors} {errors:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("horse"),
            "{printed}"
        );
    }
    let mut config = Config::default();
    config.auth.jwt.secret = Secret::from(secret.to_owned());
    let printed = format!("{config:?} {config:#?} {}", config.to_toml());
    assert!(!printed.contains("hunter2"), "{printed}");
    assert!(printed.contains("secret = \"(redacted)\""), "{printed}");
    assert_eq!(config.auth.jwt.secret.expose(), secret);
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let text = format!("[auth.jwt]\nsecret_file = \"{path}\"");
    std::fs::write(&file, "\n").unwrap();
    config(&text);
    std::fs::write(&file, "s3cret\n").unwrap();
    assert_eq!(config(&text).auth.jwt.secret.expose(), "s3cret");
    assert_refused(
        "[auth.jwt]\nsecret_file = \"/nowhere/secret\"",
        "2:15",
        &[
            "auth.jwt.secret_file: \"/nowhere/secret\" cannot be read",
            "No such file",
        ],
    );
    assert_refused(
        "[auth.jwt]\nsecret_file = 5",
        "2:15",
        &["expected a path", "a whole number"],
    );
    std::fs::write(&file, "").unwrap();
    let both = format!("[auth.jwt]\nsecret = \"\"\nsecret_file = \"{path}\"");
    assert_refused(
        &both,
        "3:15",
        &["auth.jwt.secret and auth.jwt.secret_file are both set"],
    );
    let stronger = with_environment(&[
        ("RINGMAIL__AUTH__JWT__SECRET", "hush"),
        ("RINGMAIL__AUTH__JWT__SECRET_FILE", &path.to_string()),
    ]);
    assert!(stronger.unwrap_err().to_string().contains("are both set"));
    assert_refused(
        "[server]\nlisten_file = \"x\"",
        "2:1",
        &["unknown key server.listen_file"],
    );
}

#[test]
fn cores_are_those_of_the_host_or_an_error_names_the_missing() {
    let available = [0, 1, 4];
    let cores = |text: &str| config(text).cores_of(&available);
    assert_eq!(cores(""), Ok(vec![0, 1, 4]));
    assert_eq!(cores("[server]\nshards = [4, 0]"), Ok(vec![4, 0]));
    assert_eq!(cores("[server]\nshards = \"0-1\""), Ok(vec![0, 1]));
    let missing = cores("[server]\nshards = \"0-2\"\ncontrol_core = 9")
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("core 2, which this process does not have"),
        "{missing}"
    );
    assert!(missing.contains("control_core is 9"), "{missing}");
    let idle = cores("[shard.3.limits]\nconnections_max = 1")
        .unwrap_err()
        .to_string();
    assert!(idle.contains("[shard.3] matches no shard"), "{idle}");
}

#[test]
fn an_error_is_one_line_whatever_is_in_it() {
    let text = refusal("\"a\\nb\" = 1\n[roles.\"\\u001b[2J\"]\nserve = [\"a/#/b\"]").to_string();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("unknown key a\\nb"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn errors_can_be_walked_and_carry_key_and_place() {
    let errors = refusal("[ring]\nentries = 9");
    let error = errors.iter().next().unwrap();
    assert_eq!(error.key, "ring.entries");
    let place = |o: &Origin| {
        matches!(
            o,
            Origin::File {
                line: 2,
                column: 11,
                ..
            }
        )
    };
    assert!(place(&error.origin), "{error:?}");
}

#[test]
fn every_tuning_profile_loads() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    for name in ["latency", "throughput", "density"] {
        let path = folder.join(format!("{name}.toml"));
        let config = Config::load(&Sources::new().file(&path));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        assert_ne!(config, Config::default(), "{name}.toml changes nothing");
    }
}

/// Lines of a configuration, most of them nearly right.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(Config::known_keys());
    let value = prop::sample::select(vec![
        "5",
        "-1",
        "0x10",
        "1e9",
        "nan",
        "true",
        "\"x\"",
        "\"all\"",
        "\"0-3\"",
        "\"9-\"",
        "[]",
        "[1, 1]",
        "[\"a\"]",
        "{}",
        "{ limits = 1 }",
        "2026-01-01",
        "'''",
        "\"",
        "[",
    ]);
    let header = prop::sample::select(vec![
        "[limits]",
        "[[topic]]",
        "[topic]",
        "[roles.x]",
        "[shard.0.limits]",
        "[shard.99999]",
        "[[auth.api_key]]",
        "[auth]",
        "[",
        "[\"\"]",
        "[\"a\\n\"]",
    ]);
    prop_oneof![
        (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        header.prop_map(str::to_owned),
        "\\PC{0,20}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_configuration_makes_it_panic(lines in prop::collection::vec(line(), 0..12)) {
        match Config::from_toml(&lines.join("\n")) {
            Ok(config) => {
                let printed = config.to_toml();
                prop_assert_eq!(self::config(&printed).to_toml(), printed);
            }
            Err(errors) => {
                prop_assert_eq!(errors.to_string().lines().count(), errors.iter().count());
                prop_assert!(errors.iter().count() > 0);
            }
        }
    }

    #[test]
    fn a_variable_that_is_refused_is_named(name in "[A-Z_0-9]{0,20}", value in "\\PC{1,20}") {
        let name = format!("RINGMAIL__{name}");
        let errors = with_environment(&[(&name, &value)]).unwrap_err().to_string();
        let place = format!("environment {name}: ");
        prop_assert!(errors.lines().all(|line| line.starts_with(&place)), "{}", errors);
    }
}

#[test]
fn what_gives_no_access_control_is_refused_with_its_place_and_a_remedy() {
    let key = "[[auth.api_key]]\nid = \"a\"\nprincipal = \"a\"\nsha256 = \"";
    for (text, place, words) in [
        (
            "[auth]\nmode = \"required\"".to_owned(),
            "2:8",
            [
                "nothing is configured to authenticate with",
                "ringmail token key",
            ],
        ),
        (
            "[roles.device]\npublish = [\"a/#/b\"]".to_owned(),
            "2:11",
            ["roles.device.publish has \"a/#/b\"", "write a topic filter"],
        ),
        (
            "[roles.device]\nserve = [\"a/{principle}\"]".to_owned(),
            "2:9",
            ["roles.device.serve has", "write a topic filter"],
        ),
        (
            "[access]\ndeny = [\"10.0.0.0/33\"]".to_owned(),
            "2:8",
            ["access.deny has \"10.0.0.0/33\"", "192.0.2.0/24"],
        ),
        (
            format!("{key}{}\"\n{key}{}\"", "0".repeat(64), "1".repeat(64)),
            "1:1",
            ["auth.api_key", "\"a\""],
        ),
    ] {
        let errors = refusal(&text).to_string();
        assert!(errors.contains(&format!(":{place}:")), "{errors}");
        for word in words {
            assert!(errors.contains(word), "{word}: {errors}");
        }
    }
    let secret =
        "[auth]\nmode = \"required\"\n[auth.jwt]\nalgorithms = [\"RS256\"]\nsecret = \"hunter2\"";
    let errors = refusal(secret).to_string();
    assert!(
        errors.contains("auth.jwt.algorithms does not list"),
        "{errors}"
    );
    assert!(!errors.contains("hunter2"), "{errors}");
}
