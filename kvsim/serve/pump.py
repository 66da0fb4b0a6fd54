"""The paced clock: simulated time runs with the wall clock's, and what happens in it is told as it happens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from kvsim.sim.online import Listener, OnlineServing, RequestFacts
from kvsim.workload.request import Request

LONGEST_TURN_S = 0.005
"""Wall time that the simulation takes at a stretch before others get their turn."""


class Receiver(Protocol):
    """Who sent a request: told at the simulated instant at which it happens, ``wake`` once a turn after all of it."""

    def tokens(self, count: int, time_s: float) -> None: ...

    def finished(self, facts: RequestFacts) -> None: ...

    def refused(self) -> None: ...

    def wake(self) -> None: ...


class Pump:
    """Lets a simulated system serve requests that come by and by.

    Simulated time is ``speed`` times the wall time since ``start``. Nothing in it happens early; it happens late by
    what the event loop is busy, or where the simulation itself takes longer than it has: ``lag_s`` says how late.
    While it is behind, it goes on turn by turn, between which others get theirs, and requests arrive where it has got
    to.
    """

    def __init__(self, build: Callable[[Listener], OnlineServing], speed: float) -> None:
        self.serving = build(self)
        self.lag_s = 0.0
        """Wall time by which the last event came late, and ``worst_lag_s`` the most of any."""
        self.worst_lag_s = 0.0
        self._speed = speed
        self._receivers: dict[int, Receiver] = {}
        self._touched: set[Receiver] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._next_s = math.inf
        self._is_behind = False
        """Whether the last turn ended before everything had happened that was due."""

    @property
    def in_flight(self) -> int:
        """Requests that have been sent and are not over."""
        return len(self._receivers)

    def start(self) -> None:
        """Simulated time begins; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()

    def stop(self) -> None:
        """No more simulated time passes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def send(self, sent: Sequence[tuple[Request, Receiver]], received_s: float | None = None) -> float:
        """The requests arrive, all at the same simulated time, which is returned: now, or at the loop's time
        ``received_s`` unless something has happened in simulated time since.
        """
        self._advance_unless_behind(received_s)
        arrival_s = self.serving.now_s
        for request, receiver in sent:
            self._receivers[request.request_id] = receiver
            self.serving.send(request)
        self._after()
        return arrival_s

    def abort(self, request_id: int) -> bool:
        """The client of a request has gone; whether it was still being served."""
        if request_id not in self._receivers:
            return False
        self._advance_unless_behind()
        self._receivers.pop(request_id, None)
        was_served = self.serving.abort(request_id)
        self._after()
        return was_served

    def catch_up(self) -> None:
        """Everything up to now has happened, as far as one turn goes."""
        self._advance_unless_behind()
        self._after()

    def tokens(self, request_id: int, count: int, time_s: float) -> None:
        """Told by the simulation."""
        receiver = self._receivers.get(request_id)
        if receiver is not None:
            receiver.tokens(count, time_s)
            self._touched.add(receiver)

    def finished(self, request_id: int, facts: RequestFacts) -> None:
        """Told by the simulation."""
        receiver = self._receivers.pop(request_id, None)
        if receiver is not None:
            receiver.finished(facts)
            self._touched.add(receiver)

    def refused(self, request_id: int) -> None:
        """Told by the simulation."""
        receiver = self._receivers.pop(request_id, None)
        if receiver is not None:
            receiver.refused()
            self._touched.add(receiver)

    def _due_s(self, at_s: float | None = None) -> float:
        """Simulated time at the loop's time ``at_s``, or now."""
        assert self._loop is not None, "a pump begins before it is sent requests"
        return ((self._loop.time() if at_s is None else at_s) - self._began_s) * self._speed

    def _advance_unless_behind(self, at_s: float | None = None) -> None:
        """Go on to the loop's time ``at_s``, or to now; what is still due then is left to the timer."""
        due_s = self._due_s(at_s)
        if not self._is_behind or self.serving.next_event_s > due_s:
            self._advance(due_s)

    def _advance(self, until_s: float) -> None:
        """Let everything up to that simulated time happen, for one turn at most."""
        assert self._loop is not None, "a pump begins before it is sent requests"
        serving = self.serving
        end = self._loop.time() + LONGEST_TURN_S
        while (at_s := serving.next_event_s) <= until_s:
            serving.advance(at_s)
            self.lag_s = (until_s - at_s) / self._speed
            self.worst_lag_s = max(self.worst_lag_s, self.lag_s)
            if self._loop.time() > end:
                self._is_behind = serving.next_event_s <= until_s
                return
        self._is_behind = False
        if until_s > serving.now_s:
            serving.advance(until_s)

    def _after(self) -> None:
        """Wake whom something happened to, and come back for the next event."""
        for receiver in self._touched:
            receiver.wake()
        self._touched.clear()
        next_s = self.serving.next_event_s
        if next_s == self._next_s and self._timer is not None:
            return
        self.stop()
        self._next_s = next_s
        if math.isfinite(next_s) and self._loop is not None:
            self._timer = self._loop.call_at(self._began_s + next_s / self._speed, self._wake)

    def _wake(self) -> None:
        self._timer = None
        # The clock that woke this may round, so that its time comes just before what it was asked for.
        self._advance(max(self._due_s(), self._next_s))
        self._after()
