"""What a run leaves behind: numbers alone, which another process may add to those of runs beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.pickling import by_fields
from kvsim.record.detail import Detail, DraftUse
from kvsim.record.fleet import FleetUse
from kvsim.record.result import AdapterUse, CacheUse, Check, PoolUse, TransferUse
from kvsim.sim.log.conservation import RequestCounts
from kvsim.sim.log.step_totals import StepTotals

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RoleEnd:
    """What the engines of one role did."""

    role: str
    instances: int
    gpus: int
    blocks: int
    """KV blocks of all of them."""
    steps: StepTotals
    held_block_s: Floats
    """Blocks that requests held, integrated over time up to each of ``Ended.marks_s``."""
    pools: tuple[PoolUse, ...] = ()
    """Likewise by kind, where there are several."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


@dataclass(frozen=True)
class Ended:
    """A system after its run."""

    rows: Floats
    """``kvsim.record.result.COLUMNS`` of each request that is complete, in the order of completion."""
    arrived: int
    completed: int
    failed: int
    gave_up: int
    """Requests that failed because their clients gave them up."""
    population_s: float
    """Integral of the number of requests in the system, as ``kvsim.sim.log.conservation.RequestCounts`` has it."""
    failed_s: float
    failed_arrival_s: Floats
    """Arrivals of requests that fit no instance."""
    end_s: float
    sim_cpu_s: float
    events: int
    incomplete: bool
    marks_s: Floats
    """Times of some arrivals, and of the end."""
    roles: tuple[RoleEnd, ...]
    cache: CacheUse
    tier_transfers: tuple[int, ...]
    """By tier: transfers over its ports."""
    transfer: TransferUse | None
    checks: tuple[Check, ...]
    """Laws of blocks, bytes and tiers; those of requests follow from the rest."""
    notes: tuple[str, ...]
    after_failed: int
    """Requests that were sent though one that they waited for had failed."""
    drafts: DraftUse | None
    adapters: AdapterUse | None
    detail: Detail | None
    fleet: FleetUse | None

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    @property
    def counts(self) -> RequestCounts:
        found = RequestCounts()
        found.arrived, found.completed, found.failed = self.arrived, self.completed, self.failed
        found.population_s, found.failed_s = self.population_s, self.failed_s
        return found
