"""Routing to where a prompt's LoRA adapter is.

llm-d's and the Gateway API inference extension's ``lora-affinity-scorer`` scores an instance by whether it has the
request's adapter; here who has it in a slot is taken as far as the load guard of affinity allows.
"""

from __future__ import annotations

from itertools import islice

from kvsim.sim.engine.adapter_slots import Homes
from kvsim.sim.routing.loads import Loads
from kvsim.sim.routing.pooled import HoldingRouter
from kvsim.sim.routing.prefill import PrefillRouter
from kvsim.sim.routing.prefix_index import Path


class AdapterRouter:
    """Another router's choice where that instance has the adapter; else the least loaded of a few that have it, unless
    that one has more than ``guard`` x the mean load, plus ``slack``."""

    def __init__(
        self, own: PrefillRouter, loads: Loads, homes: Homes, guard: float, slack: float, candidates: int
    ) -> None:
        """``candidates``: how many are looked at of those that have an adapter, the latest first."""
        self.own = own
        self.adapter = 0
        """The adapter of the request that is routed next."""
        self._loads, self._homes = loads, homes
        self._guard, self._slack, self._candidates = guard, slack, candidates

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        chosen = self.own.choose(path, prompt_tokens, session_id)
        homes = self._homes.get(self.adapter)
        if not homes or chosen in homes:
            return chosen
        loads = self._loads.loads
        best = min(islice(reversed(homes), self._candidates), key=loads.__getitem__)
        return best if loads[best] <= self._guard * self._loads.mean + self._slack else chosen


def about_to_route(router: PrefillRouter, adapter: int) -> None:
    """Tell ``router`` of the adapter of the request that it is asked for next, where it looks at adapters."""
    own = router.own if isinstance(router, HoldingRouter) else router
    if isinstance(own, AdapterRouter):
        own.adapter = adapter
