"""Writes under way below the engines."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.policy.eviction import Access
from kvsim.sim.clock import Clock
from kvsim.sim.tiers.ports import Channel, Port, SharedTransfer
from kvsim.sim.tiers.transfers import Transfers
from kvsim.sim.tiers.writes import NO_READS, Load, Receiver, Write, Writes

pytestmark = pytest.mark.sources


def arriving(at_s: float) -> SharedTransfer:
    return SharedTransfer((), 1.0, at_s)


class Log(Receiver):
    """Notes what has arrived, and may send on what comes to tier 0."""

    def __init__(self, writes: Writes, sends_on_s: float = 0.0) -> None:
        self.writes, self.sends_on_s = writes, sends_on_s
        self.arrived: list[tuple[float, int, int]] = []

    def send(self, done_s: float, tier_number: int, chain: int) -> None:
        Write(self.writes, arriving(done_s), NO_READS, self, tier_number, [(chain, 0, 1)], Access())

    def written(self, now_s: float, tier_number: int, runs: list[tuple[int, int, int]], access: Access) -> None:
        self.arrived.append((now_s, tier_number, runs[0][0]))
        if self.sends_on_s and tier_number == 0:
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


def test_what_is_passed_on_is_there_once_it_has_been_read() -> None:
    writes = Writes()
    log, reads = Log(writes), [arriving(2.0), arriving(5.0)]
    Write(writes, arriving(3.0), reads, log, 0, [(7, 0, 1)], Access())
    reads[1].arrives_s = 4.0
    for watcher in (reads[1].watcher, *reads[1].others):
        assert watcher is not None
        watcher.retimed()
    writes.settle(3.5)
    assert log.arrived == []
    writes.settle(9.0)
    assert log.arrived == [(4.0, 0, 7)]


def test_what_is_lost_does_not_come_though_its_time_changes() -> None:
    writes = Writes()
    log, lost = Log(writes), arriving(2.0)
    Write(writes, lost, NO_READS, log, 0, [(7, 0, 1)], Access())
    assert [write.runs for write in writes.lose_all()] == [[(7, 0, 1)]]
    lost.arrives_s = 3.0
    assert lost.watcher is not None
    lost.watcher.retimed()
    log.send(4.0, 0, 8)
    writes.settle(9.0)
    assert log.arrived == [(4.0, 0, 8)]


def test_a_load_has_come_once_all_of_it_has() -> None:
    clock, came = Clock(), []
    transfers = Transfers(clock, shares=True)
    slow, fast = (Channel(Port(name), rate) for name, rate in (("slow", 1.0), ("fast", 10.0)))
    Load(clock, [transfers.start((channel,), 10.0) for channel in (slow, fast)], lambda: came.append(clock.now))
    clock.schedule(5.0, callback=lambda _: transfers.start((slow,), 100.0))
    clock.run_to_stop()
    assert came == [15.0]


@given(
    st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 0.1)), max_size=60),
    st.sampled_from([0.0, 1e-4, 0.003, 0.02]),
)
def test_writes_happen_as_from_one_heap(booked: list[tuple[float, float]], sends_on_s: float) -> None:
    writes = Writes()
    log = Log(writes, sends_on_s)
    heap: list[tuple[float, int, int, int]] = []
    expected: list[tuple[float, int, int]] = []
    now_s, number = 0.0, count()

    def settle() -> None:
        writes.settle(now_s)
        while heap and heap[0][0] <= now_s:
            done_s, _, tier_number, chain = heappop(heap)
            expected.append((done_s, tier_number, chain))
            if sends_on_s and tier_number == 0:
                heappush(heap, (done_s + sends_on_s, next(number), 1, chain))
        assert log.arrived == expected

    for chain, (pause_s, takes_s) in enumerate(booked):
        now_s += pause_s / 10
        settle()
        log.send(now_s + takes_s, 0, chain)
        heappush(heap, (now_s + takes_s, next(number), 0, chain))
    now_s += 1.0
    settle()
