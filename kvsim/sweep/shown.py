"""A sweep on the terminal, 80 columns wide."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kvsim.record.labels import counted, number
from kvsim.sweep.ranking import Ranking
from kvsim.sweep.sweep import Sweep

COLUMNS = 80
_SHOWN = 5
"""Points at either end of a ranking."""
_FIGURE = 21
"""Columns of a figure and its interval."""


def ranking_lines(ranking: Ranking, sweep: Sweep) -> Iterator[str]:
    """The best and the worst points, and what is sure of them."""
    if not ranking.points:
        yield from _wrapped(_unranked(ranking))
        return
    better = "higher" if ranking.is_higher_better else "lower"
    interval = f"mean of {counted(ranking.replications, 'replication')}"
    if ranking.replications > 1:
        interval += f" and its {ranking.confidence:.0%} interval"
    yield from _wrapped(f"{' and '.join(ranking.columns)}, the {better} the better: {interval}")
    yield ""
    if len(ranking.points) <= 2 * _SHOWN:
        yield from _rows(ranking, 0, len(ranking.points))
    else:
        yield from _rows(ranking, 0, _SHOWN)
        yield f"{'...':>4}"
        yield from _rows(ranking, len(ranking.points) - _SHOWN, len(ranking.points))
    yield ""
    yield from _wrapped(_sure(ranking, sweep))
    unsteady = sum(not point.steady for point in ranking.points)
    if unsteady:
        show = "shows" if unsteady == 1 else "show"
        said = (
            f"{unsteady:,} of {counted(len(ranking.points), 'point')} {show} no steady state: longer runs may differ."
        )
        yield from _wrapped(said)
    if ranking.left_out:
        yield from _wrapped(
            f"{counted(ranking.left_out, 'point')} without the figure, or with a failed or missing run, left out."
        )


def _unranked(ranking: Ranking) -> str:
    """Why nothing is ranked."""
    if ranking.systems and not any(ranking.asked in (column, column.rpartition(".")[2]) for column in ranking.columns):
        if "." in ranking.asked:
            return f"No run has {ranking.asked}, so no point is ranked; that figure is of {', '.join(ranking.systems)}."
        return f"No run has a value of {ranking.asked}, so no point is ranked."
    return "No point has all of its runs, so none is ranked."


def error_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The errors of runs, each once, what is most often first; a few of them."""
    found = Counter(row["error"] for row in rows if row["error"] is not None)
    for error, count in found.most_common(_SHOWN):
        yield f"{counted(count, 'run')} failed: {error}"
    if len(found) > _SHOWN:
        yield f"{len(found) - _SHOWN} other errors stand in the table"


def _rows(ranking: Ranking, first: int, end: int) -> Iterator[str]:
    for place, point in enumerate(ranking.points[first:end], first + 1):
        half, may_be = point.around.half_width, point.number in (ranking.candidates or ())
        spread = f" +- {number(half)}" if len(point.figures) > 1 else ""
        mark = " (overloaded)" if point.overloaded else ""
        head = f"{place:>4}{'*' if may_be else ' '} {f'{number(point.around.mean)}{spread}':<{_FIGURE}} "
        indent = " " * len(head)
        yield from textwrap.wrap(
            f"{head}{values_of(point.values)}{mark}", COLUMNS, subsequent_indent=indent, break_on_hyphens=False
        )


def values_of(values: Mapping[str, Any]) -> str:
    """``key=value`` each, as ``--set`` takes them."""
    return ", ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


def _sure(ranking: Ranking, sweep: Sweep) -> str:
    others, candidates = len(ranking.points) - 1, ranking.candidates
    if not others:
        return "There is nothing to compare it with."
    ranked = " of those ranked" if ranking.left_out else ""
    if candidates is None:
        return "One replication each: how much of a difference is chance is not known; replications: N tells."
    told = f"at {ranking.confidence:.0%}, by replications with the same seeds"
    if len(candidates) == 1:
        sentence = f"* is the best{ranked} {told}."
    elif len(candidates) == others + 1:
        sentence = f"* any of them may be the best{ranked} {told}."
    else:
        sentence = f"* one of {len(candidates):,} of {others + 1:,} is the best{ranked} {told}."
    if "trace" in sweep.fixed or "trace" in sweep.keys:
        sentence += " Every replication serves the same trace, so this says nothing of other traces."
    return sentence


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, break_on_hyphens=False)
