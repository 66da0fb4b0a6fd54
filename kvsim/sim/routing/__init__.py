"""Routing policies, by name. Policies know nothing of SimPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from kvsim.config import Config
from kvsim.policy.admission import ADMISSIONS
from kvsim.policy.eviction import EVICTIONS
from kvsim.policy.prefetch import PREFETCHERS
from kvsim.policy.registry import Policies
from kvsim.sim.routing import decode, prefill
from kvsim.sim.routing.loads import DecodeLoads, Loads
from kvsim.sim.routing.prefix_index import PrefixIndex, StaleIndex
from kvsim.sim.routing.tier_view import RoutingTierView

__all__ = [
    "DECODE_ROUTERS",
    "PREFILL_ROUTERS",
    "DecodeLoads",
    "Loads",
    "PrefixIndex",
    "RoutingTierView",
    "StaleIndex",
    "check_policies",
    "decode_router",
    "prefill_router",
]

PREFILL_ROUTERS: Policies[Callable[..., prefill.PrefillRouter]] = Policies(
    "routing.prefill",
    {
        "affinity": prefill.Affinity,
        "least_loaded": prefill.LeastLoaded,
        "two_choices": prefill.TwoChoices,
        "round_robin": prefill.RoundRobin,
    },
)
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
    for policies in (PREFILL_ROUTERS, DECODE_ROUTERS, EVICTIONS, PREFETCHERS, ADMISSIONS):
        policies.check(config)


def prefill_router(
    name: str,
    *,
    loads: Loads,
    backlog_tokens: list[float],
    index: PrefixIndex,
    block_size: int,
    guard: float,
    slack: float,
    num_candidates: int,
    generator: np.random.Generator,
    tier_view: RoutingTierView | None = None,
    seats: float = math.inf,
) -> prefill.PrefillRouter:
    """The router of that name. ``tier_view``: tiers whose contents it sees. ``seats``: the load at which an instance
    has none left. Raises ``ConfigError`` naming the nearest.
    """
    match PREFILL_ROUTERS.find(name):
        case prefill.Affinity:
            return prefill.Affinity(
                loads, backlog_tokens, index, block_size, guard, slack, num_candidates, tier_view, seats
            )
        case prefill.TwoChoices:
            return prefill.TwoChoices(loads, generator)
        case found:
            return found(loads)


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
