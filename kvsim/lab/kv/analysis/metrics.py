"""What is compared of phases and of requests: each metric's name, unit, and where its value stands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.lab.kv.trial import PhaseRow, RequestRow, Trials

Key = tuple[int, int, str]
"""Point, repeat and phase."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a phase; ``of_request``: what it is the mean of, ``None`` where one request has no such figure."""

    name: str
    label: str
    unit: str
    of_phase: Callable[[PhaseRow, Sequence[RequestRow]], float | None]
    of_request: Callable[[RequestRow], float | None] | None = None


def _field(name: str) -> Callable[[PhaseRow, Sequence[RequestRow]], float | None]:
    def value(row: PhaseRow, _: Sequence[RequestRow]) -> float | None:
        found: float | None = getattr(row, name)
        return found

    return value


def _share(row: PhaseRow | RequestRow) -> float | None:
    """The share of its prompt tokens that were cached."""
    if row.cached_tokens is None or row.prompt_tokens == 0:
        return None
    return row.cached_tokens / row.prompt_tokens


def _queue(_: PhaseRow, requests: Sequence[RequestRow]) -> float | None:
    waits = [row.queue_ms for row in requests if row.queue_ms is not None]
    return float(np.mean(waits)) if waits else None


METRICS = (
    Metric(
        name="ttft_mean_ms",
        label="mean TTFT",
        unit="ms",
        of_phase=_field("ttft_mean_ms"),
        of_request=lambda row: row.ttft_ms,
    ),
    Metric(name="ttft_p95_ms", label="p95 of TTFT", unit="ms", of_phase=_field("ttft_p95_ms")),
    Metric(
        name="tpot_mean_ms",
        label="mean TPOT",
        unit="ms",
        of_phase=_field("tpot_mean_ms"),
        of_request=lambda row: row.tpot_ms,
    ),
    Metric(
        name="e2e_mean_ms",
        label="mean E2E",
        unit="ms",
        of_phase=_field("e2e_mean_ms"),
        of_request=lambda row: row.e2e_ms,
    ),
    Metric(name="requests_per_s", label="requests/s", unit="", of_phase=_field("requests_per_s")),
    Metric(name="output_tokens_per_s", label="output tokens/s", unit="", of_phase=_field("output_tokens_per_s")),
    Metric(
        name="hit_share",
        label="share of prompt tokens hit",
        unit="points",
        of_phase=lambda row, _: _share(row),
        of_request=_share,
    ),
    Metric(
        name="queue_mean_ms",
        label="mean queueing",
        unit="ms",
        of_phase=_queue,
        of_request=lambda row: row.queue_ms,
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


class Rows:
    """The rows of a run, found by point, repeat and phase; in one order whatever order they came in."""

    def __init__(self, found: Trials) -> None:
        self.trials = found
        self.phases: Mapping[Key, PhaseRow] = {
            (row.point, row.repeat, row.phase): row
            for row in sorted(found.phases, key=lambda row: (row.point, row.repeat, row.order, row.phase))
        }
        requests: dict[Key, list[RequestRow]] = defaultdict(list)
        for row in sorted(found.requests, key=lambda row: row.request):
            requests[row.point, row.repeat, row.phase].append(row)
        self._requests = dict(requests)
        self.points = sorted({point for point, _, _ in self.phases})
        self.repeats = sorted({repeat for _, repeat, _ in self.phases})

    def requests(self, key: Key) -> Sequence[RequestRow]:
        """The requests of a phase, in their order."""
        return self._requests.get(key, ())

    def at(self, point: int) -> Mapping[str, float]:
        """What is varied, at this point."""
        return next(dict(row.at) for key, row in self.phases.items() if key[0] == point)

    def phases_at(self, point: int) -> list[PhaseRow]:
        """Rows of all repeats of a point."""
        return [row for key, row in self.phases.items() if key[0] == point]

    def value(self, metric: Metric, key: Key) -> float | None:
        """The metric of a phase; ``None``: it was not there, did not start, or nobody measured it."""
        row = self.phases.get(key)
        return None if row is None or not row.started else metric.of_phase(row, self.requests(key))

    def values(self, metric: Metric, point: int, phase: str) -> dict[int, float]:
        """By repeat, of those that have the metric."""
        found = {repeat: self.value(metric, (point, repeat, phase)) for repeat in self.repeats}
        return {repeat: value for repeat, value in found.items() if value is not None}


def mean(values: Iterable[float]) -> float | None:
    """The mean; ``None`` of nothing."""
    found = list(values)
    return float(np.mean(found)) if found else None
