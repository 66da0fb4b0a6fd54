"""What a report says of one system: every figure under its name, with its unit; ``None`` where nothing was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvsim.record.fleet_figures import FleetFigures
from kvsim.record.plain import OMITTED
from kvsim.record.result import AdapterUse, Check, TierUse, TransferUse
from kvsim.record.scaling_figures import ScalingFigures


@dataclass(frozen=True, kw_only=True)
class RequestCounts:
    """Fates of requests; ``measured`` ones count in latencies, those ``in_window`` in rates."""

    arrived: int
    completed: int
    failed: int
    in_flight: int
    measured: int
    completed_in_window: int
    failed_in_window: int


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """A latency over the measured requests."""

    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Completions inside the measured window, divided by its length."""

    requests_per_s: float | None
    output_tokens_per_s: float | None
    tokens_per_s_per_gpu: float | None


@dataclass(frozen=True, kw_only=True)
class SloLimits:
    """Limits that a request within the SLO keeps: its TTFT, and the mean of its TPOT."""

    ttft_ms: float
    tpot_ms: float


@dataclass(frozen=True, kw_only=True)
class Goodput:
    """Completions of the window that keep both limits, and shares of what was judged that keep both or one."""

    requests_per_s: float | None
    share: float | None
    ttft_share: float | None
    tpot_share: float | None
    slo: SloLimits


@dataclass(frozen=True, kw_only=True)
class Active:
    """What served a request at all."""

    instances: int
    racks: int


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Hits of prompts, and memory below the GPUs; shares are of ``query_tokens``."""

    prefix_hit_rate: float | None
    by_tier: Mapping[str, float | None]
    """Shares hit in the instances' own caches, ``hbm``, and loaded from each tier."""
    query_tokens: int
    hit_tokens: int
    evictions: int
    """Blocks."""
    blocks_per_instance: int
    recomputed_tokens: int
    active: Active
    loads: int
    tiers: Mapping[str, TierUse]
    misses: Mapping[str, float | None]
    """Shares computed, by the reason: ``kvsim.sim.tiers.misses.Misses``."""
    movements: Mapping[str, int]


Parts = Mapping[str, float | None]
"""Milliseconds of TTFT by :data:`kvsim.record.labels.COMPONENT_LABELS`."""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Where TTFT goes: over all measured requests, and over those between its p98.5 and p99.5."""

    mean: Parts
    p99: Parts


@dataclass(frozen=True, kw_only=True)
class KindUse:
    """How those instances of a side were used that are of one kind; ``requests`` and hits are of the whole run."""

    gpu: str
    gpus_per_instance: int
    instances: int
    gpus: int
    busy: float | None
    kv_usage: float | None
    requests: int
    prefix_hit_rate: float | None


@dataclass(frozen=True, kw_only=True)
class SideUse:
    """How one side was used over the window: shares as in :class:`kvsim.record.result.RoleUse`."""

    instances: int
    gpus: int
    busy: float | None
    kv_usage: float | None
    load: float | None
    kinds: tuple[KindUse, ...] | None = field(default=None, metadata=OMITTED)
    """No key where all instances are alike."""


@dataclass(frozen=True, kw_only=True)
class Conservation:
    """The laws that a run must obey."""

    ok: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    """Whether the window shows a steady state, and whether the system keeps up with what arrives."""

    ok: bool
    why: str
    overloaded: bool
    ttft_growth_s_per_min: float | None
    asked_requests_per_s: float | None
    possible_requests_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class WindowBounds:
    """The measured window in simulated seconds; ``whole``: it is the whole run."""

    start: float
    end: float
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Drafts:
    """Speculative decoding over the whole run, warm-up too."""

    num_drafts: int
    """Sequences, step by step, of which drafts were verified."""
    num_draft_tokens: int
    num_accepted_tokens: int
    acceptance_rate: float | None
    """Share of draft tokens."""
    mean_acceptance_length: float | None
    """Tokens that a verification gives in the mean, the one that is no draft included."""
    acceptance_by_position: tuple[float | None, ...]
    """Share of ``num_drafts`` in which the draft there, and so all before it, was accepted."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What the GPUs of a system draw over the measured window, by :mod:`kvsim.capacity.power`."""

    kwh: float | None
    joules_per_output_token: float | None
    joules_per_token: float | None
    """Prompt tokens count, cached ones too."""
    joules_per_good_request: float | None
    """All that is drawn, over the requests within the SLO."""
    mean_gpu_power_w: float | None


@dataclass(frozen=True, kw_only=True)
class KindCost:
    """The part of a system's money and energy that is of its GPUs of one kind."""

    gpu: str
    gpus: int
    gpu_hours: float | None
    gpu_usd_per_hour: float | None
    price_source: str
    usd: float | None
    """What the GPUs cost, without tiers."""
    kwh: float | None
    mean_gpu_power_w: float | None
    power_source: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Money and energy of a system over the measured window; ``None``: not known, or of nothing."""

    gpus: int
    """All of the system's, used or not."""
    window_s: float | None
    gpu_hours: float | None
    gpu_usd_per_hour: float | None
    """The mean over its GPUs, where they are of several kinds."""
    price_source: str
    """Where the price is from, or why there is none."""
    usd: float | None
    memory_usd: float | None
    """The part of it that is of tiers; ``None``: they have no price of their own."""
    usd_per_million_output_tokens: float | None
    """Tokens are those of requests that completed in the window, here and in all that follows."""
    usd_per_million_tokens: float | None
    usd_per_1000_requests: float | None
    usd_per_1000_good_requests: float | None
    energy: Energy | None
    power_source: str
    """Where the watts are from, or why there is no energy."""
    kinds: tuple[KindCost, ...] | None = field(default=None, metadata=OMITTED)
    """No key where all GPUs are of one kind."""


@dataclass(frozen=True, kw_only=True)
class SystemSummary:
    """One system: an entry of a report's ``results``."""

    name: str
    requests: RequestCounts
    ttft_ms: Quantiles
    tpot_ms: Quantiles
    itl_ms: Quantiles
    e2e_ms: Quantiles
    throughput: Throughput
    goodput: Goodput
    cache: Cache
    transfer: TransferUse | None
    preemptions: int
    attribution_ms: Attribution
    utilisation: Mapping[str, SideUse]
    conservation: Conservation
    steady: Steadiness
    incomplete: bool
    window_s: WindowBounds
    simulated_s: float
    notes: tuple[str, ...]
    drafts: Drafts | None = field(default=None, metadata=OMITTED)
    adapters: AdapterUse | None = field(default=None, metadata=OMITTED)
    scaling: ScalingFigures | None = field(default=None, metadata=OMITTED)
    cost: Cost | None = field(default=None, metadata=OMITTED)
    fleet: FleetFigures | None = field(default=None, metadata=OMITTED)
    """``None``: nothing could happen to instances, and clients wait for ever."""
    events_left_out: tuple[int, ...] | None = field(default=None, metadata=OMITTED)
    """Numbers of the ``fleet.events`` that concern no part of it; ``None``: there are none."""

    @property
    def misfits(self) -> int:
        """Requests that fit no instance."""
        return self.requests.failed - (0 if self.fleet is None else self.fleet.gave_up + self.fleet.unserved)
