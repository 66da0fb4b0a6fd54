"""The requests of one engine that offloads: what is counted and told when they are looked up, and when loads come."""

from __future__ import annotations

from functools import partial

from kvsim.sim.clock import Clock
from kvsim.sim.engine.block_table import OPEN_END
from kvsim.sim.engine.chain import Blocks
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.tiers.chunks import Run
from kvsim.sim.tiers.connector import TierSegment
from kvsim.sim.tiers.lookup import Tiers, saved_s
from kvsim.sim.tiers.misses import covered
from kvsim.sim.tiers.tier_lookup import TierLookup


class OffloadRequests:
    """Requests of one ``instance``; its ``engine`` is known once the first of them has come."""

    __slots__ = ("_clock", "_instance", "_tiers", "engine")

    def __init__(self, clock: Clock, tiers: Tiers, instance: int) -> None:
        self._clock, self._tiers, self._instance = clock, tiers, instance
        self.engine: Engine | None = None

    def begin(self, engine: Engine, sequence: Sequence) -> None:
        """A request comes to its engine."""
        if self.engine is None:
            self.engine, engine.pool.given = engine, []
        sequence.private_from = OPEN_END  # which of its blocks others are given matters

    def given(self) -> list[Blocks]:
        """Blocks that requests were given, as long as nobody has cleared them away."""
        found = None if self.engine is None else self.engine.pool.given
        return [] if found is None else found

    def note_given(self, sequence: Sequence) -> None:
        """A sequence runs with the blocks that it holds."""
        given = self.given()
        given += self.blocks_of(sequence)

    def blocks_of(self, sequence: Sequence) -> list[Blocks]:
        """The hashed blocks that a sequence holds."""
        return [] if self.engine is None else self.engine.pool.blocks_of(sequence)

    def of(self, sequence: Sequence) -> TierLookup:
        """The dealings of a request with its tiers."""
        lookup = self._tiers.lookup(sequence.state)
        assert lookup is not None
        return lookup

    def gaining(
        self, sequence: Sequence, found: list[TierSegment], runs: list[Run], cached_tokens: int
    ) -> list[TierSegment]:
        """The head of what was found, of the chunks in ``runs``, that is worth loading.

        A preempted sequence computes its answer so far again with its prompt.
        """
        hierarchy, engine = self._tiers.hierarchy, self.engine
        if not found or not hierarchy.rules.recomputes or engine is None:
            return found
        saves_s = partial(saved_s, engine, sequence.num_tokens, cached_tokens)
        return hierarchy.connectors[self._instance].gaining(found, runs, saves_s)

    def looked_up(self, sequence: Sequence, cached_tokens: int, found: list[TierSegment], known_tokens: int) -> None:
        """A request begins with ``known_tokens`` where so much was ``found``: count what it has to compute."""
        if sequence.resumed:
            return
        state, tiers, lookup = sequence.state, self._tiers, self.of(sequence)
        lookup.cached_tokens = cached_tokens
        prompt_tokens, found_tokens = state.request.prompt_tokens, covered(found, cached_tokens)
        tiers.hierarchy.traffic.declined_tokens += found_tokens - known_tokens
        most = prompt_tokens - 1
        tiers.log.count(self._instance, lookup.runs, prompt_tokens, min(found_tokens, most), min(known_tokens, most))

    def loads(self, sequence: Sequence, known_tokens: int) -> None:
        """A load begins, with which a request will have ``known_tokens``."""
        state, now = sequence.state, self._clock.now
        if state.first_token_s < 0:
            state.queue_s += now - state.mark_s
            state.mark_s = now
        self._tiers.load_begun(self._instance, self.of(sequence), known_tokens)

    def loaded(self, sequence: Sequence, cached_tokens: int, segments: list[TierSegment]) -> None:
        """A load has come. Hits are what a request had not had before a preemption, the last token excepted."""
        engine = self.engine
        assert engine is not None
        if sequence.aborted:
            lost_tokens = sum([segment.end - segment.first for segment in segments])
            self._tiers.hierarchy.traffic.lost_tokens += lost_tokens
            engine.resume(sequence, 0)
            return
        state, now, lookup = sequence.state, self._clock.now, self.of(sequence)
        if state.first_token_s < 0:
            state.tier_load_s += now - state.mark_s
            state.mark_s = now
        low = max(cached_tokens, sequence.high_water)
        high = min(sequence.num_tokens - 1, state.request.prompt_tokens)
        for segment in segments:
            first, end = max(segment.first, low), min(segment.end, high)
            hits = max(0, end - first)
            lookup.spare_tokens += segment.end - segment.first - hits
            lookup.arrived_tokens += hits
            if hits:
                lookup.segments.append(TierSegment(segment.tier_number, first, end))
        known_tokens = segments[-1].end
        engine.resume(sequence, known_tokens)
        self._tiers.entered(self._instance, sequence, known_tokens)
