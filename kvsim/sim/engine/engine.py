"""One vLLM-like engine in one of three roles: a scheduler, a block pool, and the steps it runs in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.clock import DECODE_BOUNDARY, PREFILL_BOUNDARY, Clock, MovableTimer
from kvsim.sim.engine.adapter_slots import AdapterSlots
from kvsim.sim.engine.block_table import Path
from kvsim.sim.engine.booking import book_chunk, book_joined, book_returned, book_token, known_before
from kvsim.sim.engine.engine_connector import EngineConnector
from kvsim.sim.engine.hybrid import scheduler_of
from kvsim.sim.engine.listener import EngineListener, LookUp, Role
from kvsim.sim.engine.pools import pool_of
from kvsim.sim.engine.receiving import ReceivingEngine
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.step import Step
from kvsim.sim.log.detail import EngineDetail
from kvsim.sim.log.steps import StepLog
from kvsim.steptime.curves.base import StepTime


class Engine(ReceivingEngine):
    """One instance. The roles differ only in where sequences come from and where they end."""

    __slots__ = (
        "_announces_chunks", "_hangs", "_held_up", "_is_member", "_listener", "_resumes_s", "_rows", "_under_way",
        "instance", "log", "role",
    )  # fmt: skip

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
        connector: EngineConnector | None = None,
        backup_s: float = 0.0,
        announces_chunks: bool = False,
        tells_tokens: bool = False,
        detail: EngineDetail | None = None,
        timer: MovableTimer | None = None,
    ) -> None:
        """``log`` collects its steps; ``on_evict(chain, cached)`` is told when of a shared chain only ``cached`` blocks
        are left. ``look_up``: asked before a prompt is admitted; ``connector`` instead of it, where one has rules of
        its own for that. ``backup_s``: seconds a computed token that a step is not over before its KV is copied away;
        0: nobody waits for that. ``tells_tokens``: its listener is told of every token as its step ends, for which
        ``settings`` have to be ``stepwise``. ``detail``: told of every step and level.
        ``timer``: of the group that runs its steps (``Lockstep``); ``None``: it runs them itself.
        """
        super().__init__(
            clock,
            timer or MovableTimer(clock, DECODE_BOUNDARY if role == "decode" else PREFILL_BOUNDARY, instance),
            settings,
            pool_of(settings, on_evict),
            step_time,
            stops_at_first_token=role == "prefill",
            backup_s=backup_s,
            connector=connector,
            detail=detail,
        )
        self.instance, self.role = instance, role
        self._listener, self.log, self._rows = listener, log, log.rows
        self._announces_chunks, self._is_member = announces_chunks, timer is not None
        self._tells_tokens = tells_tokens
        self._resumes_s, self._hangs = 0.0, False
        """Whether it sleeps until it may begin steps again."""
        if settings.adapter_loads is not None:
            self.adapter_slots = AdapterSlots(settings.adapter_loads)
        asked = None if look_up is None else partial(look_up, self)
        self.scheduler = scheduler_of(settings, self.pool, self.batch, asked)
        self.scheduler.connector = connector
        self._equip(settings)
        self._held_up: Step | None = None
        """Waits for a step of nobody to be over."""
        self._under_way: Step | None = None
        """The step that the span under way began with."""
        if not self._is_member:
            self._start()

    def _equip(self, settings: EngineSettings) -> None:
        """What a kind of engine has beside this; it has its scheduler by now."""

    def submit(self, sequence: Sequence) -> None:
        """Queue a request whose prompt is to be computed here."""
        is_next = self.scheduler.submit(sequence)
        self._tell_queued()
        if is_next:
            self._nudge()

    def resume(self, sequence: Sequence, known_tokens: int) -> None:
        """Queue a sequence again that stood aside: the ``known_tokens`` that ``look_up`` promised have come."""
        self.settle_begun()
        self._book_held()
        self.scheduler.resume(sequence, known_tokens, self._settled)
        self._tell_queued()
        self._nudge()

    def abort(self, sequence: Sequence) -> None:
        """Whoever asked for a sequence has gone; see ``Scheduler.abort``. Of one that runs a step may still be told,
        also as ``finished``; the blocks of one whose prompt is computed elsewhere or here are the caller's affair.
        """
        is_running = sequence in self.scheduler.running
        self.settle_begun()
        self._book_held()
        is_incoming = sequence in self.scheduler.kv_ready
        self.scheduler.abort(sequence)
        if is_incoming:
            self.reservation.pending -= 1
        elif sequence.reservation_end >= 0:
            self.reservation.leave(sequence)
        self._tell_queued()
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
        self.wake()

    def forget(self) -> None:
        """Lose what is cached and not in use."""
        self.settle_begun()
        self.pool.forget()
        self.wake()

    def hang_until(self, time_s: float) -> None:
        """Begin no step before ``time_s``; the one under way ends."""
        self.settle_begun()
        self._resumes_s = max(self._resumes_s, time_s)
        if self._leap > 1:
            self._cut_leap(self._steps_begun())

    @property
    def is_hung(self) -> bool:
        """Whether it begins no step now."""
        return self._resumes_s > self.clock.now

    def end_hang(self) -> None:
        """Begin steps from now on: the instance was started again."""
        self._resumes_s = 0.0
        if self._hangs:
            self._timer.set(self.clock.now)

    @property
    def is_quiet(self) -> bool:
        """Whether nobody holds any of its blocks, or waits for some."""
        return not self.scheduler.has_unfinished and self.pool.num_free == self.pool.num_blocks

    def wake(self) -> None:
        """Look at the queue as soon as a step may begin: something else than a step has changed who may be admitted."""
        if self.scheduler.waiting:
            self._nudge()

    def drop_steps(self) -> None:
        """The run is over. What steps lead to, a collector would not see."""
        self._next = self._held_up = self._under_way = None

    def _start(self) -> None:
        """Begin to serve, with the processes that begin now."""
        self._timer.sleeper = self
        self.clock.start(self._timer)

    def woken(self) -> None:
        """Go on where the engine fell asleep: a span of steps has run, or it may look for a next one."""
        held_up, under_way = self._held_up, self._under_way
        if held_up is not None:
            self._held_up = None
            self._book_held()
            self._run(held_up)
            return
        if under_way is not None:
            self._under_way = None
            self._end_span(under_way)
        else:
            self._book_held()
            if self._hangs:
                self._hangs = False
                self._restart_times()
        if self.is_hung:
            self._hangs = True
            self._timer.sleep_until(self._resumes_s)
            return
        step = self._next
        if step is None:
            step = self._plan_next()
        self._next = None
        if step is not None and self._empty_copies is None:
            self._run(step)
        elif step is not None:
            self._held_up = step
            self._timer.sleep_until(self._empty_until_s())
        else:
            self._rest()

    def _run(self, step: Step) -> None:
        """Run a span that begins with ``step`` now."""
        if step.copies is not None:
            step.first_s = self.own_s(step)
        self._under_way = step
        self._timer.sleep_until(self._begin(step))

    def _rest(self) -> None:
        """There is nothing to run: sleep until there may be."""
        self._book_preempted()
        if self._copies is not None and self._is_blocked:
            self._timer.sleep_until(self._copies.waits_until_s())
        else:
            self._idle = True
            self._timer.sleep()

    def _plan_next(self) -> Step | None:
        step = self._plan()
        if self.scheduler.left:
            self._tell_left()
        self._tell_queued()
        return step

    def _end_aborted(self) -> None:
        """A step has run, and what it gave is not told yet: those that were aborted meanwhile leave before."""
        if self.scheduler.aborted:
            self.scheduler.end_aborted()
            self._tell_left()

    def _tell_left(self) -> None:
        left, self.scheduler.left = self.scheduler.left, []
        for sequence in left:
            self._listener.left(self, sequence)

    def next_step(self, is_running: bool) -> Step | None:
        """The step to begin now. ``is_running``: its group has just ended another one, so that an engine that schedules
        ahead has no say any more."""
        step = self._next
        self._next = None
        if step is None and not (is_running and self._is_async):
            step = self._plan_next()
        return step

    def own_s(self, step: Step) -> float:
        """Seconds of a step that is about to begin, but for what the group computes together."""
        return step.first_s + self._wait_s(step)

    def tokens_of(self, step: Step) -> int:
        """Tokens that a step computes."""
        return step.num_decodes + sum([chunk.tokens for chunk in step.chunks])

    def begin_together(self, step: Step, step_s: float) -> None:
        """Start ``step``, which takes as long as the group's."""
        self._idle = False
        step.first_s, step.is_pure = step_s, False
        Engine._begin(self, step)

    def end_together(self, step: Step) -> None:
        """The group's step has run, and ``step`` with it."""
        self._end_span(step)

    def stand_by(self) -> None:
        """The group begins a step in which this engine has no part."""
        self._idle = False
        self._book_preempted()
        if self._is_async:
            self._next = self._plan_next()

    def stood_by(self) -> None:
        """The group's step has run, without this engine."""
        self._book_held()

    def rest(self) -> None:
        """The group sleeps until one of its engines is nudged."""
        self._book_preempted()
        self._book_held()
        self._idle = True

    def _begin(self, step: Step) -> float:
        """Start a span with ``step``, as long as nothing else can happen; returns when it is to end."""
        self._anchor(step)
        self._book_preempted()
        for sequence in step.stalled:
            if sequence.last_token_s < 0:
                sequence.last_token_s = self._start_s
        end_s = self._boundary_s(1)
        if step.joined:
            self._book_joined(step, end_s)
        if self._announces_chunks:
            self._announce(step, end_s)
        if self._is_async:
            self._next = self._plan_next()
            if self.scheduler.lost:
                self._take_back(step)
        latest = self._next if self._is_async else step
        if latest is None or not self._may_leap(step, latest):
            return end_s
        self._leap = 1 + self._steps_alike()
        return self._boundary_s(self._leap)

    def _announce(self, step: Step, end_s: float) -> None:
        for chunk in step.chunks:
            before, end = chunk.before, chunk.before + chunk.tokens
            known = known_before(step, chunk, self._block_size) if self.pool.hashes_when_scheduled else before
            self._listener.computing(self, chunk.sequence, known, end, end_s)

    def _end_span(self, step: Step) -> None:
        """Book a span whose steps have run."""
        steps = self._leap
        if steps > 1:
            self._settle_steps(steps)
            latest = self._next if self._next is not None else step
            latest.ended = self.scheduler.leap(steps - 1)
        self._book_held()
        self._end_aborted()
        self._leap, self._settled = 0, 0
        if self._detail is not None:
            self._tell_span(self._detail, step, steps)
        self._log_span(step, steps)
        for sequence in step.decodes:
            self._listener.tokens(self, sequence, 1)
        self._anchor_steps += steps
        if self._speed_change != 1.0:
            self._restart_times()
        if step.copies is not None:
            step.copies.begin()
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
            joined += book_returned(step, self.log, self._boundary_s(1), self._detail)
        if joined and steps > 1:
            first_end_s = self._boundary_s(1)
            rows.add(start_s, first_end_s, first_s, 0.0, 1, measured - joined)
            rows.add(first_end_s, now, first_s + slope_s, slope_s, steps - 1, measured)
        elif steps > 1:
            rows.add(start_s, now, first_s, slope_s, steps, measured)
        else:
            rows.add(start_s, now, first_s, 0.0, 1, measured - joined)

    def _book_chunks(self, step: Step) -> None:
        listener, now, chunks = self._listener, self.clock.now, step.chunks
        self.scheduler.settle_prompts(step)
        lonely = len(chunks) == 1 and not (step.num_decodes or step.load_s or self._is_member)
        for chunk in chunks:
            book_chunk(chunk, lonely, self.step_time, self._start_s, now)
        for chunk in chunks:
            # A prefill instance may have forgotten it while it was computed.
            if not self._stops_at_first_token or chunk.sequence.computed >= chunk.sequence.ready:
                listener.prefilled(self, chunk.sequence)
        if not self._stops_at_first_token:
            for sequence in step.completed:
                if sequence not in self.scheduler.lost:
                    book_token(sequence, self.log, now, self._detail)
                    if self._tells_tokens:
                        listener.tokens(self, sequence, 1)

    def _book_joined(self, step: Step, end_s: float) -> None:
        """Sequences whose KV came from elsewhere run their first decode step here."""
        for sequence in step.joined:
            if sequence.aborted:
                self.reservation.pending -= 1
            else:
                self.reservation.start(sequence, step.steps_before)
            book_joined(sequence, self.step_time, self.log, self._start_s, end_s, self._detail)

    def _book_preempted(self) -> None:
        """Tell of preempted sequences, not before the tokens that were on their way have come."""
        if not self._preempted:
            return
        preempted, self._preempted = self._preempted, []
        for sequence in preempted:
            self.reservation.leave(sequence)
            if self.adapter_slots is not None:
                self.adapter_slots.used(sequence.state.request.adapter)
            # One that is preempted again before its next token had its last one earlier.
            if sequence.state.first_token_s >= 0 and sequence.last_token_s < 0:
                sequence.last_token_s = self.clock.now
            self._listener.preempted(self, sequence)

    def _end(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            if self.connector is not None and not sequence.aborted:
                self.connector.ends(sequence)
            if self.adapter_slots is not None:
                self.adapter_slots.used(sequence.state.request.adapter)
            self.scheduler.finish(sequence)
            if sequence.reservation_end >= 0:
                self.reservation.leave(sequence)
        self._tell_queued()
        for sequence in sequences:
            self._listener.finished(self, sequence)
