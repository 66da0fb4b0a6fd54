"""Systems whose clients give a request up after a while."""

from __future__ import annotations

from kvsim.plan.plan import Plan
from kvsim.sim.engine.sequence import RequestState
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.serving import ServingSystem
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

    def _admit(self, state: RequestState) -> None:
        super()._admit(state)
        if state.request.request_id >= self._patient:
            give_up_after(self, state, self._timeout_s)


class ImpatientPdSystem(PdSystem):
    """``ImpatientSystem`` with prefill and decode apart: a request is given up wherever it is."""

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

    def _admit(self, state: RequestState) -> None:
        super()._admit(state)
        if state.request.request_id >= self._patient:
            give_up_after(self, state, self._timeout_s)


def give_up_after(system: ServingSystem, state: RequestState, timeout_s: float) -> None:
    """Let the client of a request that has just been sent go after so many seconds, unless it is complete by then."""
    system.clock.schedule(system.clock.now + timeout_s, callback=lambda _: system.abort(state))
