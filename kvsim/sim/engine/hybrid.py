"""vLLM's V1 scheduler over groups of layers: what lies behind a window is freed before a sequence takes more blocks.

Blocks are freed on the basis of what has been computed, which of steps that are scheduled ahead is a step less, and
hashed as far as tokens are known. Prompts of models with states are cut where a state is to be cached. Every running
sequence is looked at in every step, and those for which nothing changes are passed over; of a leap's further steps only
those in which something changes are gone through, once it is settled.
"""

from __future__ import annotations

from collections.abc import Callable

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine import speculative
from kvsim.sim.engine.adapters import AdapterScheduler
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.groups import GroupedPool, Hits
from kvsim.sim.engine.pipeline_scheduler import PipelineScheduler
from kvsim.sim.engine.radix import RadixPool
from kvsim.sim.engine.reserving import ReservingScheduler
from kvsim.sim.engine.running import NO_PROMPTS
from kvsim.sim.engine.scheduler import Scheduler
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.sglang import SglangScheduler

NO_HITS = Hits(0, [], 0)


class HybridScheduler(Scheduler):
    """``Scheduler`` for ``settings.kv_groups``."""

    __slots__ = ("_before", "_grouped", "_incoming", "_is_scheduling", "_keeps_in_flight", "_lag", "_refreshes")

    def __init__(self, settings: EngineSettings, pool: GroupedPool, batch: DecodeBatch) -> None:
        super().__init__(settings, pool, batch)
        self._grouped = pool
        self._lag = 1 if settings.async_scheduling else 0
        """Tokens of a decoding sequence that are scheduled and not computed when the next step is scheduled."""
        self._keeps_in_flight, self._refreshes = settings.rules.keeps_in_flight, settings.rules.refreshes_states
        self._is_scheduling = False
        self._incoming = NO_HITS
        """What ``match`` has found last."""
        self._before = NO_PROMPTS
        """Prompts of the step before, where it is not over when the next one is scheduled."""

    def schedule(self) -> None:
        """Decide the next step, and take its blocks; ``advance`` is to follow."""
        self._before = self.chunks if self._lag else NO_PROMPTS
        self._begin_step()
        budget = self.settings.max_num_batched_tokens
        if self.running:
            budget = self._schedule_in_order()
        if (self.waiting or self.kv_ready) and not self.preempted:
            if self._is_static and self.batch.num:
                return
            self._is_scheduling = True
            self._admit_queued(budget)
            self._is_scheduling = False

    @property
    def may_change_head(self) -> bool:
        """Whether the step after the next may admit whom this one could not: any may free what somebody waits for."""
        return True

    def start_decoding(self, sequence: Sequence) -> None:
        """One whose KV came from elsewhere decodes in the very step that is being scheduled."""
        self.batch.add(sequence)
        if self._is_scheduling:
            self._hash(sequence, sequence.computed + 1 - self._lag)

    def match(self, sequence: Sequence, scheduled_steps: int) -> tuple[int, int]:
        hits = NO_HITS
        if self.settings.enable_prefix_caching:
            hits = self._grouped.look_up(sequence.path, sequence.num_tokens - 1)
        self._incoming = hits
        return hits.tokens // self._block_size, self._grouped.free_among(hits, 0)

    def new_blocks(self, sequence: Sequence, hits: int) -> int:
        """As ``Scheduler.new_blocks``; groups with a window take none for what lies behind it when all has come."""
        known_tokens, found = sequence.num_tokens - 1, self._incoming
        needed = self._grouped.needed_anew(found, sequence.num_tokens, known_tokens, False)
        return needed - self._grouped.free_among(found, 0)

    def allocate(self, sequence: Sequence, hits: int, blocks: int) -> None:
        self._grouped.hold(sequence, self._incoming, sequence.num_tokens - 1)
        self._grouped.grow(sequence, sequence.num_tokens)

    def receive(self, sequence: Sequence, scheduled_steps: int) -> None:
        sequence.is_incoming = False
        self.pool.enter(sequence, (sequence.num_tokens - 1) // self._block_size)
        self._grouped.unsettle(sequence)

    def held_blocks(self, sequence: Sequence) -> list[int]:
        """Blocks that a running sequence holds, by group."""
        return self._grouped.held_blocks(sequence)

    def _schedule_in_order(self) -> int:
        """The running loop as vLLM runs it, one request after the other; returns the budget left."""
        budget, steps = self.settings.max_num_batched_tokens, self.batch.steps
        before, ended, self._lost_turns = dict(self._before), False, 0
        spent: dict[Sequence, int] = {}
        for sequence in list(self.running):
            if self._lost_turns and self._loses_turn(sequence):
                continue
            if sequence.ending or sequence not in self.running:
                continue
            if ended or budget <= 0:
                self._stall(sequence)
                continue
            computed, tokens = sequence.base + steps if sequence.decoding else sequence.computed, 1
            if not (sequence.decoding and self._grouped.is_settled(sequence, computed)):
                if not sequence.decoding:
                    tokens = self._next_chunk(sequence, budget)
                if not tokens:
                    continue
                default = self._lag if sequence.decoding and not sequence.skipped_last_step else 0
                in_flight = before.get(sequence, default)
                budget += self._make_room(sequence, computed, tokens, in_flight, spent)
                if sequence not in self.running:
                    ended = True
                    continue
                self._take_tokens(sequence, computed, tokens, in_flight == self._lag)
            budget -= tokens
            if self.has_priorities:
                spent[sequence] = tokens
        return budget

    def _make_room(
        self, sequence: Sequence, computed: int, tokens: int, in_flight: int, spent: dict[Sequence, int]
    ) -> int:
        """Free what the sequence needs no more, and preempt until it has blocks for ``tokens`` more, or is the victim.

        ``in_flight``: of the ``computed`` tokens those that a step computes which is not over. ``spent``: tokens of
        those that had their turn; returns how many are given back.
        """
        self._grouped.drop(sequence, computed - in_flight if self._keeps_in_flight else computed)
        needed, given_back = self._grouped.needed(sequence, computed + tokens), 0
        while needed > self.pool.num_free and sequence in self.running:
            victim = self._victim()
            given_back += spent.get(victim, 0)
            self._preempt_for(sequence, victim, victim in spent, sequence.serial - 1)
        return given_back

    def _take_tokens(self, sequence: Sequence, computed: int, tokens: int, is_steady: bool) -> None:
        """Schedule ``tokens`` behind the ``computed`` ones. ``is_steady``: as in ``GroupedPool.settle``."""
        self._grouped.grow(sequence, computed + tokens)
        if sequence.decoding:
            self._hash(sequence, computed + 1 - self.deferred.lag_of(sequence))
            self._grouped.settle(sequence, computed, is_steady)
        else:
            self._hash(sequence, computed + tokens)
            self._compute(sequence, tokens)

    def due(self, first: int, end: int) -> list[tuple[int, int, Sequence]]:
        """In which of the decode steps ``[first, end)`` beyond those that the batch has counted something changes, and
        for which sequence, in the order in which it does. The second number is the sequence's place in that.
        """
        steps, pool = self.batch.steps, self._grouped
        found: list[tuple[int, int, Sequence]] = []
        for place, sequence in enumerate(self.running):
            if sequence.decoding:
                before = sequence.base + steps
                counts = pool.events(sequence, before + first, before + end)
                found.extend([(computed - before, place, sequence) for computed in counts])
        found.sort(key=_step_and_place)
        return found

    def decode_ahead(self, sequence: Sequence, step: int) -> None:
        """A decode step that ``due`` has named takes and frees its blocks. There must be as many as it takes."""
        computed, pool = sequence.base + self.batch.steps + step, self._grouped
        pool.drop(sequence, computed - self._lag if self._keeps_in_flight else computed)
        pool.grow(sequence, computed + 1)
        self._hash(sequence, computed + 1 - self._lag)
        pool.settle(sequence, computed, True)

    def _stall(self, sequence: Sequence) -> None:
        if sequence.decoding:
            self._grouped.unsettle(sequence)
        super()._stall(sequence)

    def _next_chunk(self, sequence: Sequence, budget: int) -> int:
        """Tokens of a prompt under way that the step computes; 0: none, where a state would not stand at an edge."""
        tokens = min(self._want(sequence), budget)
        if not self._grouped.has_states:
            return tokens
        junction = self._grouped.junction_of(sequence) if self.settings.rules.remembers_junctions else 0
        return self._to_state(sequence, sequence.computed, tokens, junction)

    def _admit(self, sequence: Sequence, budget: int) -> int:
        """Start computing the head of the queue; returns the tokens of its first chunk, 0 if it does not fit."""
        settings, pool = self.settings, self._grouped
        hits = pool.look_up(sequence.path, sequence.num_tokens - 1) if settings.enable_prefix_caching else NO_HITS
        room, cached = pool.num_free, hits.tokens
        if settings.watermark and self.running:
            room -= int(settings.watermark * (settings.num_blocks + 1))
        if pool.has_states and pool.is_fresh(hits):
            return 0
        # With nobody running a version that counts all blocks would wait for ever.
        is_capped = settings.rules.caps_reservation or not self.running
        reserves = settings.scheduler_reserve_full_isl
        if reserves and pool.needed_anew(hits, sequence.num_tokens, cached, is_capped) > room:
            return 0
        tokens = self._first_chunk(sequence.num_tokens - cached, cached, budget)
        if tokens and pool.has_states:
            tokens = self._to_state(sequence, cached, tokens, hits.junction)
        if not tokens or pool.needed_anew(hits, cached + tokens, cached, False) > room:
            return 0
        self.waiting.popleft()
        self._count_lookup(sequence, cached)
        self._admissions = sequence.serial = self._admissions + 1
        self.running[sequence] = None
        sequence.computed = sequence.ready = cached
        pool.hold(sequence, hits, cached)
        pool.grow(sequence, cached + tokens)
        self._hash(sequence, cached + tokens)
        self.prefilling.append(sequence)
        self._compute(sequence, tokens)
        return tokens

    def _hash(self, sequence: Sequence, known_tokens: int) -> None:
        """Let what is full with ``known_tokens`` be hit; the last state that a repeated prompt can hit, not in this
        step nor, with ``refreshes_states``, as long as the sequence itself has it: vLLM takes note of it again in each.
        """
        if sequence.is_incoming:
            return
        full_blocks = known_tokens // self._block_size
        self._grouped.extend(sequence, full_blocks)
        if not (self._grouped.has_states and self._refreshes):
            return
        if full_blocks == (sequence.state.request.prompt_tokens - 1) // self._block_size:
            self._grouped.refresh(sequence, full_blocks)

    def _to_state(self, sequence: Sequence, start: int, tokens: int, junction: int) -> int:
        """How many of a prompt's ``tokens`` from ``start`` on the step computes, so that it ends where a state is to be
        cached: at a block's edge, at the last one before the prompt's last token, and where a known prefix ends that no
        state is kept of (``junction``). The last chunk ends where the prompt does.
        """
        size, known_tokens, rules = self._block_size, sequence.num_tokens, self.settings.rules
        last = (known_tokens - 1 if rules.last_state_before_end else known_tokens) // size * size
        end, prompt_end = start + tokens, max(sequence.state.request.prompt_tokens, known_tokens - 1)
        if start >= prompt_end or (known_tokens > sequence.state.request.prompt_tokens and not rules.aligns_resumed):
            return tokens
        if end < (prompt_end if rules.aligns_last_chunks else last):
            edge, threshold = end // size * size, self.settings.long_prefill_token_threshold
            most = self.settings.max_num_batched_tokens
            if edge > start or size <= (min(most, threshold) if threshold else most):
                end = edge
        stops = [last]
        if start % size:
            stops.append((start // size + 1) * size)
        if start < junction < end and rules.stops_at_junctions:
            stops.append(start + (junction - start) // size * size)
        end = min([stop for stop in stops if start < stop < end], default=end)
        return max(end - start, 0)


def _step_and_place(event: tuple[int, int, Sequence]) -> tuple[int, int]:
    return event[0], event[1]


def scheduler_of(
    settings: EngineSettings,
    pool: BlockPool,
    batch: DecodeBatch,
    look_up: Callable[[Sequence, int], int] | None = None,
) -> Scheduler:
    """The scheduler that ``settings`` ask for, over the pool of an engine with them."""
    if settings.sglang is not None and look_up is None:
        assert isinstance(pool, RadixPool), "SGLang's scheduler has SGLang's tree"
        return SglangScheduler(settings, pool, batch, settings.sglang)
    if settings.reservation:
        assert look_up is None and not settings.kv_groups, "what is loaded, or has groups, keeps no room for answers"
        assert settings.speculation is None and not settings.max_loras, "neither do drafts and adapters"
        assert settings.pipeline_parallel == 1, "neither do stages"
        return ReservingScheduler(settings, pool, batch)
    if isinstance(pool, GroupedPool):
        assert look_up is None and settings.speculation is None, "what is loaded or drafted has no groups"
        return HybridScheduler(settings, pool, batch)
    if settings.pipeline_parallel > 1:
        assert not settings.max_loras and settings.speculation is None, "stages have neither adapters nor drafts"
        return PipelineScheduler(settings, pool, batch, look_up)
    if settings.max_loras:
        assert settings.speculation is None, "drafts have no adapters"
        return AdapterScheduler(settings, pool, batch, look_up)
    return speculative.scheduler_of(settings, pool, batch, look_up)
