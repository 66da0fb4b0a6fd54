"""Pictures of a report: how TTFT is distributed, what it is made of, how busy each side was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.failures import Failures
from kvsim.report.atomic import replacing
from kvsim.report.labels import COMPONENT_LABELS, number, ratio, system_label
from kvsim.report.study_plots import study_painters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kvsim.record.result import SystemResult

_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#F0E442", "#404040")
"""Okabe and Ito's colours, told apart by colour-blind readers; dark grey for their black."""
_STYLES = ("-", "--", "-.", ":")
_DPI = 150
_PNG = {"compress_level": 2}
"""30% less time than by default, for files 28% larger."""
_CDF_POINTS = 2_000


def plot_report(
    out_dir: Path, report: Mapping[str, Any], results: Sequence[SystemResult], failures: Failures
) -> list[Path]:
    """Write ``ttft_cdf.png``, ``ttft_waterfall.png`` and ``utilisation.png`` into the existing folder ``out_dir``,
    and ``study_*.png`` of each study.

    ``results`` are the systems that ``report`` tells of. Returns the paths written: a picture that would be empty
    (nothing completed, no timeline) is left out, and one that cannot be painted or written is among ``failures``.
    """
    painters: dict[str, Callable[[], Figure | None]] = {
        "ttft_cdf.png": lambda: _ttft_cdf(report, results),
        "ttft_waterfall.png": lambda: _ttft_waterfall(report),
        "utilisation.png": lambda: _utilisation(report, results),
        **study_painters(report.get("studies") or {}),
    }
    written = (failures.attempt(name, partial(_painted, out_dir / name, paint)) for name, paint in painters.items())
    return [path for path in written if path is not None]


def _painted(path: Path, paint: Callable[[], Figure | None]) -> Path | None:
    figure = paint()
    if figure is None:
        return None
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=_DPI, pil_kwargs=_PNG)
    return path


def _figure(report: Mapping[str, Any], title: str, height_in: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height_in), layout="constrained")
    figure.suptitle(f"{title}\n", fontsize=12, fontweight="bold")
    figure.text(0.5, 1 - 0.42 / height_in, _subtitle(report), ha="center", va="center", fontsize=8.5, color="0.35")
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, list(axes)


def _subtitle(report: Mapping[str, Any]) -> str:
    cluster, workload = report["cluster"], report["workload"]
    sides = [cluster["prefill_instances"], cluster["decode_instances"]]
    parts = [report["config"]["model"]["name"], f"{cluster['gpus']:,} GPUs"]
    if all(sides):
        parts.append(f"P:D {ratio(sides)}")
    load = workload.get("load")
    parts.append(f"{number(load['requests_per_s'])} requests/s" if load else f"{workload['requests']:,} requests")
    return " · ".join(parts)


def _ttft_cdf(report: Mapping[str, Any], results: Sequence[SystemResult]) -> Figure | None:
    import numpy as np

    from kvsim.record.percentiles import percentiles
    from kvsim.record.summary import rows_of, ttft_s

    percents = np.linspace(0, 100, _CDF_POINTS)
    curves = [(result.name, percentiles(ttft_s(rows_of(result, result.measured)), percents)) for result in results]
    curves = [(name, ttfts_s) for name, ttfts_s in curves if np.isfinite(ttfts_s).all()]
    if not curves:
        return None
    figure, (axis,) = _figure(report, "Time to first token", 4.5)
    for (name, ttfts_s), colour, style in zip(curves, _PALETTE, _STYLES * 2, strict=False):
        axis.plot(ttfts_s * 1e3, percents, color=colour, linestyle=style, linewidth=2, label=system_label(name))
    _slo_line(axis, report["results"][0]["goodput"]["slo"]["ttft_ms"])
    axis.set_xscale("log")
    axis.set_xlabel("TTFT (ms)")
    axis.set_ylabel("requests with at most this TTFT (%)")
    axis.set_ylim(0, 101)
    _plain_ticks(axis)
    axis.legend(frameon=False, loc="upper left")
    return figure


def _slo_line(axis: Axes, slo_ms: float) -> None:
    axis.axvline(slo_ms, color="0.4", linewidth=1.2, linestyle=(0, (2, 2)))
    axis.annotate(
        f"SLO {number(slo_ms)} ms",
        (slo_ms, 2),
        xytext=(-4, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="bottom",
        fontsize=9,
        color="0.3",
    )


def _plain_ticks(axis: Axes) -> None:
    """Milliseconds as 50, 200, 1,000 instead of powers of ten; more of them when the range is short."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_xlim()
    steps = (1.0, 2.0, 5.0) if high / low < 1e4 else (1.0,)
    axis.xaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=20))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _ttft_waterfall(report: Mapping[str, Any]) -> Figure | None:
    results = [result for result in report["results"] if result["ttft_ms"]["mean"] is not None]
    if not results:
        return None
    panels = (("mean", "mean (ms)"), ("p99", "p99: mean over p98.5-p99.5 (ms)"))
    figure, axes = _figure(report, "What time to first token is made of", 2.2 + 0.6 * len(results), len(panels))
    for axis, (which, label) in zip(axes, panels, strict=True):
        _stack(axis, [result["attribution_ms"][which] for result in results])
        axis.set_xlabel(label)
        axis.grid(False, axis="y")
    axes[0].set_yticks(range(len(results)), [system_label(result["name"]) for result in results])
    axes[0].invert_yaxis()
    handles = {label: bar for axis in axes for bar, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [label for label in COMPONENT_LABELS.values() if label in handles]
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _stack(axis: Axes, systems: Sequence[Mapping[str, float | None]]) -> None:
    """One horizontal bar a system, its parts side by side and its total behind them."""
    before_ms = [0.0] * len(systems)
    for (name, label), colour in zip(COMPONENT_LABELS.items(), _PALETTE, strict=True):
        parts_ms = [system[name] or 0.0 for system in systems]
        if any(parts_ms):
            axis.barh(range(len(systems)), parts_ms, left=before_ms, height=0.6, color=colour, label=label)
        before_ms = [before + part for before, part in zip(before_ms, parts_ms, strict=True)]
    for row, total_ms in enumerate(before_ms):
        text = f"{number(total_ms)} ms"
        axis.annotate(text, (total_ms, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_xlim(0, max(before_ms) * 1.3 or 1.0)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _utilisation(report: Mapping[str, Any], results: Sequence[SystemResult]) -> Figure | None:
    curves = list(_busy_curves(results))
    if not curves:
        return None
    figure, (axis,) = _figure(report, "Instances busy over simulated time", 4.5)
    for (label, edges_s, busy), colour, style in zip(curves, _PALETTE, _STYLES * 2, strict=False):
        axis.step(edges_s, busy * 100, where="post", color=colour, linestyle=style, linewidth=1.8, label=label)
    for window_s in dict.fromkeys(result.window_s for result in results):
        whose = [system_label(result.name) for result in results if result.window_s == window_s]
        label = "measured window" if len(whose) == len(results) else f"measured window, {', '.join(whose)}"
        axis.axvspan(*window_s, color="0.5", alpha=0.08, linewidth=0, label=label)
    axis.set_xlabel("simulated time (s)")
    axis.set_ylabel("time running a step (%)")
    axis.set_ylim(0, 105)
    axis.set_xlim(0, max(edges_s[-1] for _, edges_s, _ in curves))
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=4)
    return figure


def _busy_curves(results: Sequence[SystemResult]) -> Iterator[tuple[str, Any, Any]]:
    """Label, bin edges (one more than bins, so that the last bin has its width) and busy shares of every side."""
    import numpy as np

    for result in results:
        for role in result.roles:
            left_s, busy = role.timeline_s, role.timeline_busy
            if left_s.size:
                width_s = left_s[1] - left_s[0] if left_s.size > 1 else result.end_s - left_s[0]
                side = "" if len(result.roles) == 1 else f" {role.role}"
                yield (
                    system_label(result.name) + side,
                    np.append(left_s, left_s[-1] + width_s),
                    np.append(busy, busy[-1]),
                )
