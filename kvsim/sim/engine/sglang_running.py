"""Who runs under SGLang's scheduler, and what comes of its steps: when prompts and answers enter the tree."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.prefill_budget import MOST_NEW_TOKENS
from kvsim.sim.engine.radix import RadixPool
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.step import Step


class SglangRunning(Scheduler):
    """``running`` are those that decode, in the order of SGLang's batch; of a prompt under way ``_chunked`` tells."""

    __slots__ = ("_chunked", "_has_left", "_is_mixed", "_is_planned", "_low_serial", "_settled_early", "_tree")

    def __init__(self, settings: EngineSettings, pool: RadixPool, batch: DecodeBatch) -> None:
        super().__init__(settings, pool, batch)
        self._tree = pool
        self._chunked: Sequence | None = None
        """The sequence of whose prompt a part is computed, if there is one."""
        self._has_left = False
        """Somebody has left, or a batch of prompts joined those that run, since a step was scheduled."""
        self._is_mixed = False
        """Whether the step scheduled last decodes beside prompts."""
        self._is_planned = False
        """Whether there was a step when one was scheduled last."""
        self._low_serial = 0
        self._settled_early: dict[Sequence, None] = {}
        """Sequences that ended with their prompt, whose blocks are free before they are told to ``finish``."""

    @property
    def rests(self) -> bool:
        """Whether nothing was scheduled: what a step under way leaves is waited for."""
        return not self._is_planned

    @property
    def num_running(self) -> int:
        """Requests that decode, and those whose prompts are computed."""
        return len(self.running) + (self._chunked is not None)

    @property
    def has_unfinished(self) -> bool:
        """Whether there is any request that is to run."""
        return bool(self.running or self.waiting or self.prefilling)

    def abort(self, sequence: Sequence) -> None:
        """As ``Scheduler.abort``."""
        if sequence is self._chunked:
            self.aborted.append(sequence)
            return
        super().abort(sequence)

    def advance(self, step: Step, *, stops_at_first_token: bool) -> None:
        """Count the step scheduled last as run; ``step`` gets what will have come of it."""
        assert not stops_at_first_token, "answers are made here"
        batch = self.batch
        batch.steps += 1
        if self._skipped:
            step.returned = [sequence for sequence in self._skipped if sequence.decoding]
        for sequence in self._skipped:
            sequence.skipped_last_step = False
        self._skipped = step.stalled = self.stalled
        for sequence in self.stalled:
            sequence.skipped_last_step = True
            batch.add(sequence)
        step.ended = self._pop_ended()
        completed: list[Sequence] = []
        for sequence, tokens in self.chunks:
            sequence.computed += tokens
            if sequence is not self._chunked:
                completed.append(sequence)
        self.prefilling = [] if self._chunked is None else [self._chunked]
        if self._is_mixed or (self.chunks and self._chunked is not None):
            self._has_left = True
        if completed:
            step.completed = completed
            self._join(completed, step)

    def _join(self, completed: list[Sequence], step: Step) -> None:
        """Whoever's prompt is computed joins those that decode: behind them, or before those that decoded beside it."""
        if self._is_mixed:
            self._low_serial -= len(completed)
            serial = self._low_serial
            self.running = dict.fromkeys([*completed, *self.running])
        else:
            self._has_left = self._has_left or not self.running
            serial = self._admissions + 1
            self._admissions += len(completed)
            self.running.update(dict.fromkeys(completed))
        ended: list[Sequence] = []
        for place, sequence in enumerate(completed):
            sequence.serial = serial + place
            if not self._goes_on(sequence):
                ended.append(sequence)
        if ended:
            step.ended = ended + step.ended

    def settle_prompts(self, step: Step) -> None:
        """The step has run: prompts that it completed enter the tree, in their order, and who ends with its prompt goes
        between them."""
        ended = dict.fromkeys(step.ended)
        ends = {chunk.sequence: chunk.before + chunk.tokens for chunk in step.chunks}
        for sequence in step.completed:
            if sequence in ended:
                self._release(sequence)
                self._settled_early[sequence] = None
            elif sequence in self.running:
                self._publish(sequence, ends[sequence])

    def finish(self, sequence: Sequence) -> None:
        """The sequence has its last token: what it computed enters the tree, and its blocks are free."""
        if sequence in self._settled_early:
            del self._settled_early[sequence]
            return
        self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        del self.running[sequence]
        self._has_left = True
        sequence.loose = -(-sequence.computed // self._block_size) - sequence.hashed
        self._publish(sequence, sequence.computed)
        self._tree.drop(sequence)

    def _publish(self, sequence: Sequence, tokens: int) -> None:
        page = self._block_size
        self._tree.publish(sequence, tokens // page, sequence.state.request.prompt_tokens // page)

    def _drop_aborted(self) -> None:
        aborted, self.aborted = self.aborted, []
        for sequence in aborted:
            if sequence.ending:
                continue
            if sequence is self._chunked:
                self._chunked, self.prefilling = None, []
                self._tree.drop(sequence)
            elif sequence in self.running:
                self.batch.remove(sequence)
                self._release(sequence)
            else:
                self.waiting.remove(sequence)

    def _lag(self, sequence: Sequence) -> int:
        """Tokens of a running sequence that are on their way while the next step is scheduled."""
        return 1 if self.settings.async_scheduling and self._is_planned and not sequence.skipped_last_step else 0

    def _unknown(self, sequence: Sequence) -> int:
        """Tokens of its answer that a sequence does not have yet."""
        if sequence.decoding:
            return sequence.finish_step - self.batch.steps + self._lag(sequence)
        return sequence.remaining + (self._lag(sequence) if sequence.ending else 0)

    def _most(self, sequence: Sequence) -> int:
        return sequence.state.output_tokens

    def _longest_answer(self, sequence: Sequence) -> int:
        return min(self._most(sequence), MOST_NEW_TOKENS)
