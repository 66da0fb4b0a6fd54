"""Systems whose caches are given the heads of prompts as these come: what a run would be with other hits."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.pickling import by_fields
from kvsim.plan.plan import Plan
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.routing.decode import DecodeRouter
from kvsim.sim.systems.kv_transfer import KvTransfer
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.population import Progress
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GivenHeads:
    """Tokens at the head of each request's prompt, by its id, that a cache is given as far as it has room: whole blocks
    of chains that are not the request's own."""

    prefill: Tokens
    """To the instance that computes the prompt, as it is queued there."""
    decode: Tokens
    """To the instance that is asked for room for its KV."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


class GivenUnifiedSystem(UnifiedSystem):
    """Unified serving of prompts whose heads are cached."""

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        seed: int,
        heads: GivenHeads,
        progress: Progress | None = None,
        *,
        keeps_detail: bool = False,
    ) -> None:
        super().__init__(plan, workload, seed, progress, keeps_detail=keeps_detail)
        self._heads = heads.prefill.tolist()

    def _submit(self, engine: Engine, sequence: Sequence) -> None:
        give(engine, sequence, self._heads[sequence.state.request.request_id] // self._block_size)
        super()._submit(engine, sequence)


class GivenPdSystem(PdSystem):
    """Prefill and decode apart, of prompts whose heads are cached on either side."""

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        seed: int,
        heads: GivenHeads,
        progress: Progress | None = None,
        *,
        keeps_detail: bool = False,
    ) -> None:
        super().__init__(plan, workload, seed, progress, keeps_detail=keeps_detail)
        self._heads = heads.prefill.tolist()
        self._decode_router = GivingRouter(self._decode_router, self.decode_engines, heads.decode.tolist())

    def _submit(self, engine: Engine, sequence: Sequence) -> None:
        give(engine, sequence, self._heads[sequence.state.request.request_id] // self._block_size)
        super()._submit(engine, sequence)

    def _reserve(self, transfer: KvTransfer) -> bool:
        router = self._decode_router
        assert isinstance(router, GivingRouter)
        router.asks = transfer.prefill
        return super()._reserve(transfer)


class GivingRouter:
    """Another router, whose proposed instances are given the head of whoever asks."""

    def __init__(self, own: DecodeRouter, engines: list[Engine], heads: list[int]) -> None:
        self._own, self._engines, self._heads = own, engines, heads
        self.asks: Sequence | None = None

    def propose(self, rack: int) -> Several[int]:
        """As the other router does."""
        found = self._own.propose(rack)
        if self.asks is not None:
            blocks = self._heads[self.asks.state.request.request_id] // self._engines[0].settings.block_size
            for instance in found:
                give(self._engines[instance], self.asks, blocks)
        return found


def give(engine: Engine, sequence: Sequence, blocks: int) -> None:
    """Let an engine's cache have the first ``blocks`` blocks of a sequence, as far as it has room."""
    if blocks:
        engine.insert(sequence.path, blocks)
