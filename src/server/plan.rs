//! Derives from the configuration what each shard is made of.

use super::access;
use super::config::{Balance, Config, Policy};
use crate::base::id::ShardId;
use crate::broker::{Limits, Pace};
use crate::proto::envelope::SlowPolicy;
use crate::proto::session::Settings;
use crate::ring::uring::Geometry;
use std::time::Duration;

/// This server's name in SYN-ACK and `$sys/info`.
pub const PRODUCT: &str = concat!("ringmail/", env!("CARGO_PKG_VERSION"));

/// One shard's part of the configuration.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) limits: Limits,
    pub(super) geometry: Geometry,
    pub(super) completions_per_turn: usize,
    pub(super) balance: bool,
}

impl Plan {
    pub(super) fn new(config: &Config, shard: ShardId) -> Plan {
        let limits = config.limits_of(shard);
        Plan {
            settings: Settings {
                message_bytes_max: limits.message_bytes_max,
                handshake_timeout: ms(limits.handshake_timeout_ms),
                frame_timeout: ms(limits.frame_timeout_ms),
                heartbeat_interval: ms(config.heartbeat.interval_ms),
                heartbeat_timeout: ms(config.heartbeat.timeout_ms),
                auth_methods: access::methods(config),
                auth_timeout: ms(limits.auth_timeout_ms),
                product: PRODUCT.to_owned(),
                shard: shard.0,
            },
            limits: Limits {
                connections_max: limits.connections_max,
                outbox_bytes_max: bytes(limits.outbox_bytes_max),
                outbox_bytes_shard_max: bytes(limits.outbox_bytes_shard_max),
                requests_open_max: limits.requests_open_max,
                calls_open_max: limits.calls_open_max,
                request_timeout: ms(limits.request_timeout_ms),
                request_timeout_max: ms(limits.request_timeout_max_ms),
                sessions_waiting_max: limits.sessions_waiting_max,
                subscriptions_max: limits.subscriptions_max,
                slow_policy: slow_policy(config.slow_consumer.policy),
                rates: access::rates(config),
                session_linger: ms(config.session.linger_ms),
                session_buffer_bytes_max: bytes(config.session.buffer_bytes_max),
                pace: Pace::default(),
            },
            geometry: Geometry {
                entries: config.ring.entries,
                completions: config.ring.completions,
                // The configuration allows 32,768 at most.
                buffers: u16::try_from(config.ring.buffers).unwrap_or(1 << 15),
                buffer_bytes: config.ring.buffer_bytes,
                busy_poll: Duration::from_micros(u64::from(config.ring.busy_poll_us)),
            },
            completions_per_turn: config.ring.completions_per_turn as usize,
            balance: config.accept.balance == Balance::LeastConnections,
        }
    }
}

fn slow_policy(policy: Policy) -> SlowPolicy {
    match policy {
        Policy::Disconnect => SlowPolicy::Disconnect,
        Policy::DropOldest => SlowPolicy::DropOldest,
        Policy::DropNewest => SlowPolicy::DropNewest,
        Policy::LatestPerKey => SlowPolicy::LatestPerKey,
    }
}

fn ms(count: u32) -> Duration {
    Duration::from_millis(u64::from(count))
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
