//! Counters of one shard: written by that shard alone, read by anyone at any time.
//!
//! Each is an atomic with one writer, so adding is a plain load, add and store, without a locked
//! instruction. A reader sees each counter some nanoseconds late but never torn; two counters read
//! together may differ by one message.

use super::gauge::Gauges;
use crate::base::reason::Reason;
use crate::proto::message::MessageType;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What a shard counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];

            /// The counter's name in `$sys/stats` and in the log.
            pub const fn label(self) -> &'static str {
                match self { $(Counter::$name => $label,)* }
            }
        }
    };
}

counters! {
    /// Connections given a slot on this shard.
    Opened = "connections_opened",
    /// Connections closed, for whatever reason; `closed` counts them by reason.
    Closed = "connections_closed",
    Established = "connections_established",
    /// TLS handshakes completed.
    TlsEstablished = "tls_established",
    /// Accepted here and handed to an emptier shard.
    HandedOver = "connections_handed_over",
    /// Times accepting had to pause: descriptors or memory short.
    AcceptPaused = "accept_paused",
    MessagesReceived = "messages_received",
    BytesReceived = "bytes_received",
    BytesSent = "bytes_sent",
    Requests = "requests",
    /// Answered with a RESPONSE that carries FAILED.
    RequestsFailed = "requests_failed",
    /// RESPONSEs put into the requester's outbox.
    Responses = "responses",
    /// Calls answered later than inline.
    CallsDeferred = "calls_deferred",
    /// Answers that came after their deadline or the end of their connection; dropped.
    AnswersLate = "answers_late",
    /// REQUESTs given to another connection to answer.
    RequestsForwarded = "requests_forwarded",
    /// PUBLISHes taken from clients of this shard.
    Publishes = "publishes",
    /// Publications put into the outbox of a subscriber.
    Deliveries = "deliveries",
    /// Publications not delivered because EXPIRES_MS had passed.
    DeliveriesExpired = "deliveries_expired",
    /// Publications not delivered because the subscriber does not accept one so large.
    DeliveriesTooLarge = "deliveries_too_large",
    /// Publications not delivered because the subscriber's rights had been narrowed.
    DeliveriesForbidden = "deliveries_forbidden",
    /// Messages whose payload did not conform to their topic's schema.
    SchemaRefused = "schema_refused",
    /// Publications translated for subscribers of another codec, once for all of a shard.
    TranslatedToJson = "translated_to_json",
    TranslatedToProtobuf = "translated_to_protobuf",
    /// Publications dropped for a newer one, by the slow-consumer policy drop-oldest.
    SlowDroppedOldest = "slow_dropped_oldest",
    /// Publications dropped for older ones, by the policy drop-newest.
    SlowDroppedNewest = "slow_dropped_newest",
    /// Publications replaced by a newer one of their key, by the policy latest-per-key.
    SlowReplaced = "slow_replaced",
    /// Messages of groups that were handed to another member, because the first ended before they
    /// were sent to it or before it acknowledged them; and those for which there was no other
    /// member.
    GroupHandedOn = "group_messages_handed_on",
    GroupLost = "group_messages_lost",
    /// SUBSCRIBEs that made a subscription, and subscriptions that ended.
    Subscribed = "subscribed",
    Unsubscribed = "unsubscribed",
    /// Wills published.
    Wills = "wills",
    SessionsBegun = "sessions_begun",
    SessionsResumed = "sessions_resumed",
    SessionsEnded = "sessions_ended",
    /// Sessions that cannot be resumed any more: too much was not acknowledged.
    SessionsOverflowed = "sessions_overflowed",
    /// Connections that came from, or went to, another shard to resume a session there.
    MovedIn = "connections_moved_in",
    MovedOut = "connections_moved_out",
    /// AUTHs that were accepted, and those that were refused.
    AuthAccepted = "auth_accepted",
    AuthRefused = "auth_refused",
    /// AUTHs that could not be checked: a key set or the state's disk is unavailable.
    AuthUnavailable = "auth_unavailable",
    /// Operations that the connection's rights do not cover.
    Forbidden = "forbidden",
    /// Messages refused because a connection exceeded its rate.
    RateLimited = "rate_limited",
    /// Connections refused because of their address, or of how many came from it.
    AddressRefused = "address_refused",
    /// RESPONSEs from clients that match no open request.
    ResponsesUnasked = "responses_unasked",
    /// Receives that found no provided buffer.
    BuffersExhausted = "buffers_exhausted",
    /// Times a connection's receive was paused because its answers or input piled up.
    ReceivePaused = "receive_paused",
    Turns = "turns",
    /// Entries taken from other shards.
    MeshEntries = "mesh_entries",
    /// Spans of sampled messages that found no room on their way to the collector.
    SpansDropped = "spans_dropped",
}

const COUNTERS: usize = Counter::ALL.len();
const REASONS: usize = Reason::ALL.len();
/// One slot for each byte up to the largest message type.
const TYPES: usize = {
    let mut most = 0;
    let mut index = 0;
    while index < MessageType::ALL.len() {
        if MessageType::ALL[index] as usize > most {
            most = MessageType::ALL[index] as usize;
        }
        index += 1;
    }
    most + 1
};

/// The counters of one shard, on cache lines of their own, and its gauges.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    values: [AtomicU64; COUNTERS],
    closed: [AtomicU64; REASONS],
    received: [AtomicU64; TYPES],
    pub gauges: Gauges,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            values: [const { AtomicU64::new(0) }; COUNTERS],
            closed: [const { AtomicU64::new(0) }; REASONS],
            received: [const { AtomicU64::new(0) }; TYPES],
            gauges: Gauges::default(),
        }
    }
}

impl Counters {
    /// Adds to a counter. Only the owning shard may call this.
    #[inline]
    pub fn add(&self, counter: Counter, count: u64) {
        let value = &self.values[counter as usize];
        value.store(value.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Counts a connection's end, once. Only the owning shard may call this.
    pub fn add_closed(&self, reason: Reason) {
        let value = &self.closed[reason.index()];
        value.store(value.load(Relaxed).wrapping_add(1), Relaxed);
        self.add(Counter::Closed, 1);
    }

    /// Counts a message that a client sent. Only the owning shard may call this.
    #[inline]
    pub fn add_received(&self, kind: MessageType) {
        let value = &self.received[kind as usize];
        value.store(value.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Messages of this type that clients have sent.
    pub fn read_received(&self, kind: MessageType) -> u64 {
        self.received[kind as usize].load(Relaxed)
    }

    pub fn read(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Relaxed)
    }

    pub fn read_closed(&self, reason: Reason) -> u64 {
        self.closed[reason.index()].load(Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        let came = self.read(Counter::Opened) + self.read(Counter::MovedIn);
        came.saturating_sub(self.read(Counter::Closed) + self.read(Counter::MovedOut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_sum_to_the_connections_closed() {
        let counters = Counters::default();
        counters.add(Counter::Opened, 3);
        counters.add_closed(Reason::PeerEof);
        counters.add_closed(Reason::Malformed);
        let sum: u64 = Reason::ALL
            .iter()
            .map(|&reason| counters.read_closed(reason))
            .sum();
        assert_eq!(sum, counters.read(Counter::Closed));
        assert_eq!(counters.open(), 1);
    }
}
