"""Simulated time: what happens at one instant happens in a fixed order, and a sleeper can be woken earlier."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from kvsim.sim.clock import AFTERMATH, ARRIVAL, DECODE_BOUNDARY, PREFILL_BOUNDARY, Clock, MovableTimer

Log = list[tuple[float, str]]


def sleeper(clock: Clock, timer: MovableTimer, log: Log, times_s: list[float]) -> Generator[Any, None, None]:
    for time_s in times_s:
        yield timer.sleep_until(time_s)
        log.append((clock.now, "woke"))


def test_arrivals_come_before_prefill_before_decode_boundaries_before_the_aftermath() -> None:
    clock, log = Clock(), []
    for name, priority in (
        ("aftermath", AFTERMATH),
        ("decode", DECODE_BOUNDARY),
        ("prefill", PREFILL_BOUNDARY),
        ("first arrival", ARRIVAL),
        ("second arrival", ARRIVAL),
    ):
        clock.schedule(1.0, priority, lambda _, name=name: log.append((clock.now, name)))
    clock.run_to_stop()
    assert log == [
        (1.0, "first arrival"),
        (1.0, "second arrival"),
        (1.0, "prefill"),
        (1.0, "decode"),
        (1.0, "aftermath"),
    ]


def test_a_timer_brought_forward_fires_once() -> None:
    clock, log = Clock(), []
    timer = MovableTimer(clock, DECODE_BOUNDARY)
    clock.process(sleeper(clock, timer, log, [10.0, 12.0]))
    clock.schedule(1.0, callback=lambda _: timer.set(3.0))
    clock.run_to_stop()
    assert log == [(3.0, "woke"), (12.0, "woke")]
    assert clock.now == 12.0


def test_a_sleeper_without_a_time_waits_for_one() -> None:
    clock, log = Clock(), []
    timer = MovableTimer(clock, DECODE_BOUNDARY)

    def waits() -> Generator[Any, None, None]:
        yield timer.sleep()
        log.append((clock.now, "woke"))

    clock.process(waits())
    clock.schedule(2.5, callback=lambda _: timer.set(2.5))
    clock.run_to_stop()
    assert log == [(2.5, "woke")]


def test_stop_ends_the_run_after_the_event_under_way() -> None:
    clock, log = Clock(), []
    clock.schedule(1.0, callback=lambda _: clock.stop())
    clock.schedule(2.0, callback=lambda _: log.append(clock.now))
    clock.run_to_stop()
    assert (clock.now, log, clock.num_events) == (1.0, [], 1)


def test_simpy_keeps_what_it_schedules_where_the_clock_takes_it_from() -> None:
    environment: Any = simpy.Environment()
    event: Any = environment.event()
    seen: list[float] = []

    def story() -> Generator[Any, Any, None]:
        seen.append(environment.now)
        yield event
        seen.append(environment.now)

    process = environment.process(story())
    time_s, priority, number, start = environment._queue[0]
    assert (len(environment._queue), time_s, isinstance(priority, int)) == (1, 0.0, True)
    assert number < next(environment._eid)
    environment._queue.clear()
    environment._now = 2.5
    start.callbacks[0](start)
    assert (seen, environment.now, environment._queue) == ([2.5], 2.5, [])
    assert event.callbacks == [process._resume]


def test_a_timer_has_what_simpy_looks_at_in_an_event() -> None:
    environment: Any = simpy.Environment()
    done: Any = environment.event().succeed()
    timer = Clock().schedule(1.0)
    for name in ("_ok", "_value"):
        assert getattr(timer, name) == getattr(done, name), name
    assert timer.callbacks == done.callbacks == []


def test_time_stands_where_it_is_told_to_and_everything_due_has_happened() -> None:
    clock, log = Clock(), []

    def again(_: Any) -> None:
        log.append((clock.now, "again"))
        if len(log) == 2:
            clock.schedule(1.0, AFTERMATH, lambda _: log.append((clock.now, "at once")))

    for time_s in (0.5, 1.0, 2.0):
        clock.schedule(time_s, callback=again)
    assert clock.next_event_s() == 0.5
    clock.run_until(1.0)
    assert (clock.now, log) == (1.0, [(0.5, "again"), (1.0, "again"), (1.0, "at once")])
    clock.run_until(1.75)
    assert clock.now == 1.75 and clock.next_event_s() == 2.0
    # What comes now is counted from now, also of processes, which SimPy itself schedules.
    timer = MovableTimer(clock, DECODE_BOUNDARY)
    clock.process(sleeper(clock, timer, log, [1.9]))
    assert clock.next_event_s() == 1.75
    clock.run_until(1.8)
    assert clock.next_event_s() == 1.9
    clock.run_until(3.0)
    assert log[3:] == [(1.9, "woke"), (2.0, "again")]


def test_timers_that_nobody_waits_for_any_more_are_no_events() -> None:
    clock = Clock()
    timer = MovableTimer(clock, DECODE_BOUNDARY)
    clock.process(sleeper(clock, timer, [], [10.0]))
    clock.run_until(1.0)
    timer.set(2.0)
    assert clock.next_event_s() == 2.0
    clock.run_until(2.0)
    assert clock.next_event_s() == float("inf")
    # Something earlier than the timer that was passed over still comes in its turn.
    log: Log = []
    clock.schedule(5.0, callback=lambda _: log.append((clock.now, "late")))
    clock.schedule(2.5, callback=lambda _: log.append((clock.now, "early")))
    clock.run_to_stop()
    assert log == [(2.5, "early"), (5.0, "late")]
