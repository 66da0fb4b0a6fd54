"""Who runs on an engine, and what comes of a step that was scheduled: tokens, completed prompts, ends."""

from __future__ import annotations

from collections import deque
from typing import Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.deferred_hashing import DeferredHashing
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import Step

NO_PROMPTS: Final[list[tuple[Sequence, int]]] = []
"""No chunks: it stays empty, as ``NOBODY`` does."""


class RunningRequests:
    """The running requests of one engine, and what the step scheduled last is about."""

    __slots__ = (
        "_block_size",
        "_skipped",
        "batch",
        "chunks",
        "deferred",
        "joined",
        "lost",
        "pool",
        "preempted",
        "prefilling",
        "running",
        "settings",
        "stalled",
        "waiting",
    )

    def __init__(self, settings: EngineSettings, pool: BlockPool, batch: DecodeBatch) -> None:
        self.settings, self.pool, self.batch = settings, pool, batch
        self.waiting: deque[Sequence] = deque()
        self.running: dict[Sequence, None] = {}
        """In the order of admission."""
        self.prefilling: list[Sequence] = []
        """Running sequences whose prompt is not computed yet, in the order of admission."""
        self.chunks = NO_PROMPTS
        """Prompts that the step scheduled last computes, and how many of their tokens."""
        self.joined = NOBODY
        """Sequences from elsewhere that decode for the first time in the step scheduled last."""
        self.stalled = NOBODY
        """Decoding sequences that the budget of the step scheduled last did not reach."""
        self.preempted = NOBODY
        """Sequences that lost their blocks when the last step was scheduled."""
        self.lost = NOBODY
        """Preempted sequences that lose the token of the step under way, too."""
        self.deferred = DeferredHashing(pool, batch, settings.block_size, 1 if settings.async_scheduling else 0)
        self._skipped = NOBODY
        """Decoding sequences that the step before did not reach."""
        self._block_size = settings.block_size

    def start_decoding(self, sequence: Sequence) -> None:
        self.batch.add(sequence)
        if self.pool.hashes_when_scheduled and not sequence.is_incoming:
            self.deferred.add(sequence)

    def advance(self, step: Step, *, stops_at_first_token: bool) -> None:
        """Count the step scheduled last as run; ``step`` gets what will have come of it."""
        batch = self.batch
        batch.steps += 1
        if self._skipped:
            step.returned = [sequence for sequence in self._skipped if sequence.decoding]
        for sequence in self._skipped:
            if sequence.decoding:
                held_tokens = sequence.base + batch.steps
                self.deferred.settle_chains(sequence.path, 0, 0)
                self.deferred.settle(sequence, held_tokens, held_tokens)
            sequence.skipped_last_step = False
        self._skipped = step.stalled = self.stalled
        for sequence in self.stalled:
            sequence.skipped_last_step = True
            batch.add(sequence)
        step.ended = self._pop_ended()
        if self.chunks:
            completed: list[Sequence] = []
            for sequence, tokens in self.chunks:
                sequence.computed += tokens
                if sequence.computed == sequence.num_tokens:
                    completed.append(sequence)
            if completed:
                step.completed = completed
                self._complete(step, stops_at_first_token)

    def leap(self, steps: int) -> list[Sequence]:
        """Count further steps of the same batch as run; returns those that have their last token then."""
        self.batch.steps += steps
        return self._pop_ended()

    def finish(self, sequence: Sequence) -> None:
        """The sequence has its last token: free its blocks, or forget it if it was preempted or has left meanwhile."""
        if sequence not in self.running:
            if not sequence.aborted:
                self.waiting.remove(sequence)
            return
        del self.running[sequence]
        self.deferred.settle_chains(sequence.path, 0, 0)
        self._stop_hashing(sequence, sequence.computed, sequence.computed)
        sequence.is_incoming = False
        self.pool.release(sequence)

    def _complete(self, step: Step, stops_at_first_token: bool) -> None:
        """Prompts are computed: their sequences decode from now on, or end here."""
        self.prefilling = [sequence for sequence in self.prefilling if sequence.computed < sequence.num_tokens]
        ended: list[Sequence] = []
        for sequence in step.completed:
            if stops_at_first_token:
                del self.running[sequence]
            elif not self._goes_on(sequence):
                ended.append(sequence)
        if ended:
            ended += step.ended
            ended.sort(key=_serial)
            step.ended = ended

    def _pop_ended(self) -> list[Sequence]:
        """Take out who has its last token, and hash what it filled: it keeps step with its chains no more."""
        ended = self.batch.pop_finished()
        for sequence in ended:
            sequence.ending = True
            self.deferred.settle_chains(sequence.path, 0, 0)
        return ended

    def _goes_on(self, sequence: Sequence) -> bool:
        """A completed sequence gets a further token; whether it decodes after that."""
        sequence.remaining -= 1
        if not sequence.remaining:
            sequence.ending = True
            return False
        sequence.num_tokens += 1
        self.start_decoding(sequence)
        return True

    def _stop_hashing(self, sequence: Sequence, held_tokens: int, known_tokens: int) -> None:
        self.deferred.settle(sequence, held_tokens, known_tokens)
        self.deferred.discard(sequence)


def _serial(sequence: Sequence) -> int:
    return sequence.serial
