"""One engine whose layers are stages of a pipeline: batches follow each other through the stages.

vLLM's ``EngineCore.step_with_batch_queue``: while its queue has room the engine schedules what comes next, be it
nothing, and else waits for the oldest batch. A turn that scheduled no tokens is followed by a pause where requests
remain; who comes while the engine waits or pauses is looked at with the next turn. A stage begins a batch once it is
free and the batch is there, and is free again once it has sent it on (``Worker.execute_model`` waits for its sends).
Asynchronous: the first stage computes with tokens of the batch of so many steps before as there are stages, and waits
for them (``PPHandler``). All of vLLM 0.32.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import Any, Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.booking import book_chunk
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.pipeline_scheduler import PipelineScheduler
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import Chunk, Step
from kvsim.sim.log.detail import EngineDetail
from kvsim.steptime.curves.pipeline import PipelineStepTime

PAUSE_S: Final = 1e-3
"""``EngineCoreProc._process_engine_step`` sleeps as long where nothing was executed and requests remain."""


class PipelineStep(Step):
    """A step, and its way through the stages."""

    __slots__ = ("begin_s", "end_s", "num_prefilled", "stages_s", "start_s")

    def __init__(self, joined: list[Sequence], preempted: list[Sequence]) -> None:
        super().__init__(joined, preempted)
        self.start_s = self.begin_s = self.end_s = 0.0
        """When it was scheduled, when its first stage begins it, and when it has passed the last one."""
        self.num_prefilled = 0
        self.stages_s: list[float] = []
        """Seconds that each stage takes for it; none: it computes nothing."""


class PipelineEngine(Engine):
    """An engine of ``settings.pipeline_parallel`` stages; ``step_time`` is a ``PipelineStepTime``.

    Each step is an event. What is told of steps, as of engines that run one at a time, is the time between two
    outputs, and where the pipeline was empty before, all of the way.
    """

    __slots__ = ("_ended_s", "_free_s", "_known_s", "_line", "_queue", "_room", "_times")

    def _equip(self, settings: EngineSettings) -> None:
        scheduler, step_time = self.scheduler, self.step_time
        assert isinstance(scheduler, PipelineScheduler)
        assert isinstance(step_time, PipelineStepTime)
        self._line: PipelineScheduler = scheduler
        self._times: PipelineStepTime = step_time
        self._room = settings.batch_queue_size
        self._queue: deque[PipelineStep] = deque()
        """Steps on their way, the oldest first."""
        self._free_s = [0.0] * settings.pipeline_parallel
        """When each stage has sent on what it has."""
        self._known_s: deque[float] = deque()
        """Asynchronous: of so many steps before as there are stages, when their tokens are there."""
        self._ended_s = 0.0
        """When the last step that computed anything passed the last stage."""

    def _start(self) -> None:
        self.clock.process(self._turns())

    def _turns(self) -> Generator[Any, None, None]:
        """Serve for ever: a turn at a time, asleep when there is nothing to schedule and nothing on its way."""
        scheduler, queue = self._line, self._queue
        while True:
            executed = False
            if scheduler.has_requests:
                latest = self._schedule_next()
                executed = bool(latest.stages_s)
                queue.append(latest)
                if len(queue) < self._room and (executed or scheduler.has_requests):
                    if not executed:
                        yield self._timer.sleep_until(self.clock.now + PAUSE_S)
                    continue
            elif not queue:
                self._idle = True
                yield self._timer.sleep()
                self._book_held()
                continue
            oldest = queue.popleft()
            if oldest.end_s > self.clock.now:
                yield self._timer.sleep_until(oldest.end_s)
            self._end_span(oldest)
            if not executed and scheduler.has_requests:
                yield self._timer.sleep_until(self.clock.now + PAUSE_S)

    def _schedule_next(self) -> PipelineStep:
        """The next step, with its blocks taken, on its way; it may compute nothing."""
        scheduler = self._line
        self._book_held()
        scheduler.schedule()
        step = PipelineStep(scheduler.joined, scheduler.preempted)
        step.start_s, step.steps_before = self.clock.now, self.batch.steps
        if scheduler.planned:
            self._measure(step)
        scheduler.advance(step, stops_at_first_token=self._stops_at_first_token)
        self._pass(step)
        if scheduler.preempted:
            self._preempted += scheduler.preempted
            self._book_preempted()
        self._tell_queued()
        return step

    def _measure(self, step: PipelineStep) -> None:
        """How long each stage takes for what was scheduled, and not yet advanced over."""
        times, work, kv_tokens, longest = self._times, 0.0, 0, 0
        chunks: list[Chunk] = []
        for sequence, count, is_prompt in self._line.planned:
            if is_prompt:
                chunks.append(Chunk(sequence, count))
                step.num_prefilled += count
                work += times.chunk_work(count, sequence.computed)
                continue
            held = sequence.computed + count
            step.num_decodes += 1
            kv_tokens += held
            if held > longest:
                longest = held
        if chunks:
            step.chunks = chunks
        tokens, decodes = step.num_prefilled + step.num_decodes, step.num_decodes
        step.stages_s = times.stages_s(tokens, decodes + len(chunks), decodes, kv_tokens, longest, work)
        if self._detail is not None:
            self._tell_scheduled(self._detail, kv_tokens)

    def _pass(self, step: PipelineStep) -> None:
        """Send a step through the stages: all that is before it in each of them is known."""
        arrived_s, tokens = step.start_s, step.num_prefilled + step.num_decodes
        known, free, last = self._known_s, self._free_s, len(self._free_s) - 1
        if self._is_async and len(known) > last:
            known_s = known.popleft()
            if known_s > arrived_s:
                arrived_s = known_s
        if not tokens:
            step.end_s = step.start_s
            known.append(0.0)
            return
        for place, stage_s in enumerate(step.stages_s):
            if free[place] > arrived_s:
                arrived_s = free[place]
            if not place:
                step.begin_s = arrived_s
            arrived_s += stage_s
            if place < last:
                arrived_s += self._times.send_s(place, tokens)
            free[place] = arrived_s
        step.end_s = arrived_s
        known.append(arrived_s if self._gives(step) else 0.0)

    def _gives(self, step: Step) -> bool:
        return any(gives for _, _, gives in step.outputs)

    def own_s(self, step: Step) -> float:
        """Seconds that a step takes for itself on its way."""
        assert isinstance(step, PipelineStep)
        return sum(step.stages_s) + self._times.sends_s(step.num_prefilled + step.num_decodes)

    def _end_span(self, step: Step) -> None:
        """A step has passed all stages."""
        assert isinstance(step, PipelineStep)
        self._book_held()
        self._end_aborted()
        if not step.stages_s:
            return
        gains = self._line.settle(step)
        now = self.clock.now
        start_s = step.begin_s if step.begin_s > self._ended_s else self._ended_s
        self._ended_s = now
        if self._detail is not None:
            self._tell_passed(self._detail, step, start_s, len(gains))
        self._rows.add(start_s, now, now - start_s, 0.0, 1, 0)
        step.completed = NOBODY
        if step.chunks:
            self._book_passed(step)
        self._end(self._outputs(gains))

    def _book_passed(self, step: PipelineStep) -> None:
        """Book chunks. Others of the same prompt may have been scheduled before these ended."""
        now = self.clock.now
        for chunk in step.chunks:
            mark_s = chunk.sequence.state.mark_s
            book_chunk(chunk, False, self.step_time, mark_s if mark_s > step.start_s else step.start_s, now)
        for chunk in step.chunks:
            sequence = chunk.sequence
            # Of one that was preempted meanwhile nothing is cached for sure.
            if sequence in self.scheduler.running or sequence.ready >= sequence.state.request.prompt_tokens:
                self._listener.prefilled(self, sequence)

    def _outputs(self, gains: list[tuple[Sequence, int]]) -> list[Sequence]:
        """Log when tokens came; returns who got the last one."""
        ended: list[Sequence] = []
        now, log, detail = self.clock.now, self.log, self._detail
        gap_s, alike = 0.0, 0
        for sequence, gained in gains:
            if self._tells_tokens:
                self._listener.tokens(self, sequence, gained)
            state = sequence.state
            if state.first_token_s < 0:
                state.first_token_s = now
            else:
                own_s = now - sequence.last_token_s
                if detail is not None:
                    detail.gap(own_s)
                if state.measured:
                    if alike and own_s != gap_s:
                        log.rows.add(0.0, 0.0, gap_s, 0.0, 0, alike)
                        alike = 0
                    gap_s = own_s
                    alike += 1
            sequence.last_token_s = now
            if sequence.ending:
                ended.append(sequence)
        if alike:
            log.rows.add(0.0, 0.0, gap_s, 0.0, 0, alike)
        return ended

    # What a run that is looked at closely keeps.

    def _tell_scheduled(self, detail: EngineDetail, kv_tokens: int) -> None:
        scheduler, pool = self._line, self.pool
        for sequence, _ in scheduler.chunks:
            kv_tokens += sequence.computed
        query = scheduler.query_tokens, scheduler.hit_tokens
        held = pool.num_blocks - pool.num_free
        detail.planned(kv_tokens, query, len(scheduler.running), scheduler.num_queued, held)

    def _tell_passed(self, detail: EngineDetail, step: PipelineStep, start_s: float, tokens: int) -> None:
        for chunk in step.chunks:
            detail.chunk(chunk.sequence.state.request.request_id, chunk.before, chunk.tokens)
        now, decodes = self.clock.now, step.num_decodes
        beside = tokens - decodes
        detail.ran(start_s, now, 1, now - start_s, 0.0, step.num_prefilled, len(step.chunks), decodes, beside, decodes)
