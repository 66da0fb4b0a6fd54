"""Whether an effect grows with the number of requests, and what limits of a batch change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvsim.lab.kv.analysis.bootstrap import student
from kvsim.lab.kv.analysis.metrics import BY_NAME, METRICS, Rows, mean
from kvsim.lab.kv.analysis.paired import PAIRS, Verdict, apart, differences, verdict_of
from kvsim.lab.kv.design import Compared

BATCH = ("max_num_batched_tokens", "max_num_seqs")
COUNTED = "requests"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The effect at the most requests less that at the fewest, repeat by repeat."""

    metric: str
    base: str
    phase: str
    others: Mapping[str, float]
    fewest: float
    most: float
    pairs: int
    at_fewest: float | None
    at_most: float | None
    """Effects, over the repeats that have both."""
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """What a phase does at one pair of limits; means over repeats."""

    point: int
    at: Mapping[str, float]
    phase: str
    repeats: int
    ttft_mean_ms: float | None
    ttft_p95_ms: float | None
    tpot_mean_ms: float | None
    output_tokens_per_s: float | None
    queue_mean_ms: float | None


def growth(rows: Rows, confidence: float, compare: Compared) -> list[Growth]:
    """One of each metric and pair of phases; empty where the number of requests is not varied."""
    groups: dict[tuple[tuple[str, float], ...], list[int]] = {}
    for point in rows.points:
        at = rows.at(point)
        if COUNTED in at:
            others = tuple(sorted((name, value) for name, value in at.items() if name != COUNTED))
            groups.setdefault(others, []).append(point)
    found = []
    for others, points in sorted(groups.items()):
        ends = [chosen(points, key=lambda point: rows.at(point)[COUNTED]) for chosen in (min, max)]
        if len(points) > 1:
            found += [
                _growth(rows, name, pair, dict(others), ends, confidence)
                for pair in PAIRS[compare]
                for name in (metric.name for metric in METRICS)
            ]
    return found


def _growth(
    rows: Rows,
    name: str,
    pair: tuple[str, str],
    others: Mapping[str, float],
    ends: Sequence[int],
    confidence: float,
) -> Growth:
    few, many = (differences(rows, point, BY_NAME[name], pair) for point in ends)
    both = [repeat for repeat in few if repeat in many]
    less = [apart(many[repeat], few[repeat]) for repeat in both]
    bounds = student(less, confidence)
    return Growth(
        metric=name,
        base=pair[0],
        phase=pair[1],
        others=others,
        fewest=rows.at(ends[0])[COUNTED],
        most=rows.at(ends[1])[COUNTED],
        pairs=len(less),
        at_fewest=mean(few[repeat] for repeat in both),
        at_most=mean(many[repeat] for repeat in both),
        difference=mean(less),
        low=None if bounds is None else bounds[0],
        high=None if bounds is None else bounds[1],
        verdict=verdict_of(less, bounds),
    )


def batch_rows(rows: Rows, vary: Sequence[str]) -> list[BatchRow]:
    """A row a point and phase; empty where no limit of a batch is varied."""
    if not any(key in vary for key in BATCH):
        return []
    found = []
    for point in rows.points:
        for phase in dict.fromkeys(row.phase for row in rows.phases_at(point)):
            values = {metric.name: rows.values(metric, point, phase) for metric in METRICS}
            found.append(
                BatchRow(
                    point=point,
                    at=rows.at(point),
                    phase=phase,
                    repeats=sum(row.started and row.phase == phase for row in rows.phases_at(point)),
                    ttft_mean_ms=mean(values["ttft_mean_ms"].values()),
                    ttft_p95_ms=mean(values["ttft_p95_ms"].values()),
                    tpot_mean_ms=mean(values["tpot_mean_ms"].values()),
                    output_tokens_per_s=mean(values["output_tokens_per_s"].values()),
                    queue_mean_ms=mean(values["queue_mean_ms"].values()),
                )
            )
    return found
