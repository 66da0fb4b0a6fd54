"use strict";
/* The page of an artefact, and that of a comparison. */
(() => {
  const { el, table, cell } = kvsim;
  const section = (title, ...content) => el("section", {}, el("h2", {}, title), ...content);
  const facts = (pairs) => el("dl", {}, pairs.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));

  const isNumeric = (rows, at) => rows.some((row) => typeof row[at] === "number" || Array.isArray(row[at])) && rows.every((row) => row[at] === null || row[at] === undefined || typeof row[at] === "number" || Array.isArray(row[at]));
  const distinct = (rows, at) => new Set(rows.map((row) => JSON.stringify(row[at]))).size;
  /* Which columns are drawn until a reader chooses others. */
  const usual = (block) => {
    const { head, rows } = block;
    const places = head.map((_, at) => at);
    const numeric = places.filter((at) => isNumeric(rows, at) && distinct(rows, at) > 1);
    const wanted = (pattern) => numeric.find((at) => pattern.test(head[at]));
    const y = block.y ? head.indexOf(block.y) : wanted(/ttft.*mean|mean.*ttft/i) ?? wanted(/ttft/i) ?? numeric[1] ?? numeric[0];
    const texts = places.filter((at) => !isNumeric(rows, at) && distinct(rows, at) > 1);
    const by = texts.find((at) => distinct(rows, at) <= 9 && distinct(rows, at) < rows.length);
    const x = block.x ? head.indexOf(block.x) : texts.find((at) => at !== by && distinct(rows, at) === rows.length / (by === undefined ? 1 : distinct(rows, by))) ?? numeric.find((at) => at !== y) ?? texts[0];
    return { x, y, by };
  };
  const rowsBlock = (block, state, change, place) => {
    const { head, rows } = block;
    const lines = rows.map((row) => row.map(cell));
    const found = usual(block);
    const parts = [table(block.title, head, lines, true)];
    if (found.y !== undefined && found.x !== undefined) {
      const key = (axis) => `${axis}${place}`;
      const chosen = (axis) => (state.has(key(axis)) && (head.includes(state.get(key(axis))) || axis === "by") ? state.get(key(axis)) : head[found[axis]] ?? "");
      const objects = rows.map((row) => Object.fromEntries(head.map((name, at) => [name, row[at]])));
      const select = (axis, label, names) => el("label", {}, `${label} `, el("select", { "data-axis": axis, onchange: (event) => change(key(axis), event.target.value) }, names.map((name) => el("option", { value: name, selected: name === chosen(axis) }, name || "nothing"))));
      const numeric = head.filter((_, at) => isNumeric(rows, at));
      parts.unshift(kvsim.plot(objects, chosen("x"), chosen("y"), chosen("by")),
        el("div", { class: "filters" }, select("x", "Across", head), select("y", "Up", numeric), select("by", "Colour", ["", ...head.filter((_, at) => distinct(rows, at) <= 27)])));
    }
    return section(block.title, ...parts);
  };
  const drawn = (block, state, change, place) => {
    if (block.kind === "table") return block.rows.length ? section(block.title, table(block.title, block.head, block.rows, true)) : null;
    if (block.kind === "list") return section(block.title, el("ul", { class: "reasons" }, block.lines.map((line) => el("li", {}, line))));
    if (block.kind === "rows") return rowsBlock(block, state, change, place);
    const made = { waterfall: () => kvsim.waterfall(block.title, block.series), intervals: () => kvsim.intervals(block.title, block.rows), against: () => kvsim.against(block.title, block.rows), timeline: () => kvsim.timeline(block.title, block.unit, block.series) }[block.kind]();
    return made ? section(block.title.split(",")[0], made) : null;
  };

  const HEADLINES = [
    ["requests", "requests", "count"], ["requests_per_s", "requests/s", "/s"], ["output_tokens_per_s", "output tokens/s", "/s"],
    ["ttft_mean_ms", "TTFT mean (ms)", "ms"], ["ttft_p99_ms", "TTFT p99 (ms)", "ms"], ["tpot_mean_ms", "TPOT mean (ms)", "ms"],
    ["e2e_mean_ms", "E2E mean (ms)", "ms"], ["hit_rate", "prompt tokens hit", "share"], ["off_pct", "off what was measured", "off"],
  ];
  const KEYS = [["kind", "kind"], ["model", "model"], ["gpu", "GPU"], ["workload", "workload"], ["cache", "cache"], ["order", "phase order"], ["backend", "backend"]];
  const PER_MS = { ms: "(ms)", "/s": "", share: "", "": "" };
  const label = (entry, several) => (several ? `${entry.row.source}: ${entry.row.name}` : entry.row.name);

  /* Charts and tables of entries side by side: [{row, more, parts, curves}] */
  const sides = (entries, names) => {
    const made = [];
    const bars = (where, title) => {
      const series = entries.map((entry, at) => [names[at], entry.parts[where]]).filter(([, parts]) => parts && Object.values(parts).some((ms) => ms !== null));
      return series.length ? [kvsim.waterfall(title, series), series] : null;
    };
    const waterfalls = [bars("mean", "In the mean of all measured requests"), bars("p99", "At p99")].filter(Boolean);
    if (waterfalls.length) {
      const parts = Object.keys(waterfalls[0][1][0][1]);
      const rows = parts.map((part) => [part, ...waterfalls[0][1].map(([, values]) => kvsim.number(values[part]))]);
      made.push(section("Where TTFT goes", el("div", { class: "two" }, waterfalls.map(([chart]) => chart)), table("Parts of mean TTFT (ms)", ["", ...waterfalls[0][1].map(([name]) => name)], rows)));
    }
    const labels = [...new Set(entries.flatMap((entry) => Object.keys(entry.curves)))];
    const curves = labels.map((each) => kvsim.cdf(each, entries.map((entry, at) => [names[at], entry.curves[each]]))).filter(Boolean);
    if (curves.length) made.push(section("Latencies", el("div", { class: "two" }, curves)));
    return made;
  };
  const figures = (entries, names, against) => {
    const rows = HEADLINES.map(([key, title, unit]) => [title, unit, entries.map((entry) => entry.row[key])]);
    const more = [...new Map(entries.flatMap((entry) => entry.more.map(([title, unit]) => [title, unit])))];
    for (const [title, unit] of more) rows.push([`${title} ${PER_MS[unit] ?? ""}`.trim(), unit, entries.map((entry) => (entry.more.find(([name]) => name === title) || [])[2])]);
    const shown = rows.filter(([, , values]) => values.some((value) => value !== null && value !== undefined));
    const lines = shown.map(([title, unit, values]) => [title, ...values.map((value, at) => {
      const text = kvsim.written(value, unit);
      const base = values[0];
      if (!against || !at || !base || value === null || value === undefined || unit === "off") return text;
      return el("span", {}, text, el("span", { class: "apart" }, ` ${kvsim.written(100 * (value / base - 1), "off")}`));
    })]);
    return lines.length ? table("Headline figures", ["", ...names], lines, true) : null;
  };

  const configuration = (config) => {
    const keys = Object.entries(config);
    return keys.length ? el("section", {}, el("details", {}, el("summary", {}, `Configuration, ${keys.length} keys`), table("Configuration", ["key", "value"], keys.map(([key, value]) => [key, value || "null"])))) : null;
  };
  kvsim.artefactPage = async (id, state, change) => {
    const detail = await kvsim.detail(id);
    const digest = id.split(".")[0];
    const entries = detail.entries.map((entry) => ({ ...entry, row: kvsim.byId.get(entry.id) }));
    const own = id.includes(".") ? entries.filter((entry) => entry.id === id) : entries;
    if (!own.length) throw new Error(`there is no entry ${id} on this site`);
    const names = own.map((entry) => label(entry));
    const picks = own.slice(0, 8).map((entry) => entry.id).join(",");
    const few = own.length <= 12;
    return [
      el("p", { class: "kind" }, `${detail.kind}, ${detail.source}`), el("h1", {}, own.length === 1 && entries.length > 1 ? `${detail.title}: ${names[0]}` : detail.title),
      detail.lead ? el("p", { class: "lead" }, detail.lead) : null,
      facts(detail.facts),
      own.length < entries.length ? el("p", {}, el("a", { href: `#/a/${digest}` }, `All ${entries.length} entries of this artefact`)) : null,
      own.length > 1 && own.length <= 8 ? el("p", {}, el("a", { href: `#/compare?pick=${picks}` }, `Compare these ${own.length}`)) : null,
      few && figures(own, names) ? section("Figures", figures(own, names)) : null,
      ...(few ? sides(own, names) : []),
      detail.picture ? section("Picture", el("img", { src: `data/${digest}.png`, alt: detail.lead || detail.title, class: "picture", loading: "lazy" })) : null,
      ...detail.blocks.map((block, at) => drawn(block, state, change, at)),
      configuration(detail.config),
    ];
  };
  kvsim.comparePage = async (ids) => {
    const found = await Promise.all(ids.map(async (id) => [await kvsim.detail(id), id]));
    const entries = found.flatMap(([detail, id]) => detail.entries.filter((entry) => entry.id === id || (detail.entries.length === 1 && !id.includes("."))).map((entry) => ({ ...entry, detail, row: kvsim.byId.get(entry.id) })));
    if (entries.length < 2) return [el("h1", {}, "Compare"), el("p", {}, "Choose two or more entries by their boxes in ", el("a", { href: "#/" }, "the table"), ".")];
    const sources = new Set(entries.map((entry) => entry.detail));
    const plain = entries.map((entry) => label(entry, sources.size > 1));
    const names = plain.map((name, at) => (plain.indexOf(name) === at && plain.lastIndexOf(name) === at ? name : `${name} (${at + 1})`));
    const keys = KEYS.map(([key, title]) => [title, ...entries.map((entry) => entry.row[key] || "-")]);
    const links = el("ol", { class: "chosen" }, entries.map((entry, at) => el("li", {}, el("a", { href: `#/a/${entry.id}` }, names[at]), ` \u2014 ${entry.detail.title}`)));
    const configs = [...new Set(entries.map((entry) => entry.detail))];
    const settings = [...new Set(configs.flatMap((detail) => Object.keys(detail.config)))].filter((key) => new Set(configs.map((detail) => detail.config[key])).size > 1);
    const paired = kvsim.index.pairs.filter(([a, b]) => ids.includes(a) && ids.includes(b));
    const told = await Promise.all(paired.map(async ([a, b, digest]) => [a, b, digest, await kvsim.detail(digest)]));
    return [
      el("h1", {}, `Compare ${entries.length} entries`), links,
      section("Side by side", el("p", { class: "said" }, `Percentages: against ${names[0]}.`), figures(entries, names, true), table("What they are", ["", ...names], keys)),
      ...told.map(([, , digest, detail]) => section("Paired intervals", el("p", {}, "On the same requests, by ", el("a", { href: `#/a/${digest}` }, detail.source), "."), ...detail.blocks.filter((block) => block.kind === "intervals").map((block) => kvsim.intervals(block.title, block.rows)))),
      told.length ? null : el("p", { class: "said" }, "No paired intervals: no difference of these (kvsim diff) is on this site. Two runs alone do not say what is chance."),
      ...sides(entries, names),
      settings.length && configs.length > 1 && configs.every((detail) => Object.keys(detail.config).length) ? section("Settings that differ", table("Settings that differ", ["key", ...configs.map((detail) => detail.source)], settings.map((key) => [key, ...configs.map((detail) => detail.config[key] ?? "-")]), true)) : null,
    ];
  };
  kvsim.HEADLINES = HEADLINES;
})();
