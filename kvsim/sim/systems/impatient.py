"""Unified serving of clients that give a request up after a while."""

from __future__ import annotations

from kvsim.plan.plan import Plan
from kvsim.sim.clock import Timer
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import RequestState, Sequence
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.workload.workload import Workload


class ImpatientSystem(UnifiedSystem):
    """A request that is not complete ``timeout_s`` after it was sent counts as failed, and the engine is told.

    vLLM aborts a request when its client hangs up: one that waits is never computed, one that runs is not scheduled
    again.
    """

    def __init__(
        self,
        plan: Plan,
        workload: Workload,
        seed: int,
        timeout_s: float,
        patient: int,
        *,
        keeps_detail: bool = False,
    ) -> None:
        """The first ``patient`` requests are never given up."""
        super().__init__(plan, workload, seed, keeps_detail=keeps_detail)
        self._timeout_s, self._patient = timeout_s, patient
        self._awaited: set[int] = set()
        """Ids of the requests that may still be given up."""

    def _submit(self, engine: Engine, sequence: Sequence) -> None:
        super()._submit(engine, sequence)
        if sequence.state.request.request_id < self._patient:
            return
        self._awaited.add(sequence.state.request.request_id)

        def due(_: Timer) -> None:
            self._give_up(engine, sequence)

        self.clock.schedule(self.clock.now + self._timeout_s, callback=due)

    def _give_up(self, engine: Engine, sequence: Sequence) -> None:
        state = sequence.state
        if state.request.request_id not in self._awaited:
            return
        self._awaited.discard(state.request.request_id)
        engine.abort(sequence)
        self.gave_up += 1
        self.loads.add(engine.instance, -1)
        self._leaves_prefill(state)
        if sequence.ready < state.request.prompt_tokens:
            self.backlog_tokens[engine.instance] -= state.request.prompt_tokens
        self.counts.fail(self.clock.now)
        self._gone(state.request, failed=True)

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """Nothing is published of a request that was given up."""
        if self._is_awaited(sequence.state):
            super().prefilled(engine, sequence)

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """A last token that comes too late is nobody's."""
        if self._is_awaited(sequence.state):
            self._awaited.discard(sequence.state.request.request_id)
            super().finished(engine, sequence)

    def _is_awaited(self, state: RequestState) -> bool:
        row = state.request.request_id
        return row < self._patient or row in self._awaited
