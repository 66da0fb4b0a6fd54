"""Routing policies, by name. Policies know nothing of SimPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from kvsim.config import Config
from kvsim.config.routing_keys import Routing
from kvsim.policy.admission import ADMISSIONS
from kvsim.policy.eviction import EVICTIONS
from kvsim.policy.prefetch import PREFETCHERS
from kvsim.policy.registry import Policies
from kvsim.policy.scaling import SCALERS
from kvsim.sim.engine.adapter_slots import AdapterSlots, Homes
from kvsim.sim.routing import decode, deployed, prefill
from kvsim.sim.routing.adapter_affinity import AdapterRouter, about_to_route
from kvsim.sim.routing.in_flight import InFlight
from kvsim.sim.routing.loads import DecodeLoads, Loads
from kvsim.sim.routing.pooled import PooledAffinity, PooledLoads
from kvsim.sim.routing.prefix_index import PrefixIndex, StaleIndex
from kvsim.sim.routing.tier_view import RoutingTierView

__all__ = [
    "DECODE_ROUTERS",
    "PREFILL_ROUTERS",
    "AdapterRouter",
    "DecodeLoads",
    "InFlight",
    "Loads",
    "PooledLoads",
    "PrefixIndex",
    "RoutingTierView",
    "StaleIndex",
    "about_to_route",
    "adapter_router",
    "check_policies",
    "decode_router",
    "in_flight_of",
    "prefill_router",
]

PREFILL_ROUTERS: Policies[Callable[..., prefill.PrefillRouter]] = Policies(
    "routing.prefill",
    {
        "affinity": prefill.Affinity,
        "least_loaded": prefill.LeastLoaded,
        "two_choices": prefill.TwoChoices,
        "round_robin": prefill.RoundRobin,
        "dynamo": deployed.Dynamo,
        "llmd": deployed.LlmD,
        "sglang": deployed.SglangCacheAware,
    },
)
_DEPLOYED = (deployed.Dynamo, deployed.LlmD, deployed.SglangCacheAware)
DECODE_ROUTERS: Policies[Callable[..., decode.DecodeRouter]] = Policies(
    "routing.decode",
    {
        "capacity": decode.Capacity,
        "least_loaded": decode.LeastLoaded,
        "two_choices": decode.TwoChoices,
        "round_robin": decode.RoundRobin,
    },
)


def check_policies(config: Config) -> None:
    """Raise ``ConfigError`` for the first policy of any kind that ``config`` names and nobody knows."""
    for policies in (PREFILL_ROUTERS, DECODE_ROUTERS, EVICTIONS, PREFETCHERS, ADMISSIONS, SCALERS):
        policies.check(config)
    for entry in config.autoscale.roles:
        if entry.policy is not None:
            SCALERS.find(entry.policy)


def in_flight_of(name: str, num_instances: int) -> InFlight | None:
    """The books that the router of that name keeps of what it sends; ``None``: none."""
    return InFlight(num_instances) if PREFILL_ROUTERS.find(name) in _DEPLOYED else None


def prefill_router(
    routing: Routing,
    *,
    loads: Loads,
    backlog_tokens: list[float],
    index: PrefixIndex,
    block_size: int,
    slack: float,
    generator: np.random.Generator,
    tier_view: RoutingTierView | None = None,
    seats: float = math.inf,
    in_flight: InFlight | None = None,
    room_tokens: int | Sequence[int] = 1,
    slowness: Sequence[float] = (),
) -> prefill.PrefillRouter:
    """The router that ``routing`` names. ``tier_view``: tiers whose contents it sees. ``seats``: the load at which an
    instance has none left. ``in_flight``: as :func:`in_flight_of` has it. ``room_tokens``: KV tokens that an instance
    has room for, or each has. ``slowness``: as ``PooledAffinity`` has it, over ``PooledLoads``; empty: instances are
    alike. Raises ``ConfigError`` naming the nearest.
    """
    found = PREFILL_ROUTERS.find(routing.prefill)
    if found in _DEPLOYED:
        books = InFlight(len(loads.loads)) if in_flight is None else in_flight
        overlaps = deployed.Overlaps(books, index, block_size, generator)
        return _deployed(found, routing, overlaps, room_tokens)
    match found:
        case prefill.Affinity:
            guard, most = routing.load_guard, routing.candidates
            if isinstance(loads, PooledLoads):
                return PooledAffinity(loads, backlog_tokens, index, block_size, guard, slack, most, slowness)
            return prefill.Affinity(loads, backlog_tokens, index, block_size, guard, slack, most, tier_view, seats)
        case prefill.TwoChoices:
            return prefill.TwoChoices(loads, generator)
        case _:
            return found(loads)


def _deployed(
    found: Callable[..., prefill.PrefillRouter],
    routing: Routing,
    overlaps: deployed.Overlaps,
    room_tokens: int | Sequence[int],
) -> prefill.PrefillRouter:
    match found:
        case deployed.Dynamo:
            given = routing.dynamo
            return deployed.Dynamo(overlaps, given.overlap_credit, given.prefill_load_scale, given.temperature)
        case deployed.LlmD:
            weights = routing.llmd
            return deployed.LlmD(overlaps, weights.prefix, weights.queue, weights.kv_cache, room_tokens)
        case _:
            limits = routing.sglang
            return deployed.SglangCacheAware(
                overlaps, limits.cache_threshold, limits.balance_abs_threshold, limits.balance_rel_threshold
            )


def adapter_router(
    router: prefill.PrefillRouter, routing: Routing, loads: Loads, slots: Sequence[AdapterSlots | None], slack: float
) -> prefill.PrefillRouter:
    """``router`` with ``routing.lora_affinity`` before it, where that is asked for and instances have ``slots``."""
    if not routing.lora_affinity or None in slots:
        return router
    homes: Homes = {}
    for instance, own in enumerate(slots):
        if own is not None:
            own.tell(homes, instance)
    return AdapterRouter(router, loads, homes, routing.load_guard, slack, routing.candidates)


def decode_router(
    name: str, *, loads: Loads, racks: list[list[int]], generator: np.random.Generator
) -> decode.DecodeRouter:
    """The router of that name. Raises ``ConfigError`` naming the nearest."""
    match DECODE_ROUTERS.find(name):
        case decode.Capacity:
            return decode.Capacity(loads, racks)
        case decode.TwoChoices:
            return decode.TwoChoices(loads, generator)
        case found:
            return found(loads)
