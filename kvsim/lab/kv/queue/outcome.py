"""One scheduler under one budget in figures: latency, waits, throughput, deadlines, and how full the budget is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.lab.kv.queue.lifecycle import Course, Life
from kvsim.record.binned import Floats


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A row of the lab's table; percentiles are linear between neighbours."""

    budget: str
    budget_bytes: int
    budget_blocks: int
    """Whole blocks that the budget holds; shares are of these."""
    scheduler: str
    seats: int
    """Requests in the engine at most."""
    requests: int
    duration_s: float
    """From the first request's sending to the last token."""
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    ttft_mean_ms: float
    queue_mean_ms: float
    queue_p95_ms: float
    wait_memory_mean_ms: float | None
    wait_seats_mean_ms: float | None
    wait_step_mean_ms: float | None
    requests_per_s: float
    output_tokens_per_s: float
    deadlines: int
    """Requests that have one."""
    deadline_misses: int
    memory_peak_share: float
    """Held at most: footprints that are kept, or pages of the engine's own rules."""
    memory_mean_share: float
    pages_peak_share: float
    """Blocks in which something stands or is about to; below what is kept, as answers are not there yet."""
    pages_mean_share: float
    running_mean: float
    preemptions: int


def outcome_of(course: Course) -> Outcome:
    """The figures of one run."""
    lives, duration_s, blocks = course.lives, course.duration_s, course.budget_blocks
    latency_ms, queue_ms = _column(lives, "latency_ms"), _column(lives, "queue_ms")
    return Outcome(
        budget=course.budget.name,
        budget_bytes=course.budget.size_bytes,
        budget_blocks=blocks,
        scheduler=course.scheduler,
        seats=course.seats,
        requests=len(lives),
        duration_s=duration_s,
        latency_mean_ms=float(latency_ms.mean()),
        latency_p50_ms=float(np.quantile(latency_ms, 0.5)),
        latency_p95_ms=float(np.quantile(latency_ms, 0.95)),
        ttft_mean_ms=float(_column(lives, "ttft_ms").mean()),
        queue_mean_ms=float(queue_ms.mean()),
        queue_p95_ms=float(np.quantile(queue_ms, 0.95)),
        wait_memory_mean_ms=_mean(lives, "wait_memory_ms"),
        wait_seats_mean_ms=_mean(lives, "wait_seats_ms"),
        wait_step_mean_ms=_mean(lives, "wait_step_ms"),
        requests_per_s=len(lives) / duration_s,
        output_tokens_per_s=sum(life.output_tokens for life in lives) / duration_s,
        deadlines=sum(life.deadline_ms is not None for life in lives),
        deadline_misses=sum(life.missed is True for life in lives),
        memory_peak_share=course.held.peak_blocks / blocks,
        memory_mean_share=course.counted_block_s / blocks / duration_s,
        pages_peak_share=course.pages_peak_blocks / blocks,
        pages_mean_share=course.pages_block_s / blocks / duration_s,
        running_mean=course.held.running_s / duration_s,
        preemptions=sum(life.preemptions for life in lives),
    )


def _column(lives: Sequence[Life], name: str) -> Floats:
    return np.array([getattr(life, name) for life in lives], dtype=np.float64)


def _mean(lives: Sequence[Life], name: str) -> float | None:
    return None if any(getattr(life, name) is None for life in lives) else float(_column(lives, name).mean())
