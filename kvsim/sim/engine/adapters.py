"""vLLM's V1 scheduler beside LoRA adapters: those of a step's requests are no more than the engine has slots for.

Who would bring one more waits, and whoever comes behind and needs none of its own goes before (vLLM 0.32,
``Scheduler.schedule``: "Scheduling would exceed max_loras, skip"). Running requests count, and those that the step has
admitted; the order of those that wait stays.
"""

from __future__ import annotations

from collections.abc import Callable

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.scheduler import PASSED_OVER, SET_ASIDE, Scheduler
from kvsim.sim.engine.sequence import Sequence


class AdapterScheduler(Scheduler):
    """``Scheduler`` for ``settings.max_loras``."""

    __slots__ = ("_max_loras",)

    def __init__(
        self,
        settings: EngineSettings,
        pool: BlockPool,
        batch: DecodeBatch,
        look_up: Callable[[Sequence, int], int] | None = None,
    ) -> None:
        super().__init__(settings, pool, batch, look_up)
        self._max_loras = settings.max_loras

    def submit(self, sequence: Sequence) -> bool:
        """As ``Scheduler.submit``; whoever comes may go before those who wait for a slot."""
        super().submit(sequence)
        return True

    @property
    def may_change_head(self) -> bool:
        """Whether the step after the next may admit whom this one could not: any end may free a slot."""
        return True

    def _admit_waiting(self, budget: int, seats: int, slots: int) -> None:
        used = {sequence.state.request.adapter for sequence in self.running if not sequence.ending}
        passed: list[Sequence] = []
        while self.waiting and budget > 0 and seats > 0:
            sequence = self.waiting[0]
            adapter = sequence.state.request.adapter
            if len(used) >= self._max_loras and adapter not in used:
                passed.append(self.waiting.popleft())
                continue
            tokens = self._admit(sequence, budget)
            if tokens == SET_ASIDE:
                continue
            if tokens == PASSED_OVER:
                self._pass_over()
                passed.append(sequence)
                continue
            if tokens:
                used.add(adapter)
                budget -= tokens + slots
                seats -= 1
            elif self.running or not self._let_loaded_go():
                break
        self.waiting.extendleft(reversed(passed))
