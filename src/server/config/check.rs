//! Relations between keys, and settings that must not happen by accident.
//!
//! Runs on the effective configuration, after all sources are merged: a flag may repair what the
//! file would break. A relation with a key that is already invalid is not checked.

use std::net::{IpAddr, SocketAddr};

use super::super::access::{self, Fault};
use super::super::schema;
use super::super::trace;
use super::error::{ConfigError, Origin};
use super::ledger::Ledger;
use super::schema::{Config, Limits};
use super::section::Node;
use super::setting::{AuthMode, TlsMode};
use super::tree::Tree;
use super::unsupported::NOT_YET;

/// Checks the effective configuration. With `is_whole` unset, lines of the file could not be
/// parsed, so that keys may be missing.
pub fn check(config: &Config, is_whole: bool, ledger: &mut Ledger) {
    if is_whole {
        relations(config, ledger);
        exposure(config, ledger);
        for fault in access::faults(config) {
            let Fault {
                key,
                problem,
                remedy,
            } = fault;
            demand(ledger, false, &[&key], || problem, &remedy);
        }
        for (row, fault) in schema::faults(config) {
            let keys = [&*row, &*fault.key];
            demand(ledger, false, &keys, || fault.problem, &fault.remedy);
        }
    }
    not_yet(config, ledger);
}

/// Records an error at the last of `keys` that was set, unless `holds`, or one of them already has
/// an error.
fn demand(
    ledger: &mut Ledger,
    holds: bool,
    keys: &[&str],
    problem: impl FnOnce() -> String,
    remedy: &str,
) {
    if holds || keys.iter().any(|key| ledger.is_faulty(key)) {
        return;
    }
    let set = keys
        .iter()
        .filter_map(|key| Some((ledger.origins.get(*key)?, *key)));
    let (origin, key) = match set.max() {
        Some((origin, key)) => (origin.clone(), key),
        None => (Origin::Configuration, ""),
    };
    ledger.errors.push(ConfigError {
        origin,
        key: key.to_owned(),
        problem: problem(),
        remedy: remedy.to_owned(),
    });
}

fn relations(config: &Config, ledger: &mut Ledger) {
    let (timeout, interval) = (config.heartbeat.timeout_ms, config.heartbeat.interval_ms);
    demand(
        ledger,
        timeout > interval,
        &["heartbeat.interval_ms", "heartbeat.timeout_ms"],
        || {
            format!(
                "heartbeat.timeout_ms ({timeout}) must be above heartbeat.interval_ms ({interval})"
            )
        },
        "a peer needs time to answer a PING: three intervals are usual",
    );
    let (completions, entries) = (config.ring.completions, config.ring.entries);
    demand(
        ledger,
        completions >= entries,
        &["ring.entries", "ring.completions"],
        || format!("ring.completions ({completions}) must be at least ring.entries ({entries})"),
        "four times as many are usual",
    );
    let (listen, admin) = (config.server.listen, config.server.admin);
    demand(
        ledger,
        admin != Some(listen) || listen.port() == 0,
        &["server.listen", "server.admin"],
        || format!("server.listen and server.admin are both {listen}"),
        "give one of them another port",
    );
    tls(config, ledger);
    let fault = match config.trace.endpoint.as_str() {
        "" => None,
        endpoint => trace::endpoint_fault(endpoint),
    };
    demand(
        ledger,
        fault.is_none(),
        &["trace.endpoint"],
        || format!("trace.endpoint {}", fault.unwrap_or_default()),
        "write it as http://127.0.0.1:4318; credentials go into OTEL_EXPORTER_OTLP_HEADERS",
    );
    outboxes(&config.limits, "limits", ledger);
    messages(config, &config.limits, "limits", ledger);
    for (number, shard) in &config.shard.shards {
        let path = format!("shard.{number}");
        outboxes(&shard.limits, &format!("{path}.limits"), ledger);
        messages(config, &shard.limits, &format!("{path}.limits"), ledger);
        demand(
            ledger,
            config
                .server
                .shards
                .count()
                .is_none_or(|n| usize::from(*number) < n),
            &["server.shards", &path],
            || format!("[{path}] is for a shard that does not exist (server.shards)"),
            "shards are numbered from 0, whichever cores they run on",
        );
    }
}

fn tls(config: &Config, ledger: &mut Ledger) {
    let tls = &config.tls;
    let is_on = tls.mode != TlsMode::Off;
    for (key, path) in [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)] {
        demand(
            ledger,
            !is_on || !path.is_empty(),
            &["tls.mode", key],
            || format!("tls.mode is on, but {key} is not set"),
            "name the PEM files of the certificate chain and of its key",
        );
    }
    demand(
        ledger,
        is_on || tls.client_ca.is_empty(),
        &["tls.mode", "tls.client_ca"],
        || "tls.client_ca requires client certificates, but tls.mode is \"off\"".to_owned(),
        "set tls.mode to \"required\" or \"optional\", or remove tls.client_ca",
    );
}

fn outboxes(limits: &Limits, path: &str, ledger: &mut Ledger) {
    let (one, all) = (limits.outbox_bytes_max, limits.outbox_bytes_shard_max);
    let keys = [
        "limits.outbox_bytes_max".to_owned(),
        "limits.outbox_bytes_shard_max".to_owned(),
        format!("{path}.outbox_bytes_max"),
        format!("{path}.outbox_bytes_shard_max"),
    ];
    demand(
        ledger,
        all >= one,
        &keys.each_ref().map(String::as_str),
        || {
            format!(
                "{path}.outbox_bytes_shard_max ({all}) must be at least outbox_bytes_max ({one})"
            )
        },
        "the shard's limit covers all of its connections together",
    );
}

/// A session keeps complete messages: one has to fit.
fn messages(config: &Config, limits: &Limits, path: &str, ledger: &mut Ledger) {
    let (message, bytes) = (
        u64::from(limits.message_bytes_max),
        config.session.buffer_bytes_max,
    );
    let of_shard = format!("{path}.message_bytes_max");
    demand(
        ledger,
        bytes >= message,
        &[
            "limits.message_bytes_max",
            &of_shard,
            "session.buffer_bytes_max",
        ],
        || {
            format!(
                "session.buffer_bytes_max ({bytes}) must be at least {of_shard} ({message}): a \
                 session could not keep one message"
            )
        },
        "raise it, or lower limits.message_bytes_max",
    );
}

/// Warns of valid limits that do not hold two of the largest messages: with one in flight and
/// another behind it, any client would count as a slow consumer.
pub fn warnings(config: &Config) -> Vec<String> {
    let shards = config.shard.shards.iter();
    let shards = shards.map(|(number, shard)| (format!("shard.{number}.limits"), &shard.limits));
    let mut warnings = Vec::new();
    for (path, limits) in [("limits".to_owned(), &config.limits)]
        .into_iter()
        .chain(shards)
    {
        let message = limits.message_bytes_max;
        for (key, bytes) in [
            (format!("{path}.outbox_bytes_max"), limits.outbox_bytes_max),
            (
                "session.buffer_bytes_max".to_owned(),
                config.session.buffer_bytes_max,
            ),
        ] {
            if bytes < 2 * u64::from(message) {
                warnings.push(format!(
                    "{key} ({bytes}) is less than twice {path}.message_bytes_max ({message}): \
                     two messages of that size make a reader a slow consumer; raise it, or lower \
                     limits.message_bytes_max"
                ));
            }
        }
    }
    warnings.dedup();
    warnings
}

/// Opening the server to the network without authentication has to be explicit.
fn exposure(config: &Config, ledger: &mut Ledger) {
    let is_said = ledger.origins.contains_key("auth.mode");
    if config.auth.mode != AuthMode::None || is_said {
        return;
    }
    let is_open = |address: SocketAddr| !is_loopback(address.ip());
    for (key, address) in [
        (
            "server.listen",
            Some(config.server.listen).filter(|a| is_open(*a)),
        ),
        ("server.admin", config.server.admin.filter(|a| is_open(*a))),
    ] {
        let Some(address) = address else { continue };
        demand(
            ledger,
            false,
            &[key],
            || {
                format!(
                    "{key} {address} is reachable from other hosts, but clients would not have \
                     to authenticate"
                )
            },
            "require authentication, listen on 127.0.0.1, or state auth.mode = \"none\" explicitly",
        );
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn not_yet(config: &Config, ledger: &mut Ledger) {
    let (now, default) = (config.tree(), Config::default().tree());
    let mut errors: Vec<ConfigError> = Vec::new();
    for (path, origin) in &ledger.origins {
        let general = without_shard(path);
        let is_at = |above: &str| general == above || general.starts_with(&format!("{above}."));
        let Some((_, also)) = NOT_YET.iter().find(|(key, _)| is_at(key)) else {
            continue;
        };
        let is_refused = match (now.find(path), default.find(general)) {
            (Some(Tree::Value(value)), Some(Tree::Value(default))) => {
                value != default && !value.as_str().is_some_and(|text| also.contains(&text))
            }
            // A section that always exists: its keys are checked one by one.
            (_, Some(_)) => false,
            // A row: one error for its existence is enough.
            (_, None) => !errors.iter().any(|error| is_at(&error.key)),
        };
        if is_refused && !ledger.is_faulty(path) {
            errors.push(ConfigError {
                origin: origin.clone(),
                key: path.clone(),
                problem: format!("{path} is not yet supported"),
                remedy: match default.find(general) {
                    Some(Tree::Value(default)) => format!("remove it, or set it to {default}"),
                    _ => "remove it".to_owned(),
                },
            });
        }
    }
    ledger.errors.append(&mut errors);
}

/// `limits.calls_open_max` for `shard.3.limits.calls_open_max`.
fn without_shard(path: &str) -> &str {
    let of_shard = path.strip_prefix("shard.");
    let below = of_shard.and_then(|rest| rest.split_once('.'));
    below.map_or(path, |(_, below)| below)
}
