"""The running requests' next tokens, which come before all waiting ones; where blocks run short, one is preempted."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings
from kvsim.policy.scheduling import PRIORITY
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.engine_connector import EngineConnector
from kvsim.sim.engine.queue_order import by_priority, insert_by_priority
from kvsim.sim.engine.running import NO_PROMPTS, RunningRequests
from kvsim.sim.engine.sequence import Sequence


class PreemptiveScheduler(RunningRequests):
    """Schedules who runs. Decoding sequences are kept as sums (``DecodeBatch``) and looked at one by one only when
    blocks or budget run short; then the last running request is preempted, which will be recomputed. With priorities
    that is the last one in the order of (priority, arrival).
    """

    __slots__ = (
        "_in_flight",
        "_keeps_turns",
        "_lost_turns",
        "_most_of_prompt",
        "aborted",
        "connector",
        "has_priorities",
        "is_ahead",
        "preemptions",
    )

    def __init__(self, settings: EngineSettings, pool: BlockPool, batch: DecodeBatch) -> None:
        super().__init__(settings, pool, batch)
        self.has_priorities = settings.scheduling_policy == PRIORITY
        self._keeps_turns = settings.rules.keeps_turns
        self._lost_turns = 0
        """How many of those behind who has its turn go without theirs."""
        self.preemptions = 0
        self.aborted: list[Sequence] = []
        """Running sequences that nobody waits for any more; the next step goes without them."""
        self.connector: EngineConnector | None = None
        """By whose rules prompts are loaded, where they are vLLM's; nobody is asked for ``look_up`` then."""
        self.is_ahead = False
        """Whether the step that is being scheduled follows one that is under way."""
        self._in_flight = NO_PROMPTS
        """Behind a connector: prompts of the step scheduled before."""
        self._most_of_prompt = 0
        """Tokens of one prompt that the step under way may compute; 0: no limit."""

    def _schedule_running(self, budget: int) -> int:
        """Next tokens of running requests while prompts are under way; returns the budget left.

        Their order matters only where budget or blocks run short, or where decodes follow a prompt under way.
        """
        batch, prefilling, free = self.batch, self.prefilling, self.pool.num_free
        wants = [self._want(sequence) for sequence in prefilling]
        if (
            len(wants) == 1
            and wants[0] > budget > 0
            and (not batch.num or next(reversed(self.running)) is prefilling[0])
        ):
            wants[0] = budget
        needed = batch.residues[-batch.steps % self._block_size] if batch.num else 0
        left, room = budget, free - needed
        blocks: list[int] = []
        for place, sequence in enumerate(prefilling):
            count = self._blocks_for(sequence, wants[place])
            blocks.append(count)
            left -= wants[place]
            room -= count
        if left < 0 or room < 0:
            return self._schedule_in_order()
        if needed:
            self.pool.take(needed)
        for place, sequence in enumerate(prefilling):
            self._take_chunk(sequence, wants[place], blocks[place])
        return left

    def _schedule_in_order(self) -> int:
        """The running loop as vLLM runs it, one request after the other; returns the budget left."""
        budget = self.settings.max_num_batched_tokens
        spent: dict[Sequence, int] = {}
        ended, self._lost_turns = False, 0
        for sequence in list(self.running):
            if self._lost_turns and self._loses_turn(sequence):
                continue
            if sequence.ending or sequence not in self.running:
                continue
            tokens = 0 if ended else min(1 if sequence.decoding else self._want(sequence), budget)
            if not tokens:
                self._stall(sequence)
                continue
            blocks = self._blocks_for(sequence, tokens)
            while blocks > self.pool.num_free and sequence in self.running:
                victim = self._victim()
                if self._keeps_blocks(victim):
                    ended = True
                    break
                budget += spent.get(victim, 0)
                self._preempt_for(sequence, victim, victim in spent, sequence.serial - 1)
            if sequence not in self.running:
                ended = True
                continue
            if ended:
                self._stall(sequence)
                continue
            budget -= tokens
            spent[sequence] = tokens
            if sequence.decoding:
                self.pool.take(blocks)
            else:
                self._take_chunk(sequence, tokens, blocks)
        return budget

    def _stall(self, sequence: Sequence) -> None:
        """Leave a sequence out of this step, whose budget does not reach it."""
        if sequence.decoding:
            self.deferred.settle_chains(sequence.path, 1, sequence.serial - 1)
            self.batch.remove(sequence)
            if not self.stalled:
                self.stalled = []
            self.stalled.append(sequence)

    def _victim(self) -> Sequence:
        if self.has_priorities:
            return max(self.running, key=lambda sequence: by_priority(sequence)[:2])
        return next(reversed(self.running))

    def _keeps_blocks(self, victim: Sequence) -> bool:
        """Behind a connector the blocks that a step under way may write to are not freed: a load might be first."""
        if self.connector is None or not self.is_ahead:
            return False
        if victim in self.prefilling:
            return any(sequence is victim for sequence, _ in self._in_flight)
        return not victim.skipped_last_step

    def _loses_turn(self, sequence: Sequence) -> bool:
        """Whether a running sequence goes without its turn, which is lost to others' preemption."""
        if sequence not in self.running:
            return False
        self._lost_turns -= 1
        if not sequence.ending:
            self._stall(sequence)
        return True

    def _preempt_for(self, sequence: Sequence, victim: Sequence, had_its_turn: bool, serial: int) -> None:
        """``_preempt`` in the turn of ``sequence``."""
        if not (self._keeps_turns or had_its_turn) and victim.serial < sequence.serial:
            self._lost_turns += 1
        self._preempt(victim, had_its_turn, serial)

    def _preempt(self, victim: Sequence, had_its_turn: bool, serial: int) -> None:
        """Free all its blocks; it goes back to the queue and will be computed again. The rest as in ``_withdraw``."""
        self._withdraw(victim, had_its_turn, serial)
        victim.high_water = max(victim.high_water, victim.computed)
        self.pool.release_to_resume(victim)
        victim.computed = victim.ready = 0
        victim.is_incoming = False
        victim.resumed = True
        victim.state.preemptions += 1
        self.preemptions += 1
        if not self.preempted:
            self.preempted = []
        self.preempted.append(victim)
        self._requeue(victim)

    def _requeue(self, victim: Sequence) -> None:
        """Queue a preempted sequence, before who has not begun."""
        if self.has_priorities:
            insert_by_priority(self.waiting, victim)
        else:
            self.waiting.appendleft(victim)

    def _withdraw(self, victim: Sequence, had_its_turn: bool, serial: int) -> None:
        """Take a sequence off the running ones, and hash what it holds as far as it is known.

        ``had_its_turn``: blocks of this step, which it will not run, are taken and hashed already. Those up to
        ``serial`` had theirs.
        """
        del self.running[victim]
        if victim.decoding or victim in self.stalled:
            self.deferred.settle_chains(victim.path, 1, serial)
            if victim.decoding:
                self.batch.remove(victim)
            else:
                self.stalled.remove(victim)
            victim.num_tokens = victim.computed + 1
            held = victim.num_tokens if had_its_turn else victim.computed
            self._stop_hashing(victim, held, held - self.deferred.lag_of(victim))
        elif victim.ending:
            self.deferred.settle_chains(victim.path, 1, serial)
            self._stop_hashing(victim, victim.computed, victim.computed - self.deferred.lag_of(victim))
        else:
            self.prefilling.remove(victim)
            self.chunks = [(sequence, tokens) for sequence, tokens in self.chunks if sequence is not victim]

    def _drop_aborted(self) -> None:
        aborted, self.aborted = self.aborted, []
        for sequence in aborted:
            if sequence.ending:
                continue
            if sequence in self.running:
                self._withdraw(sequence, False, 0)
                sequence.is_incoming = False
                self.pool.release(sequence)
            else:
                self.waiting.remove(sequence)

    def _want(self, sequence: Sequence) -> int:
        want = sequence.num_tokens - sequence.computed
        return self._most_of_prompt if 0 < self._most_of_prompt < want else want

    def _blocks_for(self, sequence: Sequence, tokens: int) -> int:
        block_size = self._block_size
        computed = sequence.base + self.batch.steps if sequence.decoding else sequence.computed
        return -(-(computed + tokens) // block_size) - -(-computed // block_size)

    def _first_chunk(self, tokens: int, cached: int, budget: int) -> int:
        """How many of the ``tokens`` behind the cached ones an admitted sequence computes first; 0: none fit."""
        if 0 < self._most_of_prompt < tokens:
            tokens = self._most_of_prompt
        if tokens > budget:
            return budget if self.settings.enable_chunked_prefill else 0
        return tokens

    def _blocks_of(self, tokens: int) -> int:
        """Blocks that an admitted sequence holds whose first ``tokens`` are scheduled."""
        return -(-tokens // self._block_size)

    def _take_chunk(self, sequence: Sequence, tokens: int, blocks: int) -> None:
        self.pool.take(blocks)
        sequence.loose += blocks
        self.deferred.settle_chains(sequence.path, 1, sequence.serial)
        self.pool.extend(sequence, (sequence.computed + tokens) // self._block_size)
        self._compute(sequence, tokens)

    def _compute(self, sequence: Sequence, tokens: int) -> None:
        if not self.chunks:
            self.chunks = []
        self.chunks.append((sequence, tokens))
