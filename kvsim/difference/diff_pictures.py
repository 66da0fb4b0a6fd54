"""A difference as a picture: parts of TTFT, and the relative change of every figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsim.difference.diff import DiffAnswer, SystemDifference
from kvsim.difference.diff_words import label
from kvsim.difference.figures import FigureDifference
from kvsim.record.labels import COMPONENT_LABELS, counted, percent, system_label
from kvsim.study.pictures import BLUE, GREY, ORANGE, figure_of, plain_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = 36
"""Characters of a name below a title."""


def diff_figure(answer: DiffAnswer) -> Figure:
    """A row of two panels a system."""
    systems = answer.systems
    names = f"A: {_cut(answer.a)}; B: {_cut(answer.b)}"
    runs = f"{counted(answer.runs, 'pair')}, {percent(answer.confidence)} intervals"
    figure, axes = figure_of(
        "What differs: B less A", f"{names}; {runs}", columns=2, rows=len(systems), height_in=1.6 + 3.4 * len(systems)
    )
    for place, system in enumerate(systems):
        left, right = axes[2 * place : 2 * place + 2]
        name = system_label(system.a) if system.a == system.b else f"{system_label(system.a)}, {system_label(system.b)}"
        parts = [each for each in system.parts if each.a or each.b]
        _bars(left, parts, [COMPONENT_LABELS[each.figure] for each in parts], relative=False)
        left.set_title(f"{name}: parts of mean TTFT", loc="left", fontsize=9)
        left.set_xlabel("ms")
        found = _relative(system)
        _bars(right, found, [label(each.figure) for each in found], relative=True)
        right.set_title(f"{name}: all figures", loc="left", fontsize=9)
        right.set_xlabel("% of A")
    return figure


def _cut(name: str) -> str:
    return name if len(name) <= _TITLE else f"...{name[3 - _TITLE :]}"


def _relative(system: SystemDifference) -> list[FigureDifference]:
    return [each for each in system.figures if each.a and each.difference is not None]


def _bars(axis: Axes, found: list[FigureDifference], names: list[str], *, relative: bool) -> None:
    """A bar a figure, in colour where it moved for sure."""
    scales = [100 / abs(each.a) if relative and each.a else 1.0 for each in found]
    values = [scale * (each.difference or 0.0) for scale, each in zip(scales, found, strict=True)]
    errors = [scale * (each.half_width or 0.0) for scale, each in zip(scales, found, strict=True)]
    colours = [BLUE if each.moved else "0.75" for each in found]
    axis.barh(range(len(found)), values, 0.7, xerr=errors, color=colours, capsize=2, ecolor=ORANGE)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_yticks(range(len(found)), names, fontsize=7)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    plain_numbers(axis.xaxis)
