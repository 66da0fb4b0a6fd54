"""Panels that many labs have: curves by a group of rows, bars at named places, curves over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kvsim.study.pictures import PALETTE, named_places, plain_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")


def curves(
    axis: Axes,
    rows: Sequence[Any],
    by: str,
    x: str,
    y: str,
    labels: tuple[str, str],
    *,
    factor: float = 1.0,
    log: bool = False,
) -> None:
    """A curve for each value of the field ``by``; ``labels``: of the axes. ``factor``: times what stands in ``y``;
    ``log``: ``x`` goes by its logarithm."""
    names = list(dict.fromkeys(getattr(row, by) for row in rows))
    for name, colour, marker in zip(names, PALETTE, _MARKERS, strict=False):
        own = [row for row in rows if getattr(row, by) == name]
        heights = [factor * getattr(row, y) for row in own]
        axis.plot([getattr(row, x) for row in own], heights, f"{marker}-", color=colour, label=str(name))
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.set_ylim(bottom=0)
    plain_numbers(axis.yaxis)
    if log:
        axis.set_xscale("log", base=2)
        places = sorted({getattr(row, x) for row in rows})
        axis.set_xticks(places, [f"{place:,}" for place in places])


def bars(axis: Axes, heights: Mapping[str, float], label: str, *, colour: str = PALETTE[0]) -> None:
    """A bar at each name."""
    axis.bar(range(len(heights)), list(heights.values()), color=colour)
    named_places(axis.xaxis, list(heights))
    axis.set_ylabel(label)
    plain_numbers(axis.yaxis)


def over_time(
    axis: Axes, series: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str, first: int = 0
) -> None:
    """A thin curve over seconds for each label; ``first``: place of the first colour."""
    for (name, (times_s, values)), colour in zip(series.items(), PALETTE[first:], strict=False):
        axis.plot(times_s, values, color=colour, linewidth=1.2, label=name)
    axis.set_xlabel("s")
    axis.set_ylabel(label)
    axis.set_ylim(bottom=0)
    plain_numbers(axis.xaxis, axis.yaxis)
