"""Pictures of a report: how TTFT is distributed, what it is made of, how busy each side was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.failures import Failures
from kvsim.record.figures import Parts
from kvsim.record.labels import COMPONENT_LABELS, number, ratio, system_label
from kvsim.report.atomic import replacing
from kvsim.report.fleet_plot import fleet_plot
from kvsim.report.sections import Sections
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import studies
from kvsim.study.pictures import OF_PARTS, PALETTE, figure_of, legend_below, plain_numbers, plain_powers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kvsim.record.result import SystemResult

_STYLES = ("-", "--", "-.", ":")
_SIDES = {"colocated": (PALETTE[0], "-"), "prefill": (PALETTE[1], "-"), "decode": (PALETTE[2], "--")}
"""Colour and style of what an instance can be."""
_DPI = 150
_PNG = {"compress_level": 2}
"""30% less time than by default, for files 28% larger."""
_CDF_POINTS = 2_000


def plot_report(out_dir: Path, report: Sections, results: Sequence[SystemResult], failures: Failures) -> list[Path]:
    """Write ``ttft_cdf.png``, ``ttft_waterfall.png`` and ``utilisation.png`` into the existing folder ``out_dir``,
    ``fleet.png`` where something may happen to instances, and ``study_*.png`` of each study.

    ``results`` are the systems that ``report`` tells of. Returns the paths written: a picture that would be empty
    (nothing completed, no timeline) is left out, and one that cannot be painted or written is among ``failures``.
    """
    painters: dict[str, Callable[[], Figure | None]] = {
        "ttft_cdf.png": lambda: ttft_cdf(report, results),
        "ttft_waterfall.png": lambda: ttft_waterfall(report),
        "utilisation.png": lambda: utilisation(report, results),
        "fleet.png": lambda: fleet_plot(report.results, _subtitle(report)),
        **study_painters(report.studies or {}),
    }
    written = (failures.attempt(name, partial(_painted, out_dir / name, paint)) for name, paint in painters.items())
    return [path for path in written if path is not None]


def study_painters(found: Mapping[str, StudyAnswer]) -> dict[str, Callable[[], Figure | None]]:
    """File name -> what makes its figure, of the studies that have something to show."""
    known = studies()
    return {
        f"study_{key}.png": partial(known[key].figure, study) for key, study in found.items() if known[key].rows(study)
    }


def _painted(path: Path, paint: Callable[[], Figure | None]) -> Path | None:
    figure = paint()
    if figure is None:
        return None
    write_figure(path, figure)
    return path


def write_figure(path: Path, figure: Figure) -> None:
    """As PNG, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=_DPI, pil_kwargs=_PNG)


def _subtitle(report: Sections) -> str:
    cluster, workload = report.cluster, report.workload
    sides = cluster.prefill_instances, cluster.decode_instances
    parts = [report.config.model.name, f"{cluster.gpus:,} GPUs"]
    if all(sides):
        parts.append(f"P:D {ratio(sides)}")
    load = workload.load
    parts.append(f"{number(load.requests_per_s)} requests/s" if load else f"{workload.requests:,} requests")
    return " · ".join(parts)


def ttft_cdf(report: Sections, results: Sequence[SystemResult]) -> Figure | None:
    """How TTFT is distributed, a curve a system; ``None`` where nothing completed."""
    import numpy as np

    from kvsim.record.percentiles import percentiles
    from kvsim.record.summary import rows_of, ttft_s

    percents = np.linspace(0, 100, _CDF_POINTS)
    curves = [(result.name, percentiles(ttft_s(rows_of(result, result.measured)), percents)) for result in results]
    curves = [(name, ttfts_s) for name, ttfts_s in curves if np.isfinite(ttfts_s).all()]
    if not curves:
        return None
    figure, (axis,) = figure_of("Time to first token", _subtitle(report), height_in=4.5)
    for (names, ttfts_s), colour, style in zip(_alike(curves), PALETTE, _STYLES * 2, strict=False):
        label = ", ".join(system_label(name) for name in names)
        axis.plot(ttfts_s * 1e3, percents, color=colour, linestyle=style, linewidth=2, label=label)
    _slo_line(axis, report.results[0].goodput.slo.ttft_ms)
    axis.set_xscale("log")
    axis.set_xlabel("TTFT (ms)")
    axis.set_ylabel("requests with at most this TTFT (%)")
    axis.set_ylim(0, 101)
    plain_powers(axis.xaxis, *axis.get_xlim())
    legend_below(figure, axis)
    return figure


def _alike(curves: Sequence[tuple[str, Any]]) -> list[tuple[list[str], Any]]:
    """Equal curves together, so that none lies unseen below another."""
    groups: list[tuple[list[str], Any]] = []
    for name, values in curves:
        same = next((names for names, others in groups if (values == others).all()), None)
        if same is None:
            groups.append(([name], values))
        else:
            same.append(name)
    return groups


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


def ttft_waterfall(report: Sections) -> Figure | None:
    """What TTFT is made of, in the mean and at p99; ``None`` where nothing completed."""
    results = [result for result in report.results if result.ttft_ms.mean is not None]
    if not results:
        return None
    panels = (
        ("mean (ms)", [result.attribution_ms.mean for result in results]),
        ("p99: mean over p98.5-p99.5 (ms)", [result.attribution_ms.p99 for result in results]),
    )
    height_in = 2.2 + 0.6 * len(results)
    title = "What time to first token is made of"
    figure, axes = figure_of(title, _subtitle(report), len(panels), height_in=height_in)
    for axis, (label, parts_ms) in zip(axes, panels, strict=True):
        _stack(axis, parts_ms)
        axis.set_xlabel(label)
        axis.grid(False, axis="y")
        axis.set_yticks(range(len(results)), [system_label(result.name) for result in results])
        axis.invert_yaxis()
    axes[1].set_yticklabels([])
    handles = {label: bar for axis in axes for bar, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [label for label in COMPONENT_LABELS.values() if label in handles]
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _stack(axis: Axes, systems: Sequence[Parts]) -> None:
    """One horizontal bar a system, its parts side by side and its total behind them."""
    before_ms = [0.0] * len(systems)
    for (name, label), colour in zip(COMPONENT_LABELS.items(), OF_PARTS, strict=True):
        parts_ms = [system[name] or 0.0 for system in systems]
        if any(parts_ms):
            axis.barh(range(len(systems)), parts_ms, left=before_ms, height=0.6, color=colour, label=label)
        before_ms = [before + part for before, part in zip(before_ms, parts_ms, strict=True)]
    for row, total_ms in enumerate(before_ms):
        text = f"{number(total_ms)} ms"
        axis.annotate(text, (total_ms, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_xlim(0, max(before_ms) * 1.3 or 1.0)
    plain_numbers(axis.xaxis)


def utilisation(report: Sections, results: Sequence[SystemResult]) -> Figure | None:
    """A panel a system, a curve a side."""
    shown = [(result, curves) for result in results if (curves := list(_busy_curves(result)))]
    if not shown:
        return None
    height_in = max(3.6, 1.6 + 1.1 * len(shown))
    figure, axes = figure_of(
        "Instances busy over simulated time", _subtitle(report), rows=len(shown), height_in=height_in, shared=True
    )
    for axis, (result, curves) in zip(axes, shown, strict=True):
        for label, edges_s, busy in curves:
            colour, style = _SIDES[label]
            axis.step(edges_s, busy * 100, where="post", color=colour, linestyle=style, linewidth=1.6, label=label)
        axis.axvspan(*result.window_s, color="0.5", alpha=0.12, linewidth=0, label="measured window")
        axis.set_title(system_label(result.name), loc="left", fontsize=9)
        axis.set_ylim(0, 105)
        axis.set_yticks((0, 50, 100))
    axes[-1].set_xlim(0, max(float(edges_s[-1]) for _, curves in shown for _, edges_s, _ in curves))
    axes[-1].set_xlabel("simulated time (s)")
    plain_numbers(axes[-1].xaxis)
    figure.supylabel("time running a step (%)", fontsize=10)
    legend_below(figure, *axes)
    return figure


def _busy_curves(result: SystemResult) -> Iterator[tuple[str, Any, Any]]:
    """Side, bin edges (one more than bins, so that the last bin has its width) and busy shares."""
    import numpy as np

    for role in result.roles:
        left_s, busy = role.timeline_s, role.timeline_busy
        if left_s.size:
            width_s = left_s[1] - left_s[0] if left_s.size > 1 else result.end_s - left_s[0]
            yield role.role, np.append(left_s, left_s[-1] + width_s), np.append(busy, busy[-1])
