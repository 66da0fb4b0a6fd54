"""vLLM's V1 scheduler of an engine whose layers are stages of a pipeline: several steps are on their way at a time.

A sequence has nothing to schedule while its last known token is on its way. With asynchronous scheduling it is
scheduled ahead, but again only so many steps later as there are stages, empty ones counted: by then the first stage can
have its token. What is on its way of a sequence that is preempted still gives its tokens, and until all of it has
come the sequence is not admitted again; whoever waits behind goes before.

Every sequence is looked at in every step. Sources: ``Scheduler``, ``AsyncScheduler`` and
``EngineCore.step_with_batch_queue`` of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.step import NO_OUTPUTS, Output, Step

NOTHING: Final[list[Output]] = []


class Flight:
    """What of one sequence is on its way through the stages."""

    __slots__ = ("eligible_step", "end_tokens", "gone", "placeholders", "stale", "steps")

    def __init__(self, end_tokens: int) -> None:
        self.end_tokens = end_tokens
        """Tokens of the sequence with its last one."""
        self.steps = 0
        """Steps that compute any of it and have not ended."""
        self.stale = 0
        """Steps among these that were scheduled before it was preempted."""
        self.placeholders = 0
        """Asynchronous: tokens that are on their way."""
        self.eligible_step = 0
        """Asynchronous: the first step that may compute its next token."""
        self.gone = False
        """Complete, or given up: nothing that is on its way counts any more."""


class PipelineScheduler(Scheduler):
    """``Scheduler`` for ``settings.pipeline_parallel`` stages. ``batch`` counts its steps and holds nobody.

    ``settle`` is to follow when a step has passed all stages. A step may be empty: it counts, too.
    """

    __slots__ = ("_flights", "_has_finished", "_is_async", "_step", "_stride", "planned")

    def __init__(
        self,
        settings: EngineSettings,
        pool: BlockPool,
        batch: DecodeBatch,
        look_up: Callable[[Sequence, int], int] | None = None,
    ) -> None:
        super().__init__(settings, pool, batch, look_up)
        self._is_async, self._stride = settings.async_scheduling, settings.pipeline_parallel
        self._keeps_turns = True
        self._flights: dict[Sequence, Flight] = {}
        self._step = 0
        """Number of the step scheduled last, from 1."""
        self._has_finished = False
        """Whether a request has ended of which no step has told the workers yet."""
        self.planned = NOTHING
        """Sequences of the step scheduled last, in order: how many tokens, and whether these are of a prompt."""

    @property
    def has_requests(self) -> bool:
        """Whether there is anything that a step would be scheduled for, be it empty."""
        return self._has_finished or self.has_unfinished

    def submit(self, sequence: Sequence) -> bool:
        """Queue a request whose prompt is to be computed; returns whether it may be admitted in the next step."""
        self._flights[sequence] = Flight(sequence.num_tokens + sequence.remaining)
        return super().submit(sequence)

    def schedule(self) -> None:
        """Decide the next step, and take its blocks; ``advance`` is to follow."""
        self._begin_step()
        self._step += 1
        self._has_finished, self.planned = False, []
        budget = self._schedule_in_order()
        if self.waiting and not self.preempted:
            self._admit_queued(budget)

    def scheduled(self) -> dict[Sequence, int]:
        """Tokens of the step scheduled last by sequence."""
        return {sequence: tokens for sequence, tokens, _ in self.planned}

    def advance(self, step: Step, *, stops_at_first_token: bool) -> None:
        """Count the step scheduled last as on its way."""
        self.batch.steps += 1
        outputs: list[Output] = []
        completed: list[Sequence] = []
        for sequence, tokens, is_prompt in self.planned:
            sequence.computed += tokens
            gives = True
            if is_prompt:
                gives = sequence.computed >= sequence.num_tokens
                if gives:
                    sequence.decoding = True
                    completed.append(sequence)
            flight = self._flights[sequence]
            flight.steps += 1
            if gives and self._is_async:
                flight.placeholders += 1
                flight.eligible_step = self._step + self._stride
            outputs.append((sequence, tokens, gives))
        step.outputs = outputs if outputs else NO_OUTPUTS
        if completed:
            step.completed = completed
            self.prefilling = [sequence for sequence in self.prefilling if not sequence.decoding]

    def settle(self, step: Step) -> list[tuple[Sequence, int]]:
        """The step has passed all stages: who got how many tokens, in order. Whoever got the last one is ``ending``."""
        found: list[tuple[Sequence, int]] = []
        for sequence, _, gives in step.outputs:
            flight = self._flights[sequence]
            flight.steps -= 1
            is_stale = flight.stale > 0
            if is_stale:
                flight.stale -= 1
            if flight.gone:
                self._forget(sequence, flight)
            elif gives:
                self._give(sequence, flight, is_stale)
                found.append((sequence, 1))
        return found

    def _give(self, sequence: Sequence, flight: Flight, is_stale: bool) -> None:
        sequence.num_tokens += 1
        sequence.remaining -= 1
        if self._is_async:
            if not is_stale:
                flight.placeholders -= 1
            if sequence in self.running:
                self._hash(sequence, sequence.computed - flight.placeholders)
        if not sequence.remaining:
            sequence.ending = flight.gone = True
            self._forget(sequence, flight)

    def _forget(self, sequence: Sequence, flight: Flight) -> None:
        if not flight.steps:
            del self._flights[sequence]

    def finish(self, sequence: Sequence) -> None:
        """The sequence has its last token: free its blocks, or forget it if it was preempted meanwhile."""
        self._has_finished = True
        if sequence not in self.running:
            self.waiting.remove(sequence)
            return
        del self.running[sequence]
        sequence.decoding = False
        known_tokens = min(sequence.computed, sequence.num_tokens)
        sequence.computed = sequence.hashed * self._block_size if self.settings.enable_prefix_caching else known_tokens
        self.pool.release(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Nobody waits for the sequence any more: it leaves the queue, or the batch when the next step is scheduled."""
        super().abort(sequence)
        if sequence not in self.running:
            self._give_up(sequence)

    def _give_up(self, sequence: Sequence) -> None:
        flight = self._flights.get(sequence)
        if flight is not None:
            self._has_finished = flight.gone = True
            self._forget(sequence, flight)

    def _drop_aborted(self) -> None:
        aborted = self.aborted
        super()._drop_aborted()
        for sequence in aborted:
            self._give_up(sequence)

    def _schedule_in_order(self) -> int:
        """The running loop as vLLM runs it; returns the budget left."""
        budget = self.settings.max_num_batched_tokens
        spent: dict[Sequence, int] = {}
        for sequence in list(self.running):
            if budget <= 0:
                break
            if sequence not in self.running:
                continue
            tokens = min(self._want(sequence), budget)
            if not tokens:
                continue
            blocks = self._more_blocks(sequence, tokens)
            while blocks > self.pool.num_free and sequence in self.running:
                victim = self._victim()
                had_its_turn = victim in spent
                budget += spent.pop(victim, 0)
                self._preempt(victim, had_its_turn, 0)
            if sequence not in self.running:
                break
            budget -= tokens
            spent[sequence] = tokens
            self._run(sequence, tokens, blocks)
        return budget

    def _run(self, sequence: Sequence, tokens: int, blocks: int) -> None:
        """Schedule so many tokens of a running sequence."""
        self.pool.take(blocks)
        sequence.loose += blocks
        self._hash(sequence, sequence.computed + tokens)
        if sequence.decoding:
            self.planned.append((sequence, tokens, False))
        else:
            self._compute(sequence, tokens)

    def _compute(self, sequence: Sequence, tokens: int) -> None:
        super()._compute(sequence, tokens)
        self.planned.append((sequence, tokens, True))

    def _want(self, sequence: Sequence) -> int:
        """Tokens that are known, or surely on their way, and not scheduled; 0 where it is too early for them, and where
        its last one is on its way."""
        flight = self._flights[sequence]
        placeholders = flight.placeholders
        if placeholders and sequence.computed + 2 - placeholders >= flight.end_tokens:
            return 0
        if self._step < flight.eligible_step:
            return 0
        want = sequence.num_tokens + placeholders - sequence.computed
        return self._most_of_prompt if 0 < self._most_of_prompt < want else want

    def _more_blocks(self, sequence: Sequence, tokens: int) -> int:
        whole = -(-(sequence.computed + tokens) // self._block_size)
        return max(0, whole - sequence.hashed - sequence.loose)

    def _hash(self, sequence: Sequence, tokens: int) -> None:
        """Let the full blocks of the first ``tokens`` be hit, as far as they are known."""
        self.pool.extend(sequence, min(tokens, sequence.num_tokens) // self._block_size)

    def _admit_waiting(self, budget: int, seats: int, slots: int) -> None:
        passed: list[Sequence] = []
        while self.waiting and budget > 0 and seats > 0:
            sequence = self.waiting[0]
            if self._flights[sequence].stale:
                passed.append(self.waiting.popleft())
                continue
            tokens = self._admit(sequence, budget)
            if not tokens:
                break
            budget -= tokens
            seats -= 1
        self.waiting.extendleft(reversed(passed))

    def _withdraw(self, victim: Sequence, had_its_turn: bool, serial: int) -> None:
        """Take a sequence off the running ones. What of it is on its way gives its tokens, and changes nothing else."""
        del self.running[victim]
        if victim.decoding:
            victim.decoding = False
        else:
            self.prefilling.remove(victim)
        if had_its_turn:
            self.planned = [one for one in self.planned if one[0] is not victim]
            self.chunks = [one for one in self.chunks if one[0] is not victim]
        victim.computed = min(victim.computed, victim.num_tokens)
        flight = self._flights[victim]
        flight.stale, flight.placeholders = flight.steps, 0
