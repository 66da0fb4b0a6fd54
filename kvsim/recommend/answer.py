"""What is recommended: typed figures, of which the JSON is a dump, and the sentences they end in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvsim.recommend.bisect import FoundRate
from kvsim.recommend.pareto import Point
from kvsim.recommend.paste import Configuration
from kvsim.recommend.prune import Pruned
from kvsim.recommend.slo import Slo
from kvsim.record.plain import plain, written
from kvsim.study.intervals import Interval
from kvsim.study.replication import Apart


@dataclass(frozen=True, kw_only=True)
class AskedFor:
    """The question, resolved."""

    line: str
    model: str
    gpu: str
    gpus: int
    """The most there are."""
    rate_per_s: float | None
    objective: str
    slo: Slo
    workload: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Looked:
    """How the deployments were looked through."""

    candidates: int
    """All that fit, of up to so many GPUs."""
    pruned: tuple[Pruned, ...]
    """Ruled out by arithmetic, of those that the search came to."""
    simulated: int
    """Candidates of which something was simulated."""
    same: int
    """Whose run was that of another, step by step: what they differ in never mattered."""
    runs: int
    simulated_requests: int
    requests_of_a_run: int
    """A whole run's."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A deployment in its place among the best."""

    name: str
    system: str
    structure: str
    gpus: int
    servers: tuple[int, int]
    """Prefill and decode servers; of a unified system: servers, and none."""
    tensor_parallel: tuple[int, int]
    data_parallel: int
    max_num_batched_tokens: int
    max_num_seqs: int
    routing: str
    tiers: tuple[str, ...]
    runs: int
    slo_use: Interval
    """Share of the limits that a request takes, at the percentile of the SLO: at most 1 where it is kept."""
    good_share: Interval
    uses: dict[str, float]
    """By limit: the share of it alone."""
    ttft_ms: dict[str, float]
    """``mean``, and at the percentile of the SLO, ``late``; means over runs."""
    tpot_ms: dict[str, float]
    e2e_ms: dict[str, float]
    """``late`` where it has a limit."""
    prefix_hit_rate: float
    output_tokens_per_s_per_gpu: float
    gpu_usd_per_million_output_tokens: float | None
    """GPUs alone, at the price of one of them; ``None``: there is none."""
    joules_per_output_token: float | None
    """GPUs alone; ``None``: not known."""
    keeps: bool
    """Whether the wanted share of requests is good, in the mean over runs."""
    surely: bool
    """Whether the interval says so too."""
    behind: Apart | None = field(metadata=written(lambda apart: None if apart is None else plain(apart)))
    """How much more of the limits it takes than the place before, or the third where that is better still."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer."""

    asked: AskedFor
    looked: Looked
    rate_per_s: float
    """At which the figures of ``best`` are."""
    keeps: bool
    certain: bool
    """Whether the order of the best three is told apart, ties included."""
    best: tuple[Place, ...]
    max_rate: FoundRate | None
    """The largest rate within the SLO of the first."""
    conclusion: str
    reason: str
    """Why the first is the first: what binds the second, or what those on fewer GPUs miss."""
    remarks: tuple[str, ...]
    pareto: tuple[Point, ...]
    configuration: Configuration
    calibration: dict[str, Any]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        found: dict[str, Any] = plain(self)
        return found
