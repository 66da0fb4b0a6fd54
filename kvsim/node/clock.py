"""Simulated time: SimPy's environment with absolute times, an order for simultaneous events, and a movable alarm."""

from __future__ import annotations

from heapq import heappush

import simpy
from simpy.events import Event

ARRIVAL = 1
"""Arrivals, transfers and releases: at one instant they come before the step boundaries they may take part in."""
PREFILL_BOUNDARY = 2
"""Steps of prefill and colocated instances end: their KV may arrive elsewhere at the same instant."""
DECODE_BOUNDARY = 3
AFTERMATH = 4
"""What follows once every step that ends at this instant has been booked."""


class Bell(Event):
    """An event that is sure to happen, at the time it is scheduled for."""

    def __init__(self, clock: Clock) -> None:
        self.env = clock
        self.callbacks = []
        self._value = None
        self._ok = True
        self._defused = False


class Clock(simpy.Environment):
    """An environment that schedules at absolute times.

    ``now + delay`` rounds; spans and single steps must end at the very same instant for ties to fall alike.
    """

    def ring_at(self, time_s: float, priority: int = ARRIVAL) -> Bell:
        """A bell that rings at ``time_s``, which must not lie in the past."""
        bell = Bell(self)
        heappush(self._queue, (time_s, priority, next(self._eid), bell))
        return bell

    @property
    def events_scheduled(self) -> int:
        """How many events have been scheduled so far. Reading it counts as one."""
        return next(self._eid)


class Alarm:
    """What one process sleeps on: a time that may still be brought forward, or no time until somebody sets one."""

    __slots__ = ("_bell", "_clock", "_priority")

    def __init__(self, clock: Clock, priority: int) -> None:
        self._clock = clock
        self._priority = priority
        self._bell: Event | None = None

    def sleep(self) -> Event:
        """Sleep until ``set``."""
        self._bell = bell = Bell(self._clock)
        return bell

    def sleep_until(self, time_s: float) -> Event:
        """Sleep until ``time_s``, unless ``set`` brings it forward."""
        self._bell = bell = self._clock.ring_at(time_s, self._priority)
        return bell

    def set(self, time_s: float) -> None:
        """Ring at ``time_s`` instead: the sleeper moves to a new bell, the old one rings for nobody."""
        old = self._bell
        bell = self._clock.ring_at(time_s, self._priority)
        if old is not None and old.callbacks is not None:
            bell.callbacks, old.callbacks = old.callbacks, []
        self._bell = bell
