"""An explanation as a picture: waterfalls, and what is left of TTFT without each cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsim.difference.explain import ExplainAnswer
from kvsim.record.labels import COMPONENT_LABELS, counted, number, system_label
from kvsim.study.pictures import OF_PARTS, figure_of, plain_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = list[tuple[str, dict[str, float]]]
"""A name and the parts of a bar, in milliseconds."""


def explain_figure(answer: ExplainAnswer) -> Figure:
    """Two panels, whose bars are made of the parts of TTFT."""
    title = f"What TTFT consists of: {system_label(answer.system)}"
    subtitle = f"{answer.requests:,} requests; left: run 1, right: means of {counted(answer.runs, 'run')}"
    figure, axes = figure_of(title, subtitle, columns=2, height_in=4.4)
    _stack(axes[0], [(band.at, dict(band.parts_ms)) for band in answer.waterfall])
    axes[0].set_xlabel("TTFT (ms)")
    _stack(axes[1], _left(answer))
    axes[1].set_xlabel("mean TTFT without it (ms)")
    handles = {label: bar for axis in axes for bar, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    names = [label for label in COMPONENT_LABELS.values() if label in handles]
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _left(answer: ExplainAnswer) -> Rows:
    """What is left of each part, cause by cause."""
    shown = [removal for removal in (*answer.removals, answer.together) if removal.parts]
    before = [("as it is", {each.figure: each.a or 0.0 for each in shown[0].parts})] if shown else []
    return before + [(removal.label, {each.figure: each.b or 0.0 for each in removal.parts}) for removal in shown]


def _stack(axis: Axes, rows: Rows) -> None:
    before_ms = [0.0] * len(rows)
    for (name, label), colour in zip(COMPONENT_LABELS.items(), OF_PARTS, strict=True):
        parts_ms = [parts.get(name, 0.0) for _, parts in rows]
        if any(parts_ms):
            axis.barh(range(len(rows)), parts_ms, left=before_ms, height=0.6, color=colour, label=label)
        before_ms = [before + part for before, part in zip(before_ms, parts_ms, strict=True)]
    for row, total_ms in enumerate(before_ms):
        place = (total_ms, row)
        axis.annotate(number(total_ms), place, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set_xlim(0, max(before_ms, default=0.0) * 1.25 or 1.0)
    plain_numbers(axis.xaxis)
