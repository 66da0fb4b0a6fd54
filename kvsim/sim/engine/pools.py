"""The kinds of KV blocks that an engine can have."""

from __future__ import annotations

from collections.abc import Callable

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.groups import GroupedPool
from kvsim.sim.engine.paged import PagedPool
from kvsim.sim.engine.radix import RadixPool


def pool_of(settings: EngineSettings, on_evict: Callable[[int, int], None] | None) -> BlockPool:
    """The KV blocks of an engine, with the groups of layers and the prefix cache that are asked for."""
    if settings.kv_groups:
        return GroupedPool(settings, on_evict)
    caching, blank_first = settings.enable_prefix_caching, settings.rules.blank_blocks_first
    if settings.prefix_cache == "radix":
        return RadixPool(settings.num_blocks, enable_prefix_caching=caching, on_evict=on_evict)
    return PagedPool(settings.num_blocks, enable_prefix_caching=caching, on_evict=on_evict, blank_first=blank_first)
