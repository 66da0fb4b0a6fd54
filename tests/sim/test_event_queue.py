"""The calendar queue of events against a list that is sorted whenever it is asked."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.event_queue import Entry, EventQueue

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "pop", "pop until", "remove"]),
        st.one_of(st.floats(0, 0.003), st.floats(0, 50), st.sampled_from([0.0, 1 / 512, 1.0])),
        st.integers(0, 3),
    ),
    max_size=200,
)


def entry_of(time_s: float, key: int, number: int) -> Entry:
    entry = Entry()
    entry.time_s, entry.key, entry.number = time_s, key, number
    return entry


def order(entry: Entry) -> tuple[float, int, int]:
    return entry.time_s, entry.key, entry.number


@given(STEPS)
def test_entries_come_in_the_order_of_a_sorted_list(steps: list[tuple[str, float, int]]) -> None:
    queue, left, now_s = EventQueue(), [], 0.0
    for number, (what, delay_s, key) in enumerate(steps):
        left.sort(key=order)
        assert queue.first() is (left[0] if left else None)
        if what == "add":
            left.append(entry_of(now_s + delay_s, key, number))
            queue.add(left[-1])
        elif what == "remove":
            if left:
                queue.remove(left.pop(number % len(left)))
        elif what == "pop":
            expected = left.pop(0) if left else None
            assert queue.pop() is expected
            now_s = expected.time_s if expected else now_s
        else:
            now_s += delay_s
            while left and left[0].time_s <= now_s:
                assert queue.pop_until(now_s) is left.pop(0)
            assert queue.pop_until(now_s) is None
    for expected in sorted(left, key=order):
        assert queue.pop() is expected
    assert queue.pop() is None


def test_far_entries_leave_in_any_order_and_gaps_of_many_turns_are_skipped() -> None:
    queue = EventQueue()
    far = [entry_of(1000.0 + number % 7 / 8, 0, number) for number in range(40)]
    for entry in [*far, entry_of(3.0, 0, 100), entry_of(5e6, 0, 101)]:
        queue.add(entry)
    for entry in far[::3]:
        queue.remove(entry)
    expected = [100, *(entry.number for entry in sorted(far, key=order) if entry.number % 3), 101]
    popped = iter(queue.pop, None)
    assert [entry.number for entry in popped] == expected
    assert queue.first() is None and not queue._later


def test_entries_of_one_instant_are_let_go_of_when_there_are_many() -> None:
    queue = EventQueue()
    for number in range(5000):
        queue.add(entry_of(1.0, 0, 5000 - number))
    popped = [queue.pop() for _ in range(5000)]
    assert [entry.number for entry in popped if entry is not None] == list(range(1, 5001))
    assert len(queue._due) < 2000


@given(st.lists(st.floats(0, 0.2), min_size=200, max_size=400), st.integers(0, 3))
def test_slots_that_many_share_become_narrower_and_the_order_stays(times_s: list[float], every: int) -> None:
    queue, left = EventQueue(), [entry_of(time_s, 0, number) for number, time_s in enumerate(times_s)]
    for entry in left:
        queue.add(entry)
    popped: list[Entry] = []
    while (entry := queue.pop()) is not None:
        popped.append(entry)
        if every and len(popped) % (every + 1) == 0 and len(left) < 1000:
            left.append(entry_of(entry.time_s + 0.001 * every, 0, 1000 + len(left)))
            queue.add(left[-1])
    assert popped == sorted(left, key=order)
    assert queue._slots_per_s > 64 or max(times_s) - min(times_s) < 0.1 or len(set(times_s)) < 100
