"""Which point of a sweep is best by one figure, and which others may be: runs of a replication have the same seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kvsim.errors import ConfigError, nearest
from kvsim.study.intervals import Interval, difference, interval
from kvsim.sweep.sweep import Sweep

_LATENCIES = tuple(
    f"{what}_{which}_ms" for what in ("ttft", "tpot", "itl", "e2e") for which in ("mean", "p50", "p90", "p95", "p99")
)
_COSTS = (
    "gpu_hours",
    "usd",
    "usd_per_million_output_tokens",
    "usd_per_1000_good_requests",
    "joules_per_output_token",
    "joules_per_token",
    "mean_gpu_power_w",
)
LOWER = (*_LATENCIES, "preemptions", "failed", *_COSTS)
HIGHER = (
    "requests_per_s",
    "output_tokens_per_s",
    "goodput_requests_per_s",
    "goodput_share",
    "prefix_hit_rate",
    "completed",
)
"""Figures of a row that points can be ranked by: the lower, or the higher the better."""
USUAL = "goodput_requests_per_s"


@dataclass(frozen=True)
class By:
    """A figure of a system; of the last one in a row where none is named."""

    figure: str
    system: str | None = None

    @property
    def words(self) -> str:
        """As it is asked for."""
        return self.figure if self.system is None else f"{self.system}.{self.figure}"

    @property
    def is_higher_better(self) -> bool:
        return self.figure in HIGHER

    def column(self, row: Mapping[str, Any]) -> str | None:
        """The column of a row that it stands in."""
        if self.system is not None:
            name = f"{self.system}.{self.figure}"
            return name if name in row else None
        return next((name for name in reversed(list(row)) if name.endswith(f".{self.figure}")), None)


def by_of(text: str, flag: str) -> By:
    """``FIGURE`` or ``SYSTEM.FIGURE``. Raises ``ConfigError`` with the nearest figure."""
    system, _, figure = text.rpartition(".")
    if figure not in LOWER and figure not in HIGHER:
        raise ConfigError(f"{flag}: unknown figure '{figure}'; {nearest(figure, (*LOWER, *HIGHER))}")
    return By(figure, system or None)


@dataclass(frozen=True)
class Point:
    """One combination of values."""

    number: int
    values: Mapping[str, Any]
    figures: tuple[float, ...]
    """One a replication."""
    around: Interval
    overloaded: bool
    """The system was asked for more than it can serve, in some replication."""
    steady: bool
    """Every replication shows a steady state."""


@dataclass(frozen=True)
class Ranking:
    """Points, the best first."""

    columns: tuple[str, ...]
    """What the figure is called in the rows that have it."""
    is_higher_better: bool
    confidence: float
    points: tuple[Point, ...]
    left_out: int
    """Points without the figure, or with a run that failed or is missing."""
    asked: str
    """The figure as it was asked for."""
    systems: tuple[str, ...]
    """Systems of which some run has the figure, whichever system was asked for."""
    candidates: frozenset[int] | None
    """Points among which the best is, with ``confidence``; ``None``: of one replication each nothing is sure."""

    @property
    def replications(self) -> int:
        return len(self.points[0].figures) if self.points else 0


def ranked(
    rows: Iterable[Mapping[str, Any]], sweep: Sweep, by: By, confidence: float, num_points: int | None = None
) -> Ranking:
    """The ranking of rows that are sorted by run; ``num_points``: of the sweep, where some may have no row."""
    columns: dict[str, None] = {}
    systems: dict[str, None] = {}
    points, seen = [], 0
    for number, group in groupby(rows, key=lambda row: row["point"]):
        together = list(group)
        seen += 1
        for row in together:
            systems |= dict.fromkeys(name.rpartition(".")[0] for name in row if name.endswith(f".{by.figure}"))
        found = _point(number, together, sweep, by, confidence, columns)
        if found is not None:
            points.append(found)
    sign = -1.0 if by.is_higher_better else 1.0
    points.sort(key=lambda point: (sign * point.around.mean, point.number))
    best = frozenset(_candidates(points, confidence, sign)) if points and sweep.replications > 1 else None
    return Ranking(
        columns=tuple(columns),
        is_higher_better=by.is_higher_better,
        confidence=confidence,
        points=tuple(points),
        left_out=max(seen, num_points or 0) - len(points),
        asked=by.words,
        systems=tuple(systems),
        candidates=best,
    )


def _point(
    number: int, rows: list[Mapping[str, Any]], sweep: Sweep, by: By, confidence: float, columns: dict[str, None]
) -> Point | None:
    figures, overloaded, steady = [], False, True
    for row in rows:
        column = by.column(row)
        value = None if column is None else row[column]
        if column is None or value is None or row["error"] is not None:
            return None
        columns[column] = None
        figures.append(float(value))
        system = column.rpartition(".")[0]
        overloaded |= bool(row[f"{system}.overloaded"])
        steady &= bool(row[f"{system}.steady"])
    if len(figures) < sweep.replications:
        return None
    values = {key: rows[0][key] for key in sweep.keys}
    return Point(number, values, tuple(figures), interval(figures, confidence), overloaded, steady)


def _candidates(points: list[Point], confidence: float, sign: float) -> Iterator[int]:
    """The first point, and those that are worse by no more than chance may do.

    The truly best point is beaten by another by more than the half width of their difference with a chance of at most
    ``1 - confidence``, as each of the differences to it may be wrong with its share of that chance (Bonferroni). So
    what is beaten by more is not the best, and the rest holds the best, whichever point came out first.
    """
    best, others = points[0], points[1:]
    yield best.number
    each = 1 - (1 - confidence) / max(1, len(others))
    for point in others:
        apart = difference(point.figures, best.figures, each)
        if not sign * apart.mean > apart.half_width:
            yield point.number
