// The page: asks the server once a second, shows what it says, and goes on trying when it
// says nothing.

const INTERVAL_MS = 1000, AGAIN_MS = 2000, ANSWER_MS = 8000;
/** How many connections are asked for; with a filter, all that the server gives. */
const CONNECTIONS = 50, CONNECTIONS_MAX = 1000, TOPICS = 50;
const KEY = "ringmail-credential", THEME = "ringmail-theme";

const by = (id) => document.getElementById(id);
let before = null, paused = false, lost = null, waiting = null;

/** Storage that may be forbidden: then nothing is kept. */
const kept = {
  read(storage, key) {
    try { return window[storage].getItem(key); } catch { return null; }
  },
  write(storage, key, value) {
    try { value === null ? window[storage].removeItem(key) : window[storage].setItem(key, value); } catch { /* not kept */ }
  },
};
let credential = kept.read("sessionStorage", KEY);

class Denied extends Error {}

/** One answer; null where the server has no such endpoint. */
async function ask(path) {
  const headers = { Accept: "application/json" };
  if (credential) headers.Authorization = "Bearer " + credential;
  const answer = await fetch(path, { headers, cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(ANSWER_MS) });
  if (answer.status === 404) return null;
  if (answer.ok) return answer.json();
  const words = await answer.json().catch(() => ({}));
  const text = words.error || `${path} answers ${answer.status}`;
  throw answer.status === 401 || answer.status === 403 ? new Denied(text) : new Error(text);
}

/** What the server does not have is not asked for again and again. */
const missing = new Map();
async function perhaps(name, query) {
  if (missing.get(name) > Date.now()) return null;
  const answer = await ask(name + query);
  if (answer === null) missing.set(name, Date.now() + 60000);
  return answer;
}

const charts = [
  ["Messages in, a second", "count", "in"],
  ["Messages out, a second", "count", "out"],
  ["Connections", "count", "connections"],
  ["Bytes out, a second", "bytes", "bytes_out"],
  ["Turn, 99th percentile", "us", "turn_p99"],
  ["Request answered later, 99th percentile", "us", "request_p99"],
].map(([title, kind, field]) => new Chart(by("charts"), title, kind, field));

const soon = () => { if (!paused) next(0); };
const table = (settings) => new Table(by("tables"), settings);
const shards = table({
  title: "Shards", sort: "shard", wide: true, columns: [
    ["shard", "shard", "count"], ["core", "core", "count"], ["connections", "connections", "count"],
    ["in", "in/s", "count"], ["out", "out/s", "count"], ["bytes_in", "bytes in/s", "bytes"], ["bytes_out", "bytes out/s", "bytes"],
    ["turn_p50", "turn p50", "us"], ["turn_p99", "turn p99", "us"], ["timer_p99", "timer late p99", "us"],
    ["mesh", "mesh depth", "count"], ["lent", "memory lent", "bytes"], ["share", "of budget", "share"],
  ],
});
const connections = table({
  title: "Connections", sort: "-queued", filter: true, wide: true, changed: soon, columns: [
    ["client", "client", "text"], ["principal", "principal", "text"], ["address", "address", "text"], ["shard", "shard", "count"],
    ["age", "age", "age"], ["in", "in/s", "count"], ["out", "out/s", "count"], ["queued", "queued", "bytes"], ["oldest", "oldest", "us"],
    ["round_trip", "round trip", "us"], ["messages_in", "in", "count"], ["messages_out", "out", "count"], ["state", "state", "text"], ["id", "id", "text"],
  ],
});
const latency = table({
  title: "Latency", sort: "order", columns: [
    ["name", "timing", "text"], ["count", "count", "count"], ["p50", "p50", "us"], ["p90", "p90", "us"], ["p99", "p99", "us"], ["p999", "p99.9", "us"], ["max", "max", "us"],
  ],
});
const topics = table({
  title: "Topics", sort: "-messages", filter: true, columns: [
    ["topic", "topic", "text"], ["messages", "messages", "count"], ["rate", "per s", "count"], ["share", "of all", "share"], ["error", "at most less", "count"],
  ],
});
const slow = table({
  title: "Slow consumers", sort: "-total", columns: [["action", "action", "text"], ["rate", "per s", "count"], ["total", "since start", "count"]],
});
const closed = table({
  title: "Connections closed", sort: "-total", columns: [["reason", "reason", "text"], ["total", "since start", "count"]],
});

/** How the server names what the connections are sorted by; the rest is sorted here. */
const SERVER_SORT = { queued: "queued", age: "age", in: "in", messages_in: "in", out: "out", messages_out: "out", oldest: "oldest", round_trip: "round_trip", id: "id" };

function connectionQuery() {
  const known = SERVER_SORT[connections.by];
  const order = !known || connections.descending ? "desc" : "asc";
  const limit = connections.filter.value.trim() ? CONNECTIONS_MAX : CONNECTIONS;
  return `?sort=${known || "queued"}&order=${order}&limit=${limit}`;
}

function tiles(now) {
  const rows = shardRows(before, now);
  const rate = (field) => (rows.some((row) => row[field] === null) || !rows.length ? null : sum(rows, (row) => row[field]));
  const shown = [
    ["connections", told("count", now.status.connections)],
    ["messages in/s", told("count", rate("in"))],
    ["messages out/s", told("count", rate("out"))],
    ["in/s", told("bytes", rate("bytes_in"))],
    ["out/s", told("bytes", rate("bytes_out"))],
    ["up", told("age", now.status.uptime_s)],
  ];
  by("tiles").replaceChildren(...shown.map(([name, text]) => {
    const tile = element("div");
    element("dt", {}, tile, name);
    element("dd", {}, tile, text);
    return tile;
  }));
  return rows;
}

function state(text, kind) {
  const badge = by("state");
  // A status that is set again is read out again.
  if (badge.textContent !== text) badge.textContent = text;
  badge.className = "badge " + kind;
}

function show(now) {
  by("version").textContent = now.status.version;
  document.title = `ringmail ${now.status.version}`;
  state(now.status.draining ? "draining" : "serving", now.status.draining ? "bad" : "good");
  const rows = tiles(now);
  const time = performance.now() / 1000;
  if (before) for (const chart of charts) chart.add(time, rows);
  shards.show(rows);
  const latencies = latencyRows(now);
  latency.show(latencies, latencies.length ? null : "nothing timed yet");
  const list = now.connections;
  connections.show(list ? connectionRows(before, now) : [], list ? (list.connections.length ? null : "no connections") : "this server does not list its connections", list && list.total);
  const some = now.topics;
  topics.show(some ? topicRows(before, now) : [], some ? (some.topics.length ? null : "nothing published yet") : "this server does not list its topics");
  slow.show(slowRows(before, now));
  const reasons = closedRows(now);
  closed.show(reasons, reasons.length ? null : "none yet");
}

function trouble(text) {
  const line = by("trouble");
  if (line.textContent !== (text || "")) line.textContent = text || "";
  line.hidden = !text;
}

async function look() {
  const status = await ask("status");
  if (!status) throw new Error("there is no /status here");
  const [list, some] = await Promise.all([perhaps("connections", connectionQuery()), perhaps("topics", `?limit=${TOPICS}`)]);
  return { status, connections: list, topics: some };
}

function fail(error) {
  if (error instanceof Denied) {
    state("no access", "bad");
    trouble(error.message);
    if (by("access").hidden) {
      by("access").hidden = false;
      by("credential").focus();
    }
    return;
  }
  if (!lost) lost = new Date();
  state("no answer", "bad");
  const why = error instanceof TypeError || error.name === "TimeoutError" ? "" : ` (${error.message})`;
  trouble(`No answer from the server since ${lost.toLocaleTimeString()}${why}; what is below is old. Trying again every ${AGAIN_MS / 1000} s.`);
  for (const chart of charts) chart.add(performance.now() / 1000, null);
}

async function turn() {
  let rest = INTERVAL_MS;
  const began = performance.now();
  try {
    const now = await look();
    lost = null;
    trouble(null);
    by("access").hidden = true;
    by("forget").hidden = !credential;
    if (!paused) {
      show(now);
      before = now;
    }
  } catch (error) {
    fail(error);
    rest = AGAIN_MS;
  }
  next(Math.max(100, rest - (performance.now() - began)));
}

/** One turn at a time; asked for sooner, the one that waits comes sooner. */
let running = false;
function next(ms) {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    if (running) return;
    running = true;
    try { await turn(); } finally { running = false; }
  }, ms);
}

by("pause").addEventListener("click", () => {
  paused = !paused;
  by("pause").setAttribute("aria-pressed", String(paused));
  by("pause").textContent = paused ? "Resume" : "Pause";
});

const THEMES = { system: "light", light: "dark", dark: "system" };
function theme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  by("theme").textContent = "Theme: " + name;
  kept.write("localStorage", THEME, name === "system" ? null : name);
}
const chosen = kept.read("localStorage", THEME);
theme(chosen in THEMES ? chosen : "system");
by("theme").addEventListener("click", () => theme(THEMES[document.documentElement.dataset.theme || "system"]));

by("access").addEventListener("submit", (event) => {
  event.preventDefault();
  credential = by("credential").value.trim();
  kept.write("sessionStorage", KEY, credential);
  by("credential").value = "";
  next(0);
});
by("forget").addEventListener("click", () => {
  credential = null;
  kept.write("sessionStorage", KEY, null);
  location.reload();
});

next(0);
