"""What a batch of prompts may still take, as SGLang's ``PrefillAdder`` reckons before it admits each of them."""

from __future__ import annotations

from typing import Final

from kvsim.sim.engine.radix import RadixPool

MOST_NEW_TOKENS: Final = 4096
"""No answer is reckoned to get longer."""
UNLIMITED: Final = 1 << 60


class PrefillBudget:
    """Tokens of a batch of prompts, and of the pool, that are left. Tokens are those of whole pages."""

    __slots__ = ("_page", "_pool", "chunk_tokens", "current_tokens", "input_tokens", "total_tokens")

    def __init__(self, pool: RadixPool, page: int, input_tokens: int, chunk_tokens: int, mixed_decodes: int) -> None:
        """``chunk_tokens``: ``UNLIMITED`` where prompts are not cut. ``mixed_decodes``: who decodes beside them."""
        self._pool, self._page = pool, page
        self.input_tokens = input_tokens - mixed_decodes
        """Left of ``max_prefill_tokens``."""
        self.chunk_tokens = chunk_tokens if chunk_tokens == UNLIMITED else chunk_tokens - mixed_decodes
        """Left of ``chunked_prefill_size``."""
        self.total_tokens = float(mixed_decodes)
        """What is reckoned to be used of the pool in the end, beyond what is now."""
        self.current_tokens = mixed_decodes
        """What the batch takes of the pool."""

    @property
    def is_chunked(self) -> bool:
        """Whether prompts may be cut."""
        return self.chunk_tokens < UNLIMITED // 2

    @property
    def free_tokens(self) -> int:
        """Tokens of the pool that nobody holds."""
        return self._pool.num_free * self._page

    @property
    def room_tokens(self) -> float:
        """Tokens of the pool that are reckoned to stay free in the end."""
        return self.free_tokens - self.total_tokens

    @property
    def is_spent(self) -> bool:
        """Whether the batch is as large as it may be."""
        return self.input_tokens <= 0 or self.chunk_tokens <= 0

    @property
    def has_room(self) -> bool:
        """Whether the pool has room left."""
        return self.room_tokens > 0 and self.free_tokens > self.current_tokens

    def whole_pages(self, tokens: int) -> int:
        """Tokens of as many pages as ``tokens`` need."""
        return -(-tokens // self._page) * self._page

    def reserve(self, tokens: int, new_tokens: int) -> None:
        """Take ``tokens`` of a prompt, and room for an answer of ``new_tokens``; a page more may be needed."""
        paged = self.whole_pages(tokens)
        self.total_tokens += paged + self._page + new_tokens
        self.current_tokens += paged + self._page
        self.input_tokens -= paged
        self.chunk_tokens -= paged

    def first_chunk(self, tokens: int, is_first: bool) -> int:
        """How many of the ``tokens`` of a prompt behind its cached pages the batch takes; 0: none, since it is as large
        as it may be."""
        paged = self.whole_pages(tokens)
        if not self.is_chunked:
            return 0 if not is_first and paged >= self.input_tokens else tokens
        if paged <= self.chunk_tokens:
            return tokens
        return max(self.chunk_tokens // self._page * self._page, 0)

    def next_chunk(self, tokens: int) -> int:
        """How many of the ``tokens`` that are left of a prompt under way the batch takes: it must go on."""
        most = min(self.chunk_tokens, int(self.room_tokens))
        return min(tokens, most if most > 0 else self.chunk_tokens)
