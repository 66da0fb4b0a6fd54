"""Simulated time: SimPy's environment with absolute times, an order for simultaneous events, and a movable alarm."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import simpy

ARRIVAL = 1
"""Arrivals, transfers and releases: at one instant they come before the step boundaries they may take part in."""
PREFILL_BOUNDARY = 2
"""Steps of prefill and colocated instances end: their KV may arrive elsewhere at the same instant."""
DECODE_BOUNDARY = 3
AFTERMATH = 4
"""What follows once every step that ends at this instant has been booked."""


class Bell:
    """An event that is sure to happen, at the time it is scheduled for.

    To SimPy it is an event that has succeeded; it has just the attributes that SimPy looks at, and no dictionary.
    """

    __slots__ = ("callbacks",)
    _ok = True
    _value = None
    _defused = False

    def __init__(self, callbacks: list[Callable[[Any], None]] | None) -> None:
        self.callbacks = callbacks


class Clock(simpy.Environment):
    """An environment that schedules at absolute times.

    ``now + delay`` rounds; spans and single steps must end at the very same instant for ties to fall alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_events = 0
        self.aftermath_s = -1.0
        """The latest instant whose step boundaries have all been passed; steps that begin then have begun."""
        self._stopped = False

    def ring_at(self, time_s: float, priority: int = ARRIVAL, callback: Callable[[Any], None] | None = None) -> Bell:
        """A bell that rings at ``time_s``, which must not lie in the past, for ``callback`` and whoever waits."""
        bell = Bell([] if callback is None else [callback])
        heappush(self._queue, (time_s, priority, next(self._eid), bell))  # type: ignore[arg-type]
        return bell

    def stop(self) -> None:
        """End ``run_to_stop`` after the event under way."""
        self._stopped = True

    def run_to_stop(self) -> None:
        """Let events happen until ``stop`` is called, or none is left.

        What ``Environment.run`` does, with the check for failed events and without other ways to stop.
        """
        queue = self._queue
        self._stopped = False
        while queue and not self._stopped:
            self._now, _, _, event = heappop(queue)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            self.num_events += 1
            for callback in callbacks:
                callback(event)
            if not event._ok:
                raise event._value


class Alarm:
    """What one process sleeps on: a time that may still be brought forward, or no time until somebody sets one."""

    __slots__ = ("_bell", "_priority", "_ring_at")

    def __init__(self, clock: Clock, priority: int) -> None:
        self._ring_at = clock.ring_at
        self._priority = priority
        self._bell: Bell | None = None

    def sleep(self) -> Bell:
        """Sleep until ``set``."""
        self._bell = bell = Bell([])
        return bell

    def sleep_until(self, time_s: float) -> Bell:
        """Sleep until ``time_s``, unless ``set`` brings it forward."""
        self._bell = bell = self._ring_at(time_s, self._priority)
        return bell

    def set(self, time_s: float) -> None:
        """Ring at ``time_s`` instead: the sleeper moves to a new bell, the old one rings for nobody."""
        old = self._bell
        self._bell = bell = self._ring_at(time_s, self._priority)
        if old is not None and old.callbacks is not None:
            bell.callbacks, old.callbacks = old.callbacks, []
