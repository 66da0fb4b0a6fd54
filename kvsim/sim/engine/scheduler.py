"""vLLM's V1 scheduler over lazily kept state: who runs in the next step, with how many tokens and which blocks.

Running requests come first, then waiting ones under the token budget; too few blocks preempt the last running request,
which will be recomputed; admission needs room for the whole current sequence. With priorities those that wait stand in
the order of (priority, arrival), and the last running one of that order is preempted. Decoding sequences are kept as
sums (``DecodeBatch``) and looked at one by one only when blocks or budget run short.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.policy.scheduling import ORDERS, PRIORITY
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.deferred_hashing import DeferredHashing
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import Step

_SET_ASIDE: Final = -1
_NO_PROMPTS: Final[list[tuple[Sequence, int]]] = []
"""No chunks: it stays empty, as ``NOBODY`` does."""


class Scheduler:
    """Queues, running requests and blocks of one engine. It knows no time: a *step* is what it counts."""

    __slots__ = (
        "_admissions",
        "_block_size",
        "_is_static",
        "_look_up",
        "_most_of_prompt",
        "_order",
        "_skipped",
        "aborted",
        "batch",
        "chunks",
        "deferred",
        "has_priorities",
        "hit_tokens",
        "joined",
        "kv_ready",
        "loaded",
        "loading",
        "pool",
        "preempted",
        "preemptions",
        "prefilling",
        "query_tokens",
        "reorders",
        "running",
        "settings",
        "stalled",
        "waiting",
    )

    def __init__(
        self,
        settings: EngineSettings,
        pool: BlockPool,
        batch: DecodeBatch,
        look_up: Callable[[Sequence, int], int] | None = None,
    ) -> None:
        """``look_up(sequence, cached_tokens)`` is asked once about a sequence that may be admitted and has room for all
        of it: how many tokens it will have once what is on its way has come, 0 where nothing is. It stands aside, with
        blocks for them, until it is told to ``resume``: as with vLLM's asynchronous connectors.
        """
        self.settings, self.pool, self.batch = settings, pool, batch
        self.waiting: deque[Sequence] = deque()
        self.kv_ready: deque[Sequence] = deque()
        """Sequences whose KV came from elsewhere, blocks and all: admitted before ``waiting``."""
        self._look_up = look_up
        self.loading = 0
        """Sequences that stand aside."""
        self.loaded: dict[Sequence, None] = {}
        """Sequences in ``waiting`` that hold blocks: what they stood aside for has come."""
        self.running: dict[Sequence, None] = {}
        """In the order of admission."""
        self.aborted: list[Sequence] = []
        """Running sequences that nobody waits for any more; the next step goes without them."""
        self.prefilling: list[Sequence] = []
        """Running sequences whose prompt is not computed yet, in the order of admission."""
        self.chunks = _NO_PROMPTS
        """Prompts that the step scheduled last computes, and how many of their tokens."""
        self.joined = NOBODY
        """Sequences from ``kv_ready`` that decode for the first time in the step scheduled last."""
        self.stalled = NOBODY
        """Decoding sequences that the budget of the step scheduled last did not reach."""
        self.preempted = NOBODY
        """Sequences that lost their blocks when the last step was scheduled."""
        self.deferred = DeferredHashing(pool, batch, settings.block_size, 1 if settings.async_scheduling else 0)
        self.query_tokens = self.hit_tokens = self.preemptions = 0
        self.has_priorities = settings.scheduling_policy == PRIORITY
        self._order = None
        if settings.enable_prefix_caching and not self.has_priorities:
            self._order = ORDERS[settings.scheduling_policy]
        self.reorders = self._order is not None
        """Whether somebody may be admitted before who came earlier."""
        self._skipped = NOBODY
        """Decoding sequences that the step before did not reach."""
        self._is_static = settings.batching == "static"
        self._admissions = 0
        self._most_of_prompt = 0
        """Tokens of one prompt that the step under way may compute; 0: no limit."""
        self._block_size = settings.block_size

    def submit(self, sequence: Sequence) -> bool:
        """Queue a request whose prompt is to be computed; returns whether it may be admitted in the next step."""
        if self.has_priorities:
            self._insert_by_priority(sequence)
        else:
            self.waiting.append(sequence)
        return self.waiting[0] is sequence or self.reorders

    def resume(self, sequence: Sequence, known_tokens: int, scheduled_steps: int) -> None:
        """Queue one that stood aside, whose first ``known_tokens`` have come, where it would be had it waited. Whoever
        is at the head may be admitted in the next step. ``scheduled_steps``: as in ``match``.
        """
        self.deferred.settle_chains(sequence.path, scheduled_steps, self._admissions)
        self.pool.enter(sequence, known_tokens // self._block_size)
        sequence.computed = sequence.ready = known_tokens
        self.loading -= 1
        self.loaded[sequence] = None
        place = 0
        for other in self.waiting:
            if self._comes_after(other, sequence):
                break
            place += 1
        self.waiting.insert(place, sequence)

    def receive(self, sequence: Sequence, scheduled_steps: int) -> None:
        """The KV of an incoming sequence has all come: its blocks can be hit, the last known token's excepted, as vLLM
        caches them once a connector says that it has received. ``scheduled_steps``: as in ``match``.
        """
        sequence.is_incoming, received_tokens = False, sequence.num_tokens - 1
        self.deferred.settle_chains(sequence.path, scheduled_steps, self._admissions)
        self.pool.enter(sequence, received_tokens // self._block_size)
        if sequence in self.running and self.pool.hashes_when_scheduled:
            self.deferred.add(sequence)

    def schedule(self) -> None:
        """Decide the next step, and take its blocks; ``advance`` is to follow."""
        self.chunks, self.joined, self.stalled, self.preempted = _NO_PROMPTS, NOBODY, NOBODY, NOBODY
        if self.aborted:
            self._drop_aborted()
        self.pool.begin_step()
        if self.settings.long_prefill_token_threshold:
            is_alone = len(self.running) + len(self.waiting) + len(self.kv_ready) + self.loading < 2
            self._most_of_prompt = 0 if is_alone else self.settings.long_prefill_token_threshold
        batch = self.batch
        budget = self.settings.max_num_batched_tokens - batch.num
        if self.prefilling:
            budget = self._schedule_running(budget)
        elif batch.num:
            needed = batch.residues[-batch.steps % self._block_size]
            if needed > self.pool.num_free:
                budget = self._schedule_in_order()
            elif needed:
                self.pool.take(needed)
        if (self.waiting or self.kv_ready) and not self.preempted:
            if self._is_static and batch.num:
                return
            self._admit_queued(budget)

    @property
    def may_change_head(self) -> bool:
        """Whether the step after the next may admit whom this one could not."""
        return (self.reorders and len(self.running) < self.settings.max_num_seqs) or self.head_may_grow_hits

    @property
    def head_may_grow_hits(self) -> bool:
        """Whether a running sequence is extending what the waiting head could hit."""
        return bool(self.waiting) and self.deferred.on(self.waiting[0].path)

    def match(self, sequence: Sequence, scheduled_steps: int) -> tuple[int, int]:
        """Blocks of ``sequence`` that are cached, the last token's excepted, and those of them in the free queue.

        ``scheduled_steps``: decode steps scheduled beyond those the batch has counted; their blocks are hashed already.
        """
        if not self.settings.enable_prefix_caching:
            return 0, 0
        self.deferred.settle_chains(sequence.path, scheduled_steps, self._admissions)
        return self.pool.match(sequence.path, (sequence.num_tokens - 1) // self._block_size)

    def allocate(self, sequence: Sequence, hits: int, blocks: int) -> None:
        """Take ``hits`` cached blocks and as many new ones as make ``blocks``."""
        if hits:
            self.pool.acquire(sequence, hits)
        self.pool.take(blocks - hits)
        sequence.loose += blocks - hits

    def start_decoding(self, sequence: Sequence) -> None:
        self.batch.add(sequence)
        if self.pool.hashes_when_scheduled and not sequence.is_incoming:
            self.deferred.add(sequence)

    def finish(self, sequence: Sequence) -> None:
        """The sequence has its last token: free its blocks, or forget it if it was preempted meanwhile."""
        if sequence not in self.running:
            self.waiting.remove(sequence)
            return
        del self.running[sequence]
        self.deferred.settle_chains(sequence.path, 0, 0)
        self._stop_hashing(sequence, sequence.computed, sequence.computed)
        sequence.is_incoming = False
        self.pool.release(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Nobody waits for the sequence any more: it leaves the queue, or the batch when the next step is scheduled.

        One whose last token is scheduled ends by itself.
        """
        if sequence.ending:
            return
        if sequence in self.running:
            self.aborted.append(sequence)
            return
        self.waiting.remove(sequence)
        if sequence in self.loaded:
            del self.loaded[sequence]
            self.pool.release(sequence)

    def _drop_aborted(self) -> None:
        aborted, self.aborted = self.aborted, []
        for sequence in aborted:
            if sequence.ending:
                continue
            if sequence in self.running:
                self._withdraw(sequence, False, 0)
                self.pool.release(sequence)
            else:
                self.waiting.remove(sequence)

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
        completed: list[Sequence] = []
        for sequence, tokens in self.chunks:
            sequence.computed += tokens
            if sequence.computed == sequence.num_tokens:
                completed.append(sequence)
        if completed:
            step.completed = completed
            self._complete(step, stops_at_first_token)

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

    def leap(self, steps: int) -> list[Sequence]:
        """Count further steps of the same batch as run; returns those that have their last token then."""
        self.batch.steps += steps
        return self._pop_ended()

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
        ended = False
        for sequence in list(self.running):
            if sequence.ending or sequence not in self.running:
                continue
            tokens = 0 if ended else min(1 if sequence.decoding else self._want(sequence), budget)
            if not tokens:
                self._stall(sequence)
                continue
            blocks = self._blocks_for(sequence, tokens)
            while blocks > self.pool.num_free and sequence in self.running:
                victim = self._victim()
                budget += spent.get(victim, 0)
                self._preempt(victim, victim in spent, sequence.serial - 1)
            if sequence not in self.running:
                ended = True
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
            return max(self.running, key=lambda sequence: _by_priority(sequence)[:2])
        return next(reversed(self.running))

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
        if self.has_priorities:
            self._insert_by_priority(victim)
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

    def _comes_after(self, other: Sequence, sequence: Sequence) -> bool:
        """Whether one that waits stands behind one that has not begun."""
        if self.has_priorities:
            return _by_priority(other) > _by_priority(sequence)
        return not other.resumed and _came(other) > _came(sequence)

    def _insert_by_priority(self, sequence: Sequence) -> None:
        waiting, key = self.waiting, _by_priority(sequence)
        place = len(waiting)
        while place and _by_priority(waiting[place - 1]) > key:
            place -= 1
        waiting.insert(place, sequence)

    def _admit_queued(self, budget: int) -> None:
        """Admit while there is budget, a free seat, and room for the head of the queue."""
        seats = self.settings.max_num_seqs - len(self.running)
        if self.kv_ready:
            self.joined = []
        while self.kv_ready and budget > 0 and seats > 0:
            sequence = self.kv_ready.popleft()
            self._admissions = sequence.serial = self._admissions + 1
            self.running[sequence] = None
            self.start_decoding(sequence)
            self.joined.append(sequence)
            budget -= 1
            seats -= 1
        if self.reorders and len(self.waiting) > 1 and budget > 0 and seats > 0:
            self._reorder()
        while self.waiting and budget > 0 and seats > 0:
            tokens = self._admit(self.waiting[0], budget)
            if tokens == _SET_ASIDE:
                continue
            if tokens:
                budget -= tokens
                seats -= 1
            elif self.running or not self._let_loaded_go():
                return

    def _let_loaded_go(self) -> bool:
        """Free what the last of the loaded sequences holds, the head of the queue excepted, if none but they hold
        blocks: nobody runs, and the head lacks room. Blocks that several hold count for each, so it may be too early.
        """
        held = sum(sequence.computed for sequence in self.loaded) // self._block_size
        others = [sequence for sequence in self.loaded if sequence is not self.waiting[0]]
        if not others or self.pool.num_blocks - self.pool.num_free > held:
            return False
        last = max(others, key=_by_priority if self.has_priorities else _came)
        del self.loaded[last]
        self.pool.release(last)
        last.computed = last.ready = 0
        return True

    def _reorder(self) -> None:
        """Put the queue in the policy's order; who was preempted stays in front."""
        assert self._order is not None
        preempted = [sequence for sequence in self.waiting if sequence.resumed]
        others = [sequence for sequence in self.waiting if not sequence.resumed]
        others.sort(key=_came)
        paths = [sequence.path for sequence in others]
        order = self._order(paths, [self.match(sequence, 1)[0] for sequence in others], self._block_size)
        self.waiting = deque([*preempted, *(others[place] for place in order)])

    def _admit(self, sequence: Sequence, budget: int) -> int:
        """Start computing the head of the queue; returns the tokens of its first chunk, 0 if it does not fit,
        ``_SET_ASIDE`` where more of it is to be loaded first.
        """
        settings, pool, block_size = self.settings, self.pool, self._block_size
        held, is_new = sequence.computed // block_size, self._look_up is not None and not sequence.looked_up
        if held:
            hits, evictable = held, 0
            self.deferred.settle_chains(sequence.path, 1, self._admissions)
        else:
            hits, evictable = self.match(sequence, 1)
        room = pool.num_free - evictable
        if settings.watermark and self.running:
            room -= int(settings.watermark * (settings.num_blocks + 1))
        num_tokens = sequence.num_tokens
        if (settings.scheduler_reserve_full_isl or is_new) and -(-num_tokens // block_size) - hits > room:
            return 0
        cached = hits * block_size
        tokens = num_tokens - cached
        if 0 < self._most_of_prompt < tokens:
            tokens = self._most_of_prompt
        if tokens > budget:
            if not settings.enable_chunked_prefill:
                return 0
            tokens = budget
        if -(-(cached + tokens) // block_size) - hits > room:
            return 0
        if is_new and self._sets_aside(sequence, hits):
            return _SET_ASIDE
        if held:
            del self.loaded[sequence]
        self.waiting.popleft()
        self._count_lookup(sequence, cached)
        self._admissions = sequence.serial = self._admissions + 1
        self.running[sequence] = None
        sequence.computed = sequence.ready = cached
        self.allocate(sequence, hits - held, -(-(cached + tokens) // block_size) - held)
        pool.extend(sequence, (cached + tokens) // block_size)
        self.prefilling.append(sequence)
        self._compute(sequence, tokens)
        return tokens

    def _sets_aside(self, sequence: Sequence, hits: int) -> bool:
        """Look the head of the queue up; it holds its cached blocks, and those that are loaded, while they come."""
        assert self._look_up is not None
        sequence.looked_up = True
        known_tokens = self._look_up(sequence, hits * self._block_size)
        if not known_tokens:
            return False
        self.waiting.popleft()
        self.loading += 1
        self.allocate(sequence, hits, known_tokens // self._block_size)
        return True

    def _count_lookup(self, sequence: Sequence, cached: int) -> None:
        state = sequence.state
        if not sequence.resumed:
            self.query_tokens += sequence.num_tokens
            self.hit_tokens += cached
            state.hit_tokens = cached
            return
        prompt_cached = min(cached, state.request.prompt_tokens)
        if prompt_cached > sequence.high_water:
            state.hit_tokens += prompt_cached - sequence.high_water
            sequence.high_water = prompt_cached

    def _want(self, sequence: Sequence) -> int:
        want = sequence.num_tokens - sequence.computed
        return self._most_of_prompt if 0 < self._most_of_prompt < want else want

    def _blocks_for(self, sequence: Sequence, tokens: int) -> int:
        block_size = self._block_size
        computed = sequence.base + self.batch.steps if sequence.decoding else sequence.computed
        return -(-(computed + tokens) // block_size) - -(-computed // block_size)

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


def _serial(sequence: Sequence) -> int:
    return sequence.serial


def _by_priority(sequence: Sequence) -> tuple[int, float, int]:
    request = sequence.state.request
    return request.priority, request.arrival_s, request.request_id


def _came(sequence: Sequence) -> tuple[float, int]:
    request = sequence.state.request
    return request.arrival_s, request.request_id
