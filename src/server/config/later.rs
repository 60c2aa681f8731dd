//! Keys for features of later versions: known and checked, so that a file written for such a
//! version gets an error that says what is not supported yet rather than that a key is unknown.
//! `unsupported::NOT_YET` refuses any value but the default, and they are not printed.
//! Implementing one means moving its section to `schema`.

use toml::Spanned;
use toml::de::DeValue;

use super::rule::{Verdict, within};
use super::section::{Node, Reader, Section, section};
use super::setting::{Engine, Secret, Sync};
use super::tree::Tree;

/// A year.
const AGE_MAX_S: u32 = 31_536_000;
const BYTES_MAX: u64 = 1 << 44;
const COUNT_MAX: u32 = 1 << 24;

section! {
    /// MQTT clients on the same port.
    Mqtt {
        enabled: bool = true;
        /// One more listener; "" for none.
        listen: String = String::new();
        session_expiry_max_s: u32 = 604_800, within(0..=AGE_MAX_S);
        /// Unacknowledged QoS 1 and 2 publications a client may have open.
        receive_max: u32 = 1_024, within(1..=65_535);
        topic_alias_max: u32 = 64, within(0..=65_535);
        /// `$SYS/broker/…`; 0: none.
        sys_interval_s: u32 = 10, within(0..=86_400);
    }

    /// WebSocket on the same port.
    Websocket {
        enabled: bool = true;
        /// Allowed Origin headers; empty: Origin's host equals Host's, or none given.
        origins: Vec<String> = Vec::new();
    }

    /// What survives a restart.
    Store {
        engine: Engine = Engine::Embedded;
        directory: String = String::new();
        /// Topics stored before they are delivered and confirmed.
        durable: Vec<String> = Vec::new();
        retained: bool = true;
        sessions: bool = true;
        sync: Sync = Sync::Always;
        age_max_s: u32 = 604_800, within(1..=AGE_MAX_S);
        bytes_max: u64 = 10_737_418_240, within(1..=BYTES_MAX);
        replays_max: u32 = 64, within(1..=COUNT_MAX);
    }

    /// Several servers over a NATS cluster.
    Nats {
        url: String = String::new();
        /// Of the subjects.
        prefix: String = "mcp".to_owned(), not_empty;
        /// Topics that cross.
        share: Vec<String> = vec!["#".to_owned()];
        filters_max: u32 = 4_096, within(1..=COUNT_MAX);
        buffer_bytes_max: u64 = 16_777_216, within(1..=BYTES_MAX);
        /// Of JetStream streams.
        replicas: u32 = 3, within(1..=5);
        credentials: String = String::new();
        user: String = String::new();
        password: Secret = Secret::default();
        token: Secret = Secret::default();
        nkey_seed: Secret = Secret::default();
        ca: String = String::new();
        certificate: String = String::new();
        key: String = String::new();
    }
}

#[expect(clippy::ptr_arg, reason = "a rule takes the type of its field")]
fn not_empty(text: &String) -> Verdict {
    match text.is_empty() {
        true => Err("must not be empty".to_owned()),
        false => Ok(()),
    }
}
