"""The steps of an engine in time: planned one at a time, run in spans that end as one event each.

While nothing but decoding can happen the engine *leaps*: the steps to the next change of membership, or to the
exhaustion of its blocks, are one event, and their end is a closed form. Something that arrives meanwhile cuts the leap
at the next step boundary.
"""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.clock import Clock, MovableTimer, Sleeper
from kvsim.sim.engine.adapter_slots import AdapterSlots
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.engine_connector import EngineConnector
from kvsim.sim.engine.hybrid import HybridScheduler
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import Chunk, Step, StepCopies
from kvsim.sim.log.detail import EngineDetail
from kvsim.steptime.curves.base import ENDLESS, StepTime, span_s, steps_until


class LeapingEngine(Sleeper):
    """The part of an engine that lets time pass: how long steps take, which of them have begun, the blocks they hold.

    Whoever is built on it sets ``scheduler``.
    """

    __slots__ = (
        "_anchor_s",
        "_anchor_steps",
        "_anchor_version",
        "_backup_s",
        "_block_size",
        "_copies",
        "_detail",
        "_empty_copies",
        "_first_s",
        "_held_s",
        "_is_async",
        "_is_stepwise",
        "_leap",
        "_limit",
        "_next",
        "_num_groups",
        "_preempted",
        "_settled",
        "_slope_s",
        "_speed_change",
        "_start_s",
        "_stops_at_first_token",
        "_tells_tokens",
        "_timer",
        "adapter_slots",
        "batch",
        "clock",
        "connector",
        "held_block_s",
        "pool",
        "scheduler",
        "settings",
        "step_time",
    )

    scheduler: Scheduler

    def __init__(
        self,
        clock: Clock,
        timer: MovableTimer,
        settings: EngineSettings,
        pool: BlockPool,
        step_time: StepTime,
        *,
        stops_at_first_token: bool,
        backup_s: float,
        connector: EngineConnector | None,
        detail: EngineDetail | None,
    ) -> None:
        """``backup_s``: seconds a computed token that a step is not over before its KV is copied away. ``connector``:
        told of every scheduling. ``detail``: told of every step.
        """
        self.clock, self._timer, self.settings, self.pool, self.step_time = clock, timer, settings, pool, step_time
        self.batch = DecodeBatch(settings.block_size, step_time.needs_longest)
        self._block_size = settings.block_size
        self._is_async = settings.async_scheduling
        self._is_stepwise = settings.stepwise or (bool(settings.kv_groups) and detail is not None)
        """Whether each step is an event, as where blocks of groups of layers are told of one by one."""
        self._num_groups = max(len(settings.kv_groups), 1)
        self._stops_at_first_token, self._backup_s = stops_at_first_token, backup_s
        self._tells_tokens = False
        self._detail = detail
        self.connector = connector
        self.adapter_slots: AdapterSlots | None = None
        """Where its LoRA adapters are; ``None``: in their slots."""
        self._empty_copies: StepCopies | None = None
        """Copies that a step waits for which follows the one under way and has nobody in it."""
        self._copies: StepCopies | None = None
        """Copies of the step that was scheduled last."""
        self._next: Step | None = None
        """Asynchronous: scheduled while another one runs."""
        self._preempted: list[Sequence] = []
        """By steps that are planned and have not begun."""
        self._leap = 0
        """Steps of the span under way; 0 when idle."""
        self._settled = 0
        """Steps that a leap has added to the scheduled ones and whose blocks are taken."""
        self._start_s = 0.0
        self._anchor_s = self._first_s = self._slope_s = 0.0
        self._anchor_version = -1
        self._limit = ENDLESS
        """Steps from the anchor on that its times hold for."""
        self._anchor_steps = 0
        """Steps from the anchor, the latest change of membership, to the start of the leap."""
        self._speed_change = 1.0
        """How much longer the steps behind the span under way take than that series of times says."""
        self.held_block_s = self._held_s = 0.0
        """Blocks held, integrated over time up to ``_held_s``."""

    def settle_begun(self) -> None:
        """Take the blocks of the steps that have begun, so that nothing they evict counts as cached any more."""
        if self._leap - 1 > self._settled:
            self._settle_steps(self._steps_begun())

    def take_times(self, step_time: StepTime, change: float) -> None:
        """Steps that begin from now on take ``step_time``'s: ``change`` times as long as those before. A step that was
        scheduled ahead begins with them.
        """
        self.settle_begun()
        self.step_time = step_time
        self._speed_change *= change
        if self._next is not None:
            self._next.first_s *= change
            self._next.slope_s *= change
        if not self._leap:
            self._restart_times()
        elif self._leap > 1:
            self._cut_leap(self._steps_begun())

    def _restart_times(self) -> None:
        """The series of times starts again with a step that begins now, or at a speed that has changed."""
        done, change = self._anchor_steps, self._speed_change
        self._anchor_s = self.clock.now
        self._first_s = change * (self._first_s + done * self._slope_s)
        self._slope_s *= change
        if self._limit < ENDLESS:
            self._limit -= done
        self._anchor_steps, self._speed_change = 0, 1.0

    def held_so_far_block_s(self) -> float:
        """Blocks that requests hold, integrated over time up to now."""
        if self.settings.kv_groups:
            self.settle_begun()
        held_s = self.clock.now - self._held_s
        found = self.held_block_s + (self.pool.num_blocks - self.pool.num_free) * held_s
        settled, added = self._settled, self._steps_begun() - 1 if self._leap else 0
        if added > settled:
            found += self._grown_block_s(settled, added, self.batch.blocks_needed(settled, added - settled))
        return found

    def tell_held(self) -> None:
        """Tell the detail of all blocks held up to now, at the end of a run."""
        detail = self._detail
        if detail is not None:
            detail.held_in_all(self._held_s, self.clock.now, self.pool.num_blocks - self.pool.num_free)
            settled, added = self._settled, self._steps_begun() - 1 if self._leap else 0
            if added > settled:
                self._tell_growth(detail, settled, added)
            detail.queued_until(self.clock.now)

    def _plan(self) -> Step | None:
        """The next step, with its blocks taken; ``None`` when there is nothing to run."""
        scheduler = self.scheduler
        while True:
            scheduler.is_ahead = self._leap > 0
            scheduler.schedule()
            if scheduler.rests:
                return None
            if self.connector is not None:
                self._copies = self.connector.scheduled(scheduler)
            if scheduler.chunks or self.batch.num:
                return self._planned()
            if self._copies is not None:
                self._copies.begin()
            if not (scheduler.preempted or scheduler.stalled):
                return None
            self._preempted += scheduler.preempted
            scheduler.advance(Step(NOBODY, NOBODY), stops_at_first_token=False)
            if self.connector is not None and (scheduler.is_ahead or self._is_blocked):
                self._empty_copies = self._copies if scheduler.is_ahead else None
                return None

    def _planned(self) -> Step:
        """What was scheduled, and how long it takes; to the scheduler it has run."""
        scheduler, batch, step_time = self.scheduler, self.batch, self.step_time
        step = Step(scheduler.joined, scheduler.preempted)
        self._preempted += scheduler.preempted
        step.num_decodes, step.steps_before, step.version = batch.num, batch.steps, batch.version
        step.num_measured = batch.num_measured
        step.copies = self._copies
        if self._tells_tokens:
            step.decodes = [sequence for sequence in scheduler.running if sequence.decoding]
        only_decodes = not (scheduler.chunks or scheduler.stalled)
        step.is_pure = only_decodes and step.copies is None
        if self._detail is not None:
            self._tell_planned(self._detail)
        if not step.is_pure or not self._is_anchored(batch.version, 1 if self._leap else 0):
            kv_tokens = batch.base_sum + batch.num * (batch.steps + 1)
            longest_tokens = batch.longest_tokens if batch.needs_longest else 0
            if only_decodes:
                step.first_s, step.slope_s, step.limit = step_time.decode_span(batch.num, kv_tokens, longest_tokens)
            else:
                step.first_s = self._mixed_s(step, kv_tokens, longest_tokens)
                if self.adapter_slots is not None:
                    step.load_s = self._load_adapters(self.adapter_slots)
                    step.first_s += step.load_s
        scheduler.advance(step, stops_at_first_token=self._stops_at_first_token)
        return step

    def _load_adapters(self, slots: AdapterSlots) -> float:
        """Seconds that the scheduled step waits for adapters of its requests: of those that run, and that it admits."""
        sequences = [sequence for sequence in self.scheduler.running if not sequence.ending]
        sequences += [sequence for sequence, _ in self.scheduler.chunks]
        return slots.bring(list(dict.fromkeys([sequence.state.request.adapter for sequence in sequences])))

    def _take_back(self, step: Step) -> None:
        """Who is retracted while ``step`` runs does not get its token: the one before is the last that has come."""
        lost = self.scheduler.lost
        step.returned = [sequence for sequence in step.returned if sequence not in lost]
        step.decodes = [sequence for sequence in step.decodes if sequence not in lost]
        for sequence in lost:
            if sequence not in step.completed:
                step.num_measured -= sequence.state.measured
                step.num_lost += 1
            if sequence.state.first_token_s >= 0 and sequence.last_token_s < 0:
                sequence.last_token_s = self._start_s

    @property
    def _is_blocked(self) -> bool:
        """Whether what was scheduled last waits for copies."""
        return self._copies is not None and self._copies.waits_until_s() > self.clock.now

    def _empty_until_s(self) -> float:
        """When a step of nobody that had to wait is over."""
        copies, self._empty_copies = self._empty_copies, None
        return self.clock.now if copies is None else max(self.clock.now, copies.waits_until_s())

    def _wait_s(self, step: Step) -> float:
        """Seconds that a step which begins now waits for copies."""
        return 0.0 if step.copies is None else max(0.0, step.copies.waits_until_s() - self.clock.now)

    def _is_anchored(self, version: int, further_steps: int) -> bool:
        """Whether the anchor's times hold for a batch of that version, so many steps after the start of the span."""
        return version == self._anchor_version and self._anchor_steps + further_steps < self._limit

    def _mixed_s(self, step: Step, kv_tokens: int, longest_tokens: int) -> float:
        """Seconds of a step that computes the scheduled prompts; they become its chunks."""
        tokens, work, decodes = step.num_decodes, 0.0, step.num_decodes
        chunks: list[Chunk] = []
        for sequence, count in self.scheduler.chunks:
            chunks.append(Chunk(sequence, count))
            tokens += count
            work += self.step_time.chunk_work(count, sequence.computed)
        step.chunks = chunks
        num_seqs = decodes + len(chunks)
        copied_s = self._backup_s * (tokens - decodes)
        return self.step_time.mixed_s(tokens, num_seqs, decodes, kv_tokens, longest_tokens, work) + copied_s

    def _anchor(self, step: Step) -> None:
        """Let a span start with ``step`` now, in the series of times that goes on, or in one of its own."""
        self._start_s = now = self.clock.now
        self._leap, self._settled = 1, 0
        if not step.is_pure:
            self._anchor_version, self._anchor_s, self._anchor_steps = -1, now, 0
            self._first_s, self._slope_s = step.first_s, 0.0
        elif not self._is_anchored(step.version, 0):
            self._anchor_version, self._anchor_s, self._anchor_steps = step.version, now, 0
            self._first_s, self._slope_s, self._limit = step.first_s, step.slope_s, step.limit

    def _may_leap(self, step: Step, latest: Step) -> bool:
        """Whether steps like it may follow the latest scheduled one."""
        scheduler = self.scheduler
        if self._is_stepwise or not latest.is_pure or latest.ended or latest.preempted:
            return False
        if self.connector is not None and self.connector.needs_steps():
            return False
        if latest is not step and (not step.is_pure or step.version != latest.version or latest.joined):
            return False
        return not (scheduler.waiting and scheduler.may_change_head)

    def _steps_alike(self) -> int:
        """How many further steps there are blocks for and nobody ends in."""
        batch, free = self.batch, self.pool.num_free // self._num_groups
        limit = min(batch.steps_to_next_finish(), self._limit - self._anchor_steps - (2 if self._is_async else 1))
        if limit <= 0:
            return 0
        if batch.num * (limit // self._block_size + 1) > free:
            return batch.steps_within(free, 0, limit)
        return limit

    def _boundary_s(self, steps: int) -> float:
        """When the leap's first ``steps`` steps have run."""
        return self._anchor_s + span_s(self._anchor_steps + steps, self._first_s, self._slope_s)

    def _steps_begun(self) -> int:
        """Steps of the leap that have begun: before now, or now where this instant's boundaries are passed."""
        now = self.clock.now
        begun = steps_until(now, self._anchor_s, self._anchor_steps, self._leap, self._first_s, self._slope_s)
        if self.clock.aftermath_s == now and begun < self._leap and self._boundary_s(begun) <= now:
            begun += 1
        return begun

    def _cut_leap(self, steps: int) -> None:
        if steps < self._leap:
            self._leap = steps
            self._timer.set(self._boundary_s(steps))

    def _settle_steps(self, steps: int) -> None:
        """Take the blocks of the first ``steps`` steps of the leap, the first of them had its own."""
        settled, added = self._settled, steps - 1
        scheduler = self.scheduler
        if added > settled and isinstance(scheduler, HybridScheduler):
            self._settle_groups(scheduler, settled, added)
            self._settled = added
        elif added > settled:
            self._book_held()
            blocks = self.batch.blocks_needed(settled, added - settled)
            if blocks:
                self.held_block_s += self._grown_block_s(settled, added, blocks)
                if self._detail is not None:
                    self._tell_growth(self._detail, settled, added)
            scheduler.take_ahead(settled, added, blocks)
            self._settled = added

    def _settle_groups(self, scheduler: HybridScheduler, settled: int, added: int) -> None:
        """Let sequences take and free blocks of their groups as the leap's steps between had them do, one by one."""
        for step, _, sequence in scheduler.due(settled, added):
            self._book_held_until(self._boundary_s(1 + step))
            scheduler.decode_ahead(sequence, step)

    def _book_held(self) -> None:
        """Integrate the blocks held; to be called before what is held changes."""
        self._book_held_until(self.clock.now)

    def _book_held_until(self, time_s: float) -> None:
        if time_s > self._held_s:
            held = self.pool.num_blocks - self.pool.num_free
            self.held_block_s += held * (time_s - self._held_s)
            if self._detail is not None:
                self._detail.held_in_all(self._held_s, time_s, held)
            self._held_s = time_s

    def _grown_block_s(self, settled: int, added: int, blocks: int) -> float:
        """Block-seconds of the blocks that the leap's steps between take, each from the start of its step until now."""
        count, before = added - settled, self._anchor_steps + 1
        starts_s = self.batch.blocks_by_start_s(settled, count, before, self._first_s, self._slope_s)
        return blocks * (self.clock.now - self._anchor_s) - starts_s

    # What a run that is looked at closely keeps.

    def _tell_queued(self) -> None:
        if self._detail is not None:
            self._detail.queued(self.clock.now, self.scheduler.num_queued)

    def _tell_planned(self, detail: EngineDetail) -> None:
        """Tell of a step that was scheduled, and not yet advanced over."""
        scheduler, batch, pool = self.scheduler, self.batch, self.pool
        kv_tokens = batch.base_sum + batch.num * (batch.steps + 1)
        for sequence, _ in scheduler.chunks:
            kv_tokens += sequence.computed
        query = scheduler.query_tokens, scheduler.hit_tokens
        running = batch.num + len(scheduler.prefilling) + len(scheduler.stalled)
        detail.planned(kv_tokens, query, running, scheduler.num_queued, pool.num_blocks - pool.num_free)

    def _tell_growth(self, detail: EngineDetail, settled: int, added: int) -> None:
        """Tell of the blocks that the leap's steps between take, each from the start of its step until now."""
        batch, now = self.batch, self.clock.now
        for step in range(settled, added):
            blocks = batch.blocks_needed(step, 1)
            if blocks:
                detail.held(self._boundary_s(1 + step), now, blocks)
        detail.peak_blocks = max(
            detail.peak_blocks,
            self.pool.num_blocks - self.pool.num_free + batch.blocks_needed(settled, added - settled),
        )

    def _tell_span(self, detail: EngineDetail, step: Step, steps: int) -> None:
        """Tell of a span whose steps have run and are not booked yet."""
        now, start_s, slope_s, tokens = self.clock.now, self._start_s, self._slope_s, 0
        first_s = self._first_s + self._anchor_steps * slope_s if step.is_pure else now - start_s
        completed = 0 if self._stops_at_first_token else len(step.completed)
        for chunk in step.chunks:
            tokens += chunk.tokens
            detail.chunk(chunk.sequence.state.request.request_id, chunk.before, chunk.tokens)
            after, sequence = chunk.before + chunk.tokens, chunk.sequence
            if detail.forwards and after == sequence.num_tokens and sequence.computed >= after:
                completed += 1
        apart = len(step.joined) + step.num_lost + sum([sequence.last_token_s >= 0 for sequence in step.returned])
        slope_s = slope_s if steps > 1 else 0.0
        if steps > 1 and self._next is not None:
            held = self.pool.num_blocks - self.pool.num_free
            detail.put_off(step.num_decodes * (steps - 1), self.scheduler.num_queued, held)
        detail.ran(start_s, now, steps, first_s, slope_s, tokens, len(step.chunks), step.num_decodes, completed, apart)
