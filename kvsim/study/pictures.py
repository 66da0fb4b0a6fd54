"""What all pictures have in common: their frame, and numbers on axes that can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvsim.study.answer import StudyAnswer
from kvsim.study.intervals import Interval
from kvsim.study.words import ran_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#404040", "#8C564B", "#999999", "#5B2C83")
"""Okabe and Ito's colours, told apart by colour-blind readers, with dark grey for their black and brown for their
yellow; a light grey and a purple beside them."""
OF_PARTS = (PALETTE[-1], *PALETTE[:-1])
"""By the parts of TTFT, in the order of ``COMPONENTS``."""
BLUE, ORANGE, GREEN = PALETTE[:3]
GREY = "#404040"
_TICKS = 5
"""Most numbers on an axis of half a picture: six digits each still stand apart."""


def figure_of(
    title: str, subtitle: str, columns: int = 1, rows: int = 1, height_in: float = 4.2, *, shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """An empty picture 8 inches wide and its panels, row by row; ``shared``: panels have the same axes."""
    from kvsim.study.shown_figure import ShownFigure

    figure = ShownFigure(figsize=(8, height_in), layout="constrained")
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(w_pad=0.08, wspace=0.04)  # type: ignore[call-arg]
    figure.suptitle(f"{title}\n", fontsize=12, fontweight="bold")
    figure.text(0.5, 1 - 0.42 / height_in, subtitle, ha="center", va="center", fontsize=8.5, color="0.35")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=shared and rows > 1, sharey=shared).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, axes


def legend_below(figure: Figure, *axes: Axes) -> None:
    """One legend for all ``axes``, where it covers nothing, in as many columns as fit."""
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = max(1, min(len(handles), 90 // (8 + max(map(len, handles), default=1))))
    figure.legend(handles.values(), handles, frameon=False, fontsize=9, loc="outside lower center", ncols=columns)


def plain_numbers(*axes: Axis) -> None:
    """A few round numbers with their thousands apart, on linear axes."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_major_locator(MaxNLocator(_TICKS))
        axis.set_major_formatter(lambda value, _: _written(value))


def plain_powers(axis: Axis, low: float, high: float, base: float = 10.0) -> None:
    """50, 200, 1,000 instead of powers of ten on a logarithmic axis; more of them when the range is short."""
    from matplotlib.ticker import LogLocator, NullFormatter

    steps = (1.0, 2.0, 5.0) if base == 10 and high / low < 1e3 else (1.0,)
    axis.set_major_locator(LogLocator(base=base, subs=steps, numticks=_TICKS + 2))
    axis.set_major_formatter(lambda value, _: _written(value))
    axis.set_minor_formatter(NullFormatter())


def _written(value: float) -> str:
    """1,250, or 80M where there are too many digits for an axis."""
    return f"{value / 1e6:,.10g}M" if abs(value) >= 1e6 else f"{value:,.10g}"


def named_places(axis: Axis, names: Sequence[str]) -> None:
    """One name at each of 0, 1, 2 ...; slanted where they would meet."""
    slanted = sum(map(len, names)) > 28
    axis.set_ticks(range(len(names)), names)
    if slanted:
        axis.set_tick_params(labelrotation=30)


def drawn(title: str, study: StudyAnswer, panels: int = 1, requests: int | None = None) -> tuple[Figure, list[Axes]]:
    """An empty picture of a study, which says below its title where and how often that ran."""
    return figure_of(title, f"{ran_of(study, requests)}, {study.runs.confidence:.0%} intervals", panels)


def bars_of(values: Sequence[Interval]) -> tuple[list[float], list[float]]:
    """Means and half widths; a gap where a figure is not there."""
    widths = [value.half_width if math.isfinite(value.half_width) else 0.0 for value in values]
    return [value.mean for value in values], widths


def hits_and_ttfts(hits: Axes, ttfts: Axes) -> None:
    """What stands on the two axes, from nothing on: without intervals, half an axis makes much of little."""
    for axis, label in ((hits, "prompt tokens hit (%)"), (ttfts, "mean TTFT (ms)")):
        axis.set_ylabel(label)
        axis.set_ylim(0, 1.05 * axis.get_ylim()[1] or 1.0)
        plain_numbers(axis.yaxis)
