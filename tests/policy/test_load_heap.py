"""The load heap against looking at everyone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvsim.policy.routing.load import LoadHeap


@given(st.integers(1, 7), st.lists(st.tuples(st.integers(0, 6), st.integers(-5, 9), st.booleans()), max_size=80))
def test_least_is_a_minimum(num: int, changes: list[tuple[int, int, bool]]) -> None:
    heap = LoadHeap(num)
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
    heap, chosen = LoadHeap(3), []
    for _ in range(7):
        chosen.append(heap.least())
        heap.add(chosen[-1], 5)
        heap.add(chosen[-1], -5)
    assert chosen == [0, 1, 2, 0, 1, 2, 0]
