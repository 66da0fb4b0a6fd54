"""When requests are sent: at their times, or in a closed loop once others have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from kvsim.sim.clock import AFTERMATH, Clock, Timer
from kvsim.workload.graph import Waits
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload


class Arrivals:
    """Sends every request of a workload once. In a closed loop it has to be told who has ended.

    A request that waited for others, or for a place among ``max_concurrency``, arrives when it is sent. Those that
    end at one instant are looked at together, by their ids, so that it does not matter who was booked first. A request
    that could not be served, or was given up, has ended: who waits for it is sent all the same, and counted.
    """

    def __init__(self, clock: Clock, workload: Workload, send: Callable[[Request], object]) -> None:
        self._clock, self._workload, self._send = clock, workload, send
        self._rows = workload.rows()
        self._most = workload.max_concurrency
        self._in_flight = 0
        self._due: deque[Request] = deque()
        """Requests that wait for a place."""
        self._ended: list[int] = []
        self._left = len(workload)
        self.after_failed = 0
        """Requests that were sent though one that they waited for had failed."""
        self._on_end: _Followers | None = None
        self._on_sent: _Followers | None = None
        self._open: Any = None
        """Waits of each request that are not over."""
        self._ready_s: Any = None
        """When each may be sent, by the waits that are over."""
        self._failed: set[int] = set()
        """Requests that wait, or waited, for one that failed."""
        graph = workload.graph
        if graph is not None:
            waits = graph.waits()
            # Views: lists of a million numbers take five times the room.
            counts = np.diff(graph.offsets)
            most = counts.max(initial=0)
            self._open = counts.astype(np.min_scalar_type(most)).data
            self._ready_s = (graph.earliest_s.copy() if most > 1 else graph.earliest_s).data
            self._on_end = _Followers(waits.those(~waits.from_sent), len(workload))
            if waits.from_sent.any():
                self._on_sent = _Followers(waits.those(waits.from_sent), len(workload))

    @property
    def all_sent(self) -> bool:
        return not self._left

    def story(self) -> Generator[Any, None, None]:
        """A process: those that wait for no other are due, one after the other."""
        clock = self._clock
        for request in self._workload.sent_first():
            if request.arrival_s > clock.now:
                yield clock.schedule(request.arrival_s)
            self._is_due(request)

    def ended(self, request: Request, failed: bool) -> None:
        """Closed loop: the last token of ``request`` is out, or it ``failed``: could not be served, or was given up."""
        self._ended.append(request.request_id)
        if failed and self._on_end is not None:
            self._failed.update(self._on_end.of(request.request_id))
        if len(self._ended) == 1:
            self._clock.schedule(self._clock.now, AFTERMATH, self._go_on)

    def _is_due(self, request: Request) -> None:
        if self._has_room:
            self._dispatch(request)
        else:
            self._due.append(request)

    @property
    def _has_room(self) -> bool:
        return self._most is None or self._in_flight < self._most

    def _dispatch(self, request: Request) -> None:
        now = self._clock.now
        self._in_flight += 1
        self._left -= 1
        row = request.request_id
        if row in self._failed:
            self.after_failed += 1
        if self._on_sent is not None:
            self._over(self._on_sent, row, later=True)
        self._send(request if request.arrival_s == now else request._replace(arrival_s=now))

    def _go_on(self, _: Timer) -> None:
        self._clock.aftermath_s = self._clock.now
        ended, self._ended = sorted(self._ended), []
        self._in_flight -= len(ended)
        while self._due and self._has_room:
            self._dispatch(self._due.popleft())
        if self._on_end is not None:
            for row in ended:
                self._over(self._on_end, row, later=False)

    def _over(self, followers: _Followers, row: int, later: bool) -> None:
        """The waits of ``followers`` for ``row`` are over; ``later``: nobody is due before this event has ended."""
        now = self._clock.now
        for place in range(followers.offsets[row], followers.offsets[row + 1]):
            follower = followers.rows[place]
            ready_s = max(self._ready_s[follower], now + followers.delay_s[place])
            left = self._open[follower] = self._open[follower] - 1
            if left:
                self._ready_s[follower] = ready_s
            else:
                self._schedule(self._rows.request(follower), ready_s, later)

    def _schedule(self, request: Request, time_s: float, later: bool) -> None:
        if time_s <= self._clock.now and not later:
            self._is_due(request)
        else:
            self._clock.schedule(time_s, callback=lambda _: self._is_due(request))


def after_failed_notes(requests: int) -> list[str]:
    """What is to be noted where so many were sent though one that they waited for had failed."""
    return [f"{requests:,} requests were sent though one that they waited for had failed"] if requests else []


def end_notes(after_failed: int, arrived: int, restart_after: int) -> list[str]:
    """What is to be noted at the end, of so many as ``after_failed_notes`` has, and where a restart was not reached."""
    found = after_failed_notes(after_failed)
    if arrived < restart_after:
        found.append(f"cache.restart_after_requests = {restart_after:,}: {arrived:,} came, and nothing was lost")
    return found


class _Followers:
    """Who waits for whom, by the one that is waited for: ``rows[offsets[i]:offsets[i + 1]]`` wait for ``i``."""

    def __init__(self, waits: Waits, num_requests: int) -> None:
        by_on = waits.those(np.argsort(waits.on, kind="stable"))
        offsets = np.zeros(num_requests + 1, dtype=np.min_scalar_type(len(by_on.on)))
        np.cumsum(np.bincount(by_on.on, minlength=num_requests), out=offsets[1:])
        self.offsets: Any = offsets.data
        self.rows: Any = by_on.row.astype(np.min_scalar_type(num_requests)).data
        self.delay_s: Any = by_on.delay_s.data

    def of(self, row: int) -> list[int]:
        """Who waits for one."""
        found: list[int] = self.rows[self.offsets[row] : self.offsets[row + 1]].tolist()
        return found
