"""vLLM's V1 scheduler with room kept for whole answers: nobody is admitted whose last token has no block yet, so nobody
is preempted. Not vLLM's own rule, and no recording of it: what a queue under a budget is compared by.
"""

from __future__ import annotations

from collections.abc import Callable

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import Sequence


class ReservingScheduler(Scheduler):
    """``Scheduler`` for ``settings.reservation``.

    A footprint is of prompt and answer, cached blocks among them: what two requests share counts for each of them.
    """

    __slots__ = ("_is_fitting",)

    def __init__(
        self,
        settings: EngineSettings,
        pool: BlockPool,
        batch: DecodeBatch,
        look_up: Callable[[Sequence, int], int] | None = None,
    ) -> None:
        super().__init__(settings, pool, batch, look_up)
        self._is_fitting = settings.reservation == "fitting"

    def submit(self, sequence: Sequence) -> bool:
        """As ``Scheduler.submit``; whoever comes may fit where those before do not."""
        super().submit(sequence)
        return True

    @property
    def may_change_head(self) -> bool:
        """Whether the step after the next may admit whom this one could not."""
        return self._is_fitting or self.head_may_grow_hits

    def _footprint(self, sequence: Sequence) -> int:
        state = sequence.state
        return self._blocks_of(state.request.prompt_tokens + state.output_tokens)

    def _admit_waiting(self, budget: int, seats: int, slots: int) -> None:
        room = self.pool.num_blocks
        for running in self.running:
            room -= self._footprint(running)
        passed: list[Sequence] = []
        while self.waiting and budget > 0 and seats > 0:
            sequence = self.waiting[0]
            blocks = self._footprint(sequence)
            if blocks > room:
                if not self._is_fitting:
                    break
                passed.append(self.waiting.popleft())
                continue
            tokens = self._admit(sequence, budget)
            if tokens <= 0:
                break
            room -= blocks
            budget -= tokens + slots
            seats -= 1
        self.waiting.extendleft(reversed(passed))
