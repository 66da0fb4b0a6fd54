"""What the charts are drawn of: numbers as short as eyes can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.record.binned import Floats
from kvsim.record.detail import Detail
from kvsim.record.labels import system_label
from kvsim.record.percentiles import percentiles
from kvsim.record.result import SystemResult
from kvsim.record.timeline import edges_s, sums

BINS = 150
"""Most bins of time."""
_DIGITS = 4
_TAIL = np.array([99.0, 99.5, 99.9, 99.99, 100.0])
PERCENTS: Floats = np.unique(np.append(np.linspace(0, 100, 201), _TAIL))


@dataclass(frozen=True)
class Curve:
    """A distribution of some systems that have the same one."""

    place: int
    """Where the first of ``names`` stands among all."""
    names: list[str]
    values: Floats


def short(values: Floats, digits: int = _DIGITS) -> list[float | None]:
    """Rounded to so many significant digits; ``None`` where there is no number."""
    return [float(f"{value:.{digits}g}") if np.isfinite(value) else None for value in values.tolist()]


def curves(samples: Sequence[tuple[str, Floats]]) -> list[Curve]:
    """The distributions of samples at ``PERCENTS``; empty ones are left out, and equal ones are one."""
    found: list[Curve] = []
    for place, (name, sample) in enumerate(samples):
        values = percentiles(sample[np.isfinite(sample)], PERCENTS)
        if not np.isfinite(values).all():
            continue
        same = next((curve for curve in found if np.array_equal(curve.values, values)), None)
        if same is None:
            found.append(Curve(place, [name], values))
        else:
            same.names.append(name)
    return found


@dataclass(frozen=True)
class OverTime:
    """What one side of a system, or the whole of it where it has one, did: a mean or a share in each bin of time."""

    names: list[str]
    """Several where they did the same."""
    edges: Floats
    running: Floats
    waiting: Floats
    kv_usage: Floats
    busy: Floats
    hit_rate: Floats
    """nan where no prompt came."""


def all_over_time(results: Sequence[SystemResult]) -> list[OverTime]:
    """A series for each role of each of ``results``; equal ones are one."""
    found: list[OverTime] = []
    for series in (each for result in results for each in over_time(result)):
        same = next((other for other in found if _is_same(series, other)), None)
        if same is None:
            found.append(series)
        else:
            same.names.extend(series.names)
    return found


def _is_same(a: OverTime, b: OverTime) -> bool:
    figures = ("edges", "running", "waiting", "kv_usage", "busy", "hit_rate")
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in figures)


def over_time(result: SystemResult) -> Iterator[OverTime]:
    """A series for each role of ``result``, which kept its detail."""
    detail = result.detail
    if detail is None:
        return
    edges, added = coarse(detail, result.end_s)
    width_s = np.diff(edges)
    roles = [facts.role for facts in detail.instances]
    names = list(dict.fromkeys(roles))
    blocks = np.array([facts.kv_blocks for facts in detail.instances], dtype=np.float64)
    for role in names:
        rows = np.array([each == role for each in roles])
        own = {name: values[rows].sum(axis=0) for name, values in added.items()}
        label = system_label(result.name)
        yield OverTime(
            names=[label if len(names) == 1 else f"{label} {role}"],
            edges=edges,
            running=share(own["running_s"], width_s),
            waiting=share(own["waiting_s"], width_s),
            kv_usage=share(own["held_block_s"], width_s * blocks[rows].sum()),
            busy=share(own["busy_s"], width_s * rows.sum()),
            hit_rate=share(own["hit_tokens"], own["query_tokens"]),
        )


def coarse(detail: Detail, end_s: float, bins: int = BINS) -> tuple[Floats, dict[str, Floats]]:
    """The edges of at most so many bins of time, and what adds up in them by instance."""
    fine = edges_s(detail, end_s)
    count = len(fine) - 1
    together = max(1, -(-count // bins))
    starts = np.arange(0, count, together)
    edges = np.append(fine[starts], fine[-1])
    return edges, {name: np.add.reduceat(values, starts, axis=1) for name, values in sums(detail).items()}


def share(part: Floats, whole: Floats) -> Floats:
    """nan where the whole is nothing."""
    found = np.full(part.shape, np.nan)
    np.divide(part, np.broadcast_to(whole, part.shape), out=found, where=np.broadcast_to(whole, part.shape) > 0)
    return found
