"use strict";
/* Charts as Vega-Lite has them, drawn once they are on the page. */
(() => {
  const ink = "currentColor";
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
  const config = {
    background: null, font, mark: { aria: false }, text: { color: ink }, view: { stroke: null },
    axis: { labelColor: ink, titleColor: ink, tickColor: ink, domainColor: ink, gridColor: ink, gridOpacity: 0.15, titleFontWeight: "normal", titleFontSize: 12, labelFontSize: 11, labelLimit: 150 },
  };
  const COLOURS = 9;
  const DASHES = [[1, 0], [7, 3], [2, 2]];
  const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left"];
  const colour = (at) => `var(--c${at % COLOURS})`;
  const dash = (at) => DASHES[at % DASHES.length];
  const shape = (at) => SHAPES[at % SHAPES.length];
  const waiting = [];

  const legend = (names, places) => (names.length < 2 ? null : kvsim.el("ul", { class: "legend" }, names.map((name, at) => {
    const swatch = kvsim.el("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = colour(places ? places[at] : at);
    return kvsim.el("li", {}, swatch, name);
  })));
  const figure = (caption, spec, names, places) => {
    const place = kvsim.el("div", { class: "chart" });
    place.style.minHeight = `${(typeof spec.height === "number" ? spec.height : 150) + 44}px`;
    waiting.push([place, { width: "container", autosize: { type: "fit-x", contains: "padding" }, description: caption, ...spec }]);
    return kvsim.el("figure", {}, kvsim.el("figcaption", {}, caption), place, legend(names || [], places));
  };
  kvsim.draw = async () => {
    const now = waiting.splice(0).filter(([place]) => place.isConnected);
    if (now.length) await kvsim.load("assets/vega.js");
    for (const [place, spec] of now) {
      if (place.isConnected) await window.vegaEmbed(place, spec, { actions: false, renderer: "svg", mode: "vega-lite", config });
    }
    document.documentElement.setAttribute("data-drawn", String(document.querySelectorAll(".chart svg").length));
  };
  const named = (names, channel, range) => ({ field: "series", type: "nominal", sort: null, legend: null, title: null, scale: { domain: names, range: names.map((_, at) => range(at)) }, ...channel });
  const quantity = (field, title, more) => ({ field, type: "quantitative", title, ...more });

  /* series: [[name, {part: ms}]] */
  kvsim.waterfall = (title, series) => {
    const names = [...new Set(series.flatMap(([, parts]) => Object.keys(parts)))];
    const used = names.filter((part) => series.some(([, parts]) => parts[part] > 0));
    if (!used.length) return null;
    const values = series.flatMap(([name, parts]) => used.map((part, place) => ({ name, series: part, place, ms: parts[part] || 0 })));
    return figure(`${title} (ms)`, {
      height: 26 * series.length + 8, data: { values }, mark: { type: "bar", tooltip: true },
      encoding: {
        y: { field: "name", type: "nominal", sort: null, title: null, axis: { labelLimit: 110 } },
        x: quantity("ms", "ms"), order: { field: "place" }, color: named(used, {}, (at) => colour(names.indexOf(used[at]))),
      },
    }, used, used.map((part) => names.indexOf(part)));
  };
  /* series: [[name, [[percent, ms]]]] */
  kvsim.cdf = (label, series) => {
    const shown = series.filter(([, points]) => points && points.length > 1);
    if (!shown.length) return null;
    const low = Math.min(...shown.flatMap(([, points]) => points.map(([, ms]) => ms).filter((ms) => ms > 0)));
    if (!Number.isFinite(low)) return null;
    const names = shown.map(([name]) => name);
    const values = shown.flatMap(([name, points]) => points.map(([share, ms]) => ({ series: name, percent: share, ms: Math.max(ms, low) })));
    const few = values.length <= 12 * shown.length;
    return figure(`${label}: share of requests that have at most so much${few ? ", of the percentiles that the report has" : ""}; logarithmic axis`, {
      height: 190, data: { values }, mark: { type: "line", point: few, tooltip: true, clip: true },
      encoding: {
        x: quantity("ms", `${label} (ms)`, { scale: { type: "log", nice: false }, axis: { format: ",~g", labelOverlap: true, tickCount: 5 } }),
        y: quantity("percent", "requests with at most this (%)", { scale: { domain: [few ? 50 : 0, 100] } }),
        order: { field: "percent" }, color: named(names, {}, colour), strokeDash: named(names, {}, dash),
      },
    }, names);
  };
  /* series: [[name, seconds, values]] */
  kvsim.timeline = (title, unit, series) => {
    const names = series.map(([name]) => name);
    const values = series.flatMap(([name, times, found]) => times.map((s, at) => ({ series: name, s, value: found[at] })));
    return figure(`${title} over simulated time`, {
      height: 150, data: { values }, mark: { type: "line", interpolate: "step-after", tooltip: true },
      encoding: { x: quantity("s", "simulated time (s)", { scale: { nice: false } }), y: quantity("value", unit), color: named(names, {}, colour), strokeDash: named(names, {}, dash) },
    }, names);
  };
  /* rows: [[label, mean, low, high]], shares */
  kvsim.intervals = (title, rows) => {
    if (!rows.length) return null;
    const values = rows.map(([label, mean, low, high]) => ({ label, mean, low, high, words: `${(100 * mean).toFixed(1)}% (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)}%)` }));
    const y = { field: "label", type: "nominal", sort: null, title: null };
    const tooltip = [{ field: "label", title: "figure" }, { field: "words", title: "B less A" }];
    return figure(`${title}; the line is the interval`, {
      height: 19 * rows.length, data: { values },
      layer: [
        { mark: { type: "rule", color: ink, opacity: 0.6, strokeDash: [2, 2] }, encoding: { x: { datum: 0 } } },
        { mark: { type: "rule", strokeWidth: 3, color: colour(0) }, encoding: { y, x: quantity("low", "share of A", { axis: { format: "+.0%", labelOverlap: true } }), x2: { field: "high" }, tooltip } },
        { mark: { type: "point", filled: true, size: 60, color: colour(1) }, encoding: { y, x: quantity("mean", "share of A"), tooltip } },
      ],
    });
  };
  /* rows: [[where, metric, measured, predicted]] */
  kvsim.against = (title, rows) => {
    const shown = rows.filter(([, , a, b]) => a > 0 && b > 0);
    if (!shown.length) return null;
    const names = [...new Set(shown.map(([, metric]) => metric))];
    const values = shown.map(([where, series, measured, predicted]) => ({ where, series, measured, predicted }));
    const ends = shown.flatMap(([, , a, b]) => [a, b]);
    const domain = [Math.min(...ends) / 1.2, Math.max(...ends) * 1.2];
    const scale = { type: "log", domain, nice: false };
    const axis = { format: ",~g", labelOverlap: true, tickCount: 6 };
    return figure(`${title}, logarithmic axes: on the line they agree`, {
      height: 300,
      layer: [
        { data: { values: [{ at: domain[0] }, { at: domain[1] }] }, mark: { type: "line", color: ink, opacity: 0.5, strokeDash: [4, 3] }, encoding: { x: quantity("at", "measured", { scale, axis }), y: quantity("at", "predicted", { scale, axis }) } },
        {
          data: { values }, mark: { type: "point", filled: true, size: 55, opacity: 0.9, tooltip: { content: "data" } },
          encoding: { x: quantity("measured", "measured", { scale, axis }), y: quantity("predicted", "predicted", { scale, axis }), color: named(names, {}, colour), shape: named(names, {}, shape) },
        },
      ],
    }, names);
  };
  /* rows of a table against each other; an interval's cell is [mean, half width] */
  kvsim.plot = (rows, x, y, by) => {
    const value = (cell) => (Array.isArray(cell) ? cell[0] : cell);
    const values = rows.map((row) => {
      const [mean, half] = Array.isArray(row[y]) ? row[y] : [row[y], null];
      return { x: value(row[x]), y: mean, low: mean - (half || 0), high: mean + (half || 0), series: by ? kvsim.cell(row[by]) : "" };
    }).filter((each) => each.x !== null && each.x !== undefined && typeof each.y === "number");
    if (!values.length) return kvsim.el("p", {}, "Nothing of these two can be drawn.");
    const names = [...new Set(values.map((each) => each.series))];
    const isNumber = values.every((each) => typeof each.x === "number");
    const place = isNumber ? quantity("x", x, { scale: { zero: false } }) : { field: "x", type: "nominal", sort: null, title: x, axis: { labelAngle: -30 } };
    const encoding = { x: place, y: quantity("y", y), color: named(names, {}, colour) };
    const layer = [
      { mark: { type: "line", opacity: isNumber ? 0.7 : 0.25, strokeWidth: 2 }, encoding: { ...encoding, strokeDash: named(names, {}, dash) } },
      { mark: { type: "point", filled: true, size: 60, tooltip: { content: "data" } }, encoding: { ...encoding, shape: named(names, {}, shape) } },
    ];
    if (values.some((each) => each.high > each.low)) layer.push({ mark: { type: "rule" }, encoding: { x: place, y: quantity("low", y), y2: { field: "high" }, color: named(names, {}, colour) } });
    return figure(`${y} against ${x}`, { height: 230, data: { values }, layer }, names);
  };
})();
