// A line chart by shard: SVG, drawn anew with each sample. Its legend tells the latest
// values, or those under the pointer; all of them are in the tables too.

const WIDTH = 400, HEIGHT = 150, LEFT = 58, RIGHT = 8, TOP = 8, BOTTOM = 20;
/** Samples that are kept: five minutes at one a second. */
const KEPT = 300;
/** So many lines can be told apart; of more shards the least, middle and most are drawn. */
const LINES_MAX = 8;

function svg(name, attributes, parent) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

function element(name, attributes, parent, text) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  // Never as HTML: what a client named itself is shown, not done.
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

/** The next of 1, 2, 5 times a power of ten; of bytes in the unit they are written in. */
function ceiling(value, kind) {
  if (!(value > 0)) return 1;
  if (kind === "bytes" && value >= 1024) return 1024 * ceiling(value / 1024, kind);
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

class Chart {
  constructor(parent, title, kind, field) {
    Object.assign(this, { title, kind, field, points: [], at: null });
    const figure = element("figure", { class: "chart" }, parent);
    element("figcaption", {}, figure, title);
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, figure);
    this.legend = element("div", { class: "legend" }, figure);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.at = ((event.clientX - box.left) / box.width) * WIDTH;
      this.draw();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.at = null;
      this.draw();
    });
  }

  /** `rows` by shard; none: the server did not answer, and the lines are broken. */
  add(time, rows) {
    this.points.push({ time, values: rows && this.valuesOf(rows) });
    if (this.points.length > KEPT) this.points.shift();
    this.draw();
  }

  valuesOf(rows) {
    const named = rows.map((row) => ["shard " + row.shard, row[this.field] ?? null]);
    if (named.length <= LINES_MAX) return new Map(named);
    const values = named.map(([, value]) => value).filter((value) => value !== null).sort((a, b) => a - b);
    const at = (share) => (values.length ? values[Math.round(share * (values.length - 1))] : null);
    return new Map([["least", at(0)], ["median", at(0.5)], ["most", at(1)]]);
  }

  draw() {
    const latest = this.points.findLast((point) => point.values);
    const names = latest ? [...latest.values.keys()] : [];
    const all = this.points.flatMap((point) => (point.values ? [...point.values.values()] : [])).filter((value) => value !== null);
    const most = ceiling(Math.max(0, ...all), this.kind);
    const last = this.points.length ? this.points[this.points.length - 1].time : 0;
    const first = this.points.length ? Math.min(this.points[0].time, last - 60) : -60;
    const x = (time) => LEFT + ((time - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
    this.svg.replaceChildren();
    for (const share of [0, 0.5, 1]) {
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(most * share), y2: y(most * share) }, this.svg);
      svg("text", { x: LEFT - 6, y: y(most * share) + 4, "text-anchor": "end" }, this.svg).textContent = told(this.kind, most * share);
    }
    svg("text", { x: LEFT, y: HEIGHT - 5 }, this.svg).textContent = "−" + told("age", last - first);
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, "text-anchor": "end" }, this.svg).textContent = "now";
    names.forEach((name, index) => this.line(name, index, x, y));
    let shown = latest;
    if (this.at !== null && latest) {
      const away = (point) => Math.abs(x(point.time) - this.at);
      shown = this.points.filter((point) => point.values).reduce((one, other) => (away(other) < away(one) ? other : one));
      svg("line", { class: "cursor", x1: x(shown.time), x2: x(shown.time), y1: TOP, y2: HEIGHT - BOTTOM }, this.svg);
    }
    this.tell(names, shown);
  }

  line(name, index, x, y) {
    let path = "", drawn = false;
    for (const point of this.points) {
      const value = point.values ? point.values.get(name) : null;
      if (value === null || value === undefined) {
        drawn = false;
        continue;
      }
      path += `${drawn ? "L" : "M"}${x(point.time).toFixed(1)} ${y(value).toFixed(1)}`;
      drawn = true;
    }
    if (path) svg("path", { class: `series c${index % LINES_MAX}`, d: path }, this.svg);
  }

  tell(names, point) {
    this.legend.replaceChildren();
    const values = names.map((name, index) => {
      const value = told(this.kind, point.values.get(name));
      const entry = element("span", { class: `c${index % LINES_MAX}` }, this.legend);
      element("b", { "aria-hidden": "true" }, entry);
      element("span", {}, entry, `${name} ${value}`);
      return `${name}: ${value}`;
    });
    this.svg.setAttribute("aria-label", `${this.title}. ${values.join(", ") || "nothing yet"}`);
  }
}
