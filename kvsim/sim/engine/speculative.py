"""vLLM's V1 scheduler with speculative decoding: who runs with how many drafts, and what becomes of rejected ones.

A decoding sequence asks for its last token and all its drafts (``num_tokens_with_spec``), and holds blocks for what the
drafter writes behind them (``num_lookahead_tokens``). What is rejected is taken back from its computed tokens once the
step has run; its blocks stay. Only tokens that are known are hashed: those that a step gives when the next one is
scheduled, or, where steps are scheduled ahead, when its output comes. How far a sequence gets in a step is not known
before, so every sequence is looked at in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvsim.plan.engine_settings import EngineSettings, Speculation
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.drafting import DraftCounts, Drafting
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.step import NO_OUTPUTS, Output, Step

Verification = tuple[Sequence, int, int]
"""A decoding sequence, how many tokens it computes in a step, and how many of these are drafts."""
NO_VERIFICATIONS: Final[list[Verification]] = []


class SpeculativeScheduler(Scheduler):
    """``Scheduler`` for ``settings.speculation``. ``batch`` counts its steps and holds nobody.

    ``settle`` is to follow when a step has run; of steps that are scheduled ahead, before the next but one is.
    """

    __slots__ = ("_is_async", "_padded", "_padding", "_reached", "_speculation", "_with_prompts", "counts", "verified")

    def __init__(
        self,
        settings: EngineSettings,
        pool: BlockPool,
        batch: DecodeBatch,
        look_up: Callable[[Sequence, int], int] | None = None,
    ) -> None:
        super().__init__(settings, pool, batch, look_up)
        speculation = settings.speculation
        assert speculation is not None
        self._speculation: Speculation = speculation
        self._is_async = settings.async_scheduling
        self.verified = NO_VERIFICATIONS
        """Decoding sequences of the step scheduled last, in the order in which they were scheduled."""
        self.counts = DraftCounts(speculation.num_tokens)
        self._with_prompts = False
        """Whether a prompt under way is in the step."""
        self._padded = 0
        """Padding of the sequence that is being admitted."""
        self._padding: dict[Sequence, int] = {}
        """Sequences that the step admits with one token and drafts which are none, as many."""
        self._reached = speculation.acceptance

    def schedule(self) -> None:
        """Decide the next step, and take its blocks; ``advance`` is to follow."""
        self._begin_step()
        self.verified, self._padding, self._with_prompts = [], {}, False
        budget = self._schedule_in_order()
        if (self.waiting or self.kv_ready) and not self.preempted:
            if self._is_static and len(self.running) > len(self.prefilling):
                return
            self._admit_queued(budget)

    @property
    def num_padding(self) -> int:
        """Tokens that the step scheduled last computes as drafts and are none."""
        return sum(self._padding.values())

    def scheduled(self) -> tuple[dict[Sequence, int], dict[Sequence, int]]:
        """Tokens of the step scheduled last by sequence, and how many of them are drafts, where there are any."""
        tokens = {sequence: count for sequence, count, _ in self.verified}
        tokens |= {sequence: count + self._padding.get(sequence, 0) for sequence, count in self.chunks}
        tokens |= {sequence: 1 + self._padding.get(sequence, 0) for sequence in self.joined}
        drafts = {sequence: count for sequence, _, count in self.verified if count}
        return tokens, drafts | self._padding

    def advance(self, step: Step, *, stops_at_first_token: bool) -> None:
        """Count the step scheduled last as run, as if all drafts had been accepted."""
        self.batch.steps += 1
        outputs: list[Output] = []
        num_tokens = self._speculation.num_tokens
        for sequence, tokens, drafts in self.verified:
            sequence.computed += tokens
            outputs.append((sequence, drafts, True))
        completed: list[Sequence] = []
        for sequence, tokens in self.chunks:
            sequence.computed += tokens + self._padding.get(sequence, 0)
            if sequence.computed >= sequence.num_tokens:
                sequence.decoding = True
                completed.append(sequence)
                outputs.append((sequence, self._padding.get(sequence, 0), False))
        for sequence in self.joined:
            sequence.computed += 1 + self._padding.get(sequence, 0)
            outputs.append((sequence, self._padding.get(sequence, 0), False))
        for sequence, drafts, _ in outputs:
            drafting = self._drafting(sequence)
            drafting.in_flight += 1
            if self._is_async:
                drafting.placeholders += 1 + drafts
                drafting.drafts = num_tokens
        step.outputs = outputs if outputs else NO_OUTPUTS
        if completed:
            step.completed = completed
            self.prefilling = [sequence for sequence in self.prefilling if sequence.computed < sequence.num_tokens]

    def settle(self, step: Step) -> list[tuple[Sequence, int]]:
        """The step has run: who got how many tokens, in order. A sequence that got its last one is ``ending``."""
        found: list[tuple[Sequence, int]] = []
        for sequence, drafts, is_real in step.outputs:
            drafting = self._drafting(sequence)
            drafting.in_flight -= 1
            is_stale = drafting.stale > 0
            if is_stale:
                drafting.stale -= 1
            if drafting.gone:
                continue
            accepted = drafting.accepted_of(drafts, self._reached) if drafts and is_real else 0
            if drafts:
                self.counts.add(drafts, accepted)
                if not is_stale:
                    sequence.computed -= drafts - accepted
                    if drafting.placeholders:
                        drafting.placeholders -= drafts - accepted
            gained = min(1 + accepted, sequence.remaining)
            sequence.num_tokens += gained
            sequence.remaining -= gained
            found.append((sequence, gained))
            if self._is_async:
                if not is_stale:
                    drafting.placeholders -= gained
                if sequence in self.running and self.pool.hashes_when_scheduled:
                    self._hash(sequence, sequence.computed - drafting.placeholders)
            else:
                drafting.drafts = drafting.proposed_of(self._speculation.num_tokens, self._speculation.proposed_share)
            if not sequence.remaining:
                sequence.ending = drafting.gone = True
        return found

    def finish(self, sequence: Sequence) -> None:
        """The sequence has its last token: free its blocks, or forget it if it was preempted meanwhile."""
        if sequence not in self.running:
            self.waiting.remove(sequence)
            return
        del self.running[sequence]
        sequence.decoding = False
        known_tokens = min(sequence.computed, sequence.num_tokens)
        if not self.pool.hashes_when_scheduled:
            self.pool.extend(sequence, known_tokens // self._block_size)
        sequence.computed = sequence.hashed * self._block_size if self.settings.enable_prefix_caching else known_tokens
        sequence.is_incoming = False
        self.pool.release(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Nobody waits for the sequence any more: it leaves the queue, or the batch when the next step is scheduled."""
        super().abort(sequence)
        if sequence not in self.running:
            self._drafting(sequence).gone = True

    def receive(self, sequence: Sequence, scheduled_steps: int) -> None:
        """The KV of an incoming sequence has all come: its blocks can be hit, the last known token's excepted."""
        sequence.is_incoming = False
        self.pool.enter(sequence, (sequence.state.request.prompt_tokens - 1) // self._block_size)

    def match(self, sequence: Sequence, scheduled_steps: int) -> tuple[int, int]:
        """As ``Scheduler.match``; without the last block found where drafts need what computing it gives."""
        hits, evictable = super().match(sequence, scheduled_steps)
        if hits and self._speculation.drops_last_hit:
            return self.pool.match(sequence.path, hits - 1)
        return hits, evictable

    def _schedule_in_order(self) -> int:
        """The running loop as vLLM runs it; returns the budget left, less the slots of whoever comes next."""
        slots = self._speculation.draft_slots
        budget = self.settings.max_num_batched_tokens - slots
        spent: dict[Sequence, int] = {}
        for sequence in list(self.running):
            if budget <= 0:
                break
            if sequence.ending or sequence not in self.running:
                continue
            tokens = min(self._want(sequence), budget, self.settings.max_model_len - sequence.computed - 1)
            if tokens <= 0:
                continue
            blocks = self._more_blocks(sequence, tokens)
            while blocks > self.pool.num_free and sequence in self.running:
                victim = self._victim()
                had_its_turn = victim in spent
                budget += spent.pop(victim, 0)
                self._preempt(victim, had_its_turn, 0)
            if sequence not in self.running:
                break
            budget -= tokens + slots
            spent[sequence] = tokens + slots
            self._run(sequence, tokens, blocks)
        return budget

    def _run(self, sequence: Sequence, tokens: int, blocks: int) -> None:
        """Schedule so many tokens of a running sequence."""
        self.pool.take(blocks)
        sequence.loose += blocks
        is_prompt = not sequence.decoding
        if is_prompt or self.pool.hashes_when_scheduled:
            self._hash(sequence, sequence.computed + tokens)
        if is_prompt:
            self._with_prompts = True
            self._compute(sequence, tokens)
            return
        drafting = self._drafting(sequence)
        beyond = tokens + sequence.computed - sequence.num_tokens - drafting.placeholders
        self.verified.append((sequence, tokens, max(0, min(beyond, drafting.drafts))))
        drafting.drafts = 0

    def _want(self, sequence: Sequence) -> int:
        """Tokens that are known or drafted and not scheduled; 0 where its last one is surely on its way."""
        drafting = self._drafting(sequence)
        placeholders = drafting.placeholders
        if placeholders and sequence.computed + 2 - placeholders >= drafting.end_tokens:
            return 0
        want = sequence.num_tokens + drafting.drafts + placeholders - sequence.computed
        return self._most_of_prompt if 0 < self._most_of_prompt < want else want

    def _first_chunk(self, tokens: int, cached: int, budget: int) -> int:
        """As ``Scheduler._first_chunk``; a single token is padded to the length of those that decode, or waits."""
        self._padded = 0
        if tokens == 1 and not self._with_prompts and (self.verified or cached):
            padding = self._padding_behind(cached + 1)
            if padding:
                self._padded = padding
                return 1 if 1 + padding <= budget else 0
        return super()._first_chunk(tokens, cached, budget)

    def _admit(self, sequence: Sequence, budget: int) -> int:
        tokens = super()._admit(sequence, budget)
        if tokens > 0 and self._padded:
            self._padding[sequence] = self._padded
            tokens += self._padded
        return tokens

    def _blocks_of(self, tokens: int) -> int:
        most = min(tokens + self._padded + self._speculation.lookahead_tokens, self.settings.max_model_len)
        return -(-most // self._block_size)

    def _more_blocks(self, sequence: Sequence, tokens: int) -> int:
        """New blocks for so many further tokens and what is drafted behind them; rejected drafts have left some."""
        ahead = sequence.computed + tokens + self._speculation.lookahead_tokens
        blocks = -(-min(ahead, self.settings.max_model_len) // self._block_size)
        return max(0, blocks - sequence.hashed - sequence.loose)

    def _padding_behind(self, tokens: int) -> int:
        """Drafts, which are none, behind the first ``tokens`` of a sequence; 0 where these would be too many."""
        num_drafts = self._speculation.num_tokens
        return num_drafts if tokens + num_drafts + 1 <= self.settings.max_model_len else 0

    def _hash(self, sequence: Sequence, tokens: int) -> None:
        """Let the full blocks of the first ``tokens`` be hit, as far as they are known."""
        if not sequence.is_incoming:
            self.pool.extend(sequence, min(tokens, sequence.num_tokens) // self._block_size)

    def _drafting(self, sequence: Sequence) -> Drafting:
        found = sequence.drafting
        if found is None:
            request_id = sequence.state.request.request_id
            found = Drafting(sequence.num_tokens + sequence.remaining, self._speculation.seed, request_id)
            sequence.drafting = found
        return found

    def _admit_queued(self, budget: int) -> None:
        """Admit while there is budget, a free seat, and room for the head of the queue."""
        seats, slots = self.settings.max_num_seqs - len(self.running), self._speculation.draft_slots
        if self.kv_ready:
            self.joined = []
        while self.kv_ready and budget > 0 and seats > 0:
            tokens = self._join(self.kv_ready[0], budget)
            if not tokens:
                return
            budget -= tokens + slots
            seats -= 1
        if self.reorders and len(self.waiting) > 1 and budget > 0 and seats > 0:
            self._reorder()
        self._admit_waiting(budget, seats, slots)

    def _join(self, sequence: Sequence, budget: int) -> int:
        """Let a sequence decode whose KV came from elsewhere; how many tokens of the budget it takes, 0: too many. It
        has blocks for its own token, and goes without padding where there are none for more.
        """
        padding = 0 if self._with_prompts else self._padding_behind(sequence.num_tokens)
        if 1 + padding > budget:
            return 0
        blocks = self._more_blocks(sequence, 1 + padding)
        if blocks > self.pool.num_free:
            padding = blocks = 0
        self.kv_ready.popleft()
        self.pool.take(blocks)
        sequence.loose += blocks
        self._admissions = sequence.serial = self._admissions + 1
        self.running[sequence] = None
        sequence.decoding = True
        if padding:
            self._padding[sequence] = padding
        self.joined.append(sequence)
        return 1 + padding

    def _withdraw(self, victim: Sequence, had_its_turn: bool, serial: int) -> None:
        """Take a sequence off the running ones. What of it is on its way gives its tokens, and changes nothing else."""
        del self.running[victim]
        if victim.decoding:
            victim.decoding = False
            if had_its_turn:
                self.verified = [one for one in self.verified if one[0] is not victim]
        else:
            self.prefilling.remove(victim)
            self.chunks = [(sequence, tokens) for sequence, tokens in self.chunks if sequence is not victim]
        victim.computed = min(victim.computed, victim.num_tokens)
        drafting = self._drafting(victim)
        drafting.stale, drafting.drafts, drafting.placeholders = drafting.in_flight, 0, 0

    def _drop_aborted(self) -> None:
        for sequence in self.aborted:
            self._drafting(sequence).gone = True
        super()._drop_aborted()


def scheduler_of(
    settings: EngineSettings,
    pool: BlockPool,
    batch: DecodeBatch,
    look_up: Callable[[Sequence, int], int] | None = None,
) -> Scheduler:
    """The scheduler that ``settings`` ask for."""
    if settings.speculation is not None:
        return SpeculativeScheduler(settings, pool, batch, look_up)
    return Scheduler(settings, pool, batch, look_up)
