"""When requests are sent: at the workload's times, or in a closed loop when others have ended.

The rules are those of simulated time (``kvsim.sim.systems.arrivals``) on a real clock.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import numpy as np

from kvsim.workload.graph import Waits
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload


class Sender(Protocol):
    """Who sends."""

    def prepare(self, request: Request) -> int | None:
        """Make ready what will be sent, if that can be known yet; returns its bytes."""

    def send(self, request: Request, scheduled_s: float) -> Awaitable[None]:
        """Send it, and wait for its end."""


class Replay:
    """Sends every request of a workload once."""

    MOST_READY_BYTES = 64 << 20
    """Bodies that are made ahead of their time, so that making them takes none when they are due."""
    READY_S = 5.0
    """What is due within that time is made before the clock starts."""

    def __init__(self, workload: Workload, sender: Sender, now_s: Callable[[], float]) -> None:
        """``now_s``: the time since the run began."""
        self._workload, self._sender, self._now_s = workload, sender, now_s
        self._first_s = float(workload.arrival_s[0]) if len(workload) else 0.0
        self._roots: Iterator[Request] = workload.sent_first()
        self._ahead: deque[tuple[Request, int]] = deque()
        """Roots that were looked at, and what they take."""
        self._ahead_bytes = 0
        self._due: deque[Request] = deque()
        self._timed: list[tuple[float, int]] = []
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_flight, self.most_in_flight = 0, 0
        self.stopped = False
        self._defect: BaseException | None = None
        self._followers = _Followers(workload)

    async def run(self) -> None:
        """Until the last one has ended, or ``stop``."""
        while not self.stopped:
            await self._send_due()
            next_s = self._next_s()
            if next_s is None:
                if not self._tasks:
                    break
                await self._sleep(None)
            elif not self._look_ahead():
                await self._sleep(next_s)
            else:
                await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._defect is not None:
            raise self._defect

    def stop(self) -> None:
        """Send no more, and give up what is under way."""
        self.stopped = True
        self._wake.set()

    def _next_s(self) -> float | None:
        times = [self._timed[0][0]] if self._timed else []
        root = self._next_root()
        if root is not None:
            times.append(root.arrival_s - self._first_s)
        return min(times, default=None)

    def _next_root(self) -> Request | None:
        if not self._ahead:
            self._take_root()
        return self._ahead[0][0] if self._ahead else None

    def _take_root(self) -> bool:
        request = next(self._roots, None)
        if request is None:
            return False
        size = self._sender.prepare(request) or 0
        self._ahead.append((request, size))
        self._ahead_bytes += size
        return True

    def make_ready(self) -> None:
        """Before the clock starts: what is due soon after."""
        while self._look_ahead() and self._ahead[-1][0].arrival_s - self._first_s < self.READY_S:
            pass

    def _look_ahead(self) -> bool:
        """Make the next root ready, if there is one and room for it."""
        return self._ahead_bytes < self.MOST_READY_BYTES and self._take_root()

    async def _send_due(self) -> None:
        sent = 0
        while (next_s := self._next_s()) is not None and next_s <= self._now_s() and not self.stopped:
            if self._timed and self._timed[0][0] <= next_s:
                scheduled_s, row = heapq.heappop(self._timed)
                self._is_due(self._workload.request(row), scheduled_s)
            else:
                request, size = self._ahead.popleft()
                self._ahead_bytes -= size
                self._is_due(request, request.arrival_s - self._first_s)
            sent += 1
            if sent % 16 == 0:
                # Tasks begin when this one waits: a burst must not be sent only when all of it was looked at.
                await asyncio.sleep(0)

    async def _sleep(self, until_s: float | None) -> None:
        if self.stopped:
            return
        self._wake.clear()
        handle = None
        if until_s is not None:
            handle = asyncio.get_running_loop().call_later(max(0.0, until_s - self._now_s()), self._wake.set)
        await self._wake.wait()
        if handle is not None:
            handle.cancel()

    def _is_due(self, request: Request, scheduled_s: float) -> None:
        most = self._workload.max_concurrency
        if most is None or self.in_flight < most:
            self._dispatch(request, scheduled_s)
        else:
            self._due.append(request)

    def _dispatch(self, request: Request, scheduled_s: float) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        task = asyncio.get_running_loop().create_task(self._one(request, scheduled_s))
        self._tasks.add(task)
        task.add_done_callback(self._over)
        self._go_on(self._followers.after_sent(request.request_id, self._now_s()))

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            self._defect = task.exception()
            self.stop()

    async def _one(self, request: Request, scheduled_s: float) -> None:
        try:
            await self._sender.send(request, scheduled_s)
        finally:
            self.in_flight -= 1
            if not self.stopped:
                now_s = self._now_s()
                if self._due:
                    self._dispatch(self._due.popleft(), now_s)
                self._go_on(self._followers.after_end(request.request_id, now_s))

    def _go_on(self, ready: list[tuple[float, int]]) -> None:
        for each in ready:
            heapq.heappush(self._timed, each)
        if ready:
            self._wake.set()


class _Followers:
    """Who is to be sent once others have ended, or have been sent."""

    def __init__(self, workload: Workload) -> None:
        graph = workload.graph
        self._by_end: _ByOn | None = None
        self._by_sent: _ByOn | None = None
        if graph is not None:
            waits = graph.waits()
            first_s = float(workload.arrival_s[0]) if len(workload) else 0.0
            self._open = np.diff(graph.offsets).tolist()
            self._ready_s = (graph.earliest_s - first_s).tolist()
            self._by_end = _ByOn(waits.those(~waits.from_sent), len(workload))
            self._by_sent = _ByOn(waits.those(waits.from_sent), len(workload))

    def after_end(self, row: int, now_s: float) -> list[tuple[float, int]]:
        """Whom nothing keeps any more, and from when on."""
        return self._over(self._by_end, row, now_s)

    def after_sent(self, row: int, now_s: float) -> list[tuple[float, int]]:
        """Whom nothing keeps any more, and from when on."""
        return self._over(self._by_sent, row, now_s)

    def _over(self, by_on: _ByOn | None, row: int, now_s: float) -> list[tuple[float, int]]:
        found: list[tuple[float, int]] = []
        if by_on is None:
            return found
        for place in by_on.places(row):
            follower = by_on.rows[place]
            self._ready_s[follower] = max(self._ready_s[follower], now_s + by_on.delay_s[place])
            self._open[follower] -= 1
            if not self._open[follower]:
                found.append((self._ready_s[follower], follower))
        return found


class _ByOn:
    """Waits by the request that is waited for."""

    def __init__(self, waits: Waits, num_requests: int) -> None:
        ordered = waits.those(np.argsort(waits.on, kind="stable"))
        self._offsets: list[int] = [0, *np.cumsum(np.bincount(waits.on, minlength=num_requests)).tolist()]
        self.rows: list[int] = ordered.row.tolist()
        self.delay_s: list[float] = ordered.delay_s.tolist()

    def places(self, row: int) -> range:
        """Where its waits stand."""
        return range(self._offsets[row], self._offsets[row + 1])
