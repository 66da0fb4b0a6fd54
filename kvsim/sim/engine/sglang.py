"""SGLang's scheduler: prompts first, in steps of their own, as far as answers are reckoned to leave room.

A step computes prompts, or it decodes; with mixed chunks it does both. Who waits is admitted while the batch of prompts
has tokens left, and the pool room for the answers of all; of one prompt a part may be left for the next step. Where a
decode step lacks room, whoever has the fewest tokens is retracted, waits behind all others and is computed again.
Source: recordings of SGLang 0.5.23's own classes, which all steps are compared with (docs/conformance.md).
"""

from __future__ import annotations

from collections import deque

from kvsim.plan.engine_settings import EngineSettings, SglangSettings
from kvsim.sim.engine.answer_forecast import AnswerForecast
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.new_token_ratio import RETRACT_STEPS, NewTokenRatio
from kvsim.sim.engine.prefill_budget import MOST_NEW_TOKENS, UNLIMITED, PrefillBudget
from kvsim.sim.engine.radix import RadixPool
from kvsim.sim.engine.running import NO_PROMPTS
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.sglang_queue import SglangQueue
from kvsim.sim.engine.sglang_running import SglangRunning


class SglangScheduler(SglangRunning):
    """``Scheduler`` for ``settings.sglang``."""

    __slots__ = (
        "_forecast",
        "_is_full",
        "_queue",
        "_ratio",
        "_sglang",
    )

    def __init__(self, settings: EngineSettings, pool: RadixPool, batch: DecodeBatch, sglang: SglangSettings) -> None:
        super().__init__(settings, pool, batch)
        self._sglang = sglang
        tree = pool if settings.enable_prefix_caching else None
        self._queue = SglangQueue(settings.scheduling_policy, tree, settings.block_size)
        self._ratio = NewTokenRatio(sglang.schedule_conservativeness)
        self._is_full = False
        """Nobody was let in for want of room or seats, and nobody has left since."""
        self._forecast = AnswerForecast()

    @property
    def new_token_ratio(self) -> float:
        """What share of their longest answers running requests are reckoned to use yet."""
        return self._ratio.current

    @property
    def may_change_head(self) -> bool:
        """Whether the step after the next may admit whom this one could not."""
        return not self._is_full

    def submit(self, sequence: Sequence) -> bool:
        """Queue a request whose prompt is to be computed; returns whether it may be admitted in the next step."""
        self.waiting.append(sequence)
        return not (self._is_full and self.running)

    def schedule(self) -> None:
        """Decide the next step, and take its blocks; ``advance`` is to follow unless ``rests``."""
        self.chunks, self.joined, self.stalled, self.preempted = NO_PROMPTS, NOBODY, NOBODY, NOBODY
        self.lost, self._is_mixed = NOBODY, False
        if self.aborted:
            self._drop_aborted()
        if self._chunked is not None:
            self._publish(self._chunked, self._chunked.computed)
        if self._has_left or not self.running:
            self._has_left = self._is_full = False
        if self._plan_prompts():
            self._is_planned = True
            return
        self._is_planned = self._plan_decodes()
        if not (self._is_planned or self.running or self.waiting or self.prefilling):
            self._ratio.reset()

    # Prompts.

    def _plan_prompts(self) -> bool:
        """Schedule a batch of prompts if there are any to compute; whether there is one."""
        chunked = self._chunked
        if (self._is_full or not self.waiting) and chunked is None:
            return False
        seats = self.settings.max_num_seqs - len(self.running)
        if seats <= 0 and chunked is None:
            self._is_full = True
            return False
        self.waiting = self._queue.in_order(self.waiting)
        budget = self._budget()
        self._forecast.clear()
        batch: list[tuple[Sequence, int]] = []
        if chunked is not None:
            tokens = budget.next_chunk(chunked.num_tokens - chunked.computed)
            is_cut = tokens < chunked.num_tokens - chunked.computed
            budget.reserve(tokens, 0 if is_cut else self._longest_answer(chunked))
            batch.append((chunked, tokens))
            if not is_cut:
                self._chunked = None
        self._admit_from(budget, batch, seats)
        if not batch:
            return False
        self._take_prompts(batch)
        self._decode_beside()
        return True

    def _budget(self) -> PrefillBudget:
        settings, sglang = self.settings, self._sglang
        mixed = len(self.running) if sglang.enable_mixed_chunk and settings.enable_chunked_prefill else 0
        chunk = settings.max_num_batched_tokens if settings.enable_chunked_prefill else UNLIMITED
        budget = PrefillBudget(self._tree, self._block_size, sglang.max_prefill_tokens, chunk, mixed)
        ratio = 1.0 if sglang.ignore_eos else self._ratio.current
        later = 0.0
        for sequence in self.running:
            later += min(self._unknown(sequence), MOST_NEW_TOKENS) * ratio
        budget.total_tokens += later
        return budget

    def _admit_from(self, budget: PrefillBudget, batch: list[tuple[Sequence, int]], seats: int) -> None:
        """Admit those that wait in their order, until one does not fit."""
        admitted: dict[Sequence, None] = {}
        for sequence in self.waiting:
            if budget.has_room and budget.is_spent:
                break
            if len(batch) >= seats:
                self._is_full = True
                break
            if self._is_full:
                break
            tokens = self._admitted_tokens(sequence, budget, batch)
            if not tokens:
                break
            if tokens > 0:
                admitted[sequence] = None
                batch.append((sequence, tokens))
            if tokens < 0 or not budget.has_room:
                self._is_full = bool(batch) or bool(self.running)
                break
            if budget.is_spent:
                break
        if admitted:
            self.waiting = deque([sequence for sequence in self.waiting if sequence not in admitted])

    def _admitted_tokens(self, sequence: Sequence, budget: PrefillBudget, batch: list[tuple[Sequence, int]]) -> int:
        """Tokens of a waiting sequence's prompt that the batch computes, which holds its hits now; 0: there are none
        left for it, -1: no room."""
        tree, page = self._tree, self._block_size
        node, hits = tree.root, 0
        if self.settings.enable_prefix_caching:
            node, hits = tree.look_up(sequence.path, (sequence.num_tokens - 1) // page)
        hit_tokens = hits * page
        tokens = sequence.num_tokens - hit_tokens
        if self._sglang.ignore_eos and not self.settings.enable_prefix_caching:
            if not self._fits_forecast(sequence, tokens, budget, batch):
                return -1
            chunk = min(tokens, budget.chunk_tokens)
        else:
            unheld_tokens = tree.unheld(node) * page
            longest = max(min(self._unknown(sequence), MOST_NEW_TOKENS), 0)
            if tokens + longest + page >= budget.room_tokens - unheld_tokens:
                return -1
            chunk = budget.first_chunk(tokens, not batch)
        if chunk <= 0:
            return 0
        tree.hold(sequence, node, hits)
        sequence.computed = sequence.ready = hit_tokens
        budget.reserve(chunk, 0 if chunk < tokens else self._longest_answer(sequence))
        self._count_lookup(sequence, hit_tokens)
        if chunk < tokens:
            self._chunked = sequence
        return chunk

    def _fits_forecast(
        self, sequence: Sequence, tokens: int, budget: PrefillBudget, batch: list[tuple[Sequence, int]]
    ) -> bool:
        """Whether the pool has room for the sequence and all others until their ends, which are known."""
        need, forecast = budget.whole_pages(tokens) + self._block_size, self._forecast
        current_tokens = budget.free_tokens - budget.current_tokens
        if need > min(current_tokens, budget.room_tokens):
            return False
        if forecast.is_empty:
            known = [sequence, *self.running, *(other for other, _ in batch)]
            forecast.begin([self._state_of(other) for other in known])
        else:
            forecast.add(self._state_of(sequence))
        return forecast.fits(current_tokens - need)

    def _state_of(self, sequence: Sequence) -> tuple[int, int]:
        """Tokens that a sequence does not have yet, and those that it has."""
        unknown = self._unknown(sequence)
        return unknown, sequence.state.request.prompt_tokens + self._most(sequence) - unknown

    def _take_prompts(self, batch: list[tuple[Sequence, int]]) -> None:
        """Take the blocks of a batch of prompts; where pages are more than a token, room is made for one more each."""
        page, blocks, total = self._block_size, 0, 0
        needs: list[int] = []
        for sequence, tokens in batch:
            need = -(-(sequence.computed + tokens) // page) - -(-sequence.computed // page)
            needs.append(need)
            blocks += need
            total += tokens
        self._tree.make_room(total if page == 1 else -(-(total + len(batch) * page) // page))
        self._tree.take(blocks)
        self.chunks = batch
        for place, (sequence, _) in enumerate(batch):
            sequence.loose += needs[place]
        self.prefilling = [sequence for sequence, _ in batch]

    def _decode_beside(self) -> None:
        """Let those that run decode in the batch of prompts, if that is allowed and there is room; else they stand."""
        batch = self.batch
        if not (self._sglang.enable_mixed_chunk and self.settings.enable_chunked_prefill):
            self._stall_all()
            return
        if len(self.running) > batch.num:
            self._is_full = False
        needed = batch.residues[-batch.steps % self._block_size] if batch.num else 0
        if not batch.num or not self._tree.make_room(needed):
            self._stall_all()
            return
        self._take_decodes(needed)
        self._is_mixed = True

    def _stall_all(self) -> None:
        for sequence in self.running:
            if sequence.decoding:
                self._stall(sequence)

    # Answers.

    def _plan_decodes(self) -> bool:
        """Schedule a decode step; whether there is one."""
        batch = self.batch
        if not self.running:
            return False
        is_ending = len(self.running) > batch.num
        if not batch.num:
            self._is_full = False
            return False
        if not self._fits():
            if is_ending:
                self._is_full = False
                return False
            self._retract()
        else:
            self._ratio.decay(1)
        if is_ending or self.preempted:
            self._is_full = False
        self._take_decodes(batch.residues[-batch.steps % self._block_size])
        return True

    def _fits(self) -> bool:
        return self._tree.make_room(self.batch.residues[-self.batch.steps % self._block_size])

    def _take_decodes(self, needed: int) -> None:
        if self._block_size > 1:
            self._tree.make_room(self.batch.num)
        self._tree.take(needed)

    def take_ahead(self, settled: int, added: int, blocks: int) -> None:
        """Take the ``blocks`` of a leap's steps from ``settled`` up to ``added``."""
        if self._block_size == 1:
            self._tree.take(blocks)
            return
        last = self.batch.blocks_needed(added - 1, 1)
        self._tree.take(blocks - last)
        self._take_decodes(last)

    def leap(self, steps: int) -> list[Sequence]:
        """As ``Scheduler.leap``."""
        self._ratio.decay(steps)
        return super().leap(steps)

    def _retract(self) -> None:
        """Let go whoever has the fewest tokens, of equals the longest prompt, until a decode step has room."""
        order = sorted(self.running, key=self._kept_first, reverse=True)
        self.preempted = []
        while len(order) > 1 and (not self.preempted or not self._fits()):
            sequence = order.pop()
            self._let_retracted_go(sequence)
            self._tree.make_room(-(-len(order) * RETRACT_STEPS // self._block_size))
        self._put_in_order(order)
        known = sum([self._most(sequence) - self._unknown(sequence) for sequence in order])
        self._ratio.retracted(known, sum([self._most(sequence) for sequence in order]), len(order))

    def _put_in_order(self, order: list[Sequence]) -> None:
        """Let those that go on stand in the order of who is kept, from now on."""
        for place, sequence in enumerate(order):
            self.batch.remove(sequence)
            sequence.serial = self._admissions + 1 + place
            self.batch.add(sequence)
        self._admissions += len(order)
        self.running = dict.fromkeys(order)

    def _kept_first(self, sequence: Sequence) -> tuple[int, int]:
        return self._most(sequence) - self._unknown(sequence), -sequence.state.request.prompt_tokens

    def _let_retracted_go(self, sequence: Sequence) -> None:
        lag = self._lag(sequence)
        del self.running[sequence]
        self.batch.remove(sequence)
        sequence.loose = -(-sequence.computed // self._block_size) - sequence.hashed
        sequence.num_tokens = sequence.computed + 1 - lag
        sequence.remaining += lag
        sequence.high_water = max(sequence.high_water, sequence.computed)
        self._tree.drop(sequence)
        sequence.computed = sequence.ready = 0
        sequence.resumed = True
        sequence.state.preemptions += 1
        self.preemptions += 1
        if lag:
            self.lost = [*self.lost, sequence]
        self.preempted.append(sequence)
        self.waiting.append(sequence)
