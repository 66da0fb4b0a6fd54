"""What a finished run of one system hands to the reports: plain arrays and counts, no SimPy, no actors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from kvsim.record.detail import Detail, DraftUse
    from kvsim.record.fleet import FleetUse

COMPONENTS = (
    "retry_s",
    "proxy_s",
    "queue_s",
    "interference_s",
    "preemption_s",
    "tier_load_s",
    "prefill_s",
    "transfer_s",
    "decode_wait_s",
    "first_decode_s",
)
"""The parts of TTFT, in the order of a request's story. They are all >= 0 and sum to it; there is no "other"."""

COLUMNS = (
    "request_id",
    "arrival_s",
    "first_token_s",
    "finish_s",
    "prompt_tokens",
    "output_tokens",
    "hit_tokens",
    "loaded_tokens",
    "computed_tokens",
    "recomputed_tokens",
    "preemptions",
    "prefill_instance",
    "decode_instance",
    "transferred_bytes",
    *COMPONENTS,
)
"""One row per completed request. Times ``arrival_s``, ``first_token_s`` and ``finish_s`` are absolute simulated times.

``prompt_tokens == hit_tokens + loaded_tokens + computed_tokens``; ``recomputed_tokens`` counts work done again after a
preemption. ``decode_instance`` equals ``prefill_instance`` in a colocated system.
"""

Table = dict[str, npt.NDArray[np.float64]]
"""Columns of one length, by name."""


@dataclass(frozen=True)
class Distribution:
    """A weighted sample reduced to what the reports show; seconds. ``nan`` where ``count`` is 0."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Held:
    """KV blocks that requests hold on one side of a system, over all its instances."""

    times_s: npt.NDArray[np.float64]
    """Ascending times of the marks."""
    block_s: npt.NDArray[np.float64]
    """Blocks held, integrated over time up to each of ``times_s``."""
    blocks: int
    """Blocks that there are."""

    def share(self, window_s: tuple[float, float]) -> float:
        """The mean over a window, 0..1; exact where it begins and ends at ``times_s``, else interpolated."""
        start_s, end_s = window_s
        if end_s <= start_s or not self.blocks:
            return math.nan
        low, high = np.interp(window_s, np.append(0.0, self.times_s), np.append(0.0, self.block_s))
        return float(high - low) / (self.blocks * (end_s - start_s))


@dataclass(frozen=True)
class RoleUse:
    """How one side (``prefill``, ``decode``, ``colocated``) was used over the measured window."""

    role: str
    instances: int
    gpus: int
    busy: float
    """Mean share of time a step was running, over instances."""
    kv_usage: float
    """Mean share of KV blocks held by requests, over time and instances."""
    load: float
    """Request rate over this side's analytic maximum rate; nan when not known."""
    timeline_s: npt.NDArray[np.float64]
    """Left edges of equal time bins."""
    timeline_busy: npt.NDArray[np.float64]
    """Busy share of the side's instances in each bin, 0..1."""
    held: Held | None = None
    pools: tuple[PoolUse, ...] = ()
    """The instances by kind, in the order of their numbers; none: all are of one."""


@dataclass(frozen=True)
class PoolUse:
    """How the instances of one kind on a side were used."""

    gpu: str
    first: int
    """The number of its first instance; the others follow."""
    use: RoleUse
    requests: int
    """Requests that it served."""
    query_tokens: int
    """Prompt tokens that its caches were asked for, and those that they had."""
    hit_tokens: int


@dataclass(frozen=True)
class TransferUse:
    """KV movement between instances."""

    transfers: int
    bytes_sent: float
    bytes_received: float
    hidden_share: float
    """Share of transfer time that overlapped the prefill producing it; nan without transfers."""
    mean_s: float
    nic_out_utilisation: float
    nic_in_utilisation: float
    reservation_waits: int
    """Times that a request found no decode instance with room, and waited with its prefill blocks pinned, or all seats
    taken when its KV had come.
    """
    returned_bytes: float
    """Generated KV sent back to prefill caches; not in ``bytes_sent``."""


@dataclass(frozen=True)
class TierUse:
    """One kind of tier below the instances' own caches, summed over all there are."""

    name: str
    tiers: int
    capacity_bytes: float
    """Bytes that all of them hold at most."""
    held_bytes: float
    """Bytes that they held at the end."""
    loaded_tokens: int
    """Prompt tokens that were loaded from there and served."""
    stored_chunks: int
    evicted_chunks: int
    refused_chunks: int
    """Chunks that the admission policy did not let in."""
    dropped_chunks: int
    """Chunks not written because a port on the route was busy for too long."""
    read_bytes: float
    written_bytes: float
    busiest_share: float
    """Share of the time that the busiest of its ports was moving bytes."""
    mean_wait_s: float
    """Mean time that a transfer waited for its ports."""


@dataclass(frozen=True)
class CacheUse:
    """Prefix cache counters over all instances whose prompts are looked up (prefill or colocated)."""

    query_tokens: int
    hit_tokens: int
    """Prompt tokens found in the instance's cache, loaded ones included."""
    evicted_blocks: int
    blocks_per_instance: int
    preemptions: int
    tiers: tuple[TierUse, ...] = ()
    misses: dict[str, int] = field(default_factory=dict)
    """Tokens computed, by the reason, as prompts came: ``kvsim.sim.tiers.misses.Misses``. ``gone_tokens`` are the rest:
    they were in the engine's cache or in a tier then, and gone when the prompt was served.
    """
    movements: dict[str, int] = field(default_factory=dict)
    """Chunks and tokens that moved between tiers, or did not: ``kvsim.sim.tiers.connector.TierTraffic``."""
    loads: int = 0
    active_instances: int = 0
    """Instances that served a request."""
    active_racks: int = 0


@dataclass(frozen=True)
class AdapterUse:
    """LoRA adapters that were brought into slots, over all instances and the whole run."""

    from_host: int
    from_disk: int
    """Loads from host memory, and from disk through it."""
    lost_s: float
    """Seconds by which steps were longer for them."""


@dataclass(frozen=True)
class Check:
    """One conservation law at the end of a run."""

    name: str
    expected: float
    found: float
    ok: bool


@dataclass(frozen=True)
class Pace:
    """Whether a system keeps up with what arrives."""

    overloaded: bool
    ttft_growth: float
    """Seconds that TTFT grows by in a second of arrivals, fitted over the measured requests; nan where too few."""
    asked_per_s: float
    """Requests/s that arrive and fit an instance; nan when not known."""
    possible_per_s: float
    """The analytic maximum of that, with the cache hits of the run; nan when not known."""


@dataclass(frozen=True)
class SystemResult:
    """One simulated system: ``unified`` or ``pd``."""

    name: str
    arrived: int
    completed: int
    failed: int
    in_flight: int
    table: Table
    """``COLUMNS`` as float64 arrays over completed requests, in order of completion."""
    measured: npt.NDArray[np.bool_]
    """True for rows that count in latency statistics: not cut as warm-up."""
    window_s: tuple[float, float]
    """Start and end of the measured window: throughput counts completions inside it, its end included."""
    itl: Distribution
    roles: tuple[RoleUse, ...]
    cache: CacheUse
    transfer: TransferUse | None
    checks: tuple[Check, ...]
    end_s: float
    """Simulated time at the end."""
    sim_cpu_s: float
    events: int
    steady: bool
    steady_why: str
    incomplete: bool = False
    """Interrupted before the workload ended."""
    notes: tuple[str, ...] = field(default=())
    """Plain sentences for the reader, e.g. that blocks were synthesised."""
    marks_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Times of some arrivals, the first among them and, in a whole run, the last: where windows may begin and end."""
    first_measured_s: float = 0.0
    """Arrival of the first request that is not warm-up."""
    failed_arrival_s: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Arrivals of requests that fit no instance, or were given up."""
    is_closed: bool = False
    """Requests wait for others to end: a system that is slow is asked for less."""
    window_is_whole: bool = True
    """The window is the whole run of all that is compared, from its filling up until the last has drained."""
    pace: Pace | None = None
    drafts: DraftUse | None = None
    """Over all instances; ``None``: nothing is drafted."""
    adapters: AdapterUse | None = None
    """``None``: no adapter can be missing."""
    detail: Detail | None = None
    """Steps, levels and movements of KV; ``None`` where the run was not asked to keep them."""
    fleet: FleetUse | None = None
    """Instances that came and went, and requests that were sent again; ``None`` where nothing of that could happen."""
    events_left_out: tuple[int, ...] = ()
    """Numbers of the ``fleet.events`` that concern no part of this system: it ran without them."""

    @property
    def misfits(self) -> int:
        """Requests among the failed that fit no instance."""
        return self.failed - (0 if self.fleet is None else self.fleet.failed)
