"""Simulated time: a SimPy environment driven with absolute times, an order for simultaneous events, a movable timer.

SimPy has no public door for a queue of one's own, so this module, and no other, knows what is private there; hence
``simpy>=4.1,<5``, and a test that fails where a version differs (``tests/sim/test_clock.py``):

- ``Environment._queue``: the list into which SimPy puts what it schedules, as ``(time, priority, number, event)``;
- ``Environment._eid``: the counter of those numbers;
- ``Environment._now``: the time that new events are counted from;
- of an event that a process waits for: ``callbacks``, ``_ok`` and ``_value``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Final

import simpy

from kvsim.sim.event_queue import EventQueue

ARRIVAL: Final = 1
"""Arrivals, transfers and releases: at one instant they come before the step boundaries they may take part in."""
PREFILL_BOUNDARY: Final = 2
"""Steps of prefill and colocated instances end: their KV may arrive elsewhere at the same instant."""
DECODE_BOUNDARY: Final = 3
AFTERMATH: Final = 4
"""What follows once every step that ends at this instant has been booked."""
_PLACES: Final = 1 << 26
"""More instances than a run has."""


class Timer:
    """An event that is sure to happen, at the time it is scheduled for.

    To SimPy it is an event that has succeeded; it has just the attributes that SimPy looks at, and no dictionary.
    """

    __slots__ = ("callbacks",)
    _ok: ClassVar[bool] = True
    _value: ClassVar[Any] = None

    def __init__(self, callbacks: list[Callable[[Any], Any]] | None) -> None:
        self.callbacks = callbacks

    def fire(self) -> None:
        """Call whoever waits, once: now is the time."""
        callbacks, self.callbacks = self.callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                callback(self)


class Clock:
    """Drives a SimPy environment: its processes and events, but absolute times, and a queue that is fast when long.

    ``now + delay`` rounds; spans and single steps must end at the very same instant for ties to fall alike.
    """

    __slots__ = (
        "_environment",
        "_next_number",
        "_queue",
        "_scheduled",
        "_stopped",
        "aftermath_s",
        "now",
        "num_events",
    )

    def __init__(self) -> None:
        environment: Any = simpy.Environment()
        self._environment = environment
        self._queue = EventQueue()
        self._scheduled: list[Any] = environment._queue
        """What SimPy itself has scheduled, as it does for processes that begin or end."""
        self._next_number: Callable[[], int] = environment._eid.__next__
        self._stopped = False
        self.now = 0.0
        self.num_events = 0
        self.aftermath_s = -1.0
        """The latest instant whose step boundaries have all been passed; steps that begin then have begun."""

    def process(self, story: Generator[Any, Any, Any]) -> None:
        """Let ``story`` happen, from now on."""
        self._environment.process(story)

    def schedule(
        self, time_s: float, priority: int = ARRIVAL, callback: Callable[[Any], Any] | None = None, place: int = 0
    ) -> Timer:
        """A timer that fires at ``time_s``, which must not lie in the past, for ``callback`` and whoever waits.

        At one instant, timers of lower ``priority`` fire first; of one priority those of a lower ``place``, and of one
        place those that were made first.
        """
        timer = Timer([] if callback is None else [callback])
        self._queue.add(time_s, (time_s, priority * _PLACES + place, self._next_number(), timer))
        return timer

    def stop(self) -> None:
        """End ``run_to_stop`` after the event under way."""
        self._stopped = True

    def run_to_stop(self) -> None:
        """Let events happen until ``stop`` is called, or none is left.

        What ``Environment.run`` does, with the check for failed events and without other ways to stop.
        """
        queue, scheduled, environment = self._queue, self._scheduled, self._environment
        self._stopped = False
        while not self._stopped:
            if scheduled:
                self._take_in()
            entry = queue.pop()
            if entry is None:
                return
            environment._now = self.now = entry[0]
            self.num_events += 1
            event = entry[3]
            if isinstance(event, Timer):
                event.fire()
            else:
                _happen(event)

    def run_until(self, time_s: float) -> None:
        """Let everything happen that is due up to ``time_s``, that instant included; then it is ``time_s``, which must
        not lie in the past.
        """
        queue, scheduled, environment = self._queue, self._scheduled, self._environment
        while True:
            if scheduled:
                self._take_in()
            entry = queue.pop_until(time_s)
            if entry is None:
                break
            environment._now = self.now = entry[0]
            self.num_events += 1
            event = entry[3]
            if isinstance(event, Timer):
                event.fire()
            else:
                _happen(event)
        environment._now = self.now = time_s

    def next_event_s(self) -> float:
        """When something happens next by itself; infinity: nothing does."""
        self._take_in()
        while True:
            entry = self._queue.first()
            if entry is None:
                return math.inf
            event = entry[3]
            if not isinstance(event, Timer) or event.callbacks:
                next_s: float = entry[0]
                return next_s
            self._queue.pop()  # who waited for it has moved to another timer

    def _take_in(self) -> None:
        """Queue what SimPy itself has scheduled."""
        for entry in self._scheduled:
            self._queue.add(entry[0], entry)
        self._scheduled.clear()


def _happen(event: Any) -> None:
    """An event of SimPy's own, as ``Environment.step`` lets it happen."""
    callbacks, event.callbacks = event.callbacks, None
    for callback in callbacks:
        callback(event)
    if not event._ok:
        raise event._value


class MovableTimer:
    """What one process sleeps on: a time that may still be brought forward, or no time until somebody sets one."""

    __slots__ = ("_clock", "_place", "_priority", "_timer")

    def __init__(self, clock: Clock, priority: int, place: int = 0) -> None:
        """``place`` among those who are woken at one instant: it must not matter when they fell asleep."""
        self._clock = clock
        self._priority, self._place = priority, place
        self._timer: Timer | None = None

    def sleep(self) -> Timer:
        """Sleep until ``set``."""
        self._timer = timer = Timer([])
        return timer

    def sleep_until(self, time_s: float) -> Timer:
        """Sleep until ``time_s``, unless ``set`` brings it forward."""
        self._timer = timer = self._clock.schedule(time_s, self._priority, None, self._place)
        return timer

    def set(self, time_s: float) -> None:
        """Fire at ``time_s`` instead: the sleeper moves to a new timer, the old one fires for nobody."""
        old = self._timer
        self._timer = timer = self._clock.schedule(time_s, self._priority, None, self._place)
        if old is not None and old.callbacks is not None:
            timer.callbacks, old.callbacks = old.callbacks, []
