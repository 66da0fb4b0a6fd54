"""When requests are sent: as simulated time has it, on a loop whose time passes at once."""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import replace

import pytest

from kvsim.measure.replay import Replay
from kvsim.sim.clock import Clock
from kvsim.sim.systems.arrivals import Arrivals
from kvsim.workload.request import Request
from kvsim.workload.words import word_of
from kvsim.workload.workload import Workload


class _NoWait(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Where a loop would wait, its time has passed instead."""

    loop: QuickLoop

    def select(self, timeout: float | None = None):  # type: ignore[no-untyped-def]
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now_s += timeout
        return ready


class QuickLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own."""

    def __init__(self) -> None:
        selector = _NoWait()
        selector.loop = self
        self.now_s = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


def service_s(row: int) -> float:
    return 0.05 + 0.37 * (row * 7 % 11)


def replayed(workload: Workload, stop_after: int | None = None) -> list[tuple[int, float, float]]:
    """Request, scheduled and sent of each."""
    loop = QuickLoop()
    sent: list[tuple[int, float, float]] = []

    class Sender:
        def prepare(self, request: Request) -> int | None:
            return 100

        async def send(self, request: Request, scheduled_s: float) -> None:
            sent.append((request.request_id, scheduled_s, loop.time()))
            if stop_after is not None and len(sent) == stop_after:
                replay.stop()
            await asyncio.sleep(service_s(request.request_id))

    async def run() -> None:
        nonlocal replay
        replay = Replay(workload, Sender(), loop.time)
        replay.make_ready()
        await replay.run()

    replay: Replay
    loop.run_until_complete(run())
    loop.close()
    return sent


def simulated(workload: Workload) -> dict[int, float]:
    """When each is sent by the simulator's own arrivals, with the same service times."""
    clock, sent, ended = Clock(), dict[int, float](), list[int]()

    def send(request: Request) -> None:
        sent[request.request_id] = clock.now
        end_s = clock.now + service_s(request.request_id)
        clock.schedule(end_s, callback=lambda _: end(request))

    def end(request: Request) -> None:
        ended.append(request.request_id)
        arrivals.ended(request, failed=False)
        if len(ended) == len(workload):
            clock.stop()

    arrivals = Arrivals(clock, workload, send)
    clock.process(arrivals.story())
    clock.run_to_stop()
    return sent


@pytest.mark.parametrize(
    "workload",
    [
        word_of("chat").generate(80, 5.0, 1),
        word_of("chat").users(6, 80, 1),
        word_of("in=50,out=5").users(5, 60, 2),
        word_of("agent").generate(80, 2.0, 3),
        replace(word_of("agent").generate(80, 2.0, 4), max_concurrency=3),
        replace(word_of("in=50,out=5").generate(60, 8.0, 2), max_concurrency=4),
    ],
    ids=["open", "sessions", "users", "graph", "graph with a limit", "open with a limit"],
)
def test_sent_when_simulated_time_sends(workload: Workload) -> None:
    sent = replayed(workload)
    wanted = simulated(workload)
    first_s = float(workload.arrival_s[0])
    assert len(sent) == len(workload) == len(wanted)
    found = {row: sent_s for row, _, sent_s in sent}
    assert found == pytest.approx({row: at_s - first_s for row, at_s in wanted.items()}, abs=0.02)
    assert all(-1e-9 <= sent_s - scheduled_s < 0.02 for _, scheduled_s, sent_s in sent)


def test_a_stop_ends_what_is_under_way() -> None:
    workload = word_of("in=50,out=5").generate(60, 8.0, 2)
    assert len(replayed(workload, stop_after=7)) == 7


def test_a_defect_is_not_swallowed() -> None:
    class Broken:
        def prepare(self, request: Request) -> int | None:
            return None

        async def send(self, request: Request, scheduled_s: float) -> None:
            raise KeyError("defect")

    async def run() -> None:
        await Replay(word_of("in=50,out=5").generate(5, 100.0, 2), Broken(), asyncio.get_running_loop().time).run()

    loop = QuickLoop()
    with pytest.raises(KeyError, match="defect"):
        loop.run_until_complete(run())
    loop.close()
