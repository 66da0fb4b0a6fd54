"""The tiers of a plan, as the instances behind which they are ask them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kvsim.errors import ConfigError
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Place, Plan
from kvsim.policy.eviction import EVICTIONS
from kvsim.policy.prefetch import PrefetchSettings, make_prefetch
from kvsim.sim.clock import Clock
from kvsim.sim.engine.sequence import Sequence as Queued
from kvsim.sim.log.detail import DetailLog
from kvsim.sim.tiers.hierarchy import TierHierarchy, next_uses
from kvsim.sim.tiers.lookup import Tiers
from kvsim.sim.tiers.offloading_tiers import OffloadingTiers
from kvsim.workload.workload import Workload

REMEMBERED_CHUNKS = 1 << 20
"""Chunks whose past a prefetch policy keeps."""
AHEAD_CHUNKS = 8
"""Most chunks that come up because of what followed last time."""


def tiers_of(
    clock: Clock,
    plan: Plan,
    side: Instance,
    workload: Workload | None,
    places: Sequence[Place],
    generator: np.random.Generator,
    cached: Callable[[int, Queued, int], None],
    detail: DetailLog | None,
) -> Tiers:
    """The plan's tiers behind instances of ``side`` at ``places``, which tell ``detail``.

    Raises ``ConfigError`` for policies nobody knows, and for one that knows the future where there is no ``workload``.
    """
    policies, block_size = plan.config.policies, plan.spec.block_size_tokens
    known = EVICTIONS.get(policies.eviction)
    next_use = None
    if known is not None and known.is_offline:
        if workload is None:
            raise ConfigError(
                f"policies.eviction = {policies.eviction!r} knows which requests will come, and here nobody does; "
                "allowed: any other policy, as 'lru'"
            )
        next_use = next_uses(workload, block_size, plan.config.cache.chunk_tokens // block_size)
    seed = int(generator.integers(1 << 31))
    loads, served = (None, None) if detail is None else (detail.loads, detail.served)
    hierarchy = TierHierarchy(clock, plan, side, plan.tiers, places, next_use, seed, loads)
    settings = PrefetchSettings(REMEMBERED_CHUNKS, AHEAD_CHUNKS)
    prefetch = None if policies.prefetch == "none" else make_prefetch(policies.prefetch, settings)
    waits_for_backup = not plan.config.cache.async_backup
    kind = OffloadingTiers if hierarchy.rules.offloads else Tiers
    return kind(clock, hierarchy, block_size, prefetch, cached, waits_for_backup=waits_for_backup, tells=served)
