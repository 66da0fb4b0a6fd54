"""The paced clock, in an event loop whose time is a number: what happens in simulated time happens at its wall time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from builders import plan
from online import Heard, finish

from kvsim.plan.plan import Plan
from kvsim.serve.pump import LONGEST_TURN_S, Pump
from kvsim.sim.online import OnlineServing, RequestFacts
from kvsim.workload.request import Request


class NumberLoop(asyncio.SelectorEventLoop):
    """Whoever waits for a time gets there at once."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        super().__init__(selectors.SelectSelector())
        wait = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> Any:
            assert timeout is not None, "everybody waits for nothing"
            self.now_s += timeout
            return wait(0)

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now_s


@dataclass(eq=False)
class Noted:
    """One request, as it was told, and when its sender was woken."""

    loop: NumberLoop
    came: list[tuple[float, int]] = field(default_factory=list)
    woken_s: list[float] = field(default_factory=list)
    facts: RequestFacts | None = None
    was_refused: bool = False

    def tokens(self, count: int, time_s: float) -> None:
        self.came.append((time_s, count))

    def finished(self, facts: RequestFacts) -> None:
        self.facts = facts

    def refused(self) -> None:
        self.was_refused = True

    def wake(self) -> None:
        self.woken_s.append(self.loop.now_s)


def request(number: int, prompt: int = 100, output: int = 8) -> Request:
    return Request(number, 0.0, prompt, output, -1, ((-1 - number, prompt),), -1 - number)


def paced(found: Plan, speed: float, act: Callable[[Pump, NumberLoop, list[Noted]], None]) -> tuple[Pump, list[Noted]]:
    """What is noted of requests that ``act`` sends, until nothing is in flight."""
    loop = NumberLoop()
    pump = Pump(lambda listener: OnlineServing(found, "unified", 1, listener), speed)
    noted: list[Noted] = []

    async def main() -> None:
        pump.start()
        act(pump, loop, noted)
        await asyncio.sleep(1e-6)
        for _ in range(10_000):
            await asyncio.sleep(0.01 / speed)
            if not pump.in_flight and len(noted) and all(one.facts or one.was_refused for one in noted):
                break
        pump.stop()

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    return pump, noted


TIMES_S = (0.0, 0.003, 0.0031, 0.02, 0.5, 0.505, 0.51)


def send_all(pump: Pump, loop: NumberLoop, noted: list[Noted]) -> None:
    """Send requests at ``TIMES_S``, in simulated time."""
    for number, time_s in enumerate(TIMES_S):
        one = Noted(loop)
        noted.append(one)
        loop.call_at(1000.0 + time_s / pump._speed, pump.send, [(request(number), one)])


@pytest.mark.parametrize("speed", [1.0, 0.1, 40.0])
def test_tokens_come_at_their_simulated_time(speed: float) -> None:
    pump, noted = paced(plan(), speed, send_all)
    for one in noted:
        assert one.facts is not None
        expected = [1000.0 + time_s / speed for time_s, _ in one.came]
        assert one.woken_s == pytest.approx(expected, abs=1e-6 / speed)
        assert sum(count for _, count in one.came) == 8
    assert pump.worst_lag_s < 1e-6


def test_requests_are_served_as_those_that_are_sent_at_the_same_times() -> None:
    _, noted = paced(plan(), 1.0, send_all)
    heard = Heard()
    serving = OnlineServing(plan(), "unified", 1, heard)
    for number, time_s in enumerate(TIMES_S):
        serving.advance(time_s)
        serving.send(request(number))
    finish(serving)
    for number, one in enumerate(noted):
        assert one.facts is not None
        assert one.facts.ttft_s == pytest.approx(heard.facts[number].ttft_s, abs=1e-9), number
        assert one.facts.e2e_s == pytest.approx(heard.facts[number].e2e_s, abs=1e-9)
        assert [count for _, count in one.came] == [count for _, count in heard.tokens_of[number]]


def test_a_busy_loop_makes_it_late_and_says_by_how_much() -> None:
    def busy(pump: Pump, loop: NumberLoop, noted: list[Noted]) -> None:
        noted.append(Noted(loop))
        pump.send([(request(0), noted[0])])
        loop.now_s += 2.5

    pump, (one,) = paced(plan(), 1.0, busy)
    assert pump.worst_lag_s == 2.5  # of the first step's beginning
    assert [time_s for time_s, _ in one.came[:3]] == [1.0, 2.0, 3.0]
    assert one.woken_s[0] == 1002.5  # once for both tokens that were due
    assert one.woken_s[1:] == pytest.approx([1003.0, 1004.0, 1005.0, 1006.0, 1007.0, 1008.0])


@pytest.mark.sources
def test_others_get_their_turn_while_it_catches_up() -> None:
    """A clock that moves with every look: the pump stops after a turn, and goes on."""

    def slow(pump: Pump, loop: NumberLoop, noted: list[Noted]) -> None:
        for number in range(20):
            noted.append(Noted(loop))
            pump.send([(request(number, output=40), noted[-1])])
        loop.now_s += 30.0
        advance, steps = pump.serving.advance, []

        def counted(to_s: float) -> None:
            steps.append(to_s)
            loop.now_s += LONGEST_TURN_S / 4
            advance(to_s)

        pump.serving.advance = counted  # type: ignore[method-assign]
        pump.catch_up()
        assert len(steps) <= 5
        pump.serving.advance = advance  # type: ignore[method-assign]

        # Who comes meanwhile costs no turn of its own, and arrives where the simulation has got to.
        behind_s = pump.serving.now_s
        noted.append(Noted(loop))
        assert pump.send([(request(20), noted[-1])]) == behind_s < 30.0

    _, noted = paced(plan(), 1.0, slow)
    assert all(one.facts is not None for one in noted)


def test_whoever_leaves_is_told_no_more() -> None:
    def leave(pump: Pump, loop: NumberLoop, noted: list[Noted]) -> None:
        noted.extend((Noted(loop), Noted(loop)))
        for number, one in enumerate(noted):
            pump.send([(request(number), one)])
        assert pump.abort(0)
        assert not pump.abort(0) and not pump.abort(7)
        noted[0].was_refused = True

    pump, (gone, stays) = paced(plan(), 1.0, leave)
    assert gone.came == [] and gone.facts is None
    assert stays.facts is not None
    state = pump.serving.state()
    assert (state.finished, state.aborted, state.free_blocks) == (1, 1, state.total_blocks)


def test_a_request_arrives_when_it_was_received_unless_something_has_happened_since() -> None:
    arrivals: list[float] = []

    def late(pump: Pump, loop: NumberLoop, noted: list[Noted]) -> None:
        noted += [Noted(loop), Noted(loop), Noted(loop)]
        loop.now_s = 1004.0
        arrivals.append(pump.send([(request(0), noted[0])], 1001.5))  # idle since 0 s
        arrivals.append(pump.send([(request(1), noted[1])], 1001.0))  # received before, and read later
        loop.now_s = 1005.0
        pump.catch_up()
        arrivals.append(pump.send([(request(2), noted[2])], 1003.0))  # steps have ended at 2.5, 3.5 and 4.5 s

    paced(plan(), 1.0, late)
    assert arrivals == [1.5, 1.5, 5.0]
