"""A comparison as tables, sentences and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvsim.lab.kv.analysis.claims import KEY, figure, where
from kvsim.lab.kv.analysis.compare import Comparison
from kvsim.lab.kv.analysis.metrics import BY_NAME
from kvsim.lab.kv.analysis.paired import Effect
from kvsim.record.labels import counted, number
from kvsim.study.pictures import BLUE, GREY, ORANGE, figure_of, legend_below, plain_numbers
from kvsim.study.words import table_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table


def tables(found: Comparison) -> Iterator[Table]:
    """Metrics of phases, and paired differences where the design compares phases."""
    figures = table_of(f"{found.name}: phases", ("phase", "metric", "predicted", "measured", "error"))
    for each in found.figures:
        if each.predicted is None and each.measured is None:
            continue
        error = "-" if each.error_pct is None else f"{each.error_pct:+.1f}%"
        figures.add_row(
            where(each.at) + each.phase,
            BY_NAME[each.metric].label,
            figure(each.predicted, each.metric),
            figure(each.measured, each.metric),
            error,
        )
    figures.columns[1].justify = "left"
    yield figures
    if not found.effects:
        return
    effects = table_of(f"{found.name}: differences", ("of", "metric", "predicted", "measured", "sign", "within"))
    for pair in found.effects:
        ours, theirs = pair.predicted, pair.measured
        if ours.pairs or theirs.pairs:
            within = "-" if pair.within is None else "yes" if pair.within else "no"
            name = f"{where(ours.at)}{ours.phase} less {ours.base}"
            effects.add_row(name, BY_NAME[ours.metric].label, _span(ours), _span(theirs), pair.sign, within)
    effects.columns[1].justify = "left"
    yield effects


def _span(effect: Effect) -> str:
    told = figure(effect.difference, effect.metric)
    if effect.low is None or effect.high is None:
        return told
    low, high = (figure(end, effect.metric, unit=False) for end in (effect.low, effect.high))
    return f"{told} ({low} to {high})"


def sentences(found: Comparison) -> Iterator[str]:
    """What the comparison says, and what it cannot."""
    repeats = [len(side.rows.repeats) for side in (found.simulated, found.measured)]
    yield f"predicted over {counted(repeats[0], 'repeat')}, measured over {counted(repeats[1], 'repeat')}"
    known = [pair for pair in found.effects if pair.predicted.metric in KEY]
    if known:
        signs = {word: sum(pair.sign == word for pair in known) for word in ("same", "other", "cannot be told")}
        inside = [pair.within for pair in known if pair.within is not None]
        yield (
            f"of {len(known):,} differences in mean TTFT, E2E, tokens/s and hits the sign is the same in "
            f"{signs['same']:,}, another in {signs['other']:,}, and cannot be told in {signs['cannot be told']:,}; "
            f"the prediction is within {sum(inside):,} of {len(inside):,} measured intervals"
        )
    else:
        yield "the design compares no phases: there is no effect to hold against"
    requests = sum(each.requests for each in found.hits)
    equal = sum(each.equal for each in found.hits)
    if not requests:
        yield "hits cannot be compared: no request of the same repeat has a number in both"
    elif equal == requests:
        yield f"hits are exactly equal in all {requests:,} requests that both have"
    else:
        apart = sum(each.predicted_tokens - each.measured_tokens for each in found.hits)
        yield f"hits are equal in {equal:,} of {requests:,} requests that both have; {apart:+,} tokens predicted in sum"


def comparison_figure(found: Comparison) -> Figure:
    """Two dots a row: what was predicted and what was measured, by metric."""
    shown, axes = figure_of(
        f"{found.name}: predicted and measured",
        f"{found.measured.rows.trials.backend}; means over repeats with intervals",
        columns=2,
        rows=2,
        height_in=4.4 + 0.4 * len(found.simulated.summary),
    )
    for axis, name in zip(axes, KEY, strict=True):
        _panel(axis, found, name)
    legend_below(shown, *axes)
    return shown


def _panel(axis: Axes, found: Comparison, name: str) -> None:
    scale = 100.0 if BY_NAME[name].unit == "points" else 1.0
    for side, colour, label, shift in (
        (found.simulated, BLUE, "predicted", -0.12),
        (found.measured, ORANGE, "measured", 0.12),
    ):
        places = [(place + shift, row.metrics[name]) for place, row in enumerate(side.summary)]
        told = [(place, each) for place, each in places if each is not None]
        halves = [scale * each.half_width if each.half_width < float("inf") else 0.0 for _, each in told]
        means = [scale * each.mean for _, each in told]
        axis.errorbar(means, [place for place, _ in told], xerr=halves, fmt="o", color=colour, label=label, ecolor=GREY)
    names = [where(row.at) + row.phase for row in found.simulated.summary]
    axis.set_yticks(range(len(names)), names, fontsize=7)
    unit = {"points": " (%)", "": ""}.get(BY_NAME[name].unit, f" ({BY_NAME[name].unit})")
    axis.set_title(f"{BY_NAME[name].label}{unit}", loc="left", fontsize=9)
    axis.invert_yaxis()
    plain_numbers(axis.xaxis)


def error_line(found: Comparison) -> str:
    """How far mean TTFT of phases is off, at the most."""
    errors = [each for each in found.figures if each.metric == "ttft_mean_ms" and each.error_pct is not None]
    worst = max(errors, key=lambda each: abs(each.error_pct or 0.0), default=None)
    if worst is None or worst.error_pct is None:
        return "how far mean TTFT is off cannot be told: no phase has it in both"
    return (
        f"predicted mean TTFT is off by up to {number(abs(worst.error_pct))}% ({where(worst.at)}{worst.phase}: "
        f"{figure(worst.predicted, worst.metric)} for {figure(worst.measured, worst.metric)})"
    )
