"""A picture of each study."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kvsim.report.figures import PALETTE, figure_of, legend_below, named_places, plain_numbers
from kvsim.report.labels import ratio
from kvsim.report.studies import instances_of, runs_of, setting
from kvsim.report.tier_plots import tier_study_painters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN = PALETTE[:3]
GREY = "#404040"
_CONTEXT_PANELS = (("ttft_mean_ms", "mean TTFT (ms)"), ("tpot_mean_ms", "mean TPOT (ms)"))

_COMPARE_PANELS = (("ttft_mean_ms", "mean TTFT (ms)"), ("tpot_mean_ms", "mean TPOT (ms)"))
_BUDGET_PANELS = (("ttft", "TTFT (ms)"), ("tpot", "TPOT (ms)"))


def study_painters(studies: Mapping[str, Any]) -> dict[str, Callable[[], Figure]]:
    """File name -> what makes its figure, of the studies that have something to show."""
    painters = {
        "compare": _compare,
        "pd_ratio": _pd_ratio,
        "transfer": _transfer,
        "unified_budget": _unified_budget,
        "context": _context,
    }
    own = {
        f"study_{name}.png": partial(painters[name], study)
        for name, study in studies.items()
        if name in painters and (study.get("points") or study.get("rows") or study.get("keys"))
    }
    return own | tier_study_painters(studies)


def _figure(title: str, study: Mapping[str, Any], panels: int = 1) -> tuple[Figure, list[Axes]]:
    ran = f"{instances_of(study)}, {runs_of(study)}, {study['confidence']:.0%} intervals"
    return figure_of(title, ran, panels)


def _bars(values: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Means and half widths; a gap where a figure is not there."""
    means = [math.nan if value["mean"] is None else value["mean"] for value in values]
    return means, [value["half_width"] or 0.0 for value in values]


def _compare(study: Mapping[str, Any]) -> Figure:
    figure, axes = _figure("Other settings, against the run as configured", study, len(_COMPARE_PANELS))
    rows = [(setting(key["key"], row["value"]), row) for key in study["keys"] for row in key["rows"]][::-1]
    for axis, (metric, label) in zip(axes, _COMPARE_PANELS, strict=True):
        for name, shown, colour, above in (("pd", "PD", GREEN, -0.2), ("unified", "unified", BLUE, 0.2)):
            apart, errors = _bars([row[f"{name}_difference"][metric] for _, row in rows])
            places = [at + above for at in range(len(rows))]
            axis.barh(places, apart, 0.4, xerr=errors, color=colour, capsize=2, ecolor=ORANGE, label=shown)
        axis.axvline(0, color="0.3", linewidth=0.8)
        axis.set_yticks(range(len(rows)), [label for label, _ in rows] if axis is axes[0] else [])
        axis.set_xlabel(f"difference in {label}")
        plain_numbers(axis.xaxis)
    legend_below(figure, axes[0])
    return figure


def _pd_ratio(study: Mapping[str, Any]) -> Figure:
    figure, (axis,) = _figure("Throughput at saturation by prefill:decode ratio", study)
    points = study["points"]
    shares = [point["ratio"][0] / sum(point["ratio"]) for point in points]
    means, errors = _bars([point["throughput_requests_per_s"] for point in points])
    analytic = [math.nan if p["analytic_requests_per_s"] is None else p["analytic_requests_per_s"] for p in points]
    axis.plot(shares, analytic, "--", color=GREY, label="analytic maximum, own hits")
    axis.errorbar(shares, means, yerr=errors, fmt="o-", color=BLUE, capsize=3, label="simulated")
    for point, share, mean in zip(points, shares, means, strict=True):
        if point["best"] or point["balanced"] or point["configured"]:
            words = [word for word in ("best", "balanced", "configured") if point[word]]
            axis.annotate(
                f"{ratio(point['ratio'])}\n{', '.join(words)}", (share, mean), xytext=(0, -8),
                textcoords="offset points", ha="center", va="top", fontsize=8, color=ORANGE,
            )  # fmt: skip
    axis.set_xlabel("prefill share of the instances")
    axis.set_ylabel("throughput (requests/s)")
    axis.margins(x=0.12)
    # Room below the lowest point for what is written there; throughput begins at the line.
    axis.set_ylim(-0.2 * axis.get_ylim()[1], 1.05 * axis.get_ylim()[1])
    axis.axhline(0, color="0.3", linewidth=0.8)
    plain_numbers(axis.yaxis)
    axis.set_yticks([tick for tick in axis.get_yticks() if tick >= 0])
    legend_below(figure, axis)
    return figure


def _transfer(study: Mapping[str, Any]) -> Figure:
    figure, (axis,) = _figure("Mean TTFT by the way KV moves, against the configured one", study)
    rows = study["rows"][:0:-1]
    apart, errors = _bars([row["ttft_mean_difference_ms"] for row in rows])
    verdicts = [row["ttft_mean_difference_ms"]["verdict"] for row in rows]
    colours = [BLUE if verdict in ("lower", "higher") else GREY for verdict in verdicts]
    names = [
        row["name"] if verdict in ("lower", "higher") else f"{row['name']} ({verdict})"
        for row, verdict in zip(rows, verdicts, strict=True)
    ]
    axis.barh(names, apart, xerr=errors, color=colours, capsize=2, ecolor=ORANGE)
    axis.axvline(0, color="0.3", linewidth=0.8)
    configured = study["rows"][0]["ttft_mean_ms"]["mean"]
    axis.set_xlabel(f"difference in mean TTFT (ms); configured: {configured:,.0f} ms")
    plain_numbers(axis.xaxis)
    return figure


def _unified_budget(study: Mapping[str, Any]) -> Figure:
    figure, axes = _figure("Unified by its token budget", study, 2)
    rows = study["rows"]
    budgets = [row["max_num_batched_tokens"] for row in rows]
    used = next(row["max_num_batched_tokens"] for row in rows if row["used"])
    for axis, (metric, label) in zip(axes, _BUDGET_PANELS, strict=True):
        for which, colour, marker in (("mean", BLUE, "o"), ("p99", ORANGE, "s")):
            means, errors = _bars([row[f"{metric}_{which}_ms"] for row in rows])
            at = range(len(budgets))
            axis.errorbar(at, means, yerr=errors, fmt=f"{marker}-", color=colour, capsize=3, label=which)
        axis.axvline(budgets.index(used), color="0.3", linewidth=0.8, linestyle=":", label="used")
        named_places(axis.xaxis, [f"{tokens:,}" for tokens in budgets])
        axis.set_xlabel("tokens a step")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        plain_numbers(axis.yaxis)
    legend_below(figure, axes[0])
    return figure


def _context(study: Mapping[str, Any]) -> Figure:
    figure, axes = _figure("Unified and PD by context length", study, len(_CONTEXT_PANELS))
    lengths = [row["context_tokens"] for row in study["rows"]]
    for axis, (metric, label) in zip(axes, _CONTEXT_PANELS, strict=True):
        for name, colour, marker in (("unified", BLUE, "o"), ("pd", GREEN, "s")):
            means, errors = _bars([row[name][metric] for row in study["rows"]])
            shown = "PD" if name == "pd" else name
            at, style = range(len(lengths)), f"{marker}-"
            axis.errorbar(at, means, yerr=errors, fmt=style, color=colour, capsize=3, label=shown)
        named_places(axis.xaxis, [f"{length:,}" for length in lengths])
        axis.set_xlabel("prompt tokens")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        plain_numbers(axis.yaxis)
    legend_below(figure, axes[0])
    return figure
