"""How steady a phase is over its repeats, and whether it matters which phase came first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.lab.kv.analysis.metrics import METRICS, Metric, Rows
from kvsim.lab.kv.analysis.paired import PAIRS, differences
from kvsim.lab.kv.design import Compared

MIN_TREND = 4
"""Repeats below which every order of them is likely."""
MIN_ORDER = 2
"""Repeats of each order that tell how much repeats differ."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """A metric of a phase over the repeats that have it."""

    point: int
    at: Mapping[str, float]
    phase: str
    metric: str
    repeats: int
    mean: float
    variation: float | None
    """Standard deviation over mean; ``None``: of a single repeat, or of a mean of zero."""
    drift: float | None
    """Kendall's rank correlation of the metric with the number of the repeat."""
    drift_p: float | None
    """How likely so much of it is by chance; ``None``: too few repeats, or all are equal."""
    lowest_repeat: int
    highest_repeat: int


@dataclass(frozen=True, kw_only=True)
class OrderEffect:
    """A paired difference in repeats that began with the first phase of the pair, less that in the others."""

    point: int
    at: Mapping[str, float]
    metric: str
    base: str
    phase: str
    base_first: int
    phase_first: int
    """Repeats of each order."""
    base_first_mean: float | None
    phase_first_mean: float | None
    difference: float | None
    half_width: float | None
    why_unknown: str
    """Empty where there is an interval."""


def stability(rows: Rows) -> list[Stability]:
    """Every metric of every phase at every point that any repeat has."""
    found = []
    for point in rows.points:
        for phase in dict.fromkeys(row.phase for row in rows.phases_at(point)):
            for metric in METRICS:
                values = rows.values(metric, point, phase)
                if values:
                    found.append(_stability(rows, point, phase, metric, values))
    return found


def _stability(rows: Rows, point: int, phase: str, metric: Metric, values: Mapping[int, float]) -> Stability:
    numbers = np.fromiter(values.values(), dtype=np.float64)
    middle = float(numbers.mean())
    drift, drift_p = _drift(numbers)
    return Stability(
        point=point,
        at=rows.at(point),
        phase=phase,
        metric=metric.name,
        repeats=len(values),
        mean=middle,
        variation=float(numbers.std(ddof=1)) / abs(middle) if len(values) > 1 and middle else None,
        drift=drift,
        drift_p=drift_p,
        lowest_repeat=min(values, key=lambda repeat: (values[repeat], repeat)),
        highest_repeat=max(values, key=lambda repeat: (values[repeat], -repeat)),
    )


def _drift(numbers: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float | None, float | None]:
    """Rank correlation with time and its p-value, exact where no two values are equal."""
    if len(numbers) < MIN_TREND or np.ptp(numbers) == 0:
        return None, None
    from scipy.stats import kendalltau

    found = kendalltau(np.arange(len(numbers)), numbers)
    return float(found.statistic), float(found.pvalue)


def order_effects(rows: Rows, confidence: float, compare: Compared) -> list[OrderEffect]:
    """Every metric of every pair at every point."""
    return [
        _order_effect(rows, point, metric, pair, confidence)
        for point in rows.points
        for pair in PAIRS[compare]
        for metric in METRICS
    ]


def _order_effect(rows: Rows, point: int, metric: Metric, pair: tuple[str, str], confidence: float) -> OrderEffect:
    found = differences(rows, point, metric, pair)
    began: tuple[list[float], list[float]] = ([], [])
    for repeat, value in found.items():
        places = [rows.phases[point, repeat, phase].order for phase in pair]
        began[places[0] > places[1]].append(value)
    means = [float(np.mean(values)) if values else None for values in began]
    half, why = _pooled(began, confidence)
    difference = None if means[0] is None or means[1] is None else means[0] - means[1]
    return OrderEffect(
        point=point,
        at=rows.at(point),
        metric=metric.name,
        base=pair[0],
        phase=pair[1],
        base_first=len(began[0]),
        phase_first=len(began[1]),
        base_first_mean=means[0],
        phase_first_mean=means[1],
        difference=difference,
        half_width=half,
        why_unknown=why,
    )


def _pooled(groups: Sequence[Sequence[float]], confidence: float) -> tuple[float | None, str]:
    """Half width of Student's interval for a difference of two means whose values spread alike."""
    from scipy.special import stdtrit

    sizes = [len(group) for group in groups]
    if not all(sizes):
        return None, "all repeats that have it were in one order"
    if min(sizes) < MIN_ORDER:
        return None, f"{min(sizes)} repeat in one of both orders; {MIN_ORDER} are wanted in each"
    freedom = sum(sizes) - 2
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    quantile = float(stdtrit(freedom, (1 + confidence) / 2))
    half = quantile * math.sqrt(squares / freedom * sum(1 / size for size in sizes))
    return (half, "") if math.isfinite(half) else (None, "nothing is surer than an endless interval")
