"""When requests are sent: at their times, or in a closed loop once others have ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from kvsim.sim.clock import AFTERMATH, Clock, Timer
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload


class Arrivals:
    """Sends every request of a workload once. In a closed loop it has to be told who has ended.

    A request that waited for another, or for a place among ``max_concurrency``, arrives when it is sent. Those that
    end at one instant are looked at together, by their ids, so that it does not matter who was booked first.
    """

    def __init__(self, clock: Clock, workload: Workload, send: Callable[[Request], None]) -> None:
        self._clock, self._workload, self._send = clock, workload, send
        self._most = workload.max_concurrency
        self._in_flight = 0
        self._due: deque[Request] = deque()
        """Requests that wait for a place."""
        self._ended: list[int] = []
        self._left = len(workload)
        self._successors: tuple[list[int], list[int]] | None = None
        self._think_s = np.zeros(0) if workload.think_s is None else workload.think_s
        successors = workload.successors()
        if successors is not None:
            self._successors = successors[0].tolist(), successors[1].tolist()

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

    def ended(self, request: Request) -> None:
        """Closed loop: the last token of ``request`` is out, or it could not be served."""
        self._ended.append(request.request_id)
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
        self._send(request if request.arrival_s == now else request._replace(arrival_s=now))

    def _go_on(self, _: Timer) -> None:
        now = self._clock.aftermath_s = self._clock.now
        ended, self._ended = sorted(self._ended), []
        self._in_flight -= len(ended)
        while self._due and self._has_room:
            self._dispatch(self._due.popleft())
        for row in ended:
            for successor in self._waiting_for(row):
                self._schedule(self._workload.request(successor), now + float(self._think_s[successor]))

    def _waiting_for(self, row: int) -> list[int]:
        if self._successors is None:
            return []
        rows, offsets = self._successors
        return rows[offsets[row] : offsets[row + 1]]

    def _schedule(self, request: Request, time_s: float) -> None:
        if time_s <= self._clock.now:
            self._is_due(request)
        else:
            self._clock.schedule(time_s, callback=lambda _: self._is_due(request))
