"""An engine that decodes speculatively: every step is an event, since what is accepted decides the next one."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.decode_reservation import DecodeReservation
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.speculative import SpeculativeScheduler
from kvsim.sim.engine.step import Chunk, Step
from kvsim.sim.log.detail import EngineDetail
from kvsim.steptime.curves.speculative import SpeculativeStepTime


class SpeculativeStep(Step):
    """A step, and what it verifies."""

    __slots__ = ("draft_work", "num_drafts", "num_prefilled", "work")

    def __init__(self, joined: list[Sequence], preempted: list[Sequence]) -> None:
        super().__init__(joined, preempted)
        self.decodes = []
        self.num_drafts = self.num_prefilled = 0
        """Tokens beside one for each of those: drafts, those that pad included, and tokens of prompts."""
        self.work = self.draft_work = 0.0
        """Attention of its chunks."""


class SpeculativeEngine(Engine):
    """An engine with ``settings.speculation``; ``step_time`` is a ``SpeculativeStepTime``.

    How long a step takes is known when it begins: one that is scheduled ahead is computed for the tokens that are left
    once the one before it has run. An inter-token latency is the time between two outputs of a sequence, however many
    tokens come with one: so clients and vLLM's own metric count.
    """

    __slots__ = ("_spec", "_times")

    def _equip(self, settings: EngineSettings) -> None:
        scheduler, step_time = self.scheduler, self.step_time
        assert isinstance(scheduler, SpeculativeScheduler)
        assert isinstance(step_time, SpeculativeStepTime)
        self._spec: SpeculativeScheduler = scheduler
        self._times: SpeculativeStepTime = step_time
        speculation = settings.speculation
        assert speculation is not None
        self.reservation = DecodeReservation(settings.output_margin_tokens, 1.0 + speculation.mean_accepted)

    def _plan(self) -> Step | None:
        scheduler = self._spec
        while True:
            scheduler.schedule()
            if self.connector is not None:
                self._copies = self.connector.scheduled(scheduler)
            if scheduler.chunks or scheduler.verified or scheduler.joined:
                return self._planned()
            if self._copies is not None:
                self._copies.begin()
            if not scheduler.preempted:
                return None
            self._preempted += scheduler.preempted
            scheduler.advance(Step(NOBODY, NOBODY), stops_at_first_token=False)

    def _planned(self) -> Step:
        scheduler, times = self._spec, self._times
        step = SpeculativeStep(scheduler.joined, scheduler.preempted)
        step.copies = self._copies
        self._preempted += scheduler.preempted
        chunks: list[Chunk] = []
        for sequence, count in scheduler.chunks:
            chunks.append(Chunk(sequence, count))
            step.num_prefilled += count
            step.work += times.chunk_work(count, sequence.computed)
            step.draft_work += times.draft_work(count, sequence.computed)
        if chunks:
            step.chunks = chunks
        for sequence, tokens, _ in scheduler.verified:
            step.decodes.append(sequence)
            step.num_drafts += tokens - 1
        step.decodes += scheduler.joined
        step.num_drafts += scheduler.num_padding
        step.num_decodes, step.steps_before = len(step.decodes), self.batch.steps
        scheduler.advance(step, stops_at_first_token=self._stops_at_first_token)
        if self._detail is not None:
            self._tell_planned(self._detail)
        return step

    def own_s(self, step: Step) -> float:
        """Seconds of a step that is about to begin: all of the sequences' outputs so far are known."""
        assert isinstance(step, SpeculativeStep)
        kv_tokens, longest = 0, 0
        for sequence in step.decodes:
            held = sequence.computed
            kv_tokens += held
            if held > longest:
                longest = held
        step_s = self._times.step_s(
            step.num_prefilled,
            len(step.chunks),
            step.num_decodes,
            step.num_drafts,
            kv_tokens,
            longest,
            step.work,
            step.draft_work,
        )
        return step_s + self._backup_s * step.num_prefilled + self._wait_s(step)

    def tokens_of(self, step: Step) -> int:
        """Tokens that a step computes, drafts among them."""
        assert isinstance(step, SpeculativeStep)
        return step.num_prefilled + step.num_decodes + step.num_drafts

    def _begin(self, step: Step) -> float:
        step.first_s = self.own_s(step)
        return super()._begin(step)

    def _may_leap(self, step: Step, latest: Step) -> bool:
        return False

    def _end_span(self, step: Step) -> None:
        self._book_held()
        gains = self._spec.settle(step)
        self._leap, self._settled = 0, 0
        regular, measured, tokens = self._outputs(gains)
        if self._detail is not None:
            self._tell_outputs(self._detail, step, tokens, regular)
        self._rows.add(self._start_s, self.clock.now, self.clock.now - self._start_s, 0.0, 1, measured)
        self._anchor_steps += 1
        if step.copies is not None:
            step.copies.begin()
        step.completed = NOBODY
        if step.chunks:
            self._book_chunks(step)
        ended: list[Sequence] = []
        now = self.clock.now
        for sequence, gained in gains:
            if sequence.state.first_token_s < 0:
                sequence.state.first_token_s = now
            sequence.last_token_s = now
            if self._tells_tokens:
                self._listener.tokens(self, sequence, gained)
            if sequence.ending:
                ended.append(sequence)
        self._end(ended)

    def _outputs(self, gains: list[tuple[Sequence, int]]) -> tuple[int, int, int]:
        """Log how long outputs took; how many of them took this step, how many of those count, and all their tokens."""
        regular = measured = tokens = 0
        start_s, now = self._start_s, self.clock.now
        for sequence, gained in gains:
            tokens += gained
            last_s = sequence.last_token_s
            if last_s == start_s:
                regular += 1
                measured += sequence.state.measured
            elif last_s >= 0:
                if sequence.state.measured:
                    self.log.gap(now - last_s)
                if self._detail is not None:
                    self._detail.gap(now - last_s)
        return regular, measured, tokens

    # What a run that is looked at closely keeps.

    def _tell_planned(self, detail: EngineDetail) -> None:
        scheduler, pool = self._spec, self.pool
        kv_tokens = 0
        for sequence, _, _ in scheduler.verified:
            kv_tokens += sequence.computed
        for sequence in scheduler.joined:
            kv_tokens += sequence.computed
        for sequence, tokens in scheduler.chunks:
            kv_tokens += sequence.computed - tokens
        query = scheduler.query_tokens, scheduler.hit_tokens
        held = pool.num_blocks - pool.num_free
        detail.planned(kv_tokens, query, len(scheduler.running), scheduler.num_queued, held)

    def _tell_outputs(self, detail: EngineDetail, step: Step, tokens: int, regular: int) -> None:
        prefilled = 0
        for chunk in step.chunks:
            prefilled += chunk.tokens
            detail.chunk(chunk.sequence.state.request.request_id, chunk.before, chunk.tokens)
        now, start_s, decodes = self.clock.now, self._start_s, step.num_decodes
        beside, apart = tokens - decodes, decodes - regular
        detail.ran(start_s, now, 1, now - start_s, 0.0, prefilled, len(step.chunks), decodes, beside, apart)
