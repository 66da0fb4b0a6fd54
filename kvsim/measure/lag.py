"""Whether the client kept up: how late it sent, how late its event loop woke, how much of a core it took.

A run is *saturated* where its times may be the client's own:

- of 100 requests more than one was sent over ``MOST_LAG_S`` after its time, or
- of 100 short sleeps more than one ended so much too late: tokens were then read as late, or
- the process had over ``MOST_CPU`` of one core, which is all that it can have.
"""

from __future__ import annotations

import asyncio
import time
from array import array

import numpy as np

MOST_LAG_S = 0.005
MOST_CPU = 0.9
NAP_S = 0.01


class LoopLag:
    """Sleeps again and again, and notes by how much too long."""

    def __init__(self) -> None:
        self.late_s = array("d")
        self.start()

    def start(self) -> None:
        """The run begins now."""
        self._cpu_s, self._since_s = time.process_time(), time.perf_counter()

    async def watch(self) -> None:
        """For ever; to be cancelled."""
        while True:
            before_s = time.perf_counter()
            await asyncio.sleep(NAP_S)
            self.late_s.append(time.perf_counter() - before_s - NAP_S)

    def cpu_share(self) -> float:
        """CPU time over time since the run began."""
        passed_s = time.perf_counter() - self._since_s
        return (time.process_time() - self._cpu_s) / passed_s if passed_s > 0 else 0.0


def p99(values: array[float] | list[float]) -> float:
    """0 where there are none."""
    return float(np.percentile(np.asarray(values), 99)) if len(values) else 0.0


def is_saturated(lag_p99_s: float, loop_lag_p99_s: float, cpu_share: float) -> bool:
    """The rule above."""
    return max(lag_p99_s, loop_lag_p99_s) > MOST_LAG_S or cpu_share > MOST_CPU
