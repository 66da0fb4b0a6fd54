"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    const count = names.length ? columns[names[0]].length : 0;
    return Array.from({ length: count }, (_, row) => Object.fromEntries(names.map((name) => [name, columns[name][row]])));
  };

  const ink = "currentColor";
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
  const config = {
    background: null,
    font,
    axis: { labelColor: ink, titleColor: ink, tickColor: ink, domainColor: ink, gridColor: ink, gridOpacity: 0.15, titleFontWeight: "normal", titleFontSize: 12, labelFontSize: 11 },
    text: { color: ink },
    view: { stroke: null },
  };
  const draw = async (place) => {
    const { spec, columns } = read(place.id + "-data");
    await window.vegaEmbed(place, { ...spec, data: { values: rowsOf(columns) } }, { actions: false, renderer: "svg", mode: "vega-lite", config });
  };
  const charts = [...document.querySelectorAll(".chart")];
  Promise.all(charts.map(draw)).then(
    () => document.documentElement.setAttribute("data-drawn", String(charts.length)),
    (error) => { throw error; },
  );

  const table = document.getElementById("requests");
  if (!table) return;
  const { columns, shown } = read("requests-data");
  const heads = Object.keys(columns);
  const all = rowsOf(columns);
  const words = new Map();
  for (const head of heads) {
    const word = head.replace(/ (ms|s)$/, "").replace(/ /g, "_");
    words.set(word, head);
  }
  const filter = document.getElementById("filter");
  const hint = document.getElementById("filter-hint");
  const help = hint.textContent;
  const place = document.getElementById("place");
  const turns = { previous: -1, next: 1 };
  let rows = all;
  let first = 0;
  let sorted = { head: null, down: true };

  const compare = { "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b };
  const condition = (text) => {
    const found = /^([a-z0-9_]+)\s*(<=|>=|!=|<|>|=)\s*(.+)$/i.exec(text.trim());
    if (!found) throw new Error(`"${text.trim()}" is not of the form column > number`);
    const head = words.get(found[1].toLowerCase());
    if (!head) throw new Error(`there is no column "${found[1]}"; there are ${[...words.keys()].join(", ")}`);
    const test = compare[found[2]];
    if (head === "system") return (row) => test(row.system.toLowerCase(), found[3].trim().toLowerCase());
    const value = Number(found[3]);
    if (Number.isNaN(value)) throw new Error(`"${found[3].trim()}" is not a number`);
    return (row) => row[head] !== null && test(row[head], value);
  };
  const written = (value) => {
    if (value === null) return "-";
    if (typeof value === "string") return value;
    const digits = Number.isInteger(value) || Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : Math.abs(value) >= 0.9995 ? 2 : 3;
    return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };
  const show = () => {
    const body = table.tBodies[0];
    body.replaceChildren(...rows.slice(first, first + shown).map((row) => {
      const line = document.createElement("tr");
      for (const head of heads) line.appendChild(document.createElement("td")).textContent = written(row[head]);
      return line;
    }));
    const last = Math.min(first + shown, rows.length);
    place.textContent = rows.length ? `${first + 1}\u2013${last} of ${rows.length.toLocaleString("en-US")}` : "none";
    document.getElementById("previous").disabled = first === 0;
    document.getElementById("next").disabled = last >= rows.length;
  };
  const choose = () => {
    let conditions = [];
    hint.textContent = help;
    filter.setAttribute("aria-invalid", "false");
    try {
      conditions = filter.value.trim() ? filter.value.split(/\s+and\s+|,/i).map(condition) : [];
    } catch (error) {
      hint.textContent = error.message;
      filter.setAttribute("aria-invalid", "true");
      return;
    }
    rows = all.filter((row) => conditions.every((holds) => holds(row)));
    const { head, down } = sorted;
    if (head !== null) {
      const less = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
      rows.sort((a, b) => (a[head] === null) - (b[head] === null) || (down ? less(b[head], a[head]) : less(a[head], b[head])));
    }
    first = 0;
    show();
  };
  [...table.tHead.rows[0].cells].forEach((cell, at) => {
    cell.firstChild.addEventListener("click", () => {
      const head = heads[at];
      sorted = { head, down: sorted.head === head ? !sorted.down : true };
      for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      choose();
    });
  });
  for (const [id, step] of Object.entries(turns)) {
    document.getElementById(id).addEventListener("click", () => { first += step * shown; show(); });
  }
  filter.setAttribute("aria-describedby", "filter-hint");
  filter.addEventListener("input", choose);
  document.getElementById("controls").hidden = false;
  show();
})();
