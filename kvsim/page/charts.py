"""The charts, as Vega-Lite has them; their data is in columns, of which the page's script makes rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kvsim.page.colours import colour, dash
from kvsim.page.markup import Html, element, embedded_json
from kvsim.page.series import PERCENTS, Curve, OverTime, short
from kvsim.record.figures import Parts, SystemSummary
from kvsim.record.labels import COMPONENT_LABELS, number, system_label

Spec = dict[str, Any]
Columns = Mapping[str, Sequence[object]]
_LINE_PX, _TIME_PX, _BAR_PX, _FRAME_PX = 190, 130, 26, 44
_NAMED = 2
"""Systems of one curve that its legend names."""
_LOWEST = 1e-9
"""What a logarithmic axis cannot show is drawn at the lowest that it does."""
OVER_TIME = (
    ("running", "requests running", "running", False),
    ("waiting", "requests waiting", "waiting", False),
    ("kv_usage", "KV blocks in use", "KV", True),
    ("hit_rate", "prompt tokens hit", "hit rate", True),
)
"""Field, what it is, its short name, and whether it is a share."""


def chart(name: str, caption: str, spec: Spec, columns: Columns, legend: Html | None) -> Html:
    """A figure with a place for the chart, as high as it will be, what it is drawn of, and what its colours mean."""
    fit = {"type": "fit-x", "contains": "padding"}
    whole = {"width": "container", "autosize": fit, "description": caption} | spec
    data = embedded_json({"spec": whole, "columns": columns})
    return element(
        "figure",
        element("figcaption", caption),
        element("div", class_="chart", id=name, style=f"min-height:{spec['height'] + _FRAME_PX}px"),
        *([] if legend is None else [legend]),
        element("script", data, type="application/json", id=f"{name}-data"),
    )


def cdf(name: str, label: str, curves: Sequence[Curve], slo_ms: float | None) -> Html | None:
    """How a latency in milliseconds is distributed, over a logarithmic axis; ``None`` where there is none."""
    if not curves:
        return None
    names, places = [_together(curve.names) for curve in curves], [curve.place for curve in curves]
    positive = [float(curve.values[curve.values > 0].min()) for curve in curves if (curve.values > 0).any()]
    low = min(positive, default=_LOWEST)
    high = max(float(curve.values.max()) for curve in curves)
    limits = (min(low, slo_ms or low), max(high, slo_ms or high, low * 1.01))
    axis: Spec = {"values": _powers(*limits), "format": ",~g", "labelOverlap": True, "title": f"{label} (ms)"}
    scale = {"type": "log", "domain": limits, "nice": False}
    x = {"field": "ms", "type": "quantitative", "scale": scale, "axis": axis}
    y = {"field": "percent", "type": "quantitative", "title": "requests with at most this (%)"}
    line: Spec = {
        "mark": {"type": "line", "interpolate": "linear", "clip": True, "tooltip": True},
        "encoding": {
            "x": x,
            "y": y,
            "order": {"field": "percent"},
            **_by_series(names, places),
        },
    }
    layers = [line] if slo_ms is None else [line, *_limit(slo_ms)]
    columns: Columns = {
        "series": [each for each in names for _ in PERCENTS],
        "percent": short(np.tile(PERCENTS, len(curves))),
        "ms": short(np.concatenate([np.maximum(curve.values, low) for curve in curves])),
    }
    caption = f"{label}: share of requests that have at most so much, logarithmic axis"
    caption += _alike(curve.names for curve in curves)
    return chart(name, caption, {"height": _LINE_PX, "layer": layers}, columns, _legend(names, places))


def _limit(slo_ms: float) -> list[Spec]:
    x = {"datum": slo_ms}
    words = f"SLO {number(slo_ms)} ms"
    rule = {"type": "rule", "color": "currentColor", "strokeDash": [2, 2], "opacity": 0.7}
    text = {"type": "text", "text": words, "angle": 270, "align": "left", "baseline": "bottom", "dx": 4, "dy": -3}
    place = {"x": x, "y": {"datum": 0}}
    one: Spec = {"data": {"values": [{}]}}
    return [one | {"mark": rule, "encoding": {"x": x}}, one | {"mark": text, "encoding": place}]


def timeline(name: str, measure: int, series: Sequence[OverTime], window_s: tuple[float, float] | None) -> Html:
    """One of ``OVER_TIME``, a step curve a series that has such figures; the window is shaded."""
    field, words, brief, is_share = OVER_TIME[measure]
    shown = {place: each for place, each in enumerate(series) if np.isfinite(getattr(each, field)).any()}
    names = [_together(each.names) for each in shown.values()]
    times = {"field": "s", "type": "quantitative", "title": "simulated time (s)", "scale": {"nice": False}}
    y: Spec = {"field": "value", "type": "quantitative", "title": brief, "axis": {"minExtent": 46}}
    if is_share:
        y |= {"axis": {"minExtent": 46, "format": ".0%"}, "scale": {"domainMin": 0}}
    line = {
        "mark": {
            "type": "line",
            "interpolate": "linear",
            "strokeWidth": 1.5,
            "tooltip": True,
            "invalid": "break-paths-show-path-domains",
        },
        "encoding": {"x": times, "y": y, "order": {"field": "at"}, **_by_series(names, list(shown))},
    }
    values = [np.repeat(getattr(each, field), 2) for each in shown.values()]
    times_s = [np.repeat(each.edges, 2)[1:-1] for each in shown.values()]
    columns: Columns = {
        "series": [name for name, own in zip(names, times_s, strict=True) for _ in own],
        "s": short(np.concatenate([np.zeros(0), *times_s]), 5),
        "value": short(np.concatenate([np.zeros(0), *values])),
        "at": [at for own in times_s for at in range(len(own))],
    }
    spec = {"height": _TIME_PX, "layer": [*_shade(window_s), line]}
    caption = f"{words[0].upper()}{words[1:]}{_alike(each.names for each in shown.values())}"
    return chart(name, caption, spec, columns, _legend(names, list(shown)))


def _shade(window_s: tuple[float, float] | None) -> list[Spec]:
    if window_s is None:
        return []
    mark = {"type": "rect", "color": "currentColor", "opacity": 0.07}
    encoding = {"x": {"datum": window_s[0]}, "x2": {"datum": window_s[1]}}
    return [{"data": {"values": [{}]}, "mark": mark, "encoding": encoding}]


def waterfall(name: str, which: str, caption: str, results: Sequence[SystemSummary]) -> Html:
    """A bar a system, of the parts of TTFT one after the other."""
    labels = [system_label(result.name) for result in results]
    parts: list[Parts] = [getattr(result.attribution_ms, which) for result in results]
    used = [key for key in COMPONENT_LABELS if any(part[key] for part in _attributions(results))]
    places = {key: place - 1 for place, key in enumerate(COMPONENT_LABELS)}
    scale = {
        "domain": [COMPONENT_LABELS[key] for key in used],
        "range": [colour(places[key]) for key in used],
    }
    encoding = {
        "x": {
            "field": "ms",
            "type": "quantitative",
            "title": "ms",
            "stack": "zero",
            "axis": {"format": ",~f", "tickCount": 5},
        },
        "y": {"field": "system", "type": "nominal", "sort": labels, "title": None, "axis": {"labelLimit": 180}},
        "color": {"field": "part", "type": "nominal", "scale": scale, "legend": None},
        "order": {"field": "place", "type": "ordinal"},
        "tooltip": [{"field": key} for key in ("system", "part", "ms")],
    }
    columns: Columns = {
        "system": [label for label in labels for _ in used],
        "part": [COMPONENT_LABELS[key] for _ in labels for key in used],
        "place": [places[key] for _ in labels for key in used],
        "ms": short(np.array([part[key] or 0.0 for part in parts for key in used])),
    }
    height = _BAR_PX * len(labels)
    spec = {"height": height, "mark": {"type": "bar"}, "encoding": encoding}
    return chart(name, caption, spec, columns, _legend(scale["domain"], [places[key] for key in used]))


def _attributions(results: Sequence[SystemSummary]) -> list[Parts]:
    return [part for result in results for part in (result.attribution_ms.mean, result.attribution_ms.p99)]


def _alike(groups: Iterable[Sequence[str]]) -> str:
    return "".join(f"; one curve: {', '.join(map(system_label, names))}" for names in groups if len(names) > _NAMED)


def _together(names: Sequence[str]) -> str:
    labels = list(map(system_label, names))
    return ", ".join(labels) if len(labels) <= _NAMED else f"{labels[0]} and {len(labels) - 1} more"


def _by_series(names: Sequence[str], places: Sequence[int]) -> Spec:
    """Colours by place, and dashes where these come again."""
    field = {"field": "series", "type": "nominal", "sort": None, "title": None, "legend": None}
    return {
        "color": field | {"scale": {"domain": names, "range": [colour(at) for at in places]}},
        "strokeDash": field | {"scale": {"domain": names, "range": [dash(at) for at in places]}},
    }


def _legend(names: Sequence[str], places: Sequence[int]) -> Html | None:
    """What the colours and dashes mean; nothing where there is one."""
    if len(names) < 2:
        return None
    return element(
        "ul", *(element("li", _sample(at), name) for name, at in zip(names, places, strict=True)), class_="legend"
    )


def _sample(place: int) -> Html:
    style, dashes = f"stroke:{colour(place)}", " ".join(map(str, dash(place)))
    line = f'<line x1="0" y1="5" x2="22" y2="5" style="{style}" stroke-dasharray="{dashes}" stroke-width="3"/>'
    return Html(f'<svg width="22" height="10" aria-hidden="true">{line}</svg>')


def _powers(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 ... between the two; powers of ten alone where these are many."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0, 2.0, 5.0) if len(exponents) <= 4 else (1.0,)
    found = [step * 10.0**exponent for exponent in exponents for step in steps]
    return [float(f"{value:.3g}") for value in found if low <= value <= high]
