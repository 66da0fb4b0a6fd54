"""Copies of computed chunks to memory by vLLM's rules: each of a request's blocks, which a step must not overwrite."""

from __future__ import annotations

import math
from collections.abc import Callable

from kvsim.policy.eviction import Access
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.chain import Blocks
from kvsim.sim.engine.step import StepCopies
from kvsim.sim.tiers.connector import KvConnector, Offer
from kvsim.sim.tiers.writes import Write


class CopyJob:
    """Chunks of one request that are copied to memory, or will be once the step that computes them is over."""

    __slots__ = ("_access", "_connector", "_offer", "_writes", "reads")

    def __init__(self, connector: KvConnector, offer: Offer, access: Access) -> None:
        """``offer``: what tiers have let in, of those who are told that by ``access``."""
        self._connector, self._offer, self._access = connector, offer, access
        self.reads: list[Blocks] = []
        """The blocks that it reads, once nobody holds them."""
        self._writes: list[Write] | None = None

    def begin(self) -> None:
        """Let the copies begin, unless they have."""
        if self._writes is None:
            self._writes = self._connector.write(self._offer, self._access)

    def done_s(self) -> float:
        """When the last copy is over, as far as that is known; in the past where none has begun."""
        return -math.inf if self._writes is None else max([write.done_s for write in self._writes], default=-math.inf)

    @property
    def has_begun(self) -> bool:
        return self._writes is not None

    def is_pending(self, now_s: float) -> bool:
        return self._writes is None or self.done_s() > now_s

    def fence(self, path: Path, held: list[Blocks], chunk_blocks: int) -> None:
        """Take note of what it reads of the blocks that a request ``held`` along its ``path``, as it lets them go."""
        for first, end in {(first, end) for _, runs in self._offer.let_in for _, first, end in runs}:
            for key, start, _ in path:
                low, high = first * chunk_blocks - start, end * chunk_blocks - start
                self.reads += [blocks.among(low, high) for blocks in held if blocks.key == key]

    def is_overwritten(self, given: list[Blocks]) -> bool:
        """Whether any block that it reads is among those that were ``given`` to requests."""
        return any(blocks.meets(later) for blocks in self.reads for later in given)


class OffloadCopies(StepCopies):
    """The copies of one step of an engine that offloads."""

    __slots__ = ("_awaited", "_begun", "_jobs")

    def __init__(self, awaited: list[CopyJob], jobs: list[CopyJob], begun: Callable[[], None]) -> None:
        """``awaited``: copies of blocks that it overwrites. ``jobs``: copies of what it computes; ``begun()`` once they
        have begun."""
        self._awaited, self._jobs, self._begun = awaited, jobs, begun

    def waits_until_s(self) -> float:
        for job in self._awaited:  # those of requests that had ended begin with the step
            job.begin()
        self._begun()
        return max([job.done_s() for job in self._awaited], default=-math.inf)

    def begin(self) -> None:
        for job in self._jobs:
            job.begin()
        self._begun()
