"""Three requests and a budget for two: every scheduler's order computed by hand, steps of a second."""

from __future__ import annotations

import pytest
from queued import ANY, engine, of, request, served

from kvsim.lab.kv.queue.lifecycle import Course, course_of
from kvsim.lab.kv.queue.outcome import outcome_of

# Footprints of 8, 12 and 6 tokens: 2, 3 and 2 blocks of 4.
A, B, C = request("a", 4, 4), request("b", 8, 4, deadline_s=5), request("c", 4, 2, deadline_s=5.5)


def spans(course: Course) -> dict[str, tuple[float, float]]:
    return {life.id: (life.admitted_ms / 1e3, life.finish_ms / 1e3) for life in course.lives}


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [
        # A and B fill the budget; C waits for both.
        ("fifo", {"a": (0, 4), "b": (0, 4), "c": (4, 6)}),
        # C and A, 4 blocks; B needs 3, which are free when C ends.
        ("shortest-cache", {"a": (0, 4), "b": (2, 6), "c": (0, 2)}),
        # B and C; A, who has no deadline, gets C's two blocks.
        ("memory-aware-deadline", {"a": (2, 6), "b": (0, 4), "c": (0, 2)}),
        # 1, 2 and 1 blocks at first; at 1 s each needs one more and one is free: B's costs C its blocks until 4 s, and
        # of C's two tokens there is one, so that one step is left.
        ("vllm", {"a": (0, 4), "b": (0, 4), "c": (0, 5)}),
    ],
)
def test_each_scheduler_in_its_order(scheduler: str, wanted: dict[str, tuple[float, float]]) -> None:
    assert spans(served([A, B, C], scheduler, engine(5))) == wanted


def test_waits_levels_and_figures_of_first_come_first_served() -> None:
    course = served([A, B, C], "fifo", engine(5))
    held = course.held
    assert list(zip(held.times_s, held.blocks, held.running, held.waiting, strict=True)) == [
        (0, 5, 2, 1),
        (4, 2, 1, 0),
        (6, 0, 0, 0),
    ]
    waits = [(life.queue_ms, life.wait_memory_ms, life.wait_seats_ms, life.wait_step_ms) for life in course.lives]
    assert waits == [(0, 0, 0, 0), (0, 0, 0, 0), (4000, 4000, 0, 0)]
    phases = [(life.prefill_ms, life.decode_ms, life.stream_ms, life.ttft_ms) for life in course.lives]
    assert phases == [(1000, 3000, 3000, 1000), (1000, 3000, 3000, 1000), (1000, 1000, 1000, 5000)]
    assert [(life.kv_tokens, life.kv_blocks, life.kv_bytes) for life in course.lives] == [
        (8, 2, 8000),
        (12, 3, 12000),
        (6, 2, 8000),
    ]
    assert [life.missed for life in course.lives] == [None, False, True]
    figures = outcome_of(course)
    assert figures.latency_mean_ms == pytest.approx(14000 / 3) and figures.latency_p50_ms == 4000
    assert figures.latency_p95_ms == pytest.approx(5800) and figures.duration_s == 6
    assert figures.memory_peak_share == 1 and figures.memory_mean_share == pytest.approx(24 / 30)
    # In use: A 1 2 2 2, B 2 3 3 3 (a block more from the second step on), C 1 2.
    assert figures.pages_mean_share == pytest.approx((7 + 11 + 3) / 30)
    assert (figures.deadlines, figures.deadline_misses, figures.requests_per_s) == (2, 1, 0.5)
    assert figures.running_mean == pytest.approx(10 / 6) and figures.output_tokens_per_s == pytest.approx(10 / 6)


def test_pages_and_a_preemption_of_the_engines_own_rules() -> None:
    course = served([A, B, C], "vllm", engine(5))
    held = course.held
    rows = list(zip(held.times_s, held.blocks, held.running, held.waiting, strict=True))
    assert rows[:2] == [(0, 4, 3, 0), (1, 5, 2, 1)] and rows[-2:] == [(4, 2, 1, 0), (5, 0, 0, 0)]
    assert [life.preemptions for life in course.lives] == [0, 0, 1]
    assert [life.wait_memory_ms for life in course.lives] == [None] * 3
    assert held.block_s == course.pages_block_s == 4 + 3 * 5 + 2


def test_seats_and_the_step_under_way_are_told_apart_from_memory() -> None:
    late = request("late", 4, 1, at_s=0.25)
    course = served([A, B, late], "fifo", engine(100, seats=2))
    assert [(life.wait_memory_ms, life.wait_seats_ms, life.wait_step_ms) for life in course.lives][2] == (0, 3750, 0)
    course = served([A, late], "fifo", engine(100, seats=2))
    assert [(life.wait_memory_ms, life.wait_seats_ms, life.wait_step_ms) for life in course.lives][1] == (0, 0, 750)


def test_who_does_not_fit_is_passed_over_by_deadlines_and_passes_nobody_else() -> None:
    first, large = request("first", 4, 6), request("large", 16, 4, at_s=0.5, deadline_s=30)
    small = request("small", 4, 2, at_s=0.75)
    by_deadline = spans(served([first, large, small], "memory-aware-deadline", engine(6)))
    assert by_deadline == {"first": (0, 6), "large": (6, 10), "small": (1, 3)}
    by_arrival = spans(served([first, large, small], "fifo", engine(6)))
    assert by_arrival == {"first": (0, 6), "large": (6, 10), "small": (10, 12)}
    lives = {life.id: life for life in served([first, large, small], "memory-aware-deadline", engine(6)).lives}
    assert lives["large"].wait_memory_ms == 5500 and lives["small"].wait_step_ms == 250


def test_tokenising_comes_before_the_queue() -> None:
    course = course_of(of([A, B], tokenise_us_per_token=250_000), engine(5), ANY, "fifo")
    found = {life.id: (life.tokenise_ms, life.queue_ms, life.latency_ms) for life in course.lives}
    # A's four tokens take 1 s, B's eight 2 s: its first step is then one that begins at 2 s.
    assert found == {"a": (1000, 0, 5000), "b": (2000, 0, 6000)}
