// From answers to what is shown: two samples make rates, one makes the rest. Nothing here
// touches the page. null is what the server does not say.

const sum = (list, of) => list.reduce((total, one) => total + (of(one) || 0), 0);

/** The seconds between two samples of one process by the server's own clock, or null. */
function spanOf(before, now) {
  if (!before || before.status.pid !== now.status.pid) return null;
  const seconds = now.status.uptime_s - before.status.uptime_s;
  return seconds > 0 ? seconds : null;
}

/** Messages for applications put into the outboxes of clients, as /metrics counts them. */
function sent(counters) {
  return (counters.deliveries || 0) + (counters.requests_forwarded || 0) + (counters.responses || 0);
}

const received = (counters) => counters.messages_received;
const bytesIn = (counters) => counters.bytes_received;
const bytesOut = (counters) => counters.bytes_sent;

/** Of the last seconds, or from an older server since its start. */
function recentOf(one) {
  const recent = one.recent_us || {};
  return Object.keys(recent).length ? recent : one.timings_us || {};
}

function timing(one, name, percentile) {
  const timings = recentOf(one)[name];
  return timings && timings.count > 0 ? timings[percentile] : null;
}

function rateOf(span, before, now, of) {
  if (!span || !before) return null;
  return Math.max(0, (of(now) || 0) - (of(before) || 0)) / span;
}

function shardRows(before, now) {
  const span = spanOf(before, now);
  return (now.status.shards || []).map((shard) => {
    const old = before && (before.status.shards || []).find((one) => one.shard === shard.shard);
    const rate = (of) => rateOf(span, old, shard, (one) => of(one.counters || {}));
    const gauge = (name) => (shard.gauges && name in shard.gauges ? shard.gauges[name] : null);
    const lent = gauge("memory_lent_bytes"), most = gauge("memory_max_bytes");
    return {
      shard: shard.shard,
      core: shard.core ?? null,
      connections: shard.connections,
      in: rate(received),
      out: rate(sent),
      bytes_in: rate(bytesIn),
      bytes_out: rate(bytesOut),
      turn_p50: timing(shard, "turn", "p50"),
      turn_p99: timing(shard, "turn", "p99"),
      request_p99: timing(shard, "request", "p99") ?? timing(shard, "call", "p99"),
      timer_p99: timing(shard, "timer_late", "p99"),
      mesh: gauge("mesh_batches"),
      lent,
      share: lent !== null && most > 0 ? lent / most : null,
    };
  });
}

const WAY = {
  receive: "receive: arrival to handling",
  parse: "parse",
  route: "route: to outboxes and mesh",
  queue: "queue: to the next send",
  send: "send: until the kernel has it",
  call: "call: request to late answer",
  handshake: "handshake: accept to established",
  turn: "turn of a shard",
  timer_late: "timer: due to handled",
};

function latencyRows(now) {
  const timings = recentOf(now.status);
  const names = Object.keys(WAY).filter((name) => name in timings);
  const others = Object.keys(timings).filter((name) => !(name in WAY));
  return names.concat(others).map((name, order) => {
    const { count, ...rest } = timings[name];
    const us = (value) => (count > 0 ? value : null);
    return {
      order, name: WAY[name] || name, count,
      p50: us(rest.p50), p90: us(rest.p90), p99: us(rest.p99), p999: us(rest.p999), max: us(rest.max),
    };
  });
}

function connectionRows(before, now) {
  const span = spanOf(before, now);
  const old = new Map(((before && before.connections && before.connections.connections) || []).map((one) => [one.id, one]));
  return now.connections.connections.map((one) => ({
    client: one.client_id,
    principal: one.principal,
    address: one.address,
    shard: one.shard,
    age: one.age_s,
    in: rateOf(span, old.get(one.id), one, (c) => c.messages_in),
    out: rateOf(span, old.get(one.id), one, (c) => c.messages_out),
    queued: one.queued_bytes,
    oldest: one.queued_bytes > 0 ? one.oldest_queued_ms * 1000 : null,
    round_trip: one.round_trip_us,
    messages_in: one.messages_in,
    messages_out: one.messages_out,
    state: one.state,
    id: one.id,
  }));
}

function topicRows(before, now) {
  const span = spanOf(before, now);
  const old = new Map(((before && before.topics && before.topics.topics) || []).map((one) => [one.topic, one]));
  return now.topics.topics.map((one) => ({
    topic: one.topic,
    messages: one.messages,
    rate: rateOf(span, old.get(one.topic), one, (t) => t.messages),
    share: Math.min(1, one.messages / Math.max(1, now.topics.messages)),
    error: one.error,
  }));
}

function slowRows(before, now) {
  const span = spanOf(before, now);
  const counter = (name) => (sample) => sum(sample.status.shards || [], (shard) => (shard.counters || {})[name]);
  const actions = [
    ["disconnect: connections closed", (sample) => (sample.status.closed || {}).slow_consumer || 0],
    ["drop-oldest: messages dropped", counter("slow_dropped_oldest")],
    ["drop-newest: messages dropped", counter("slow_dropped_newest")],
    ["latest-per-key: messages replaced", counter("slow_replaced")],
  ];
  return actions.map(([action, of]) => ({ action, rate: rateOf(span, before, now, of), total: of(now) }));
}

function closedRows(now) {
  return Object.entries(now.status.closed || {}).map(([reason, total]) => ({ reason, total }));
}

// Numbers for people: three digits and a unit.

function scaled(number, step, units) {
  let unit = 0;
  while (Math.abs(number) >= 999.5 && unit + 1 < units.length) {
    number /= step;
    unit += 1;
  }
  const whole = unit === 0 && Math.abs(number - Math.round(number)) < 1e-9;
  const digits = whole || Math.abs(number) >= 99.95 ? 0 : Math.abs(number) >= 9.995 ? 1 : 2;
  return number.toFixed(digits) + (units[unit] ? " " + units[unit] : "");
}

const format = {
  text: (value) => String(value),
  count: (value) => scaled(value, 1000, ["", "k", "M", "G", "T"]),
  bytes: (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]),
  share: (value) => (value * 100).toFixed(0) + " %",
  us: (value) => {
    const [number, unit] = value < 999.5 ? [value, "µs"] : value < 999500 ? [value / 1e3, "ms"] : [value / 1e6, "s"];
    return number.toFixed(number < 9.95 ? 1 : 0) + " " + unit;
  },
  age: (value) => {
    const whole = Math.floor(value), two = (n) => String(n).padStart(2, "0");
    const days = Math.floor(whole / 86400), hours = Math.floor(whole / 3600) % 24, minutes = Math.floor(whole / 60) % 60;
    if (days) return days + "d " + two(hours) + "h";
    if (hours) return hours + "h " + two(minutes) + "m";
    return minutes ? minutes + "m " + two(whole % 60) + "s" : whole + " s";
  },
};

const told = (kind, value) => (value === null || value === undefined ? "–" : format[kind](value));
