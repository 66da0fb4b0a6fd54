"use strict";
/* The index: filters, search, a table that sorts, boxes to choose by. */
(() => {
  const { el } = kvsim;
  const SHOWN = 100;
  const FILTERS = [["kind", "Kind"], ["model", "Model"], ["gpu", "GPU"], ["workload", "Workload"], ["system", "System or policy"], ["cache", "Cache"], ["order", "Phase order"], ["backend", "Backend"], ["requests", "Requests"]];
  const SEARCHED = ["title", "name", "source", "kind", "model", "gpu", "workload", "system", "cache", "order", "backend"];

  kvsim.unpack = () => {
    const { words, columns } = kvsim.index;
    const texts = new Set(["title", "source", "kind", "name", "system", "model", "gpu", "workload", "cache", "order", "backend"]);
    const names = Object.keys(columns);
    kvsim.rows = columns.id.map((id, at) => Object.fromEntries(names.map((name) => [name, texts.has(name) ? words[columns[name][at]] : columns[name][at]])));
    kvsim.byId = new Map(kvsim.rows.map((row) => [row.id, row]));
    kvsim.digests = new Set(columns.id.map((id) => id.split(".")[0]));
    for (const row of kvsim.rows) row.all = SEARCHED.map((name) => row[name]).join(" ").toLowerCase();
  };
  const matching = (state) => {
    const asked = (state.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = FILTERS.map(([name]) => [name, state.get(name)]).filter(([, value]) => value);
    const found = kvsim.rows.filter((row) => asked.every((word) => row.all.includes(word)) && chosen.every(([name, value]) => String(row[name] ?? "") === value));
    const sort = state.get("sort") || "";
    const key = sort.replace(/^-/, "");
    if (!key) return found;
    const down = sort.startsWith("-") ? -1 : 1;
    const less = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    return found.sort((a, b) => (a[key] === null) - (b[key] === null) || (a[key] === null ? 0 : down * less(a[key], b[key])));
  };
  const filters = (state, change) => FILTERS.map(([name, label]) => {
    const counts = new Map();
    for (const row of kvsim.rows) {
      const value = row[name];
      if (value !== null && value !== "") counts.set(String(value), (counts.get(String(value)) || 0) + 1);
    }
    const now = state.get(name) || "";
    if (counts.size < 2 && !now) return null;
    if (now && !counts.has(now)) counts.set(now, 0);
    const values = [...counts].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
    return el("label", {}, `${label} `, el("select", { id: `filter-${name}`, onchange: (event) => change(name, event.target.value) },
      el("option", { value: "" }, "all"), values.map(([value, count]) => el("option", { value, selected: value === now }, `${value} (${count.toLocaleString("en-US")})`))));
  });
  const COLUMNS = [["title", "artefact"], ["kind", "kind"], ["model", "model"], ["gpu", "GPU"], ["workload", "workload"], ["cache", "cache"]];

  /* Shows the table again below filters that stay. */
  const tabled = (place, state, change, choose) => {
    const found = matching(state);
    const first = Math.min(Math.max(0, Number(state.get("from")) || 0), Math.max(0, found.length - 1));
    const shown = found.slice(first, first + SHOWN);
    const picked = new Set((state.get("pick") || "").split(",").filter(Boolean));
    const sort = state.get("sort") || "";
    const numbers = kvsim.HEADLINES.filter(([key]) => kvsim.rows.some((row) => row[key] !== null));
    const texts = COLUMNS.filter(([key]) => key === "title" || kvsim.rows.some((row) => row[key]));
    const head = [...texts, ...numbers].map(([key, title], at) => {
      const state_ = sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none";
      const next = sort === key ? `-${key}` : sort === `-${key}` ? "" : key;
      return el("th", { scope: "col", "aria-sort": state_, class: at < texts.length ? "text" : null }, el("button", { type: "button", "data-sort": key, onclick: () => change("sort", next) }, title));
    });
    const line = (row) => el("tr", {},
      el("td", {}, el("input", { type: "checkbox", "aria-label": `Choose ${row.name} of ${row.source}`, value: row.id, checked: picked.has(row.id), onchange: (event) => choose(row.id, event.target.checked) })),
      texts.map(([key]) => (key === "title" ? el("th", { scope: "row" }, el("a", { href: `#/a/${row.id}` }, row.name), el("span", { class: "under" }, `${row.title}`)) : el("td", { class: "text" }, row[key] || "-"))),
      numbers.map(([key, , unit]) => el("td", {}, kvsim.written(row[key], unit))));
    const turn = (label, to, off) => el("button", { type: "button", disabled: off, onclick: () => change("from", to ? String(to) : "") }, label);
    place.replaceChildren(
      el("p", { role: "status", id: "count" }, `${found.length.toLocaleString("en-US")} of ${kvsim.rows.length.toLocaleString("en-US")} entries`),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Entries" }, el("table", { id: "entries" }, el("caption", { class: "hidden" }, "Entries: a head sorts by its column"),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { class: "hidden" }, "choose")), head)), el("tbody", {}, shown.map(line)))),
      found.length > SHOWN ? el("p", { class: "turns" }, turn("previous", Math.max(0, first - SHOWN), first === 0), ` ${first + 1}\u2013${first + shown.length} `, turn("next", first + SHOWN, first + SHOWN >= found.length)) : "",
    );
  };
  kvsim.indexPage = (state, change, choose) => {
    const place = el("div", {});
    const search = el("input", { type: "search", id: "search", value: state.get("q") || "", oninput: (event) => change("q", event.target.value) });
    kvsim.again = (now) => tabled(place, now, change, choose);
    tabled(place, state, change, choose);
    return [
      el("h1", {}, "Results"),
      el("div", { class: "filters", role: "search", "aria-label": "Filters" }, el("label", {}, "Search ", search), filters(state, change),
        el("button", { type: "button", id: "clear", onclick: () => change(null) }, "Clear")),
      place,
    ];
  };
})();
