"""Runs of a server beside what is predicted for them: figures, their errors, and how sure these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kvsim.live.served import METRICS, Chosen, Predicted, Served, metrics_of
from kvsim.record.percentiles import percentiles
from kvsim.study.intervals import Interval, interval
from kvsim.units import MILLI
from kvsim.validate.accuracy import Accuracy, Floats, accuracy_of, percent_off

CONFIDENCE = 0.95
GAPS = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class Metric:
    """One latency over requests; ``None`` where none has it."""

    measured_ms: float | None
    predicted_ms: float | None
    errors: Accuracy
    """Over the requests of all runs together."""
    error_pct: Interval
    """The error of the mean over runs, of which a single one has no interval."""


@dataclass(frozen=True)
class Gaps:
    """Between neighbouring tokens of answers."""

    measured_ms: dict[str, float]
    predicted_ms: dict[str, float]
    error_pct: dict[str, float]


@dataclass(frozen=True)
class Hits:
    """Prompt tokens that were found cached."""

    measured_tokens: int
    predicted_tokens: int
    equal_share: float
    """Requests that hit exactly as many tokens as predicted, over all whose hits the server tells."""
    requests: int


@dataclass(frozen=True)
class Counted:
    """A counter of the server's own, over one run."""

    run: str
    name: str
    measured: float
    predicted: float


@dataclass(frozen=True)
class Part:
    """Requests of all runs, or of a part of each."""

    name: str
    """``whole``, ``fitted on``, ``not fitted on``."""
    requests: int
    metrics: dict[str, Metric]
    """By ``METRICS``."""
    hits: Hits | None
    """``None`` where the server does not tell them."""
    itl: Gaps | None = None
    """``None`` for a part of runs, and where no answer has a second token."""


@dataclass(frozen=True)
class Comparison:
    """Runs of one server, and what was predicted for each."""

    runs: tuple[Served, ...]
    predictions: tuple[Predicted, ...]
    front_end_s: float
    parts: tuple[Part, ...]
    counters: tuple[Counted, ...] = field(default=())


def compare(
    runs: Sequence[Served],
    predictions: Sequence[Predicted],
    front_end_s: float,
    learned: Sequence[Chosen] | None = None,
) -> Comparison:
    """``learned``: requests that the prediction was fitted on; ``None``: it was on none."""
    parts = [part_of("whole", runs, predictions, None)]
    if learned is not None:
        parts.append(part_of("fitted on", runs, predictions, learned))
        parts.append(part_of("not fitted on", runs, predictions, [~chosen for chosen in learned]))
    return Comparison(tuple(runs), tuple(predictions), front_end_s, tuple(parts), tuple(_counted(runs, predictions)))


def part_of(
    name: str, runs: Sequence[Served], predictions: Sequence[Predicted], chosen: Sequence[Chosen] | None
) -> Part:
    """The figures of the ``chosen`` requests of each run; ``None``: of all."""
    rows = [np.ones(len(run), dtype=bool) for run in runs] if chosen is None else list(chosen)
    measured = [
        {name: values[which] for name, values in metrics_of(run.requests).items()}
        for run, which in zip(runs, rows, strict=True)
    ]
    predicted = [
        {name: values[which] for name, values in metrics_of(found.requests).items()}
        for found, which in zip(predictions, rows, strict=True)
    ]
    return Part(
        name=name,
        requests=int(sum(which.sum() for which in rows)),
        metrics={each: _metric([one[each] for one in predicted], [one[each] for one in measured]) for each in METRICS},
        hits=_hits(runs, predictions, rows),
        itl=_gaps(runs, predictions) if chosen is None else None,
    )


def _metric(ours: Sequence[Floats], theirs: Sequence[Floats]) -> Metric:
    errors = [accuracy_of(one, other).mean_pct for one, other in zip(ours, theirs, strict=True)]
    known = [float("nan") if error is None else error for error in errors]
    all_ours, all_theirs = np.concatenate(ours), np.concatenate(theirs)
    both = np.isfinite(all_ours) & np.isfinite(all_theirs) & (all_theirs > 0)  # as errors have it
    return Metric(
        measured_ms=_mean_ms(all_theirs[both]),
        predicted_ms=_mean_ms(all_ours[both]),
        errors=accuracy_of(all_ours, all_theirs),
        error_pct=interval(known, CONFIDENCE),
    )


def _mean_ms(values_s: Floats) -> float | None:
    return float(values_s.mean()) / MILLI if len(values_s) else None


def _hits(runs: Sequence[Served], predictions: Sequence[Predicted], rows: Sequence[Chosen]) -> Hits | None:
    theirs = np.concatenate([run.requests["hit_tokens"][which] for run, which in zip(runs, rows, strict=True)])
    ours = np.concatenate([found.requests["hit_tokens"][which] for found, which in zip(predictions, rows, strict=True)])
    known = np.isfinite(theirs) & np.isfinite(ours)
    if not known.any():
        return None
    ours, theirs = ours[known], theirs[known]
    return Hits(int(theirs.sum()), int(ours.sum()), float((ours == theirs).mean()), int(known.sum()))


def _gaps(runs: Sequence[Served], predictions: Sequence[Predicted]) -> Gaps | None:
    """The mean over all runs' gaps; percentiles of the predicted ones are means over runs, which are as long."""
    measured_s = np.concatenate([run.gaps_s[0] for run in runs])
    counts = np.array([found.itl.count for found in predictions], dtype=np.float64)
    if not len(measured_s) or not counts.sum():
        return None
    names = ["mean", *(f"p{percent:.0f}" for percent in GAPS)]
    theirs = [float(measured_s.mean()), *map(float, percentiles(measured_s, GAPS))]
    ours = [float(np.average([getattr(found.itl, name) for found in predictions], weights=counts)) for name in names]
    return Gaps(
        {name: value / MILLI for name, value in zip(names, theirs, strict=True)},
        {name: value / MILLI for name, value in zip(names, ours, strict=True)},
        {name: percent_off(one, other) for name, one, other in zip(names, ours, theirs, strict=True) if other > 0},
    )


def _counted(runs: Sequence[Served], predictions: Sequence[Predicted]) -> list[Counted]:
    found = []
    for run, ours in zip(runs, predictions, strict=True):
        values = {"prefix_queries": ours.query_tokens, "prefix_hits": ours.hit_tokens, "preemptions": ours.preemptions}
        for name, value in values.items():
            measured = run.counters.get(name)
            if measured is not None:
                found.append(Counted(run.name, name, measured, float(value)))
    return found
