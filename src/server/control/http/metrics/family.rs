//! The metrics as tables: which counters, gauges and timings of a shard have which name, and
//! what they mean.
//!
//! Names are in base units, with the unit at the end (`_total` is added to counters), as
//! Prometheus' own conventions have it. A test checks that every counter, gauge and timing is
//! listed here, or reported in another way.

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
    /// Whether it is reported per shard, or for all shards together.
    pub(super) by_shard: bool,
    /// The label that distinguishes the parts; empty if there is only one.
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
    of_all("ringmail_connections_established", "Connections that completed their handshake.", &[("", Established)]),
    of_all("ringmail_connections_handed_over", "Connections handed to a less loaded shard right \
                                                after they were accepted.", &[("", HandedOver)]),
    of_all("ringmail_connections_moved", "Connections moved to another shard to resume a \
                                          session there.", &[("", MovedOut)]),
    of_all("ringmail_tls_handshakes", "TLS handshakes completed.", &[("", TlsEstablished)]),
    of_all("ringmail_accept_pauses", "Times accepting paused because descriptors or memory were \
                                      short.", &[("", AcceptPaused)]),
    of_all("ringmail_addresses_refused", "Connections refused because of their address, or of \
                                          how many came from it.", &[("", AddressRefused)]),
    of_all("ringmail_receive_pauses", "Times reading from a connection paused because its \
                                       answers or its input piled up.", &[("", ReceivePaused)]),
    // Messages.
    of_shards("ringmail_messages_sent", "Application messages put into the outboxes of clients, \
                                         by type.", &[("PUBLISH", Deliveries), ("REQUEST", RequestsForwarded), ("RESPONSE", Responses)]).labelled("type"),
    of_shards("ringmail_received", "Bytes received from clients; with TLS, as encrypted.", &[("", BytesReceived)]).in_bytes(),
    of_shards("ringmail_sent", "Bytes sent to clients; with TLS, as encrypted.", &[("", BytesSent)]).in_bytes(),
    of_shards("ringmail_publications", "Publications accepted from clients.", &[("", Publishes)]),
    of_all("ringmail_deliveries_dropped", "Publications not delivered to a subscriber, by \
                                           reason.", &[("expired", DeliveriesExpired), ("too_large", DeliveriesTooLarge), ("forbidden", DeliveriesForbidden)]).labelled("reason"),
    of_all("ringmail_group_messages_passed_on", "Messages not yet sent to, or not acknowledged \
                                                 by, a group member when it ended, by outcome: \
                                                 passed on to another member, or to \
                                                 nobody.", &[("another", GroupHandedOn), ("nobody", GroupLost)]).labelled("to"),
    of_all("ringmail_translations", "Publications translated by their topic's schema, by target \
                                     codec.", &[("json", TranslatedToJson), ("protobuf", TranslatedToProtobuf)]).labelled("to"),
    of_all("ringmail_schema_refusals", "Messages refused because their payload did not match \
                                        their topic's schema.", &[("", SchemaRefused)]),
    of_all("ringmail_wills", "Wills published.", &[("", Wills)]),
    // Requests.
    of_shards("ringmail_requests", "Requests received from clients, for any service.", &[("", Requests)]),
    of_shards("ringmail_requests_failed", "Requests answered with an error, by the server or by the service.", &[("", RequestsFailed)]),
    of_all("ringmail_calls_deferred", "Requests that a service of the server answered later \
                                       rather than at once.", &[("", CallsDeferred)]),
    of_all("ringmail_answers_late", "Answers dropped because they came after their deadline, or \
                                     after the requester had left.", &[("", AnswersLate)]),
    of_all("ringmail_responses_unasked", "Unsolicited responses from clients.", &[("", ResponsesUnasked)]),
    // Subscriptions and sessions.
    of_all("ringmail_subscribed", "Subscriptions made.", &[("", Subscribed)]),
    of_all("ringmail_unsubscribed", "Subscriptions that ended.", &[("", Unsubscribed)]),
    of_all("ringmail_sessions_begun", "Sessions begun.", &[("", SessionsBegun)]),
    of_all("ringmail_sessions_resumed", "Sessions that their client has resumed.", &[("", SessionsResumed)]),
    of_all("ringmail_sessions_ended", "Sessions that ended.", &[("", SessionsEnded)]),
    of_all("ringmail_sessions_overflowed", "Sessions ended because too much was left \
                                            unacknowledged.", &[("", SessionsOverflowed)]),
    // Access.
    of_all("ringmail_authentications", "Credentials presented by clients, by outcome.", &[("accepted", AuthAccepted), ("refused", AuthRefused), ("unavailable", AuthUnavailable)]).labelled("result"),
    of_all("ringmail_operations_forbidden", "Operations refused because the client's rights do not cover them.", &[("", Forbidden)]),
    of_all("ringmail_rate_limited", "Messages refused because a connection exceeded its rate.", &[("", RateLimited)]),
    // The shards' own.
    of_shards("ringmail_receive_buffers_exhausted", "Receives that found no buffer (ENOBUFS) \
                                                     and had to be armed again.", &[("", BuffersExhausted)]),
    of_shards("ringmail_mesh_entries", "Publications, requests and answers received from other \
                                        shards.", &[("", MeshEntries)]),
    of_shards("ringmail_turns", "Turns of a shard's loop.", &[("", Turns)]),
    of_all("ringmail_spans_dropped", "Spans of sampled messages lost before they reached the \
                                      collector.", &[("", SpansDropped)]),
];

/// What the slow-consumer policies did; disconnecting is counted among the close reasons.
#[rustfmt::skip]
pub(super) const SLOW_ACTIONS: &[(&str, Counter)] = &[
    ("drop_oldest", SlowDroppedOldest),
    ("drop_newest", SlowDroppedNewest),
    ("replace", SlowReplaced),
];

/// Reported in another way: as labels of another metric, or as part of a sum.
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
    gauge("ringmail_sessions", "Sessions, including those whose client is away.", Gauge::Sessions),
    gauge("ringmail_retained_messages", "Retained messages. Every shard keeps all of them, so \
                                         do not add up shards.", Gauge::Retained),
    gauge_bytes("ringmail_retained", "Memory that the retained messages take in each shard.", Gauge::RetainedBytes),
    gauge("ringmail_calls_open", "Requests of this shard's clients that are still unanswered.", Gauge::CallsOpen),
    gauge("ringmail_errands_open", "Requests that this shard's connections have yet to answer.", Gauge::ErrandsOpen),
    gauge("ringmail_fanouts", "Batches of publications being delivered to many subscribers, a \
                               slice in each turn.", Gauge::Fanouts),
    gauge("ringmail_mesh_batches", "Batches for other shards that those have not taken yet: the \
                                    depth of the mesh.", Gauge::MeshBatches),
    gauge("ringmail_mesh_blocked_connections", "Connections not read from until another shard has taken what they sent.", Gauge::MeshBlocked),
    gauge_bytes("ringmail_memory_lent", "Memory lent to connections: outboxes, pending queues, \
                                         sessions, subscriptions.", Gauge::MemoryLentBytes),
    gauge_bytes("ringmail_memory_lent_limit", "Memory that may be lent to connections.", Gauge::MemoryMaxBytes),
    gauge("ringmail_receive_buffers_free", "Receive buffers not in use.", Gauge::BuffersFree),
    gauge("ringmail_receive_buffers", "Receive buffers in all.", Gauge::Buffers),
];

/// Timings under one name, as a histogram in seconds.
pub(super) struct TimingFamily {
    /// Without `_seconds`.
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Whether it is reported per shard, or for all shards together.
    pub(super) by_shard: bool,
    pub(super) label: &'static str,
    pub(super) parts: &'static [(&'static str, Timing)],
}

#[rustfmt::skip]
pub(super) const TIMINGS: &[TimingFamily] = &[
    TimingFamily {
        name: "ringmail_request_duration",
        help: "Time from a request to its answer, for requests not answered at once: those that \
               a service defers, and those that clients answer.",
        by_shard: false, label: "", parts: &[("", Timing::Call)],
    },
    TimingFamily {
        name: "ringmail_stage_duration",
        help: "Time in each stage of a message in a shard, of one message per millisecond: \
               receive, from the completion that delivered it to the start of its handling; \
               parse; route, until it is handed to its receivers; queue, from there to the next \
               send; send, until the kernel has taken it.",
        by_shard: true, label: "stage",
        parts: &[
            ("receive", Timing::Receive), ("parse", Timing::Parse), ("route", Timing::Route),
            ("queue", Timing::Queue), ("send", Timing::Send),
        ],
    },
    TimingFamily {
        name: "ringmail_turn_duration",
        help: "Turns of a shard that had something to do: everything else on the shard waits \
               this long.",
        by_shard: true, label: "", parts: &[("", Timing::Turn)],
    },
    TimingFamily {
        name: "ringmail_timer_lateness",
        help: "How late connections' timers were handled.",
        by_shard: true, label: "", parts: &[("", Timing::TimerLate)],
    },
    TimingFamily {
        name: "ringmail_handshake_duration",
        help: "Time from accepting a connection to the end of its handshake, TLS included.",
        by_shard: false, label: "", parts: &[("", Timing::Handshake)],
    },
];
