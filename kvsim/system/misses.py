"""Why prompt tokens had to be computed: the reason for each, when its request came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvsim.cache.chunks import is_shared
from kvsim.node.backing import Segment
from kvsim.system.memory import Memories


@dataclass
class Misses:
    """Prompt tokens that neither the engine's cache nor a load from a tier gave, by the reason."""

    cold_tokens: int = 0
    """Never asked for before."""
    partial_tokens: int = 0
    """Behind the last whole chunk of the prompt, which is all that tiers can hold; the last token among them."""
    pending_tokens: int = 0
    """Asked for before, and still being computed for another request, or being written."""
    evicted_tokens: int = 0
    """Computed before, and evicted everywhere or behind a gap."""
    elsewhere_tokens: int = 0
    """In memory that this instance cannot reach: of another instance, host or rack."""
    declined_tokens: int = 0
    """Within reach, and computed because that was faster."""


class MissLog:
    """Counts misses as prompts come."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self._asked: set[int] = set()
        """Shared chunks that some prompt had."""
        self._computed: set[int] = set()
        """Where chunks are not written when they are computed."""
        self.misses = Misses()

    def computed(self, keys: Sequence[int]) -> None:
        """These chunks have been computed somewhere."""
        if not self._memories.rules.writes_through:
            self._computed.update(shared(keys))

    def count(
        self, instance: int, keys: Sequence[int], prompt_tokens: int, found_tokens: int, known_tokens: int
    ) -> None:
        """A prompt of which ``found_tokens`` are within reach and ``known_tokens`` will not be computed."""
        chunk_tokens = self._memories.rules.chunk_tokens
        self.misses.declined_tokens += found_tokens - known_tokens
        reached = found_tokens
        for place in range(found_tokens // chunk_tokens, len(keys)):
            if not is_shared(keys[place]):  # what one request has to itself is the tail of its prompt
                self.misses.cold_tokens += len(keys) * chunk_tokens - reached
                reached = len(keys) * chunk_tokens
                break
            end = (place + 1) * chunk_tokens
            self._count(keys[place], instance, end - reached)
            reached = end
        self.misses.partial_tokens += prompt_tokens - max(reached, found_tokens)
        self._asked.update(shared(keys))

    def _count(self, key: int, instance: int, tokens: int) -> None:
        misses, memories = self.misses, self._memories
        copies = memories.census.get(key)
        if key not in self._asked:
            misses.cold_tokens += tokens
        elif copies is None and (memories.rules.writes_through or key not in self._computed):
            misses.pending_tokens += tokens
        elif copies != 0 and not memories.backings[instance].has(key):
            misses.elsewhere_tokens += tokens
        else:
            misses.evicted_tokens += tokens


def shared(keys: Sequence[int]) -> list[int]:
    """Of a prompt's chunks those that another prompt can have."""
    return [key for key in keys if not key & 1]


def covered(segments: Sequence[Segment], cached_tokens: int) -> int:
    """Tokens at the head of a prompt that the engine's cache and these segments have."""
    return segments[-1].end if segments else cached_tokens
