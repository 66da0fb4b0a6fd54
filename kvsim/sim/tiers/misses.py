"""Why prompt tokens had to be computed: the reason for each, when its request was looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvsim.sim.keep_last import keep_last
from kvsim.sim.tiers.chunks import Run
from kvsim.sim.tiers.connector import TierSegment
from kvsim.sim.tiers.hierarchy import TierHierarchy


@dataclass
class Misses:
    """Prompt tokens that neither the engine's cache nor a load from a tier gave, by the reason."""

    cold_tokens: int = 0
    """Never asked for before."""
    partial_tokens: int = 0
    """Behind the last whole chunk of the prompt, which is all that tiers can hold; the last token among them."""
    pending_tokens: int = 0
    """Asked for before, and still being computed for another request, or being written."""
    refused_tokens: int = 0
    """Computed before, and never written: no tier's admission let them in, or all ports were busy, or
    they are of answers, which are not written (``cache.write_generated``). That somebody is
    computing them again meanwhile does not change the reason."""
    evicted_tokens: int = 0
    """Written before, and evicted from every tier or behind a gap there."""
    elsewhere_tokens: int = 0
    """In memory that this instance cannot reach: of another instance, host or rack."""
    declined_tokens: int = 0
    """Within reach, and computed because that was faster."""


class MissLog:
    """Counts misses as prompts are looked up."""

    def __init__(self, hierarchy: TierHierarchy) -> None:
        self._hierarchy = hierarchy
        self._asked: dict[int, int] = {}
        """By shared chain: the place behind the last chunk that some prompt had; all prompts have it from its start."""
        self._computed: dict[int, int] = {}
        """By shared chain: the place behind the last chunk computed, where chunks are not written when they are."""
        self.misses = Misses()

    def computed(self, runs: list[Run]) -> None:
        """Note that these chunks have been computed somewhere."""
        if not self._hierarchy.rules.writes_through:
            _reach(self._computed, runs)

    def forget(self, most: int) -> None:
        """Keep at most so many chains, those that came last; what is asked for of others counts as new."""
        for ends in (self._asked, self._computed):
            keep_last(ends, most)

    def count(self, instance: int, runs: list[Run], prompt_tokens: int, found_tokens: int, known_tokens: int) -> None:
        """Count a prompt of which ``found_tokens`` are within reach and ``known_tokens`` will not be computed."""
        chunk_tokens, misses = self._hierarchy.rules.chunk_tokens, self.misses
        misses.declined_tokens += found_tokens - known_tokens
        reached, place = found_tokens, found_tokens // chunk_tokens
        for chain, _, end in runs:
            while place < end:
                reason, place = self._reason(instance, chain, place, end)
                tokens = place * chunk_tokens - reached
                reached += tokens
                if reason == COLD:
                    misses.cold_tokens += tokens
                elif reason == PENDING:
                    misses.pending_tokens += tokens
                elif reason == REFUSED:
                    misses.refused_tokens += tokens
                elif reason == ELSEWHERE:
                    misses.elsewhere_tokens += tokens
                else:
                    misses.evicted_tokens += tokens
        misses.partial_tokens += prompt_tokens - reached
        _reach(self._asked, runs)

    def _reason(self, instance: int, chain: int, place: int, end: int) -> tuple[int, int]:
        """Why that chunk is missing, and up to where the reason is the same."""
        asked = self._asked.get(chain, 0) if chain >= 0 else 0
        if place >= asked:
            return COLD, end
        end = min(end, asked)
        hierarchy = self._hierarchy
        written, refused = hierarchy.directory.written_end(chain), hierarchy.directory.refused_end(chain)
        if written <= place < refused:
            return REFUSED, min(end, refused)
        if not hierarchy.rules.writes_through:
            written = max(written, self._computed.get(chain, 0))
        if place >= written:
            return PENDING, end
        tier_number, end = hierarchy.connectors[instance].nearest(chain, place, min(end, written))
        if tier_number >= 0:
            return EVICTED, end
        return self._elsewhere(chain, place, end)

    def _elsewhere(self, chain: int, place: int, end: int) -> tuple[int, int]:
        """Why a chunk that is not within reach is missing: other tiers, or where none has it, engines may have it."""
        hierarchy = self._hierarchy
        written = hierarchy.directory.written_end(chain)
        if place >= written:
            return ELSEWHERE, end
        gap_end = end = min(end, written)
        for tier in hierarchy.holders(chain):
            held_to = tier.held_to(chain, place, end)
            if held_to > place:
                return ELSEWHERE, held_to
            gap_end = min(gap_end, tier.absent_to(chain, place, end))
        return EVICTED, gap_end


COLD, PENDING, REFUSED, EVICTED, ELSEWHERE = range(5)


def _reach(ends: dict[int, int], runs: list[Run]) -> None:
    for chain, _, end in runs:
        if chain >= 0 and ends.get(chain, 0) < end:
            ends[chain] = end


def covered(segments: Sequence[TierSegment], cached_tokens: int) -> int:
    """Tokens at the head of a prompt that the engine's cache and these segments have."""
    return segments[-1].end if segments else cached_tokens
