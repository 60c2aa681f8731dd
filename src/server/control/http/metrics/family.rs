//! Which counters, gauges and timings of a shard stand under which name, and what that
//! means: the metrics as tables.
//!
//! Names are in base units, with the unit at the end (`_total` is added to counters), as
//! Prometheus' own conventions have it. A test holds that every counter, gauge and timing
//! there is stands here, or is told in another way.

use crate::metrics::counter::Counter::{self, *};
use crate::metrics::gauge::Gauge;
use crate::metrics::histogram::Timing;

/// Counters of shards under one name.
pub(super) struct CounterFamily {
    /// Without unit and `_total`.
    pub(super) name: &'static str,
    /// Whether the unit is bytes; otherwise there is none.
    pub(super) is_bytes: bool,
    pub(super) help: &'static str,
    /// Whether it is told of each shard, or of all together.
    pub(super) by_shard: bool,
    /// The label that tells the parts apart; empty where there is one part.
    pub(super) label: &'static str,
    /// What is counted, with the label's value.
    pub(super) parts: &'static [(&'static str, Counter)],
}

const fn of_shards(
    name: &'static str,
    help: &'static str,
    parts: &'static [(&'static str, Counter)],
) -> CounterFamily {
    CounterFamily {
        by_shard: true,
        ..of_all(name, help, parts)
    }
}

const fn of_all(
    name: &'static str,
    help: &'static str,
    parts: &'static [(&'static str, Counter)],
) -> CounterFamily {
    CounterFamily {
        name,
        is_bytes: false,
        help,
        by_shard: false,
        label: "",
        parts,
    }
}

impl CounterFamily {
    const fn in_bytes(self) -> CounterFamily {
        CounterFamily {
            is_bytes: true,
            ..self
        }
    }

    const fn labelled(self, label: &'static str) -> CounterFamily {
        CounterFamily { label, ..self }
    }
}

#[rustfmt::skip]
pub(super) const COUNTERS: &[CounterFamily] = &[
    // Connections.
    of_all("ringmail_connections_opened", "Connections accepted.", &[("", Opened)]),
    of_all("ringmail_connections_established", "Connections whose handshake came to its end.", &[("", Established)]),
    of_all("ringmail_connections_handed_over", "Connections handed to an emptier shard right after they were accepted.", &[("", HandedOver)]),
    of_all("ringmail_connections_moved", "Connections that went to another shard to resume a session there.", &[("", MovedOut)]),
    of_all("ringmail_tls_handshakes", "TLS handshakes that came to their end.", &[("", TlsEstablished)]),
    of_all("ringmail_accept_pauses", "Times accepting had to pause because descriptors or memory were short.", &[("", AcceptPaused)]),
    of_all("ringmail_addresses_refused", "Connections refused for their address, or for how many came from it.", &[("", AddressRefused)]),
    of_all("ringmail_receive_pauses", "Times a connection was not read from because its answers or its input piled up.", &[("", ReceivePaused)]),
    // Messages.
    of_shards("ringmail_messages_sent", "Messages for applications put into the outboxes of clients, by type.", &[("PUBLISH", Deliveries), ("REQUEST", RequestsForwarded), ("RESPONSE", Responses)]).labelled("type"),
    of_shards("ringmail_received", "Bytes received from clients; of TLS, as they came.", &[("", BytesReceived)]).in_bytes(),
    of_shards("ringmail_sent", "Bytes sent to clients; of TLS, as they went.", &[("", BytesSent)]).in_bytes(),
    of_shards("ringmail_publications", "Publications taken from clients.", &[("", Publishes)]),
    of_all("ringmail_deliveries_dropped", "Publications not delivered to one subscriber, by reason.", &[("expired", DeliveriesExpired), ("too_large", DeliveriesTooLarge), ("forbidden", DeliveriesForbidden)]).labelled("reason"),
    of_all("ringmail_group_messages_passed_on", "Messages that a group's member had not been sent, or had not acknowledged, when it ended, by what became of them: another member's, or nobody's.", &[("another", GroupHandedOn), ("nobody", GroupLost)]).labelled("to"),
    of_all("ringmail_translations", "Publications translated by their topic's schema, by what they became.", &[("json", TranslatedToJson), ("protobuf", TranslatedToProtobuf)]).labelled("to"),
    of_all("ringmail_schema_refusals", "Messages refused because their payload did not fit their topic's schema.", &[("", SchemaRefused)]),
    of_all("ringmail_wills", "Wills published.", &[("", Wills)]),
    // Requests.
    of_shards("ringmail_requests", "Requests that clients sent, to whatever service.", &[("", Requests)]),
    of_shards("ringmail_requests_failed", "Requests answered with an error, by the server or by the service.", &[("", RequestsFailed)]),
    of_all("ringmail_calls_deferred", "Requests that a service of the server did not answer at once.", &[("", CallsDeferred)]),
    of_all("ringmail_answers_late", "Answers dropped because they came after their deadline, or after who had asked was gone.", &[("", AnswersLate)]),
    of_all("ringmail_responses_unasked", "Responses of clients that nobody had asked for.", &[("", ResponsesUnasked)]),
    // Subscriptions and sessions.
    of_all("ringmail_subscribed", "Subscriptions made.", &[("", Subscribed)]),
    of_all("ringmail_unsubscribed", "Subscriptions that ended.", &[("", Unsubscribed)]),
    of_all("ringmail_sessions_begun", "Sessions begun.", &[("", SessionsBegun)]),
    of_all("ringmail_sessions_resumed", "Sessions that their client has come back to.", &[("", SessionsResumed)]),
    of_all("ringmail_sessions_ended", "Sessions that are over.", &[("", SessionsEnded)]),
    of_all("ringmail_sessions_overflowed", "Sessions that cannot be resumed because too much was not acknowledged.", &[("", SessionsOverflowed)]),
    // Access.
    of_all("ringmail_authentications", "Credentials shown by clients, by what came of it.", &[("accepted", AuthAccepted), ("refused", AuthRefused), ("unavailable", AuthUnavailable)]).labelled("result"),
    of_all("ringmail_operations_forbidden", "Operations refused because the client's rights do not cover them.", &[("", Forbidden)]),
    of_all("ringmail_rate_limited", "Messages refused because more came than one connection may send.", &[("", RateLimited)]),
    // The shards' own.
    of_shards("ringmail_receive_buffers_exhausted", "Receives that found no buffer (ENOBUFS) and had to be made again.", &[("", BuffersExhausted)]),
    of_shards("ringmail_mesh_entries", "Publications, requests and answers taken from other shards.", &[("", MeshEntries)]),
    of_shards("ringmail_turns", "Turns of a shard's loop.", &[("", Turns)]),
    of_all("ringmail_spans_dropped", "Spans of sampled messages that were lost on their way to the collector.", &[("", SpansDropped)]),
];

/// What the slow-consumer policies did; closing the connection, the last one, is counted
/// among the reasons for that.
#[rustfmt::skip]
pub(super) const SLOW_ACTIONS: &[(&str, Counter)] = &[
    ("drop_oldest", SlowDroppedOldest),
    ("drop_newest", SlowDroppedNewest),
    ("replace", SlowReplaced),
];

/// Told in another way: as labels of another metric, or as what they add up to.
#[cfg(test)]
pub(super) const TOLD_OTHERWISE: &[Counter] = &[
    Closed,
    MessagesReceived,
    MovedIn,
    SlowDroppedOldest,
    SlowDroppedNewest,
    SlowReplaced,
];

/// A gauge of each shard.
pub(super) struct GaugeFamily {
    pub(super) name: &'static str,
    /// Whether the unit is bytes; otherwise there is none.
    pub(super) is_bytes: bool,
    pub(super) help: &'static str,
    pub(super) gauge: Gauge,
}

const fn gauge(name: &'static str, help: &'static str, gauge: Gauge) -> GaugeFamily {
    GaugeFamily {
        name,
        is_bytes: false,
        help,
        gauge,
    }
}

const fn gauge_bytes(name: &'static str, help: &'static str, gauge: Gauge) -> GaugeFamily {
    GaugeFamily {
        name,
        is_bytes: true,
        help,
        gauge,
    }
}

#[rustfmt::skip]
pub(super) const GAUGES: &[GaugeFamily] = &[
    gauge("ringmail_sessions", "Sessions, those that wait for their client to come back among them.", Gauge::Sessions),
    gauge("ringmail_retained_messages", "Retained messages: every shard keeps all of them, so the shards are not to be added.", Gauge::Retained),
    gauge_bytes("ringmail_retained", "Memory of the retained messages, in each shard.", Gauge::RetainedBytes),
    gauge("ringmail_calls_open", "Requests of this shard's clients that something still works on.", Gauge::CallsOpen),
    gauge("ringmail_errands_open", "Requests that this shard's connections have to answer.", Gauge::ErrandsOpen),
    gauge("ringmail_fanouts", "Batches of publications that are being delivered to many, a slice in each turn.", Gauge::Fanouts),
    gauge("ringmail_mesh_batches", "Batches for other shards that these have not taken yet: how deep the mesh is.", Gauge::MeshBatches),
    gauge("ringmail_mesh_blocked_connections", "Connections not read from until another shard has taken what they sent.", Gauge::MeshBlocked),
    gauge_bytes("ringmail_memory_lent", "Memory lent to connections: outboxes, what waits for them, sessions, subscriptions.", Gauge::MemoryLentBytes),
    gauge_bytes("ringmail_memory_lent_limit", "Memory that may be lent to connections.", Gauge::MemoryMaxBytes),
    gauge("ringmail_receive_buffers_free", "Receive buffers that are not in use.", Gauge::BuffersFree),
    gauge("ringmail_receive_buffers", "Receive buffers there are.", Gauge::Buffers),
];

/// Timings under one name, as a histogram in seconds.
pub(super) struct TimingFamily {
    /// Without `_seconds`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Whether it is told of each shard, or of all together.
    pub(super) by_shard: bool,
    pub(super) label: &'static str,
    pub(super) parts: &'static [(&'static str, Timing)],
}

#[rustfmt::skip]
pub(super) const TIMINGS: &[TimingFamily] = &[
    TimingFamily {
        name: "ringmail_request_duration",
        help: "From a request to its answer, of those that are not answered at once: calls that a service defers, and services that clients answer for.",
        by_shard: false, label: "", parts: &[("", Timing::Call)],
    },
    TimingFamily {
        name: "ringmail_stage_duration",
        help: "Stages of a message in a shard, of one message in each millisecond: receive, from the completion that brought it to the begin of its handling; parse; route, until it is put before whom it is for; queue, from there to the next send; send, until the kernel has taken it.",
        by_shard: true, label: "stage",
        parts: &[
            ("receive", Timing::Receive), ("parse", Timing::Parse), ("route", Timing::Route),
            ("queue", Timing::Queue), ("send", Timing::Send),
        ],
    },
    TimingFamily {
        name: "ringmail_turn_duration",
        help: "Turns of a shard that had something to do: everybody else on the shard waits so long.",
        by_shard: true, label: "", parts: &[("", Timing::Turn)],
    },
    TimingFamily {
        name: "ringmail_timer_lateness",
        help: "How long after a connection's timer was due it was looked at.",
        by_shard: true, label: "", parts: &[("", Timing::TimerLate)],
    },
    TimingFamily {
        name: "ringmail_handshake_duration",
        help: "From accepting a connection to its end of the handshake, TLS and all.",
        by_shard: false, label: "", parts: &[("", Timing::Handshake)],
    },
];
