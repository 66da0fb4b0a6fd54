"""Transfers over the NICs: bytes over bandwidth, one after the other on a link."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kvsim.fabric.nics import Nics


def test_a_transfer_takes_bytes_over_bandwidth() -> None:
    assert Nics(2, 100.0, 0.5, "fifo").send(0, 1, 50.0, 3.0) == (3.0, 3.5)


def test_a_link_serves_first_come_first_served_at_both_ends() -> None:
    nics = Nics(4, 100.0, 0.0, "fifo")
    assert nics.send(0, 1, 100.0, 0.0) == (0.0, 1.0)
    assert nics.send(0, 2, 100.0, 0.2) == (1.0, 2.0)
    assert nics.send(3, 1, 100.0, 0.2) == (1.0, 2.0)
    assert nics.send(3, 2, 100.0, 0.0) == (2.0, 3.0)


def test_both_directions_of_an_instance_are_independent() -> None:
    nics = Nics(2, 100.0, 0.0, "fifo")
    assert nics.send(0, 1, 100.0, 0.0) == nics.send(1, 0, 100.0, 0.0) == (0.0, 1.0)


def test_without_contention_transfers_do_not_see_each_other() -> None:
    nics = Nics(2, 100.0, 0.0, "none")
    assert [nics.send(0, 1, 100.0, 0.5) for _ in range(3)] == [(0.5, 1.5)] * 3


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 1e6), st.floats(0, 10)), max_size=40))
def test_no_link_carries_two_at_once_and_bytes_are_counted(transfers: list[tuple[int, int, float, float]]) -> None:
    nics = Nics(4, 1e5, 0.0, "fifo")
    busy: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for source, target, num_bytes, ready_s in transfers:
        start_s, end_s = nics.send(source, target, num_bytes, ready_s)
        assert start_s >= ready_s
        assert end_s == start_s + num_bytes / 1e5
        for link in (("out", source), ("in", target)):
            busy.setdefault(link, []).append((start_s, end_s))
    for spans in busy.values():
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert nics.bytes_sent == sum(t[2] for t in transfers)
    assert abs(sum(nics.out_busy_s) - sum(nics.in_busy_s)) < 1e-6
