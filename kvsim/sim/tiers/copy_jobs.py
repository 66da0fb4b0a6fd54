"""Copies of computed chunks to memory by vLLM's rules: each of a request's blocks, which a step must not overwrite."""

from __future__ import annotations

import math

from kvsim.policy.eviction import Access
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.step import StepCopies
from kvsim.sim.tiers.connector import KvConnector, Offer
from kvsim.sim.tiers.writes import Write


class CopyJob:
    """Chunks of one request that are copied to memory, or will be once the step that computes them is over."""

    __slots__ = ("_access", "_blocks", "_connector", "_offer", "_path", "_writes")

    def __init__(self, connector: KvConnector, offer: Offer, access: Access, path: Path, chunk_blocks: int) -> None:
        """It reads those blocks of the request's ``path`` that hold what was let in of an ``offer``."""
        self._connector, self._offer, self._access, self._path = connector, offer, access, path
        places = sorted({(first, end) for _, runs in offer.let_in for _, first, end in runs})
        self._blocks = [(first * chunk_blocks, end * chunk_blocks) for first, end in places]
        self._writes: list[Write] | None = None

    def begin(self) -> None:
        """Let the copies begin, unless they have."""
        if self._writes is None:
            self._writes = self._connector.write(self._offer, self._access)

    def done_s(self) -> float:
        """When the last copy is over, as far as that is known; in the past where none has begun."""
        return -math.inf if self._writes is None else max([write.done_s for write in self._writes], default=-math.inf)

    def is_pending(self, now_s: float) -> bool:
        return self._writes is None or self.done_s() > now_s

    def reads(self, chain: int, low: int, high: int) -> bool:
        """Whether it reads any of the blocks ``[low, high)`` of a chain."""
        for key, first, end in self._path:
            if key == chain:
                low, high = low + first, min(high + first, end)
                return any([max(low, start) < min(high, stop) for start, stop in self._blocks])
        return False

    def reads_any(self, path: Path, blocks: int) -> bool:
        """Whether it reads any of the first ``blocks`` blocks of a path."""
        for chain, first, end in path:
            if first >= blocks:
                return False
            if self.reads(chain, 0, min(end, blocks) - first):
                return True
        return False


class OffloadCopies(StepCopies):
    """The copies of one step of an engine that offloads."""

    __slots__ = ("_awaited", "_jobs")

    def __init__(self, awaited: list[CopyJob], jobs: list[CopyJob]) -> None:
        """``awaited``: copies of blocks that it overwrites. ``jobs``: copies of what it computes."""
        self._awaited, self._jobs = awaited, jobs

    def waits_until_s(self) -> float:
        return max([job.done_s() for job in self._awaited], default=-math.inf)

    def begin(self) -> None:
        for job in self._jobs:
            job.begin()
