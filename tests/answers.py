"""Answers of studies built by hand: what they have in common."""

from __future__ import annotations

import math
from typing import Any

from kvsim.study.context import Size
from kvsim.study.intervals import Interval, Verdict
from kvsim.study.memory import MemoryFigures, MemoryMeans
from kvsim.study.replication import Apart, Runs

SIZE = Size(instances=8, of_instances=2560, trace_requests=None)
RUNS = Runs(
    replications=5,
    fewest_replications=3,
    confidence=0.95,
    tie_share=0.01,
    precision=0.05,
    simulated_requests=10_000,
    within_budget=True,
)
_MEMORY: dict[str, Any] = {
    "hit_rate": 0.3,
    "by_tier": {},
    "busiest_share": {},
    "mean_wait_ms": {},
    "held_gb": {},
    "capacity_gb": {},
    "ttft_mean_ms": 100.0,
    "ttft_p99_ms": 300.0,
    "tpot_mean_ms": 20.0,
    "tpot_p99_ms": 30.0,
    "growing_share": 0.0,
}


def memory_figures(**changed: Any) -> MemoryFigures:
    return MemoryFigures(**{**_MEMORY, "misses": {}, **changed})


def memory_means(**changed: Any) -> MemoryMeans:
    return MemoryMeans(**{**_MEMORY, "runs": 3, **changed})


def around(mean: float, half_width: float = 1.0) -> Interval:
    return Interval(mean, half_width)


def apart(mean: float, verdict: Verdict | None = None, half_width: float = 1.0) -> Apart:
    """A difference; without a ``verdict`` it is as large as it looks. One run: the half width is infinite."""
    words: Verdict = verdict or ("lower" if mean < 0 else "higher")
    tie = words in ("same", "tie")
    precise = math.isfinite(half_width) and half_width <= 0.05 * abs(mean)
    return Apart(Interval(mean, half_width), words, tie=tie, precise=precise or tie)
