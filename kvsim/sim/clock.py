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

from kvsim.sim.event_queue import Entry, EventQueue

ARRIVAL: Final = 1
"""Arrivals, transfers and releases: at one instant they come before the step boundaries they may take part in."""
PREFILL_BOUNDARY: Final = 2
"""Steps of prefill and colocated instances end: their KV may arrive elsewhere at the same instant."""
DECODE_BOUNDARY: Final = 3
AFTERMATH: Final = 4
"""What follows once every step that ends at this instant has been booked."""
_PLACES: Final = 1 << 26
"""More instances than a run has."""


class Timer(Entry):
    """An event that is sure to happen, at the time it is scheduled for.

    To SimPy it is an event that has succeeded; it has just the attributes that SimPy looks at, and no dictionary.
    """

    __slots__ = ("_callback", "_waiting", "is_set")
    _ok: ClassVar[bool] = True
    _value: ClassVar[Any] = None

    def __init__(self, callback: Callable[[Any], Any] | None = None) -> None:
        """``callback(timer)`` when it fires."""
        super().__init__()
        self._callback = callback
        self._waiting: list[Callable[[Any], Any]] | None = None
        self.is_set = False
        """Whether it is still to fire."""

    @property
    def callbacks(self) -> list[Callable[[Any], Any]]:
        """Who waits beside its own callback: where SimPy puts a process that does."""
        if self._waiting is None:
            self._waiting = []
        return self._waiting

    def fire(self) -> None:
        """Call whoever waits: now is the time."""
        callback, waiting = self._callback, self._waiting
        if callback is not None:
            callback(self)
        if waiting is not None:
            self._waiting = None
            for resume in waiting:
                resume(self)


class _SimpyEvent(Timer):
    """An event of SimPy's own, which happens as ``Environment.step`` lets it."""

    __slots__ = ("_event",)

    def __init__(self, entry: tuple[float, int, int, Any]) -> None:
        super().__init__()
        self.time_s, self.key, self.number, self._event = entry

    def fire(self) -> None:
        event = self._event
        callbacks, event.callbacks = event.callbacks, None
        for callback in callbacks:
            callback(event)
        if not event._ok:
            raise event._value


class Clock:
    """Drives a SimPy environment: its processes and events, but absolute times, and a queue that is fast when long.

    ``now + delay`` rounds; spans and single steps must end at the very same instant for ties to fall alike.
    """

    __slots__ = (
        "_environment",
        "_next_number",
        "_number",
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
        self._number = 0
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
        place those that were set first.
        """
        timer = Timer(callback)
        self.set(timer, time_s, priority, place)
        return timer

    def set(self, timer: Timer, time_s: float, priority: int = ARRIVAL, place: int = 0) -> None:
        """Let ``timer`` fire at ``time_s``, and not when it was to before; as ``schedule``."""
        if timer.is_set:
            self._queue.remove(timer)
        timer.time_s, timer.key = time_s, priority * _PLACES + place
        self._number = timer.number = self._number + 1
        timer.is_set = True
        self._queue.add(timer)

    def start(self, timer: Timer) -> None:
        """Let ``timer`` fire now, among the processes that begin, in their order."""
        timer.time_s, timer.key, timer.number, timer.is_set = self.now, 0, self._next_number(), True
        self._queue.add(timer)

    def cancel(self, timer: Timer) -> None:
        """``timer`` does not fire any more, if it was to."""
        if timer.is_set:
            timer.is_set = False
            self._queue.remove(timer)

    def stop(self) -> None:
        """End ``run_to_stop`` after the event under way."""
        self._stopped = True

    def run_to_stop(self) -> None:
        """Let events happen until ``stop`` is called, or none is left.

        What ``Environment.run`` does, with the check for failed events and without other ways to stop.
        """
        queue, scheduled = self._queue, self._scheduled
        self._stopped = False
        while not self._stopped:
            if scheduled:
                self._take_in()
            entry = queue.pop()
            if entry is None:
                return
            self._happen(entry)

    def run_until(self, time_s: float) -> None:
        """Let everything happen that is due up to ``time_s``, that instant included; then it is ``time_s``, which must
        not lie in the past.
        """
        queue, scheduled = self._queue, self._scheduled
        while True:
            if scheduled:
                self._take_in()
            entry = queue.pop_until(time_s)
            if entry is None:
                break
            self._happen(entry)
        self._environment._now = self.now = time_s

    def next_event_s(self) -> float:
        """When something happens next by itself; infinity: nothing does."""
        self._take_in()
        entry = self._queue.first()
        return math.inf if entry is None else entry.time_s

    def _happen(self, entry: Entry) -> None:
        assert isinstance(entry, Timer)
        if entry.time_s != self.now:
            self._environment._now = self.now = entry.time_s
        self.num_events += 1
        entry.is_set = False
        entry.fire()

    def _take_in(self) -> None:
        """Queue what SimPy itself has scheduled."""
        for entry in self._scheduled:
            self._queue.add(_SimpyEvent(entry))
        self._scheduled.clear()


class Sleeper:
    """Somebody whose ``MovableTimer`` wakes them up."""

    __slots__ = ()

    def woken(self) -> None:
        """Do what was to be done at this time."""
        raise NotImplementedError


class MovableTimer(Timer):
    """What one sleeper sleeps on, again and again: a time that may still be brought forward, or no time until somebody
    sets one.
    """

    __slots__ = ("_clock", "_is_asleep", "_place", "_priority", "sleeper")

    def __init__(self, clock: Clock, priority: int, place: int = 0) -> None:
        """``place`` among those who are woken at one instant: it must not matter when they fell asleep."""
        super().__init__()
        self._clock = clock
        self._priority, self._place = priority, place
        self._is_asleep = False
        self.sleeper: Sleeper | None = None
        """Who is woken, beside a process that waits."""

    def sleep(self) -> MovableTimer:
        """Sleep until ``set``."""
        self._is_asleep = True
        return self

    def sleep_until(self, time_s: float) -> MovableTimer:
        """Sleep until ``time_s``, unless ``set`` brings it forward."""
        self._is_asleep = True
        self._clock.set(self, time_s, self._priority, self._place)
        return self

    def set(self, time_s: float) -> None:
        """Wake the sleeper at ``time_s`` instead; nobody, where nobody sleeps."""
        if self._is_asleep:
            self._clock.set(self, time_s, self._priority, self._place)

    def fire(self) -> None:
        """Wake the sleeper up."""
        self._is_asleep = False
        if self.sleeper is not None:
            self.sleeper.woken()
        else:
            super().fire()
