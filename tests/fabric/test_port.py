"""Ports: one transfer after the other, each as fast as the slowest lane of its way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.fabric.port import Lane, Port, book, ends_s, starts_s


def test_one_after_the_other() -> None:
    port = Port("p")
    way = (Lane(port, 10.0, 0.5),)
    assert book(way, 0.0, 20.0) == 2.5
    assert book(way, 1.0, 10.0) == 3.5
    assert (port.busy_s, port.waited_s, port.bytes_moved, port.transfers) == (3.0, 1.0, 30.0, 2)


def test_the_slowest_lane_decides_and_the_others_are_free_sooner() -> None:
    fast, slow = Port("fast"), Port("slow")
    both = (Lane(fast, 100.0), Lane(slow, 10.0))
    assert book(both, 0.0, 100.0) == 10.0
    assert (fast.free_s, slow.free_s) == (1.0, 10.0)
    assert starts_s((Lane(fast, 100.0),), 0.0) == 1.0
    assert ends_s(both, 0.0, 10.0) == 11.0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(1, 100)), min_size=1, max_size=20))
def test_what_was_asked_is_moved_and_nothing_overlaps(asked: list[tuple[float, float]]) -> None:
    port, now, before = Port("p"), 0.0, 0.0
    for gap, size in asked:
        now += gap
        end = book((Lane(port, 7.0),), now, size)
        assert end >= max(now, before) + size / 7.0 - 1e-9
        before = end
    assert port.bytes_moved == pytest.approx(sum(size for _, size in asked))
    assert port.busy_s == pytest.approx(port.bytes_moved / 7.0)
