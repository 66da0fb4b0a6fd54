"""The KV blocks of an engine as its scheduler uses them, however prefixes are kept."""

from __future__ import annotations

from collections.abc import Callable

from kvsim.sim.engine.block_table import BlockTable, Path
from kvsim.sim.engine.chain import Blocks


class BlockPool:
    """``num_blocks`` KV blocks of one engine. Counts are in blocks; nothing here knows of time."""

    __slots__ = (
        "_on_evict",
        "enable_prefix_caching",
        "evicted_blocks",
        "given",
        "num_blank",
        "num_blocks",
        "num_free",
    )

    hashes_when_scheduled = True
    """Whether a block can be hit from when it is scheduled on, of answers too; else once its step has run."""

    def __init__(
        self, num_blocks: int, enable_prefix_caching: bool, on_evict: Callable[[int, int], None] | None
    ) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        """Blocks that nobody references, cached ones included."""
        self.num_blank = num_blocks
        """Free blocks that cache nothing: used before any cached one."""
        self.evicted_blocks = 0
        self.enable_prefix_caching = enable_prefix_caching
        self._on_evict = on_evict
        self.given: list[Blocks] | None = None
        """Blocks given to requests, hit or new ones, as long as somebody takes note of that: of new ones those that
        cached something."""

    @property
    def num_cached_free(self) -> int:
        """Free blocks that still cache something."""
        return self.num_free - self.num_blank

    def begin_step(self) -> None:
        """Take note that the step scheduled last has run."""

    def match(self, path: Path, limit: int) -> tuple[int, int]:
        """The longest cached head of ``path``, at most ``limit`` blocks: ``(hits, of them free)``."""
        raise NotImplementedError

    def acquire(self, table: BlockTable, hits: int) -> None:
        """Give a fresh table its first ``hits`` blocks, which ``match`` found."""
        raise NotImplementedError

    def may_cache(self, chain: int) -> bool:
        """Whether anything of a chain may be cached."""
        return self.enable_prefix_caching

    def take(self, count: int) -> None:
        """Take ``count`` free blocks, forgetting what they cached. There must be as many."""
        raise NotImplementedError

    def extend(self, table: BlockTable, full_blocks: int) -> None:
        """Let the sequence's first ``full_blocks`` blocks, which are full now, be hit."""
        raise NotImplementedError

    def enter(self, table: BlockTable, full_blocks: int) -> None:
        """Let the sequence's first ``full_blocks`` blocks, whose KV came from elsewhere, be hit from now on."""
        self.extend(table, full_blocks)

    def release(self, table: BlockTable) -> None:
        """Free all the table holds."""
        raise NotImplementedError

    def release_to_resume(self, table: BlockTable) -> None:
        """Free all the table holds; the sequence will come back and may find its private blocks again."""
        raise NotImplementedError

    def blocks_of(self, table: BlockTable) -> list[Blocks]:
        """The hashed blocks that a table holds, where the pool can tell one from another."""
        return []

    def uncached(self, table: BlockTable) -> int:
        """Blocks that the table holds and that nobody else can hit."""
        return table.loose

    def insert(self, path: Path, entry: int, first: int, end: int) -> int:
        """Cache blocks ``[first, end)`` of the path's ``entry`` that came from elsewhere, unreferenced."""
        raise NotImplementedError

    def forget(self) -> None:
        """Lose what free blocks cache."""
        free, evicted = self.num_free, self.evicted_blocks
        self.take(free)
        self.num_free = self.num_blank = free
        self.evicted_blocks = evicted

    def check_integrity(self) -> None:
        """Assert that the pool's books agree; for tests and the end of a run."""
        raise NotImplementedError
