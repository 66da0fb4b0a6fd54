"""What KV memory allows: need against room, the curve over it, and the least with which a server starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kvsim.lab.kv.analysis.metrics import BY_NAME, Rows, mean
from kvsim.lab.kv.trial import PhaseRow, RequestRow

MEMORY = ("gpu_memory_utilization", "kv_budget_gb")
"""Names of ``vary`` and ``search`` that set how much KV there is room for."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Room for KV against what requests in flight at once would take, each alone."""

    point: int
    at: Mapping[str, float]
    phase: str
    kv_tokens: int | None
    """The least of any repeat."""
    needed_tokens: int | None
    """Prompts and answers of requests between sending and last token, at the fullest moment of any repeat; what they
    share counts each time."""
    kv_usage_max: float | None
    preemptions: int | None


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One value on a curve over memory; means over repeats."""

    key: str
    value: float
    others: Mapping[str, float]
    """What else is varied."""
    phase: str
    repeats: int
    kv_tokens: int | None
    hit_share: float | None
    ttft_mean_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Between which values the least one lies with which the server starts."""

    key: str
    others: Mapping[str, float]
    largest_failed: float | None
    smallest_started: float | None
    monotonic: bool
    """Whether no value failed that is as large as one that started."""
    failure: str
    """What the largest failed one said."""


def capacity(rows: Rows) -> list[Capacity]:
    """One of each phase of each point."""
    found = []
    for point in rows.points:
        here = [row for row in rows.phases_at(point) if row.started]
        for phase in dict.fromkeys(row.phase for row in here):
            own = [row for row in here if row.phase == phase]
            needs = [_needed(rows.requests((point, row.repeat, phase))) for row in own]
            found.append(
                Capacity(
                    point=point,
                    at=rows.at(point),
                    phase=phase,
                    kv_tokens=min((row.kv_tokens for row in own if row.kv_tokens is not None), default=None),
                    needed_tokens=max((need for need in needs if need is not None), default=None),
                    kv_usage_max=max((row.kv_usage_max for row in own if row.kv_usage_max is not None), default=None),
                    preemptions=_sum([row.preemptions for row in own]),
                )
            )
    return found


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _needed(requests: Sequence[RequestRow]) -> int | None:
    """The most tokens in flight; one that ends as another is sent makes room first."""
    changes = []
    for row in requests:
        if row.finish_s is not None:
            tokens = row.prompt_tokens + row.output_tokens
            changes += [(row.sent_s, 1, tokens), (row.finish_s, 0, -tokens)]
    most = now = 0
    for _, _, tokens in sorted(changes):
        now += tokens
        most = max(most, now)
    return most if changes else None


def memory_curve(rows: Rows, vary: Sequence[str]) -> list[CurvePoint]:
    """Hits and TTFT over the memory that is varied; empty where none is."""
    keys = [key for key in MEMORY if key in vary]
    found = [one for key in keys for point in rows.points for one in _curve_points(rows, key, point)]
    return sorted(found, key=lambda one: (one.key, sorted(one.others.items()), one.phase, one.value))


def _curve_points(rows: Rows, key: str, point: int) -> Iterator[CurvePoint]:
    at = rows.at(point)
    if key not in at:
        return
    here = [row for row in rows.phases_at(point) if row.started]
    for phase in dict.fromkeys(row.phase for row in here):
        own = [row for row in here if row.phase == phase]
        yield CurvePoint(
            key=key,
            value=at[key],
            others={name: value for name, value in at.items() if name != key},
            phase=phase,
            repeats=len(own),
            kv_tokens=min((row.kv_tokens for row in own if row.kv_tokens is not None), default=None),
            hit_share=mean(rows.values(BY_NAME["hit_share"], point, phase).values()),
            ttft_mean_ms=mean(rows.values(BY_NAME["ttft_mean_ms"], point, phase).values()),
        )


def bend(curve: Sequence[CurvePoint]) -> tuple[CurvePoint, CurvePoint] | None:
    """The neighbours between which the share of hits rises most with more memory; ``None``: it rises nowhere."""
    known = [one for one in curve if one.hit_share is not None]
    steps = [((right.hit_share or 0.0) - (left.hit_share or 0.0), left, right) for left, right in pairwise(known)]
    most = max(steps, key=lambda step: step[0], default=None)
    return None if most is None or most[0] <= 0 else (most[1], most[2])


def curves_of(points: Sequence[CurvePoint]) -> list[list[CurvePoint]]:
    """Points of one phase with the rest alike, by value."""
    found: dict[object, list[CurvePoint]] = {}
    for one in points:
        found.setdefault((one.key, tuple(sorted(one.others.items())), one.phase), []).append(one)
    return list(found.values())


def bounds(rows: Rows, search: str | None) -> list[Bound]:
    """One a memory key that was searched, or some value of which did not start."""
    tried: dict[tuple[str, tuple[tuple[str, float], ...]], list[PhaseRow]] = {}
    for row in rows.phases.values():
        for key in (key for key in MEMORY if key in row.at):
            others = tuple(sorted((name, value) for name, value in row.at.items() if name != key))
            tried.setdefault((key, others), []).append(row)
    return [
        _bound(key, dict(others), own)
        for (key, others), own in sorted(tried.items(), key=lambda each: each[0])
        if key == search or not all(row.started for row in own)
    ]


def _bound(key: str, others: Mapping[str, float], own: Sequence[PhaseRow]) -> Bound:
    failed = [row for row in own if not row.started]
    started = [row.at[key] for row in own if row.started]
    worst = max(failed, key=lambda row: row.at[key], default=None)
    return Bound(
        key=key,
        others=others,
        largest_failed=None if worst is None else worst.at[key],
        smallest_started=min(started, default=None),
        monotonic=worst is None or not started or worst.at[key] < min(started),
        failure="" if worst is None else worst.failure,
    )
