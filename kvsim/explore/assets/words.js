"use strict";
var kvsim = { details: {}, rows: [], byId: new Map() };
/* How figures are written, and how elements are made. */
(() => {
  const number = (value) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "-";
    const size = Math.abs(value);
    if (size < 1e-9) return "0";
    if (size >= 99.95) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
    if (size < 1e-3) return value.toExponential(2);
    return value.toFixed(2 - Math.floor(Math.log10(size)));
  };
  const count = (value) => (value === null || value === undefined ? "-" : value.toLocaleString("en-US"));
  const percent = (share) => (share === null || share === undefined ? "-" : `${(100 * share).toFixed(share === 0 || share === 1 ? 0 : 1)}%`);
  const signed = (value) => (value === null || value === undefined ? "-" : `${value > 0 ? "+" : ""}${value.toFixed(1)}%`);
  kvsim.written = (value, unit) => ({ share: percent, count, off: signed }[unit] || number)(value);
  kvsim.number = number;
  kvsim.el = (name, attributes, ...content) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...content.flat().filter((each) => each !== null && each !== undefined));
    return made;
  };
  kvsim.cell = (value) => {
    if (value === null || value === undefined || value === "") return "-";
    if (Array.isArray(value)) return value[1] === null ? number(value[0]) : `${number(value[0])} \u00b1 ${number(value[1])}`;
    if (typeof value === "boolean") return value ? "yes" : "no";
    return typeof value === "number" ? (Number.isInteger(value) ? value.toLocaleString("en-US") : number(value)) : String(value);
  };
  /* A table in a box that scrolls by itself; cells are texts or elements. */
  kvsim.table = (caption, head, rows, titled) => {
    const { el } = kvsim;
    const left = head.map((_, at) => rows.some((row) => typeof row[at] === "string" && /^[a-z(]/i.test(row[at])));
    const cells = (row) => row.map((cell, at) => el(at ? "td" : "th", { scope: at ? null : "row", class: at && left[at] ? "text" : null }, cell));
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      el("table", {}, el("caption", { class: titled ? "hidden" : null }, caption),
        el("thead", {}, el("tr", {}, head.map((each, at) => (each ? el("th", { scope: "col", class: !at || left[at] ? "text" : null }, each) : el("td", {}))))),
        el("tbody", {}, rows.map((row) => el("tr", {}, cells(row))))));
  };
  /* A script of the site's folder, once. */
  const asked = new Map();
  kvsim.load = (address) => {
    if (!asked.has(address)) {
      asked.set(address, new Promise((resolve, reject) => {
        const script = kvsim.el("script", { src: address });
        script.onload = resolve;
        script.onerror = () => { asked.delete(address); reject(new Error(`${address} is missing from this site`)); };
        document.head.append(script);
      }));
    }
    return asked.get(address);
  };
  kvsim.detail = async (id) => {
    const digest = id.split(".")[0];
    if (!/^[0-9a-f]{12}$/.test(digest) || !kvsim.digests.has(digest)) throw new Error(`there is no artefact ${id} on this site`);
    await kvsim.load(`data/${digest}.js`);
    return kvsim.details[digest];
  };
})();
