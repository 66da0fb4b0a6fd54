"""What a system that serves for ever need not remember any longer."""

from __future__ import annotations

from kvsim.sim.routing import AdapterRouter
from kvsim.sim.routing.pooled import HoldingRouter
from kvsim.sim.routing.prefill import Affinity
from kvsim.sim.systems.serving import ServingSystem


def forget(system: ServingSystem, most: int) -> None:
    """Leave at most so many sessions, and chains that are cached nowhere, of those that routers and tiers know."""
    engines = system.prefill_engines
    blocks = sum([engine.settings.num_blocks for engine in engines])
    system.index.forget(most + blocks, lambda instance, chain: engines[instance].pool.may_cache(chain))
    router = system.router.own if isinstance(system.router, HoldingRouter) else system.router
    router = router.own if isinstance(router, AdapterRouter) else router
    if isinstance(router, Affinity):
        router.forget(most)
    if system.tiers is not None:
        system.tiers.forget(most)
