"""The front end of data-parallel engines, which chooses one of its own for each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kvsim.sim.engine.engine import Engine
from kvsim.sim.routing import Loads

_WAITING_WEIGHT: Final = 4
"""Weight of a waiting request against a running one, in vLLM's data-parallel balancer."""


def balanced(engines: Sequence[Engine], instance: int, group_size: int, loads: Loads) -> int:
    """The engine vLLM's front end sends a request to, among those in service of the ``group_size`` that ``instance`` is
    one of."""
    if group_size == 1:
        return instance
    first = instance - instance % group_size
    best, least = instance, -1
    for place in range(first, min(first + group_size, len(engines))):
        if loads.is_out(place):
            continue
        scheduler = engines[place].scheduler
        score = _WAITING_WEIGHT * (len(scheduler.waiting) + scheduler.loading) + len(scheduler.running)
        if least < 0 or score < least:
            best, least = place, score
    return best
