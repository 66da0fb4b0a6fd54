"""The calendar queue of events against one heap."""

from __future__ import annotations

from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.event_queue import EventQueue

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "pop", "pop until"]),
        st.one_of(st.floats(0, 0.003), st.floats(0, 50), st.sampled_from([0.0, 1 / 512, 1.0])),
        st.integers(0, 3),
    ),
    max_size=200,
)


@given(STEPS)
def test_entries_come_as_from_one_heap(steps: list[tuple[str, float, int]]) -> None:
    queue, heap, now_s = EventQueue(), [], 0.0
    for number, (what, delay_s, priority) in enumerate(steps):
        assert queue.first() is (heap[0] if heap else None)
        if what == "add":
            entry = (now_s + delay_s, priority, number, object())
            queue.add(entry[0], entry)
            heappush(heap, entry)
        elif what == "pop":
            expected = heappop(heap) if heap else None
            assert queue.pop() is expected
            now_s = expected[0] if expected else now_s
        else:
            now_s += delay_s
            while heap and heap[0][0] <= now_s:
                assert queue.pop_until(now_s) is heappop(heap)
            assert queue.pop_until(now_s) is None
    while heap:
        assert queue.pop() is heappop(heap)
    assert queue.pop() is None


def test_entries_of_one_instant_are_let_go_of_when_there_are_many() -> None:
    queue = EventQueue()
    for number in range(5000):
        queue.add(1.0, (1.0, number, None))
    assert [queue.pop()[1] for _ in range(5000)] == list(range(5000))
    assert len(queue._due) < 2000
