"""Routing policies, by name. Policies know nothing of SimPy."""

from __future__ import annotations

import math

import numpy as np

from kvsim.errors import ConfigError, nearest
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
    "decode_router",
    "prefill_router",
]

PREFILL_ROUTERS = ("affinity", "least_loaded", "two_choices", "round_robin")
DECODE_ROUTERS = ("capacity", "least_loaded", "two_choices", "round_robin")


def check_names(prefill_name: str, decode_name: str) -> None:
    """Raises ``ConfigError`` for a router that does not exist, naming the nearest."""
    if prefill_name not in PREFILL_ROUTERS:
        raise _unknown("prefill", prefill_name, PREFILL_ROUTERS)
    if decode_name not in DECODE_ROUTERS:
        raise _unknown("decode", decode_name, DECODE_ROUTERS)


def _unknown(side: str, name: str, known: tuple[str, ...]) -> ConfigError:
    return ConfigError(f"routing.{side}: unknown router '{name}'; {nearest(name, known)}")


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
    match name:
        case "affinity":
            return prefill.Affinity(
                loads, backlog_tokens, index, block_size, guard, slack, num_candidates, tier_view, seats
            )
        case "least_loaded":
            return prefill.LeastLoaded(loads)
        case "two_choices":
            return prefill.TwoChoices(loads, generator)
        case "round_robin":
            return prefill.RoundRobin(loads)
    raise _unknown("prefill", name, PREFILL_ROUTERS)


def decode_router(
    name: str, *, loads: Loads, racks: list[list[int]], generator: np.random.Generator
) -> decode.DecodeRouter:
    """The router of that name. Raises ``ConfigError`` naming the nearest."""
    match name:
        case "capacity":
            return decode.Capacity(loads, racks)
        case "least_loaded":
            return decode.LeastLoaded(loads)
        case "two_choices":
            return decode.TwoChoices(loads, generator)
        case "round_robin":
            return decode.RoundRobin(loads)
    raise _unknown("decode", name, DECODE_ROUTERS)
