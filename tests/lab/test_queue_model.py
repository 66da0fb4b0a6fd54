"""Schedulers beside a model of their own that counts steps of a second, and what holds of any queue."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queued import BLOCK, engine, served

from kvsim.lab.kv.queue.schedulers import SCHEDULERS
from kvsim.lab.kv.queue.workload_file import QueuedRequest

RESERVING = [name for name, rule in SCHEDULERS.items() if rule.reservation]


def blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)


def model(
    rows: Sequence[QueuedRequest], room: int, seats: int, scheduler: str
) -> tuple[list[float], list[float], float]:
    """When each is admitted first and ends, and block-seconds; step by step, everybody looked at in each."""
    whole = [blocks(row.prompt_tokens + row.output_tokens) for row in rows]
    rank = {
        "fifo": lambda i: rows[i].arrival_ms,
        "vllm": lambda i: rows[i].arrival_ms,
        "shortest-cache": lambda i: (rows[i].prompt_tokens + rows[i].output_tokens, rows[i].arrival_ms),
        "memory-aware-deadline": lambda i: (
            rows[i].arrival_ms + (rows[i].deadline_ms or math.inf), rows[i].arrival_ms),
    }[scheduler]  # fmt: skip
    left, waiting, running = sorted(range(len(rows)), key=lambda i: rows[i].arrival_ms), [], []
    begin, end, made, area, now_s = [math.nan] * len(rows), [0.0] * len(rows), [0] * len(rows), 0.0, 0.0
    while left or waiting or running:
        if not waiting and not running:
            now_s = max(now_s, rows[left[0]].arrival_ms / 1e3)
        while left and rows[left[0]].arrival_ms / 1e3 <= now_s:
            waiting.append(left.pop(0))
        fits = (lambda i: whole[i]) if scheduler != "vllm" else (lambda i: blocks(rows[i].prompt_tokens + made[i]))
        held = sum(map(fits, running))
        lost: list[int] = []
        while held > room:  # pages alone: the last gives up its own
            lost.insert(0, running.pop())
            held = sum(map(fits, running))
        if scheduler != "vllm":
            waiting.sort(key=rank)
        for i in [] if lost else list(waiting):
            if len(running) < seats and held + fits(i) <= room:
                waiting.remove(i)
                running.append(i)
                held += fits(i)
                begin[i] = now_s if math.isnan(begin[i]) else begin[i]
            elif scheduler != "memory-aware-deadline":
                break
        waiting[:0] = lost
        area += held
        now_s += 1
        for i in list(running):
            made[i] += 1
            if made[i] == rows[i].output_tokens:
                running.remove(i)
                end[i] = now_s
    return begin, end, area


@st.composite
def queues(draw: st.DrawFn) -> list[QueuedRequest]:
    """Arrivals between whole seconds after each other's, so that none comes as a step ends."""
    count = draw(st.integers(1, 8))
    found = []
    for place in range(count):
        deadline_s = draw(st.one_of(st.none(), st.integers(1, 40)))
        found.append(
            QueuedRequest(
                id=str(place),
                arrival_ms=1000 * draw(st.integers(0, 12)) + 50 * (place + 1),
                prompt_tokens=draw(st.integers(1, 20)),
                output_tokens=draw(st.integers(1, 12)),
                deadline_ms=None if deadline_s is None else 1000.0 * deadline_s + place,
            )
        )
    return found


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=60, deadline=None)
@given(rows=queues(), spare=st.integers(0, 12), seats=st.integers(1, 5))
def test_the_engine_does_what_the_model_does(scheduler: str, rows: list[QueuedRequest], spare: int, seats: int) -> None:
    room = max(blocks(row.footprint_tokens) for row in rows) + spare
    course = served(rows, scheduler, engine(room, seats))
    begin, end, area = model(rows, room, seats, scheduler)
    found = {life.id: (life.admitted_ms / 1e3, life.finish_ms / 1e3) for life in course.lives}
    for row, begin_s, end_s in zip(rows, begin, end, strict=True):
        assert found[row.id] == pytest.approx((begin_s, end_s), abs=1e-6), row.id
    assert course.held.block_s == pytest.approx(area)
    assert course.held.peak_blocks <= room


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=25, deadline=None)
@given(rows=queues(), spare=st.integers(0, 12), shared=st.integers(1, 12), is_async=st.booleans())
def test_levels_are_within_the_budget_and_add_up(
    scheduler: str, rows: list[QueuedRequest], spare: int, shared: int, is_async: bool
) -> None:
    rows = [
        row.model_copy(update={"prefix_group": "g", "prefix_tokens": shared}) if row.prompt_tokens >= shared else row
        for row in rows
    ]
    room = max(blocks(row.footprint_tokens) for row in rows) + spare
    course = served(rows, scheduler, engine(room, 4, enable_prefix_caching=True, async_scheduling=is_async))
    assert course.held.peak_blocks <= room and course.pages_peak_blocks <= room
    assert course.held.blocks[-1] == course.held.running[-1] == course.held.waiting[-1] == 0
    for life in course.lives:
        assert life.tokenise_ms + life.queue_ms + life.prefill_ms + life.decode_ms == pytest.approx(life.latency_ms)
    if scheduler not in RESERVING:
        assert course.held.block_s >= course.pages_block_s - 1e-6
        assert is_async or course.held.block_s == pytest.approx(course.pages_block_s)
        assert course.counted_block_s == course.pages_block_s
        return
    assert sum(life.preemptions for life in course.lives) == 0
    residence = sum(life.kv_blocks * (life.finish_ms - life.admitted_ms) / 1e3 for life in course.lives)
    assert course.held.block_s == pytest.approx(residence)
    assert is_async or course.pages_block_s <= residence + 1e-6
    for life in course.lives:
        parts = (life.wait_memory_ms, life.wait_seats_ms, life.wait_step_ms)
        assert sum(part or 0.0 for part in parts) == pytest.approx(life.queue_ms, abs=1e-4)
