"""The load heap against looking at everyone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.routing.loads import DecodeLoads, Loads


@given(st.integers(1, 7), st.lists(st.tuples(st.integers(0, 6), st.integers(-5, 9), st.booleans()), max_size=80))
def test_least_is_a_minimum(num: int, changes: list[tuple[int, int, bool]]) -> None:
    heap = Loads(num)
    expected = [0] * num
    for instance, amount, asks in changes:
        instance %= num
        amount = max(amount, -expected[instance])
        expected[instance] += amount
        heap.add(instance, amount)
        if asks:
            assert expected[heap.least()] == min(expected)
    assert expected[heap.least()] == min(expected)
    assert list(heap.loads) == expected
    assert heap.mean == sum(expected) / num


def test_equals_take_turns() -> None:
    """Requests that come one at a time, each gone before the next: everyone is equally idle."""
    heap, chosen = Loads(3), []
    for _ in range(7):
        chosen.append(heap.least())
        heap.add(chosen[-1], 5)
        heap.add(chosen[-1], -5)
    assert chosen == [0, 1, 2, 0, 1, 2, 0]


def test_a_decode_load_is_the_larger_of_two_shares() -> None:
    loads = DecodeLoads(2, room_tokens=1000, seats=4)
    loads.promise(0, 100)
    assert loads.loads == [0.25, 0.0]
    loads.promise(0, 500)
    assert loads.loads == [0.6, 0.0]
    loads.give_back(0, 500)
    loads.give_back(0, 100)
    assert loads.loads == [0.0, 0.0]


def test_who_has_no_seat_is_fuller_than_who_has_one() -> None:
    """Shared blocks are counted once a request: 5,000 tokens in a room of 1,000."""
    loads = DecodeLoads(3, room_tokens=1000, seats=2)
    loads.promise(0, 1)
    loads.promise(0, 1)
    loads.promise(1, 5000)
    loads.promise(2, 6000)
    assert loads.least() == 1
    assert list(loads.seated_first((0, 2, 1))) == [2, 1, 0]
    loads.give_back(0, 1)
    assert loads.least() == 0
    assert list(loads.seated_first((0, 2, 1))) == [0, 2, 1]
