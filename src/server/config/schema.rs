//! The keys: every section and key with its type, default, rule and meaning. **To add a
//! key, add its line here**; struct, reader, printer and the list of known keys follow.
//! If its feature is not built yet, name it in `unsupported::NOT_YET` too. Relations between
//! keys are in `check`.
//!
//! Names are big-endian with the unit last; times are whole numbers of that unit.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use toml::Spanned;
use toml::de::DeValue;

use super::later::{Mqtt, Nats, Store, Websocket};
use super::rule::{cores, log_level, power_of_two, sha256, within};
use super::section::{Node, Reader, Section, rows, section};
use super::setting::{
    Algorithm, AuthMode, Balance, ControlCore, LogFormat, Pem, Policy, Secret, Shards, TlsMode,
};
use super::tree::Tree;
use crate::base::limits::{MESSAGE_BYTES_CEILING, MESSAGE_BYTES_FLOOR};

/// Longer than any timeout or interval that makes sense.
const DAY_MS: u32 = 86_400_000;
/// Beyond any count that one shard could serve.
const COUNT_MAX: u32 = 1 << 24;
/// Beyond the memory of any host: a typing mistake.
const BYTES_MAX: u64 = 1 << 44;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

rows! { ApiKey, Topic }

section! {
    /// The whole configuration, as the sources together say.
    Config {
        server: Server = Server::default();
        limits: Limits = Limits::default();
        heartbeat: Heartbeat = Heartbeat::default();
        ring: Ring = Ring::default();
        accept: Accept = Accept::default();
        slow_consumer: SlowConsumer = SlowConsumer::default();
        session: Session = Session::default();
        tls: Tls = Tls::default();
        auth: Auth = Auth::default();
        /// Rights by the name of the role.
        roles: BTreeMap<String, Role> = BTreeMap::new();
        access: Access = Access::default();
        rate: Rate = Rate::default();
        log: Log = Log::default();
        trace: Trace = Trace::default();
        mqtt: Mqtt = Mqtt::default();
        websocket: Websocket = Websocket::default();
        store: Store = Store::default();
        nats: Nats = Nats::default();
        /// Topics whose messages have a schema.
        topic: Vec<Topic> = Vec::new();
        /// `[shard.3.limits]`; see [`Config::limits_of`].
        shard: Overrides = Overrides::default();
    }

    /// Addresses, cores, ending.
    Server {
        /// One SO_REUSEPORT listener per shard; port 0 picks one and logs it.
        listen: SocketAddr = loopback(7411);
        /// HTTP: metrics, health, profiles, status; "" turns it off.
        admin: Option<SocketAddr> = Some(loopback(7412));
        /// `host:port` told to clients that are sent elsewhere.
        advertise: String = String::new();
        /// The cores that get a shard, one each, pinned.
        shards: Shards = Shards::All, cores;
        /// The core of the control and stats threads.
        control_core: ControlCore = ControlCore::Any;
        /// How long a drain may take; then what is left is closed (PROTOCOL.md §2, DRAIN).
        drain_timeout_ms: u32 = 10_000, within(1..=DAY_MS);
    }

    /// Per shard; `[shard.3.limits]` overrides for shard 3.
    Limits {
        /// Beyond it a connection is refused TOO_MANY_CONNECTIONS, unless it resumes a session.
        connections_max: u32 = 65_536, within(1..=COUNT_MAX);
        /// 0: no limit; IPv6 counts by /64.
        connections_per_ip_max: u32 = 0;
        /// The largest payload (PROTOCOL.md §2, Length); longer is TOO_LARGE.
        message_bytes_max: u32 = 1 << 20, within(MESSAGE_BYTES_FLOOR..=MESSAGE_BYTES_CEILING);
        /// From accept to established (§1); later is HANDSHAKE_TIMEOUT.
        handshake_timeout_ms: u32 = 2_000, within(1..=DAY_MS);
        /// From established to AUTH; later is AUTH_REQUIRED.
        auth_timeout_ms: u32 = 5_000, within(1..=DAY_MS);
        /// From a message's first byte to its last; longer is FRAME_TIMEOUT.
        frame_timeout_ms: u32 = 10_000, within(1..=DAY_MS);
        /// Unsent bytes of one connection; beyond, the slow-consumer policy acts. Twice
        /// message_bytes_max at least.
        outbox_bytes_max: u64 = 1 << 22, within(u64::from(MESSAGE_BYTES_FLOOR)..=BYTES_MAX);
        /// Unsent bytes of all connections together.
        outbox_bytes_shard_max: u64 = 1 << 28, within(u64::from(MESSAGE_BYTES_FLOOR)..=BYTES_MAX);
        /// Per connection; beyond is TOO_MANY_SUBSCRIPTIONS.
        subscriptions_max: u32 = 1_024, within(1..=COUNT_MAX);
        /// Per connection, unanswered; beyond is TOO_MANY_REQUESTS.
        requests_open_max: u32 = 1_024, within(1..=COUNT_MAX);
        /// Requests that are answered later; beyond is OVERLOADED. One connection may hold
        /// two for each that is left.
        calls_open_max: u32 = 4_096, within(1..=COUNT_MAX);
        /// A request's, if it brings no TIMEOUT_MS of its own; later is REQUEST_TIMEOUT.
        request_timeout_ms: u32 = 10_000, within(1..=DAY_MS);
        /// What a request may ask for in TIMEOUT_MS at most; more is taken for so much.
        request_timeout_max_ms: u32 = 600_000, within(1..=DAY_MS);
        /// Sessions whose connection has gone; beyond it the longest waiting ends.
        sessions_waiting_max: u32 = 65_536, within(1..=COUNT_MAX);
    }

    /// PROTOCOL.md §2, Heartbeat.
    Heartbeat {
        /// A connection silent for so long gets a PING.
        interval_ms: u32 = 30_000, within(10..=DAY_MS);
        /// A connection silent for so long is closed HEARTBEAT_TIMEOUT.
        timeout_ms: u32 = 90_000, within(11..=DAY_MS);
    }

    /// The shard's io_uring; bounds are the kernel's (io_uring_setup(2),
    /// io_uring_register_buf_ring(3)).
    Ring {
        /// Submission queue.
        entries: u32 = 4_096, power_of_two(8..=32_768);
        /// Completion queue; at least `entries`.
        completions: u32 = 16_384, power_of_two(8..=65_536);
        /// Provided receive buffers.
        buffers: u32 = 4_096, power_of_two(1..=32_768);
        buffer_bytes: u32 = 4_096, within(256..=65_536);
        /// Spin this long before sleeping; 50 is right for latency, costs a core.
        busy_poll_us: u32 = 0, within(0..=1_000_000);
        /// Handled before timers and output get their turn; ends of sends beyond that, if most are.
        completions_per_turn: u32 = 1_024, within(1..=65_536);
    }

    /// New connections.
    Accept {
        balance: Balance = Balance::LeastConnections;
        /// listen(2); the kernel cuts it to net.core.somaxconn.
        backlog: u32 = 4_096, within(1..=65_535);
    }

    /// Consumers slower than what they are sent.
    SlowConsumer {
        policy: Policy = Policy::Disconnect;
    }

    /// PROTOCOL.md §2, Sessions.
    Session {
        /// How long a session waits for its client to come back.
        linger_ms: u32 = 60_000, within(0..=DAY_MS);
        /// Messages kept for it until they are acknowledged; what is beyond waits, or the
        /// slow-consumer policy acts. Twice limits.message_bytes_max at least.
        buffer_bytes_max: u64 = 1 << 22, within(0..=BYTES_MAX);
    }

    /// PROTOCOL.md §4.
    Tls {
        mode: TlsMode = TlsMode::Off;
        /// Path of a PEM chain; reread when the file changes.
        certificate: String = String::new();
        /// Path of its key.
        key: String = String::new();
        /// Set: clients must present a certificate of this authority; its subject CN is the
        /// principal.
        client_ca: String = String::new();
    }

    /// PROTOCOL.md §2, Authentication.
    Auth {
        mode: AuthMode = AuthMode::None;
        /// Roles of who shows no credential, with `mode = "optional"`.
        anonymous: Vec<String> = Vec::new();
        jwt: Jwt = Jwt::default();
        issuer: Issuer = Issuer::default();
        api_key: Vec<ApiKey> = Vec::new();
    }

    /// Verification of access tokens.
    Jwt {
        /// Each key serves its own algorithm only.
        algorithms: Vec<Algorithm> = vec![Algorithm::Hs256];
        /// For HS256.
        secret: Secret = Secret::default();
        /// For RS256, ES256, EdDSA.
        public_key: Pem = Pem::default();
        /// File path or https URL, fetched at most once in 30 s.
        jwks: String = String::new();
        issuer: String = String::new();
        audience: String = String::new();
        leeway_s: u32 = 30, within(0..=3_600);
    }

    /// Set `signing_secret` to make this server issue tokens.
    Issuer {
        signing_secret: Secret = Secret::default();
        access_ttl_s: u32 = 900, within(1..=31_536_000);
        refresh_ttl_s: u32 = 604_800, within(1..=31_536_000);
    }

    /// `[[auth.api_key]]`.
    ApiKey {
        id: String = String::new();
        /// Of the key, in hexadecimal: `ringmail token key` prints both.
        sha256: String = String::new(), sha256;
        principal: String = String::new();
        roles: Vec<String> = Vec::new();
    }

    /// `[roles.NAME]`: topics and services by filter; `{principal}` and `{client_id}` stand for
    /// the connection's own. Empty means deny.
    Role {
        publish: Vec<String> = Vec::new();
        subscribe: Vec<String> = Vec::new();
        request: Vec<String> = Vec::new();
        serve: Vec<String> = Vec::new();
        /// May use the admin address's protected endpoints.
        admin: bool = false;
    }

    /// CIDR blocks.
    Access {
        /// Empty: everyone not denied.
        allow: Vec<String> = Vec::new();
        deny: Vec<String> = Vec::new();
    }

    /// 0: no limit.
    Rate {
        /// Per connection, token bucket.
        messages_per_s: u32 = 0;
        message_burst: u32 = 0;
        bytes_per_s: u64 = 0;
        connects_per_s_per_ip: u32 = 0;
        /// Credentials that were wrong, at `listen` and at `admin`: of an address, and of each
        /// API key from it. What the server cannot judge is not counted.
        auth_failures_per_min_per_ip: u32 = 30;
    }

    /// The log.
    Log {
        /// Also per target, `info,ringmail::shard=debug`.
        level: String = "info".to_owned(), log_level;
        format: LogFormat = LogFormat::Auto;
        /// A path; else standard error.
        file: String = String::new();
    }

    /// OpenTelemetry.
    Trace {
        /// OTLP, for example `http://127.0.0.1:4318`.
        endpoint: String = String::new();
        /// Of messages that carry no TRACEPARENT; carried ones follow their flag.
        sample_ratio: f64 = 0.01, within(0.0..=1.0);
    }

    /// `[[topic]]`: payloads have a schema; JSON and protobuf are translated for subscribers
    /// that prefer the other. Of several that match a topic the first counts.
    Topic {
        filter: String = String::new();
        /// Path of a FileDescriptorSet, imports and all (`protoc --include_imports
        /// --descriptor_set_out`).
        schema_file: String = String::new();
        /// A message of that schema, by its full name, `site.Reading`.
        message: String = String::new();
    }

    /// `[shard.N]`: what is different for one shard.
    Override {
        limits: Limits = Limits::default();
    }
}

/// `[shard.N]` for each N. What a shard's section leaves out is as in `base`, whichever
/// source that came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Must be set before any `[shard.N]` is merged.
    pub(super) base: Limits,
    pub(super) shards: BTreeMap<u16, Override>,
}

impl Node for Overrides {
    fn merge(&mut self, value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) {
        for (name, value) in reader.table(value) {
            reader.enter(name.get_ref(), name.span(), |reader| {
                let Ok(shard) = name.get_ref().parse() else {
                    return reader.fault(
                        name.span(),
                        format!("shard.{} is not a shard", name.get_ref()),
                        "shards are numbered from 0, as in [shard.0.limits]".to_owned(),
                    );
                };
                let base = || Override {
                    limits: self.base.clone(),
                };
                let section = self.shards.entry(shard).or_insert_with(base);
                section.merge(value, reader);
            });
        }
    }

    /// Only what differs, as someone would write it.
    fn tree(&self) -> Tree {
        let base = self.base.tree();
        let differing = |shard: &Override| match shard.limits.tree() {
            Tree::Section(mut limits) => {
                limits.retain(|(key, value)| base.find(key) != Some(value));
                Tree::Section(limits)
            }
            tree => tree,
        };
        let shards = self.shards.iter().map(|(number, shard)| {
            let limits = ("limits".to_owned(), differing(shard));
            (number.to_string(), Tree::Section(vec![limits]))
        });
        Tree::Section(shards.collect())
    }

    fn keys(path: &str, out: &mut Vec<String>) {
        Override::keys(&format!("{path}.N"), out);
    }
}
