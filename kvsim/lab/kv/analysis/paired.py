"""Differences between the phases of a repeat: means over pairs with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kvsim.lab.kv.analysis.bootstrap import Bounds, student, studentised
from kvsim.lab.kv.analysis.metrics import METRICS, Metric, Rows, mean
from kvsim.lab.kv.design import Compared

Unit = Literal["repeats", "requests"]
"""What is independent of its like. Requests of one repeat are not, hence they serve where there is no second repeat."""
Verdict = Literal["lower", "higher", "open", "same", "unknown"]
"""``open``: the interval holds zero. ``same``: equal in every pair. ``unknown``: no interval can be given."""
PAIRS: Mapping[Compared, tuple[tuple[str, str], ...]] = {
    "cache": (("cold", "cache"),),
    "profile": (("cold", "cache"), ("control_cold", "control_cache")),
    "entry": (("server", "in_process"),),
    "itself": (("first", "second"),),
    "nothing": (),
}
"""Phases of which the first is subtracted from the second."""
OVER_CONTROL = "over the control"
"""Stands in place of a phase where the difference of the family is less that of its control."""
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How much more a metric is in one phase than in the other; without figures where no pair has it."""

    point: int
    at: Mapping[str, float]
    metric: str
    base: str
    phase: str
    unit: Unit
    pairs: int
    lacking: int
    """Repeats at this point of which one of both phases has no such figure."""
    base_mean: float | None
    phase_mean: float | None
    """Over the pairs."""
    difference: float | None
    low: float | None
    high: float | None
    """Ends of the interval; ``None``: one pair tells of none."""
    verdict: Verdict


def paired(rows: Rows, confidence: float, compare: Compared) -> list[Effect]:
    """Every metric at every point, and for a profile what the family gains over its control."""
    found = []
    for point in rows.points:
        for metric in METRICS:
            for base, phase in PAIRS[compare]:
                found.append(_effect(rows, point, metric, (base, phase), confidence))
            if compare == "profile":
                found.append(_over_control(rows, point, metric, confidence))
    return found


def differences(rows: Rows, point: int, metric: Metric, pair: tuple[str, str]) -> dict[int, float]:
    """By repeat: the second phase less the first, of those repeats that have both."""
    base, other = (rows.values(metric, point, phase) for phase in pair)
    return {repeat: apart(other[repeat], base[repeat]) for repeat in base if repeat in other}


def apart(value: float, base: float) -> float:
    """The difference, which is none where both are equal but for rounding."""
    return 0.0 if math.isclose(value, base, rel_tol=_ROUNDING) else value - base


def verdict_of(values: Sequence[float], bounds: Bounds | None) -> Verdict:
    """What differences and the interval of their mean say."""
    if values and not any(values):
        return "same"
    if bounds is None:
        return "unknown"
    low, high = bounds
    if low <= 0 <= high:
        return "open"
    return "lower" if high < 0 else "higher"


def _effect(rows: Rows, point: int, metric: Metric, pair: tuple[str, str], confidence: float) -> Effect:
    base, other = (rows.values(metric, point, phase) for phase in pair)
    there = {row.repeat for row in rows.phases_at(point)}
    both = [repeat for repeat in base if repeat in other]
    unit: Unit = "repeats"
    values = [(base[repeat], other[repeat]) for repeat in both]
    if len(there) == 1 and metric.of_request is not None:
        unit, values = "requests", list(_requests(rows, point, min(there), metric, pair))
    less = [apart(second, first) for first, second in values]
    seed = (int(str(rows.trials.design.get("seed", 0))), point, METRICS.index(metric), len(pair[0]))
    bounds = studentised(less, confidence, seed) if unit == "requests" else student(less, confidence)
    means = mean(first for first, _ in values), mean(second for _, second in values)
    return _made(rows, point, metric, pair, unit, less, bounds, means, lacking=len(there) - len(both))


def _made(
    rows: Rows,
    point: int,
    metric: Metric,
    pair: tuple[str, str],
    unit: Unit,
    less: Sequence[float],
    bounds: Bounds | None,
    means: tuple[float | None, float | None],
    *,
    lacking: int,
) -> Effect:
    return Effect(
        point=point,
        at=rows.at(point),
        metric=metric.name,
        base=pair[0],
        phase=pair[1],
        unit=unit,
        pairs=len(less),
        lacking=lacking,
        base_mean=means[0],
        phase_mean=means[1],
        difference=mean(less),
        low=None if bounds is None else bounds[0],
        high=None if bounds is None else bounds[1],
        verdict=verdict_of(less, bounds),
    )


def _requests(
    rows: Rows, point: int, repeat: int, metric: Metric, pair: tuple[str, str]
) -> Iterator[tuple[float, float]]:
    """Values of the requests that have the same place in both phases."""
    of = metric.of_request
    if of is None:
        return
    base, other = ({row.request: of(row) for row in rows.requests((point, repeat, phase))} for phase in pair)
    for request, value in base.items():
        answered = other.get(request)
        if value is not None and answered is not None:
            yield value, answered


def _over_control(rows: Rows, point: int, metric: Metric, confidence: float) -> Effect:
    """How much more the cache changes the family than its control, repeat by repeat."""
    family, control = (differences(rows, point, metric, pair) for pair in PAIRS["profile"])
    both = [repeat for repeat in family if repeat in control]
    less = [apart(family[repeat], control[repeat]) for repeat in both]
    means = mean(control[repeat] for repeat in both), mean(family[repeat] for repeat in both)
    lacking = len({row.repeat for row in rows.phases_at(point)}) - len(both)
    bounds = student(less, confidence)
    return _made(rows, point, metric, ("control", OVER_CONTROL), "repeats", less, bounds, means, lacking=lacking)
