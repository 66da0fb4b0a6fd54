"""The most that a run can cost, and the time-outs that see to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvsim.errors import ConfigError
from kvsim.measure.cloud.prices import Machine

STARTUP_S = 300
"""A container that is not up by then is given up."""
STARTS = 2
"""Containers that may be started and paid for: one may be taken away, and another brought up that does no work."""
IDLE_S = 2
"""After its work; the least that Modal takes."""
GRACE_S = 30
"""What a container is left to end in, once it is told to."""
PREPARE_S = 1800
"""For getting weights into the volume, without a GPU."""
PREPARES = Machine(cores=4, memory_gib=16)
LEAST_S = 120
"""A run in which no server could come up is not begun."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The time-outs of a run, in whole seconds."""

    prepare_s: int
    """0: nothing is to be got."""
    run_s: int
    """For the work: servers come up in it, loads run in it."""
    wanted_s: int
    """What the work would take at the very most; more than ``run_s`` where money is what ends it."""

    @property
    def is_cut(self) -> bool:
        return self.run_s < self.wanted_s

    def usd(self, machine: Machine) -> float:
        """What is paid at most: every time-out run out, on machines used to the full."""
        return _around_usd(machine, self.prepare_s) + self.run_s * machine.usd_per_s


def limits_for(machine: Machine, wanted_s: float, max_usd: float, *, prepares: bool) -> Limits:
    """Time for all of it, or for as much of it as ``max_usd`` pays for.

    Raises ``ConfigError`` where that pays for too little to begin, with what would be enough.
    """
    prepare_s = PREPARE_S if prepares else 0
    around_usd = _around_usd(machine, prepare_s)
    wanted = math.ceil(wanted_s)
    run_s = min(wanted, math.floor((max_usd - around_usd) / machine.usd_per_s))
    least = min(LEAST_S, wanted)
    if run_s < least:
        enough = math.ceil(100 * (around_usd + least * machine.usd_per_s)) / 100
        raise ConfigError(f"--max-usd {max_usd:g}: a run on {machine.words} is begun with {enough:.2f} or more")
    return Limits(prepare_s, run_s, wanted)


def _around_usd(machine: Machine, prepare_s: int) -> float:
    """What is paid besides the work."""
    on_gpu = (STARTS * STARTUP_S + IDLE_S + GRACE_S) * machine.usd_per_s
    before = prepare_s and (STARTS * STARTUP_S + prepare_s + IDLE_S + GRACE_S) * PREPARES.usd_per_s
    return on_gpu + before
