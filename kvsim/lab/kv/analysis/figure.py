"""The picture of a run: paired differences with their intervals, or how they go with what is varied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvsim.lab.kv.analysis.analysis import Analysis
from kvsim.lab.kv.analysis.metrics import BY_NAME
from kvsim.lab.kv.analysis.paired import OVER_CONTROL, Effect
from kvsim.lab.kv.analysis.summary import SummaryRow
from kvsim.record.labels import counted, percent
from kvsim.study.pictures import BLUE, GREY, ORANGE, PALETTE, figure_of, legend_below, plain_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = ("ttft_mean_ms", "e2e_mean_ms", "output_tokens_per_s", "hit_share")


def run_figure(found: Analysis) -> Figure:
    """Curves over what is varied where that is one thing; else an interval a metric and point."""
    varied = {name for row in found.summary for name in row.at}
    effects = [each for each in found.effects if each.difference is not None]
    repeats = counted(len(found.rows.repeats), "repeat")
    said = f"{found.rows.trials.backend}, {repeats}, {percent(found.design.confidence)} intervals"
    title = found.rows.trials.name
    if len(varied) == 1 and len(found.rows.points) > 1:
        return _curves(title, said, found, next(iter(varied)))
    if effects:
        return _differences(title, said, effects)
    return _phases(title, said, found.summary)


def _scale(name: str) -> float:
    return 100.0 if BY_NAME[name].unit == "points" else 1.0


def _axis_label(name: str) -> str:
    metric = BY_NAME[name]
    return f"{metric.label} ({'%' if metric.unit == 'points' else metric.unit})" if metric.unit else metric.label


def _differences(title: str, said: str, effects: Sequence[Effect]) -> Figure:
    """One panel a metric: a dot a point and pair of phases."""
    rows = max(sum(each.metric == name for each in effects) for name in PANELS) or 1
    figure, axes = figure_of(title, said, columns=2, rows=2, height_in=4.4 + 0.5 * rows)
    for axis, name in zip(axes, PANELS, strict=True):
        own = [each for each in effects if each.metric == name]
        axis.set_title(f"{_axis_label(name)}: differences", loc="left", fontsize=9)
        _dots(axis, own, _scale(name))
    return figure


def _dots(axis: Axes, own: Sequence[Effect], scale: float) -> None:
    for place, each in enumerate(own):
        middle = scale * (each.difference or 0.0)
        colour = BLUE if each.verdict in ("lower", "higher") else GREY
        if each.low is not None and each.high is not None:
            axis.plot([scale * each.low, scale * each.high], [place, place], color=ORANGE, linewidth=2)
        axis.plot([middle], [place], "o", color=colour)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_yticks(range(len(own)), [_pair(each) for each in own], fontsize=7)
    axis.set_ylim(len(own) - 0.5, -0.5)
    plain_numbers(axis.xaxis)


def _pair(each: Effect) -> str:
    at = "\n".join(f"{name} {value:g}" for name, value in each.at.items())
    words = "over the control" if each.phase == OVER_CONTROL else f"{each.phase} - {each.base}"
    return f"{words}\n{at}" if at else words


def _curves(title: str, said: str, found: Analysis, key: str) -> Figure:
    """One panel a metric: means of each phase over the varied value, in a band of their intervals."""
    figure, axes = figure_of(title, said, columns=2, rows=2, height_in=6.4)
    for axis, name in zip(axes, PANELS, strict=True):
        for phase, colour in zip(dict.fromkeys(row.phase for row in found.summary), PALETTE, strict=False):
            _curve(axis, [row for row in found.summary if row.phase == phase], key, name, colour)
        axis.set_xlabel(key)
        axis.set_ylabel(_axis_label(name))
        plain_numbers(axis.xaxis, axis.yaxis)
    legend_below(figure, *axes)
    return figure


def _curve(axis: Axes, rows: Sequence[SummaryRow], key: str, name: str, colour: str) -> None:
    known = [(row.at[key], row.metrics[name]) for row in sorted(rows, key=lambda row: row.at[key])]
    told = [(value, each) for value, each in known if each is not None]
    if not told:
        return
    places, scale = [value for value, _ in told], _scale(name)
    middles = [scale * each.mean for _, each in told]
    halves = [scale * each.half_width for _, each in told]
    axis.plot(places, middles, "o-", color=colour, label=rows[0].phase)
    if all(half < float("inf") for half in halves):
        low = [middle - half for middle, half in zip(middles, halves, strict=True)]
        high = [middle + half for middle, half in zip(middles, halves, strict=True)]
        axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _phases(title: str, said: str, summary: Sequence[SummaryRow]) -> Figure:
    """Means of a design that compares nothing."""
    figure, axes = figure_of(title, said, columns=2, rows=2, height_in=6.0)
    for axis, name in zip(axes, PANELS, strict=True):
        values = [(row, row.metrics[name]) for row in summary]
        told = [(row, each) for row, each in values if each is not None]
        halves = [each.half_width if each.half_width < float("inf") else 0.0 for _, each in told]
        means = [_scale(name) * each.mean for _, each in told]
        axis.barh(range(len(told)), means, xerr=[_scale(name) * half for half in halves], color=BLUE, ecolor=ORANGE)
        labels = [" ".join([row.phase, *(f"{key} {value:g}" for key, value in row.at.items())]) for row, _ in told]
        axis.set_yticks(range(len(told)), labels, fontsize=7)
        axis.set_title(_axis_label(name), loc="left", fontsize=9)
        plain_numbers(axis.xaxis)
    return figure
