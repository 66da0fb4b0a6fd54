"""Blocks that are kept one by one: what each caches, who holds it, and where it is in vLLM's free queue."""

from __future__ import annotations

from collections.abc import Callable

from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.group_table import Block

OFFSET_BITS = 24
"""A block's key is its chain, and its place in that in so many bits."""


class SingleBlockPool(BlockPool):
    """``num_blocks`` blocks of several groups, found by group and key. Of blocks with one key the oldest serves."""

    __slots__ = ("_cached", "_ends", "_primary")

    def __init__(
        self,
        num_blocks: int,
        num_groups: int,
        primary: int,
        *,
        enable_prefix_caching: bool,
        on_evict: Callable[[int, int], None] | None,
    ) -> None:
        """``on_evict(chain, cached)`` is told when group ``primary`` keeps only ``cached`` blocks of a shared chain."""
        super().__init__(num_blocks, enable_prefix_caching, on_evict)
        self._cached: list[dict[int, Block]] = [{} for _ in range(num_groups)]
        self._primary = primary
        ends = self._ends = Block()
        ends.before = ends.after = ends

    def find(self, group: int, key: int) -> Block | None:
        """The block that caches ``key`` for a group."""
        return self._cached[group].get(key)

    def touch(self, block: Block) -> None:
        """One more holds a cached block."""
        if not block.holders:
            _unlink(block)
            self.num_free -= 1
        block.holders += 1

    def pop(self) -> Block:
        """A free block for one holder, the next of the queue; what it cached is forgotten."""
        self.num_free -= 1
        if self.num_blank:
            self.num_blank -= 1
            return Block()
        block = self._ends.after
        assert block is not None and block is not self._ends, "no block is free"
        _unlink(block)
        self._forget(block)
        block.holders = 1
        return block

    def take(self, count: int) -> None:
        for _ in range(count):
            self.pop()

    def hash_block(self, block: Block, group: int, key: int) -> None:
        """Let the block be found from now on, after older ones with the same key."""
        block.is_hashed, block.group, block.key = True, group, key
        cached = self._cached[group]
        older = cached.get(key)
        if older is None:
            cached[key] = block
            return
        while older.younger is not None:
            older = older.younger
        older.younger = block

    def let_go(self, blocks: list[Block]) -> None:
        """One holder less of each: those that nobody holds and that cache something go to the queue's tail, in this
        order; the others are blank."""
        last = self._ends
        for block in blocks:
            block.holders -= 1
            if block.holders:
                continue
            self.num_free += 1
            if not block.is_hashed:
                self.num_blank += 1
                continue
            tail = last.before
            assert tail is not None
            block.before, block.after = tail, last
            tail.after = last.before = block

    def check_integrity(self) -> None:
        queued, block = 0, self._ends.after
        while block is not None and block is not self._ends:
            assert block.is_hashed and not block.holders
            assert self.find(block.group, block.key) is not None
            queued += 1
            block = block.after
        assert self.num_free == self.num_blank + queued, (self.num_free, self.num_blank, queued)
        assert 0 <= self.num_free <= self.num_blocks, (self.num_free, self.num_blocks)

    def _forget(self, block: Block) -> None:
        self.evicted_blocks += 1
        cached, key = self._cached[block.group], block.key
        first, younger = cached[key], block.younger
        block.is_hashed, block.younger = False, None
        if first is not block:
            while first.younger is not block:
                assert first.younger is not None
                first = first.younger
            first.younger = younger
        elif younger is not None:
            cached[key] = younger
        else:
            del cached[key]
            if self._on_evict is not None and block.group == self._primary:
                self._tell_evicted(key)

    def _tell_evicted(self, key: int) -> None:
        assert self._on_evict is not None
        chain = key >> OFFSET_BITS
        if chain >= 0:
            self._on_evict(chain, key - (chain << OFFSET_BITS))
        else:
            self._on_evict(-1, 1)


def _unlink(block: Block) -> None:
    before, after = block.before, block.after
    assert before is not None and after is not None
    before.after, after.before = after, before
    block.before = block.after = None
