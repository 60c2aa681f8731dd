// A table that is sorted by the buttons in its head and filtered by what is typed above it.

class Table {
  /** `columns`: [field, heading, kind]; `sort`: a field, with - before it the largest first. */
  constructor(parent, { title, columns, sort, filter, wide, changed }) {
    Object.assign(this, { title, columns, changed, rows: [], note: null, total: null });
    this.by = sort.replace("-", "");
    this.descending = sort.startsWith("-");
    const section = element("section", { class: wide ? "table wide" : "table" }, parent);
    const head = element("div", {}, section);
    this.heading = element("h2", {}, head, title + " ");
    this.told = element("span", {}, this.heading);
    if (filter) {
      const label = element("label", {}, head, "Filter ");
      this.filter = element("input", { type: "search", autocomplete: "off", "aria-label": `Filter ${title.toLowerCase()}` }, label);
      this.filter.addEventListener("input", () => {
        this.draw();
        if (this.changed) this.changed();
      });
    }
    const scroll = element("div", { class: "scroll", role: "region", "aria-label": title, tabindex: "0" }, section);
    this.noteLine = element("p", { class: "note" }, scroll);
    this.table = element("table", {}, scroll);
    this.heads = new Map();
    const row = element("tr", {}, element("thead", {}, this.table));
    for (const [field, name, kind] of columns) {
      const cell = element("th", { scope: "col", class: kind === "text" ? "name" : "" }, row);
      element("button", { type: "button" }, cell, name).addEventListener("click", () => this.sortBy(field, kind));
      this.heads.set(field, cell);
    }
    this.body = element("tbody", {}, this.table);
  }

  sortBy(field, kind) {
    // The other end first, the second time.
    this.descending = this.by === field ? !this.descending : kind !== "text";
    this.by = field;
    this.draw();
    if (this.changed) this.changed();
  }

  /** `note`: instead of rows, why there are none. */
  show(rows, note, total) {
    Object.assign(this, { rows, note, total });
    this.draw();
  }

  selected() {
    const wanted = this.filter ? this.filter.value.trim().toLowerCase() : "";
    const texts = this.columns.filter(([, , kind]) => kind === "text").map(([field]) => field);
    const holds = (row) => texts.some((field) => String(row[field] ?? "").toLowerCase().includes(wanted));
    const rows = wanted ? this.rows.filter(holds) : [...this.rows];
    const order = (one, other) => {
      const [a, b] = [one[this.by], other[this.by]];
      if (a === b) return 0;
      if (a === null || a === undefined) return -1;
      if (b === null || b === undefined) return 1;
      return a < b ? -1 : 1;
    };
    return rows.sort((one, other) => (this.descending ? order(other, one) : order(one, other)));
  }

  draw() {
    for (const [field, cell] of this.heads) {
      if (field === this.by) cell.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    const rows = this.selected();
    const note = this.note || (rows.length ? null : "no row matches the filter");
    this.noteLine.textContent = note || "";
    this.noteLine.hidden = !note;
    this.table.hidden = Boolean(note);
    this.told.textContent = this.total === null || this.total === undefined || this.note ? "" : `${rows.length} of ${this.total}`;
    this.body.replaceChildren(...rows.map((row) => this.line(row)));
  }

  line(row) {
    const line = element("tr");
    for (const [field, , kind] of this.columns) {
      const text = told(kind, row[field]);
      const cell = element("td", { class: kind === "text" ? "name" : "" }, line, text);
      if (kind === "text") cell.title = text;
    }
    return line;
  }
}
