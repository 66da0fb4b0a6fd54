"""A picture of each study of memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kvsim.report.figures import PALETTE, figure_of, legend_below, named_places, plain_numbers, plain_powers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TIER_COLOURS = {"hbm": "#404040", "dram": "#0072B2", "eic": "#009E73", "ssd": "#E69F00"}


def tier_study_painters(studies: Mapping[str, Any]) -> dict[str, Callable[[], Figure]]:
    """File name -> what makes its figure, of those among ``studies`` that this module knows."""
    painters = {"capacity": _capacity, "tiers": _tiers, "eic": _eic, "contexts": _contexts}
    return {
        f"study_{name}.png": partial(painter, studies[name])
        for name, painter in painters.items()
        if name in studies and studies[name]["rows"]
    }


def _scale(study: Mapping[str, Any]) -> str:
    return f"{study['instances']} instances, {study['requests']:,} requests"


def _capacity(study: Mapping[str, Any]) -> Figure:
    figure, (hits, ttfts) = figure_of("Host memory, nothing below it", _scale(study), 2)
    rows = study["rows"]
    sizes_gb = [row["capacity_gb_per_host"] for row in rows]
    for policy, colour in zip(rows[0]["policies"], PALETTE, strict=False):
        found = [row["policies"][policy] for row in rows]
        style = "--" if policy == "belady" else "-"
        hits.plot(sizes_gb, [100 * f["hit_rate"] for f in found], style, marker="o", color=colour, label=policy)
        ttfts.plot(sizes_gb, [f["ttft_mean_ms"] for f in found], style, marker="o", color=colour)
    hits.axhline(100 * study["without"]["hit_rate"], color="0.5", linestyle=":", label="without")
    ttfts.axhline(study["without"]["ttft_mean_ms"], color="0.5", linestyle=":")
    if study["knee_gb_per_host"] is not None:
        for axis in (hits, ttfts):
            axis.axvline(study["knee_gb_per_host"], color="0.7", linewidth=1)
        hits.annotate("knee", (study["knee_gb_per_host"], 0), xytext=(3, 3), textcoords="offset points", color="0.3")
    for axis in (hits, ttfts):
        axis.set_xscale("log")
        plain_powers(axis.xaxis, *axis.get_xlim())
        axis.set_xlabel("GB a host")
    _hits_and_ttfts(hits, ttfts)
    legend_below(figure, hits)
    return figure


def _hits_and_ttfts(hits: Axes, ttfts: Axes) -> None:
    """What stands on the two axes, from nothing on: without intervals, half an axis makes much of little."""
    for axis, label in ((hits, "prompt tokens hit (%)"), (ttfts, "mean TTFT (ms)")):
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1] or 1.0)
        plain_numbers(axis.yaxis)


def _tiers(study: Mapping[str, Any]) -> Figure:
    figure, (hits, ttfts) = figure_of("What each tier adds", _scale(study), 2)
    rows = study["rows"]
    labels = ["\n+ ".join(row["tiers"]) for row in rows]
    _stacked_hits(hits, rows)
    ttfts.bar(range(len(rows)), [row["ttft_mean_ms"] for row in rows], color=PALETTE[0], label="mean")
    ttfts.plot(range(len(rows)), [row["ttft_p99_ms"] for row in rows], "o", color=PALETTE[1], label="p99")
    for axis in (hits, ttfts):
        axis.set_xticks(range(len(rows)), labels, fontsize=8)
    ttfts.set_ylabel("TTFT (ms)")
    ttfts.set_ylim(0, 1.05 * ttfts.get_ylim()[1])
    plain_numbers(hits.yaxis, ttfts.yaxis)
    legend_below(figure, hits, ttfts)
    return figure


def _stacked_hits(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    below = [0.0] * len(rows)
    for tier, colour in _TIER_COLOURS.items():
        shares = [100 * _share(row, tier) for row in rows]
        if any(shares):
            axis.bar(range(len(rows)), shares, bottom=below, color=colour, label=tier)
        below = [low + share for low, share in zip(below, shares, strict=True)]
    axis.set_ylabel("prompt tokens hit (%)")
    axis.set_ylim(0, 1.05 * max(*below, 1.0))


def _share(row: Mapping[str, Any], tier: str) -> float:
    lower = row["by_tier"]
    share: float = row["hit_rate"] - sum(lower.values()) if tier == "hbm" else lower.get(tier, 0.0)
    return share


def _eic(study: Mapping[str, Any]) -> Figure:
    figure, (hits, ttfts) = figure_of("The rack's pool", _scale(study), 2)
    beside = list(dict.fromkeys(tuple(row["beside"]) for row in study["rows"]))
    sizes = sorted({row["pool_gb_per_rack"] for row in study["rows"]})
    for names, colour in zip(beside, PALETTE, strict=False):
        rows = [row for row in study["rows"] if tuple(row["beside"]) == names]
        at = [sizes.index(row["pool_gb_per_rack"]) for row in rows]
        label = f"beside {' + '.join(names)}"
        hits.plot(at, [100 * row["hit_rate"] for row in rows], marker="o", color=colour, label=label)
        ttfts.plot(at, [row["ttft_mean_ms"] for row in rows], marker="o", color=colour)
    for axis in (hits, ttfts):
        named_places(axis.xaxis, [f"{size:,.10g}" for size in sizes])
        axis.set_xlabel("GB a rack")
    _hits_and_ttfts(hits, ttfts)
    legend_below(figure, hits)
    return figure


def _contexts(study: Mapping[str, Any]) -> Figure:
    figure, (hits, ttfts) = figure_of("Contexts", f"{study['instances']} instances", 2)
    rows = study["rows"]
    for shift, (which, label) in enumerate((("with_tiers", "with tiers"), ("without", "without"))):
        at = [place + 0.4 * shift - 0.2 for place in range(len(rows))]
        colour = PALETTE[shift]
        hits.bar(at, [100 * row[which]["hit_rate"] for row in rows], width=0.38, color=colour, label=label)
        ttfts.bar(at, [row[which]["ttft_mean_ms"] for row in rows], width=0.38, color=colour, label=label)
    for axis in (hits, ttfts):
        named_places(axis.xaxis, [f"{row['context_tokens']:,}" for row in rows])
        axis.set_xlabel("context (tokens)")
    _hits_and_ttfts(hits, ttfts)
    legend_below(figure, hits)
    return figure
