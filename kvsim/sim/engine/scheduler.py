"""vLLM's V1 scheduler over lazily kept state: who runs in the next step, with how many tokens and which blocks.

Running requests come first (``preemption.py``), then waiting ones under the token budget; admission needs room for the
whole current sequence. With priorities those that wait stand in the order of (priority, arrival).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from kvsim.plan.engine_settings import EngineSettings
from kvsim.policy.scheduling import ORDERS
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.engine_connector import NOT_YET
from kvsim.sim.engine.preemption import PreemptiveScheduler
from kvsim.sim.engine.queue_order import (
    by_arrival,
    by_priority,
    insert_as_waited,
    insert_behind,
    insert_by_priority,
    insert_loaded,
)
from kvsim.sim.engine.running import NO_PROMPTS
from kvsim.sim.engine.sequence import NOBODY, Sequence
from kvsim.sim.engine.step import Step

SET_ASIDE: Final = -1
PASSED_OVER: Final = -2


class Scheduler(PreemptiveScheduler):
    """Queues, running requests and blocks of one engine. It knows no time: a *step* is what it counts."""

    __slots__ = (
        "_admissions",
        "_is_static",
        "_look_up",
        "_order",
        "_passed",
        "hit_tokens",
        "kv_ready",
        "loaded",
        "loaded_tokens",
        "loading",
        "loads",
        "query_tokens",
        "reorders",
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
        super().__init__(settings, pool, batch)
        self.kv_ready: deque[Sequence] = deque()
        """Sequences whose KV came from elsewhere, blocks and all: admitted before ``waiting``."""
        self._look_up = look_up
        self.loading = 0
        """Sequences that stand aside."""
        self.loaded: dict[Sequence, None] = {}
        """Sequences in ``waiting`` that hold blocks: what they stood aside for has come."""
        self.query_tokens = self.hit_tokens = self.loaded_tokens = 0
        """Of requests that were admitted for the first time: tokens, those that were there, and of these the ones for
        which they stood aside."""
        self._order = None
        if settings.enable_prefix_caching and not self.has_priorities:
            self._order = ORDERS[settings.scheduling_policy]
        self.reorders = self._order is not None
        """Whether somebody may be admitted before who came earlier."""
        self.loads: dict[Sequence, None] = {}
        """Behind a connector: sequences that hold blocks for a load and do not run yet, in the order of their loads."""
        self._passed = NOBODY
        """Behind a connector: sequences that the step scheduled last has passed over, to ask for again."""
        self._is_static = settings.batching == "static"
        self._admissions = 0

    def submit(self, sequence: Sequence) -> bool:
        """Queue a request whose prompt is to be computed; returns whether it may be admitted in the next step."""
        if self.has_priorities:
            insert_by_priority(self.waiting, sequence, len(self.loaded))
        else:
            self.waiting.append(sequence)
        return self.waiting[0] is sequence or self.reorders or bool(self._passed)

    def resume(self, sequence: Sequence, known_tokens: int, scheduled_steps: int) -> None:
        """Queue one that stood aside, whose first ``known_tokens`` have come, where it would be had it waited. Whoever
        is at the head may be admitted in the next step. ``scheduled_steps``: as in ``match``.
        """
        self.loading -= 1
        if sequence.aborted:
            self.loads.pop(sequence, None)
            self.pool.release(sequence)
            return
        if self.connector is not None:  # the blocks are hashed when it is to be admitted
            sequence.computed = sequence.ready = min(known_tokens, sequence.num_tokens - 1)
            insert_loaded(self.waiting, sequence, len(self.loaded), None if self.has_priorities else self.loads)
            self.loaded[sequence] = None
            return
        self.deferred.settle_chains(sequence.path, scheduled_steps, self._admissions)
        self.pool.enter(sequence, known_tokens // self._block_size)
        sequence.computed = sequence.ready = known_tokens
        self.loaded[sequence] = None
        insert_as_waited(self.waiting, sequence, self.has_priorities)

    def receive(self, sequence: Sequence, scheduled_steps: int) -> None:
        """The KV of an incoming sequence has all come: its blocks can be hit, the last known token's excepted, as vLLM
        caches them once a connector says that it has received. ``scheduled_steps``: as in ``match``.
        """
        sequence.is_incoming, received_tokens = False, sequence.num_tokens - 1
        self.deferred.settle_chains(sequence.path, scheduled_steps, self._admissions)
        self.pool.enter(sequence, received_tokens // self._block_size)
        if sequence in self.running and self.pool.hashes_when_scheduled:
            self.deferred.add(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Nobody waits for the sequence any more: it leaves the queue, or the batch when the next step is scheduled.

        One whose last token is scheduled ends by itself; one that stands aside keeps its blocks until what is loaded
        into them has come.
        """
        sequence.aborted = True
        if sequence.ending:
            return
        if sequence in self.running:
            self.aborted.append(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
            if sequence in self.loaded:
                self._let_go(sequence)
        elif sequence in self.kv_ready:
            self.kv_ready.remove(sequence)
            sequence.is_incoming = False
            self.pool.release(sequence)

    def schedule(self) -> None:
        """Decide the next step, and take its blocks; ``advance`` is to follow."""
        if self.connector is not None:
            self._in_flight = self.chunks
        self._begin_step()
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

    def _begin_step(self) -> None:
        self.chunks, self.joined, self.stalled, self.preempted = NO_PROMPTS, NOBODY, NOBODY, NOBODY
        if self.aborted:
            self._drop_aborted()
        self._passed = NOBODY
        self.pool.begin_step()
        if self.settings.long_prefill_token_threshold:
            is_alone = len(self.running) + len(self.waiting) + len(self.kv_ready) + self.loading < 2
            is_spared = is_alone and self.settings.rules.threshold_spares_lone
            self._most_of_prompt = 0 if is_spared else self.settings.long_prefill_token_threshold

    def take_ahead(self, settled: int, added: int, blocks: int) -> None:
        """Take the ``blocks`` of a leap's steps from ``settled`` up to ``added``."""
        self.pool.take(blocks)

    def settle_prompts(self, step: Step) -> None:
        """A step with prompts has run, and who ends with it has not been told to ``finish`` yet."""

    @property
    def rests(self) -> bool:
        """Whether nothing is to run, although somebody decodes, before the step under way has run."""
        return False

    @property
    def num_running(self) -> int:
        """Requests of which something has been computed, or is, and that do not wait."""
        return len(self.running)

    @property
    def num_queued(self) -> int:
        """Requests that are in no step: those that stand aside too."""
        return len(self.waiting) + len(self.kv_ready) + self.loading

    @property
    def has_unfinished(self) -> bool:
        """Whether there is any request that is to run, or stands aside."""
        return bool(self.running) or self.num_queued > 0

    @property
    def may_change_head(self) -> bool:
        """Whether the step after the next may admit whom this one could not."""
        if self.connector is not None and self._may_load_head:
            return True
        return (self.reorders and len(self.running) < self.settings.max_num_seqs) or self.head_may_grow_hits

    @property
    def _may_load_head(self) -> bool:
        """Whether a connector's answer may be another, or matter, once decode steps have evicted what was hit: a load
        needs less room than a first chunk does, and none that prompts under way need.
        """
        settings = self.settings
        return bool(self._passed or self.loads) or not (
            settings.scheduler_reserve_full_isl and settings.enable_chunked_prefill
        )

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

    def new_blocks(self, sequence: Sequence, hits: int) -> int:
        """Blocks beside the cached ones, which ``match`` found, that a sequence takes whose KV will come."""
        return -(-sequence.num_tokens // self._block_size) - hits

    def allocate(self, sequence: Sequence, hits: int, blocks: int) -> None:
        """Take ``hits`` cached blocks and as many new ones as make ``blocks``."""
        if hits:
            self.pool.acquire(sequence, hits)
        self.pool.take(blocks - hits)
        sequence.loose += blocks - hits

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
        self._admit_waiting(budget, seats, 0)

    def _admit_waiting(self, budget: int, seats: int, slots: int) -> None:
        """``slots``: tokens of the budget that each sequence takes beside those that are computed of it."""
        while self.waiting and budget > 0 and seats > 0:
            tokens = self._admit(self.waiting[0], budget)
            if tokens > 0:
                budget -= tokens + slots
                seats -= 1
            elif tokens == PASSED_OVER:
                self._pass_over()
            elif not tokens and (self.running or not self._let_loaded_go()):
                break
        if self._passed:
            self.waiting.extendleft(reversed(self._passed))

    def _pass_over(self) -> None:
        """Leave the head of the queue out of this step; those behind it go before."""
        if not self._passed:
            self._passed = []
        self._passed.append(self.waiting.popleft())

    def _requeue(self, victim: Sequence) -> None:
        if self.connector is None:
            super()._requeue(victim)
        elif self.has_priorities:
            insert_by_priority(self.waiting, victim, len(self.loaded))
        else:
            insert_behind(self.waiting, victim, len(self.loaded))

    def _let_loaded_go(self) -> bool:
        """Free what the last of the loaded sequences holds, the head of the queue excepted, if none but they hold
        blocks: nobody runs, and the head lacks room. Blocks that several hold count for each, so it may be too early.
        """
        held = sum(-(-sequence.computed // self._block_size) for sequence in self.loaded)
        others = [sequence for sequence in self.loaded if sequence is not self.waiting[0]]
        if not others or self.pool.num_blocks - self.pool.num_free > held:
            return False
        last = max(others, key=by_priority if self.has_priorities else by_arrival)
        self._let_go(last)
        last.computed = last.ready = 0
        return True

    def _let_go(self, sequence: Sequence) -> None:
        """Free what a sequence in the queue holds."""
        del self.loaded[sequence]
        self.loads.pop(sequence, None)
        self.pool.release(sequence)

    def _reorder(self) -> None:
        """Put the queue in the policy's order; who was preempted stays in front."""
        assert self._order is not None
        preempted = [sequence for sequence in self.waiting if sequence.resumed]
        others = [sequence for sequence in self.waiting if not sequence.resumed]
        others.sort(key=by_arrival)
        paths = [sequence.path for sequence in others]
        order = self._order(paths, [self.match(sequence, 1)[0] for sequence in others], self._block_size)
        self.waiting = deque([*preempted, *(others[place] for place in order)])

    def _admit(self, sequence: Sequence, budget: int) -> int:
        """Start computing the head of the queue; returns the tokens of its first chunk, 0 if it does not fit,
        ``SET_ASIDE`` where more of it is to be loaded first, ``PASSED_OVER`` where it is to be asked for again.
        """
        settings, pool, block_size, connector = self.settings, self.pool, self._block_size, self.connector
        held, is_new = -(-sequence.computed // block_size), self._look_up is not None and not sequence.looked_up
        if held:
            hits, evictable = held, 0
            self.deferred.settle_chains(sequence.path, 1, self._admissions)
            if connector is not None:
                pool.enter(sequence, held)
        else:
            hits, evictable = self.match(sequence, 1)
        room = pool.num_free - evictable
        if settings.watermark and self.running:
            room -= int(settings.watermark * (settings.num_blocks + 1))
        num_tokens = sequence.num_tokens
        if connector is not None and not held:
            known_tokens = connector.ask(sequence, hits * block_size)
            if known_tokens:
                return PASSED_OVER if known_tokens == NOT_YET else self._load(sequence, hits, known_tokens, room)
        if (settings.scheduler_reserve_full_isl or is_new) and -(-num_tokens // block_size) - hits > room:
            return 0
        cached = sequence.computed if held else hits * block_size
        tokens = self._first_chunk(num_tokens - cached, cached, budget)
        if not tokens:
            return 0
        blocks = self._blocks_of(cached + tokens)
        if blocks - hits > room:
            return 0
        if is_new and self._sets_aside(sequence, hits):
            return SET_ASIDE
        if connector is not None:
            connector.admitted(sequence, cached, held > 0)
        if held:
            del self.loaded[sequence]
            self.loads.pop(sequence, None)
        self.waiting.popleft()
        self._count_lookup(sequence, cached)
        if held and not sequence.resumed:
            self.loaded_tokens += max(0, cached - sequence.aside_tokens)
        self._admissions = sequence.serial = self._admissions + 1
        self.running[sequence] = None
        sequence.computed = sequence.ready = cached
        self.allocate(sequence, hits - held, blocks - held)
        pool.extend(sequence, (cached + tokens) // block_size)
        self.prefilling.append(sequence)
        self._compute(sequence, tokens)
        return tokens

    def _load(self, sequence: Sequence, hits: int, known_tokens: int, room: int) -> int:
        """Let what a connector has of the head of the queue be loaded, into blocks that no prompt under way needs."""
        block_size, settings = self._block_size, self.settings
        if settings.scheduler_reserve_full_isl and -(-sequence.num_tokens // block_size) - hits > room:
            return 0
        blocks = known_tokens // block_size
        if blocks - hits > room - self._blocks_to_come():
            return 0
        assert self.connector is not None
        self.waiting.popleft()
        self.loading += 1
        self.loads[sequence] = None
        sequence.aside_tokens = hits * block_size
        self.allocate(sequence, hits, blocks)
        self.connector.load(sequence, hits * block_size)
        return SET_ASIDE

    def _blocks_to_come(self) -> int:
        """Blocks that sequences which have some, and do not decode yet, will still need."""
        blocks = 0
        for sequence in self.loads:
            blocks += -(-sequence.num_tokens // self._block_size) - sequence.hashed - sequence.loose
        for sequence in self.prefilling:
            blocks += max(0, -(-sequence.num_tokens // self._block_size) - sequence.hashed - sequence.loose)
        return blocks

    def _sets_aside(self, sequence: Sequence, hits: int) -> bool:
        """Look the head of the queue up; it holds its cached blocks, and those that are loaded, while they come."""
        assert self._look_up is not None
        sequence.looked_up = True
        known_tokens = self._look_up(sequence, hits * self._block_size)
        if not known_tokens:
            return False
        self.waiting.popleft()
        self.loading += 1
        sequence.aside_tokens = hits * self._block_size
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
