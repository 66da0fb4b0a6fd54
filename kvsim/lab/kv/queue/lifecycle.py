"""What becomes of every request under one scheduler and one budget: its phases, what it holds, and why it waits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.errors import CapacityError
from kvsim.lab.kv.queue.budget import Budget, bytes_per_block
from kvsim.lab.kv.queue.held import Held, held_pages, held_whole
from kvsim.lab.kv.queue.schedulers import FITTING, SCHEDULERS
from kvsim.lab.kv.queue.served_workload import Sent
from kvsim.lab.kv.queue.waits import Queue, Waits, waits_of
from kvsim.plan.plan import Plan
from kvsim.record.binned import Floats
from kvsim.record.detail import HELD
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case, run
from kvsim.units import MILLI
from kvsim.workload.workload import Counts, Ints


@dataclass(frozen=True, kw_only=True)
class Life:
    """One request, from its client's sending to its last token. Tokenise, queue, prefill and decode follow each other
    and sum to ``latency_ms``."""

    budget: str
    scheduler: str
    id: str
    arrival_ms: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    """Tokens of the prompt that the prefix cache had."""
    kv_tokens: int
    """Footprint: prompt and answer."""
    kv_blocks: int
    kv_bytes: int
    """Footprint in whole blocks; what it shares with others counts, too."""
    tokenise_ms: float
    """By the rate that was given."""
    queue_ms: float
    """Until the first step with some of the prompt."""
    prefill_ms: float
    """From there to the first token; after a preemption before it, the second wait is in it."""
    decode_ms: float
    """From the first token to the last, in the engine."""
    stream_ms: float
    """From the first token to the last, as the client sees it: the way there takes every token as long."""
    ttft_ms: float
    latency_ms: float
    admitted_ms: float
    """From the start of the run, as ``arrival_ms``."""
    finish_ms: float
    deadline_ms: float | None
    """Counted from ``arrival_ms``."""
    missed: bool | None
    """Whether the last token came after the deadline; ``None``: it has none."""
    preemptions: int
    wait_memory_ms: float | None
    """Parts of ``queue_ms``; ``None``: pages that grow do not tell what a request waits for."""
    wait_seats_ms: float | None
    wait_step_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Course:
    """One run: every request in the order in which it reached the engine, and what was held meanwhile."""

    scheduler: str
    budget: Budget
    budget_blocks: int
    block_bytes: float
    seats: int
    lives: tuple[Life, ...]
    begin_s: float
    """When the first request was sent."""
    held: Held
    """What counts against the budget: footprints kept, or pages."""
    pages_block_s: float
    """Blocks that were really in use, integrated over time."""
    pages_peak_blocks: int

    @property
    def counted_block_s(self) -> float:
        """What counts against the budget, integrated over time."""
        return self.held.block_s if SCHEDULERS[self.scheduler].reservation else self.pages_block_s

    @property
    def duration_s(self) -> float:
        """From the first request's sending to the last token."""
        return max(life.finish_ms for life in self.lives) * MILLI - self.begin_s


def course_of(sent: Sent, plan: Plan, budget: Budget, scheduler: str) -> Course:
    """Serve the requests by a plan of that budget. Raises ``CapacityError`` where one of them fits no engine."""
    rule = SCHEDULERS[scheduler]
    priorities = None if rule.priorities is None else rule.priorities(sent.requests)
    engine = rule.engine(plan)
    settings = engine.colocated_settings
    result = _served(sent, engine, priorities)
    assert result.detail is not None  # it was asked for
    queue = _queue_of(sent, result, np.array([settings.blocks_of(one.footprint_tokens) for one in sent.requests]))
    if rule.reservation:
        ranks, passes = None if priorities is None else priorities.tolist(), rule.reservation == FITTING
        waits: Waits | None = waits_of(queue, ranks, settings.num_blocks, settings.max_num_seqs, passes=passes)
        held = held_whole(queue)
    else:
        waits, held = None, held_pages(result.detail, settings.block_size, is_async=settings.async_scheduling)
    return Course(
        scheduler=scheduler,
        budget=budget,
        budget_blocks=settings.num_blocks,
        block_bytes=bytes_per_block(plan),
        seats=settings.max_num_seqs,
        lives=_Lives(sent, queue, result, waits, bytes_per_block(plan)).of(scheduler, budget.name),
        begin_s=sent.begin_s,
        held=held,
        pages_block_s=float(result.detail.levels[HELD].sum()),
        pages_peak_blocks=result.detail.instances[0].peak_kv_blocks,
    )


def _served(sent: Sent, engine: Plan, priorities: Counts | None) -> SystemResult:
    workload = sent.workload(priorities)
    found = run(Case("unified", "unified", engine, workload, engine.config.seed, keeps_detail=True)).system
    if found.incomplete:
        raise KeyboardInterrupt
    if found.completed < len(sent.requests):
        raise CapacityError(f"{sent.name}: {len(sent.requests) - found.completed} requests fit no engine of this plan")
    return found


def _queue_of(sent: Sent, result: SystemResult, blocks: Ints) -> Queue:
    """The requests as they reached the engine, by what the run kept of each."""
    assert result.detail is not None
    chunks, steps = result.detail.chunks, result.detail.steps
    admitted_s = np.full(len(sent.requests), np.inf)
    begins_s = steps["start_s"][chunks["step"].astype(np.int64)]
    np.minimum.at(admitted_s, chunks["request_id"].astype(np.int64), begins_s)
    return Queue(sent.reached_s, admitted_s, _by_request(result, "finish_s"), blocks)


def _by_request(result: SystemResult, name: str) -> Floats:
    return np.asarray(result.table[name][np.argsort(result.table["request_id"])], dtype=np.float64)


@dataclass(frozen=True)
class _Lives:
    """What each request's row is made of."""

    sent: Sent
    queue: Queue
    result: SystemResult
    waits: Waits | None
    block_bytes: float

    def of(self, scheduler: str, budget: str) -> tuple[Life, ...]:
        names = ("first_token_s", "hit_tokens", "preemptions")
        columns = {name: _by_request(self.result, name) for name in names}
        return tuple(
            self._life(place, scheduler, budget, *(float(columns[name][place]) for name in names))
            for place in range(len(self.sent.requests))
        )

    def _life(
        self, place: int, scheduler: str, budget: str, first_s: float, hit_tokens: float, preemptions: float
    ) -> Life:
        request, queue = self.sent.requests[place], self.queue
        reached_s, admitted_s, finish_s = (
            float(times_s[place]) for times_s in (queue.reached_s, queue.admitted_s, queue.finish_s)
        )
        sent_s, blocks, waits = request.arrival_ms * MILLI, int(queue.blocks[place]), self.waits
        latency_ms = _ms(finish_s - sent_s)
        return Life(
            budget=budget,
            scheduler=scheduler,
            id=request.id,
            arrival_ms=request.arrival_ms,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.output_tokens,
            cached_tokens=int(hit_tokens),
            kv_tokens=request.footprint_tokens,
            kv_blocks=blocks,
            kv_bytes=round(blocks * self.block_bytes),
            tokenise_ms=_ms(reached_s - sent_s),
            queue_ms=_ms(admitted_s - reached_s),
            prefill_ms=_ms(first_s - admitted_s),
            decode_ms=_ms(finish_s - first_s),
            stream_ms=_ms(finish_s - first_s),
            ttft_ms=_ms(first_s - sent_s),
            latency_ms=latency_ms,
            admitted_ms=_ms(admitted_s),
            finish_ms=_ms(finish_s),
            deadline_ms=request.deadline_ms,
            missed=None if request.deadline_ms is None else latency_ms > request.deadline_ms,
            preemptions=int(preemptions),
            wait_memory_ms=None if waits is None else _ms(float(waits.memory_s[place])),
            wait_seats_ms=None if waits is None else _ms(float(waits.seats_s[place])),
            wait_step_ms=None if waits is None else _ms(float(waits.step_s[place])),
        )


def _ms(time_s: float) -> float:
    """To a nanosecond, which is less than what clocks of such runs are rounded by."""
    return round(time_s / MILLI, 6)
