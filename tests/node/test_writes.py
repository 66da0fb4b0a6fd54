"""Writes under way below the engines."""

from __future__ import annotations

from kvsim.node.writes import Write, Writes
from kvsim.policy.eviction import Access


class Log:
    """Stands for a backing: notes what has arrived, and may send on what comes to level 0."""

    def __init__(self, writes: Writes, sends_on_s: float = 0.0) -> None:
        self.writes, self.sends_on_s = writes, sends_on_s
        self.arrived: list[tuple[float, int, int]] = []

    def send(self, done_s: float, level: int, chain: int) -> None:
        self.writes.add(done_s, Write(self, level, [(chain, 0, 1)], Access()))

    def written(self, now_s: float, level: int, runs: list[tuple[int, int, int]], access: Access) -> None:
        self.arrived.append((now_s, level, runs[0][0]))
        if self.sends_on_s and level == 0:
            self.send(now_s + self.sends_on_s, 1, runs[0][0])


def test_writes_happen_in_the_order_of_time_and_ties_in_that_of_booking() -> None:
    writes = Writes()
    log = Log(writes)
    for done_s, chain in ((3.0, 1), (1.0, 2), (2.0, 3), (1.0, 4), (1.0, 5)):
        log.send(done_s, 0, chain)
    writes.settle(0.5)
    assert log.arrived == []
    writes.settle(2.0)
    assert log.arrived == [(1.0, 0, 2), (1.0, 0, 4), (1.0, 0, 5), (2.0, 0, 3)]
    writes.settle(9.0)
    assert log.arrived[4:] == [(3.0, 0, 1)]


def test_what_a_write_causes_happens_in_its_turn() -> None:
    writes = Writes()
    log = Log(writes, sends_on_s=1.5)
    log.send(1.0, 0, 7)
    log.send(2.0, 0, 8)
    writes.settle(3.0)
    assert log.arrived == [(1.0, 0, 7), (2.0, 0, 8), (2.5, 1, 7)]
    writes.settle(3.5)
    assert log.arrived[3:] == [(3.5, 1, 8)]
