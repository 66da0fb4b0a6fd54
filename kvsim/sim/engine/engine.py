"""One vLLM-like engine in one of three roles: a scheduler, a block pool, and the steps it runs in time.

While nothing but decoding can happen the engine *leaps*: the steps to the next change of membership, or to the
exhaustion of its blocks, are one event, and their end is a closed form. Something that arrives meanwhile cuts the leap
at the next step boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Literal, Protocol

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.clock import DECODE_BOUNDARY, PREFILL_BOUNDARY, Clock, MovableTimer
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.block_table import Path, shared_blocks
from kvsim.sim.engine.decode_reservation import DecodeReservation
from kvsim.sim.engine.paged import PagedPool
from kvsim.sim.engine.radix import RadixPool
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import Chunk, Step
from kvsim.sim.log.steps import StepLog
from kvsim.steptime.curves.base import ENDLESS, StepTime, span_s, steps_until

Role = Literal["prefill", "decode", "colocated"]


class EngineListener(Protocol):
    """Told by an engine of what happens to its sequences, at the instant at which it happens: the system around it."""

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        """A step that computed a chunk of this sequence has ended; ``sequence.computed`` tokens have KV."""

    def computing(self, engine: Engine, sequence: Sequence, first: int, end: int, end_s: float) -> None:
        """A step has begun, and ends at ``end_s``; then tokens ``[first, end)`` of a sequence will have KV, as those
        before them have now. Told by engines that announce chunks alone."""

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        """The sequence has lost its blocks and waits to be computed again."""

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        """The last token was generated and the blocks are free again."""


LookUp = Callable[["Engine", Sequence, int], int]
"""``look_up(engine, sequence, cached_tokens)``: see ``kvsim.sim.engine.scheduler.Scheduler``."""


def pool_of(settings: EngineSettings, on_evict: Callable[[int, int], None] | None) -> BlockPool:
    """The KV blocks of an engine, with the prefix cache that is asked for."""
    kind = RadixPool if settings.prefix_cache == "radix" else PagedPool
    return kind(settings.num_blocks, enable_prefix_caching=settings.enable_prefix_caching, on_evict=on_evict)


class Engine:
    """One instance. The roles differ only in where sequences come from and where they end."""

    __slots__ = (
        "_anchor_s",
        "_anchor_steps",
        "_anchor_version",
        "_announces_chunks",
        "_backup_s",
        "_block_size",
        "_first_s",
        "_held_s",
        "_idle",
        "_is_async",
        "_leap",
        "_limit",
        "_listener",
        "_next",
        "_preempted",
        "_rows",
        "_settled",
        "_slope_s",
        "_start_s",
        "_stops_at_first_token",
        "_timer",
        "batch",
        "clock",
        "held_block_s",
        "instance",
        "log",
        "pool",
        "reservation",
        "role",
        "scheduler",
        "seat_waits",
        "settings",
        "step_time",
    )

    def __init__(
        self,
        clock: Clock,
        instance: int,
        role: Role,
        settings: EngineSettings,
        step_time: StepTime,
        listener: EngineListener,
        log: StepLog,
        on_evict: Callable[[int, int], None] | None = None,
        *,
        look_up: LookUp | None = None,
        backup_s: float = 0.0,
        announces_chunks: bool = False,
    ) -> None:
        """``log`` collects its steps; ``on_evict(chain, cached)`` is told when of a shared chain only ``cached`` blocks
        are left. ``look_up``: asked before a prompt is admitted. ``backup_s``: seconds a computed token that a step is
        not over before its KV is copied away; 0: nobody waits for that.
        """
        self.clock, self.instance, self.role, self.settings = clock, instance, role, settings
        self.step_time, self._listener, self.log, self._rows = step_time, listener, log, log.rows
        self.pool = pool_of(settings, on_evict)
        self.batch = DecodeBatch(settings.block_size, step_time.needs_longest)
        self.scheduler = Scheduler(settings, self.pool, self.batch, None if look_up is None else partial(look_up, self))
        self.reservation = DecodeReservation(settings.output_margin_tokens)
        self._block_size = settings.block_size
        self._is_async = settings.async_scheduling
        self._stops_at_first_token = role == "prefill"
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
        self._idle = False
        self.held_block_s = self._held_s = 0.0
        """Blocks held, integrated over time up to ``_held_s``."""
        self._announces_chunks, self._backup_s = announces_chunks, backup_s
        self.seat_waits = 0
        """Decode role: sequences that found all seats taken when their KV had come."""
        self._timer = MovableTimer(clock, DECODE_BOUNDARY if role == "decode" else PREFILL_BOUNDARY, instance)
        clock.process(self._run())

    def submit(self, sequence: Sequence) -> None:
        """Queue a request whose prompt is to be computed here."""
        if self.scheduler.submit(sequence):
            self._nudge()

    def resume(self, sequence: Sequence, known_tokens: int) -> None:
        """Queue a sequence again that stood aside: the ``known_tokens`` that ``look_up`` promised have come."""
        self.settle_begun()
        self._book_held()
        self.scheduler.resume(sequence, known_tokens, self._settled)
        self._nudge()

    def abort(self, sequence: Sequence) -> None:
        """Colocated role: whoever asked for a queued or running sequence has gone; see ``Scheduler.abort``."""
        is_running = sequence in self.scheduler.running
        self._book_held()
        self.scheduler.abort(sequence)
        if not is_running:
            self._nudge()
        elif self._leap > 1:
            self._cut_leap(self._steps_begun())

    def release(self, sequence: Sequence) -> None:
        """Prefill role: the KV of a computed prompt has left, its blocks are free."""
        self._book_held()
        self.pool.release(sequence)
        if self.scheduler.waiting:
            self._nudge()

    def cached_tokens(self, sequence: Sequence) -> int:
        """Tokens at the head of a sequence that is not queued yet which a lookup would find now, the last excepted."""
        self.settle_begun()
        return self.scheduler.match(sequence, self._settled)[0] * self._block_size

    def insert(self, path: Path, blocks: int) -> None:
        """Cache the first ``blocks`` blocks of a path, whose KV came from elsewhere, as far as there is room."""
        self.settle_begun()
        for entry, (_, first, end) in enumerate(path):
            if first >= blocks:
                break
            self.pool.insert(path, entry, first, min(end, blocks))
        self._cache_changed()

    def forget(self) -> None:
        """Lose what is cached and not in use."""
        self.settle_begun()
        self.pool.forget()
        self._cache_changed()

    def _cache_changed(self) -> None:
        """The cache has changed, by something else than a step: the head of the queue may be admitted now."""
        if self.scheduler.waiting:
            self._nudge()

    def reserve(self, sequence: Sequence) -> int | None:
        """Decode role: allocate the blocks of a sequence whose KV is to come, if there is room beside the reservations.

        Returns how many tokens of it are cached here already; None when there is no room. Nobody can hit the others
        before ``receive``, as vLLM delays the caching of blocks that a connector fills.
        """
        self.settle_begun()
        scheduler, block_size = self.scheduler, self._block_size
        hits, evictable = scheduler.match(sequence, self._settled)
        blocks = -(-sequence.num_tokens // block_size)
        room = self.pool.num_free - evictable
        if scheduler.running or self.reservation.pending:
            outstanding_tokens = self.reservation.outstanding_tokens(self.batch.steps + self._settled)
            room -= -(-(outstanding_tokens + self.reservation.tokens) // block_size)
        if blocks - hits > room:
            return None
        self._book_held()
        scheduler.allocate(sequence, hits, blocks)
        sequence.computed = sequence.num_tokens - 1
        sequence.is_incoming = True
        self.reservation.reserve()
        added = self._leap - 1
        if added > self._settled:
            steps = self.batch.steps_within(self.pool.num_free, self._settled, added - self._settled)
            self._cut_leap(1 + self._settled + steps)
        return hits * block_size

    def cancel(self, sequence: Sequence) -> int:
        """Decode role: a reserved sequence will not decode here. Returns how many of its blocks cache nothing now."""
        self.settle_begun()
        self._book_held()
        blank = self.pool.num_blank
        sequence.is_incoming = False
        self.pool.release(sequence)
        self.reservation.pending -= 1
        if self.scheduler.waiting:
            self._nudge()
        return self.pool.num_blank - blank

    def receive(self, sequence: Sequence) -> None:
        """Decode role: all KV of a reserved sequence has arrived, unless it has left or been preempted meanwhile."""
        if sequence.is_incoming:
            self.settle_begun()
            self._book_held()
            self.scheduler.receive(sequence, self._settled)
            if self.scheduler.waiting:
                self._nudge()

    def join(self, sequence: Sequence) -> None:
        """Decode role: a reserved sequence may decode from now on."""
        kv_ready = self.scheduler.kv_ready
        if len(self.scheduler.running) + len(kv_ready) >= self.settings.max_num_seqs:
            self.seat_waits += 1
        kv_ready.append(sequence)
        if len(kv_ready) == 1:
            self._nudge()

    def settle_begun(self) -> None:
        """Take the blocks of the steps that have begun, so that nothing they evict counts as cached any more."""
        if self._leap - 1 > self._settled:
            self._settle_steps(self._steps_begun())

    def _run(self) -> Generator[Any, None, None]:
        """Serve for ever: run spans of steps and book them, sleep when there is nothing to run."""
        while True:
            step = self._next
            if step is None:
                step = self._plan()
            self._next = None
            if step is None:
                self._book_preempted()
                self._idle = True
                yield self._timer.sleep()
                self._book_held()
                continue
            yield self._timer.sleep_until(self._begin(step))
            self._end_span(step)

    def _nudge(self) -> None:
        """Wake up, or end the leap at the first step boundary from now on: somebody may be admitted."""
        if self._idle:
            self._idle = False
            self._timer.set(self.clock.now)
        elif self._leap > 1 and len(self.scheduler.running) < self.settings.max_num_seqs:
            self._cut_leap(self._steps_begun())

    def _plan(self) -> Step | None:
        """The next step, with its blocks taken; ``None`` when there is nothing to run."""
        scheduler = self.scheduler
        while True:
            scheduler.schedule()
            if scheduler.chunks or self.batch.num:
                return self._planned()
            if not (scheduler.preempted or scheduler.stalled):
                return None
            self._preempted += scheduler.preempted
            scheduler.advance(Step(NOBODY, NOBODY), stops_at_first_token=False)

    def _planned(self) -> Step:
        """What was scheduled, and how long it takes; to the scheduler it has run."""
        scheduler, batch, step_time = self.scheduler, self.batch, self.step_time
        step = Step(scheduler.joined, scheduler.preempted)
        self._preempted += scheduler.preempted
        step.num_decodes, step.steps_before, step.version = batch.num, batch.steps, batch.version
        step.num_measured = batch.num_measured
        step.is_pure = not (scheduler.chunks or scheduler.stalled)
        if not step.is_pure or not self._is_anchored(batch.version, 1 if self._leap else 0):
            kv_tokens = batch.base_sum + batch.num * (batch.steps + 1)
            longest_tokens = batch.longest_tokens if batch.needs_longest else 0
            if step.is_pure:
                step.first_s, step.slope_s, step.limit = step_time.decode_span(batch.num, kv_tokens, longest_tokens)
            else:
                step.first_s = self._mixed_s(step, kv_tokens, longest_tokens)
        scheduler.advance(step, stops_at_first_token=self._stops_at_first_token)
        return step

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

    def _begin(self, step: Step) -> float:
        """Start a span with ``step``, as long as nothing else can happen; returns when it is to end."""
        self._start_s = now = self.clock.now
        self._leap, self._settled = 1, 0
        if not step.is_pure:
            self._anchor_version, self._anchor_s, self._anchor_steps = -1, now, 0
            self._first_s, self._slope_s = step.first_s, 0.0
        elif not self._is_anchored(step.version, 0):
            self._anchor_version, self._anchor_s, self._anchor_steps = step.version, now, 0
            self._first_s, self._slope_s, self._limit = step.first_s, step.slope_s, step.limit
        if self._preempted:
            self._book_preempted()
        for sequence in step.stalled:
            if sequence.last_token_s < 0:
                sequence.last_token_s = now
        end_s = self._boundary_s(1)
        if step.joined:
            self._book_joined(step, end_s)
        if self._announces_chunks:
            for chunk in step.chunks:
                end = chunk.before + chunk.tokens
                self._listener.computing(self, chunk.sequence, self._known_before(step, chunk), end, end_s)
        if self._is_async:
            self._next = self._plan()
        latest = self._next if self._is_async else step
        if latest is None or not self._may_leap(step, latest):
            return end_s
        self._leap = 1 + self._steps_alike()
        return self._boundary_s(self._leap)

    def _known_before(self, step: Step, chunk: Chunk) -> int:
        """Tokens of a chunk's sequence that have KV when its step begins: as blocks are hashed when they are scheduled,
        it may have hit some that the same step computes."""
        known = chunk.before
        if known and self.pool.hashes_when_scheduled:
            for other in step.chunks:
                if other.before < known and other is not chunk:
                    shared_tokens = shared_blocks(chunk.sequence.path, other.sequence.path) * self._block_size
                    if other.before < shared_tokens:
                        known = other.before
        return known

    def _may_leap(self, step: Step, latest: Step) -> bool:
        """Whether steps like it may follow the latest scheduled one."""
        scheduler = self.scheduler
        if self.settings.stepwise or not latest.is_pure or latest.ended or latest.preempted:
            return False
        if latest is not step and (not step.is_pure or step.version != latest.version or latest.joined):
            return False
        return not (scheduler.waiting and scheduler.may_change_head)

    def _steps_alike(self) -> int:
        """How many further steps there are blocks for and nobody ends in."""
        batch, free = self.batch, self.pool.num_free
        limit = min(batch.steps_to_next_finish(), self._limit - self._anchor_steps - (2 if self._is_async else 1))
        if limit <= 0:
            return 0
        if batch.num * (limit // self._block_size + 1) > free:
            return batch.steps_within(free, 0, limit)
        return limit

    def _end_span(self, step: Step) -> None:
        """Book a span whose steps have run."""
        steps = self._leap
        if steps > 1:
            self._settle_steps(steps)
            latest = self._next if self._next is not None else step
            latest.ended = self.scheduler.leap(steps - 1)
        self._book_held()
        self._leap, self._settled = 0, 0
        self._log_span(step, steps)
        self._anchor_steps += steps
        if step.chunks:
            self._book_chunks(step)
        self._end(step.ended)

    def _log_span(self, step: Step, steps: int) -> None:
        rows, now, start_s, slope_s = self._rows, self.clock.now, self._start_s, self._slope_s
        first_s = self._first_s + self._anchor_steps * slope_s if step.is_pure else now - start_s
        measured, joined = step.num_measured, 0
        for sequence in step.joined:
            joined += sequence.state.measured
        if step.returned:
            joined += self._book_returned(step)
        if joined and steps > 1:
            first_end_s = self._boundary_s(1)
            rows.add(start_s, first_end_s, first_s, 0.0, 1, measured - joined)
            rows.add(first_end_s, now, first_s + slope_s, slope_s, steps - 1, measured)
        elif steps > 1:
            rows.add(start_s, now, first_s, slope_s, steps, measured)
        else:
            rows.add(start_s, now, first_s, 0.0, 1, measured - joined)

    def _book_returned(self, step: Step) -> int:
        """Sequences that steps before did not reach have waited longer than a step for their token; how many count."""
        counted = 0
        for sequence in step.returned:
            if sequence.last_token_s >= 0:
                if sequence.state.measured:
                    self.log.gap(self._boundary_s(1) - sequence.last_token_s)
                    counted += 1
                sequence.last_token_s = -1.0
        return counted

    def _book_chunks(self, step: Step) -> None:
        listener, now, chunks = self._listener, self.clock.now, step.chunks
        lonely = len(chunks) == 1 and not step.num_decodes
        for chunk in chunks:
            self._book_chunk(chunk, now - self._start_s if lonely else -1.0)
        for chunk in chunks:
            if not self._is_lost(chunk):
                listener.prefilled(self, chunk.sequence)
        if not self._stops_at_first_token:
            for sequence in step.completed:
                self._book_token(sequence, now)

    def _is_lost(self, chunk: Chunk) -> bool:
        """Whether a prefill instance has forgotten it while it was computed."""
        return self._stops_at_first_token and chunk.sequence.computed < chunk.sequence.ready

    def _book_chunk(self, chunk: Chunk, alone_s: float) -> None:
        sequence, before = chunk.sequence, chunk.before
        state, after = sequence.state, before + chunk.tokens
        sequence.ready = after
        high_water, prompt_tokens = chunk.high_water, state.request.prompt_tokens
        again = high_water > before
        if again:
            state.recomputed_tokens += min(after, high_water) - before
            before = min(after, high_water)
        if prompt_tokens > before:
            state.computed_tokens += min(after, prompt_tokens) - before
        if state.first_token_s < 0:
            if alone_s < 0 and not chunk.again:
                alone_s = self.step_time.prefill_alone_s(chunk.tokens, chunk.before)
            state.prefilled(self._start_s, self.clock.now, alone_s, again or chunk.again)

    def _book_token(self, sequence: Sequence, now: float) -> None:
        """Book the token that follows a sequence's last computed one."""
        state = sequence.state
        if state.first_token_s < 0:
            state.first_token_s = now
        elif sequence.last_token_s >= 0:
            if state.measured:
                self.log.gap(now - sequence.last_token_s)
            sequence.last_token_s = -1.0

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
        if added > settled:
            self._book_held()
            blocks = self.batch.blocks_needed(settled, added - settled)
            if blocks:
                self.held_block_s += self._grown_block_s(settled, added, blocks)
            self.pool.take(blocks)
            self._settled = added

    def held_so_far_block_s(self) -> float:
        """Blocks that requests hold, integrated over time up to now."""
        held_s = self.clock.now - self._held_s
        found = self.held_block_s + (self.pool.num_blocks - self.pool.num_free) * held_s
        settled, added = self._settled, self._steps_begun() - 1 if self._leap else 0
        if added > settled:
            found += self._grown_block_s(settled, added, self.batch.blocks_needed(settled, added - settled))
        return found

    def _book_held(self) -> None:
        """Integrate the blocks held; to be called before what is held changes."""
        now = self.clock.now
        if now > self._held_s:
            self.held_block_s += (self.pool.num_blocks - self.pool.num_free) * (now - self._held_s)
            self._held_s = now

    def _grown_block_s(self, settled: int, added: int, blocks: int) -> float:
        """Block-seconds of the blocks that the leap's steps between take, each from the start of its step until now."""
        count, before = added - settled, self._anchor_steps + 1
        starts_s = self.batch.blocks_by_start_s(settled, count, before, self._first_s, self._slope_s)
        return blocks * (self.clock.now - self._anchor_s) - starts_s

    def _book_joined(self, step: Step, first_token_s: float) -> None:
        """Sequences whose KV came from elsewhere run their first decode step here."""
        now = self.clock.now
        for sequence in step.joined:
            state = sequence.state
            self.reservation.start(sequence, step.steps_before)
            if state.first_token_s < 0:
                alone_s = self.step_time.decode_alone_s(sequence.num_tokens)
                state.first_decoded(now, first_token_s, alone_s)
            elif state.measured:
                self.log.gap(first_token_s - state.first_token_s)

    def _book_preempted(self) -> None:
        """Tell of preempted sequences, not before the tokens that were on their way have come."""
        preempted, self._preempted = self._preempted, []
        for sequence in preempted:
            self.reservation.leave(sequence)
            # One that is preempted again before its next token had its last one earlier.
            if sequence.state.first_token_s >= 0 and sequence.last_token_s < 0:
                sequence.last_token_s = self.clock.now
            self._listener.preempted(self, sequence)

    def _end(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self.scheduler.finish(sequence)
            if sequence.reservation_end >= 0:
                self.reservation.leave(sequence)
        for sequence in sequences:
            self._listener.finished(self, sequence)
