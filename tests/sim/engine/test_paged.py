"""The run-based pool against a block-by-block one: every count after every operation."""

from __future__ import annotations

import pytest
from block_by_block import Block, BlockPool
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvsim.sim.engine.block_table import shared_blocks
from kvsim.sim.engine.paged import OPEN_END, BlockTable, PagedPool, Path

NUM_BLOCKS = 14
PARENTS: dict[int, Path] = {
    0: (),
    1: ((0, 0, 3),),
    2: ((0, 0, 1),),
    3: ((0, 0, 3), (1, 3, 5)),
}


def path_of(chain: int, private_after: int | None, serial: int) -> Path:
    """Along ``chain``; after ``private_after`` blocks of it along a chain of this sequence alone."""
    parents = PARENTS[chain]
    first = parents[-1][2] if parents else 0
    if private_after is None:
        return (*parents, (chain, first, OPEN_END))
    end = first + private_after
    return (*parents, (chain, first, end), (-serial, end, OPEN_END))


def key_of(path: Path, block: int) -> tuple[int, int]:
    chain, first, _ = next(entry for entry in path if block < entry[2])
    return chain, block - first


class Held:
    """One sequence in both pools."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = BlockTable(path)
        self.blocks: list[Block] = []
        self.hashed = 0


class Pools(RuleBasedStateMachine):
    """Anyone may compute what others have cached: as after a lookup that stopped early, or in step with another."""

    def __init__(self) -> None:
        super().__init__()
        self.shrunk: dict[int, int] = {}
        self.gone_alone = 0
        self.pool = PagedPool(NUM_BLOCKS, on_evict=self._told)
        self.naive = BlockPool(NUM_BLOCKS)
        self.held: list[Held] = []
        self.preempted: list[Held] = []
        self.serial = 0

    @rule(
        chain=st.sampled_from(sorted(PARENTS)),
        private_after=st.none() | st.integers(1, 3),
        length=st.integers(1, 9),
        unseen=st.sampled_from([0, 0, 0, 1, 2, 9]),
        partial=st.integers(0, 1),
    )
    def admit(self, chain: int, private_after: int | None, length: int, unseen: int, partial: int) -> None:
        self.serial += 1
        self._start(Held(path_of(chain, private_after, self.serial)), length, max(length - unseen, 0), partial)

    @precondition(lambda self: self.preempted)
    @rule(length=st.integers(1, 9), partial=st.integers(0, 1))
    def resume(self, length: int, partial: int) -> None:
        self._start(self.preempted.pop(), length, length, partial)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), count=st.integers(1, 4), partial=st.integers(0, 1))
    def grow(self, data: st.DataObject, count: int, partial: int) -> None:
        self._compute(data.draw(st.sampled_from(self.held)), count, partial)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), resumes=st.booleans())
    def release(self, data: st.DataObject, resumes: bool) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        if resumes:
            self.pool.release_to_resume(held.table)
            self.preempted.append(held)
        else:
            self.pool.release(held.table)
        self.naive.release(held.blocks)
        held.blocks, held.hashed = [], 0

    @rule(chain=st.sampled_from(sorted(PARENTS)), length=st.integers(1, 6), gap=st.integers(0, 2))
    def insert(self, chain: int, length: int, gap: int) -> None:
        path = path_of(chain, None, 0)
        start = path[-1][1]
        end = start + length
        first = min(start + gap, end)
        expected = self._insert_naively(path, start, first, end)
        assert self.pool.insert(path, len(path) - 1, first, end) == expected

    @invariant()
    def counts_are_equal(self) -> None:
        assert self.pool.num_free == len(self.naive.free)
        assert self.pool.num_cached_free == self.naive.num_cached_free
        assert self.pool.evicted_blocks == self.naive.evicted
        self.pool.check_integrity()

    @invariant()
    def lookups_are_equal(self) -> None:
        for chain in PARENTS:
            path = path_of(chain, None, 0)
            hits = self._lookup(path, 12)
            assert self.pool.match(path, 12) == (len(hits), sum(not block.holders for block in hits))

    @invariant()
    def evictions_are_told(self) -> None:
        for chain, left in self.shrunk.items():
            assert self.pool.cached_blocks(chain) >= left
        assert 0 <= self.gone_alone <= self.pool.evicted_blocks

    def teardown(self) -> None:
        for held in self.held:
            self.pool.release(held.table)
        assert self.pool.num_free == NUM_BLOCKS

    def _told(self, chain: int, blocks: int) -> None:
        """A shared chain has so many blocks left, or so many went that one request had to itself."""
        if chain < 0:
            assert chain == -1 and blocks > 0
            self.gone_alone += blocks
        else:
            self.shrunk[chain] = blocks

    def _lookup(self, path: Path, limit: int) -> list[Block]:
        return self.naive.match(key_of(path, block) for block in range(limit))

    def _start(self, held: Held, length: int, limit: int, partial: int) -> None:
        hits = self._lookup(held.path, limit)
        evictable = sum(not block.holders for block in hits)
        assert self.pool.match(held.path, limit) == (len(hits), evictable)
        if length - len(hits) > len(self.naive.free) - evictable:
            return
        self.naive.acquire(hits)
        self.pool.acquire(held.table, len(hits))
        held.blocks, held.hashed = hits, len(hits)
        self.held.append(held)
        self._compute(held, length - len(hits), partial)

    def _compute(self, held: Held, count: int, partial: int) -> None:
        """``count`` new blocks, of which ``partial`` are not full; loose ones of before are full now."""
        if not 0 < count <= len(self.naive.free):
            return
        held.blocks = held.blocks + self.naive.take(count)
        self.pool.take(count)
        held.table.loose += count
        full = len(held.blocks) - partial
        for block in range(held.hashed, full):
            self.naive.cache(held.blocks[block], key_of(held.path, block))
        held.hashed = max(held.hashed, full)
        self.pool.extend(held.table, held.hashed)

    def _insert_naively(self, path: Path, start: int, first: int, end: int) -> int:
        there = self._lookup(path, end)
        cached = len(there) - start
        if cached < 0 or first > start + cached or end <= start + cached:
            return 0
        kept = there[start:]
        self.naive.acquire(kept)
        count = end - start - cached
        inserted = []
        if count <= len(self.naive.free):
            inserted = self.naive.take(count)
            for offset, block in enumerate(inserted):
                self.naive.cache(block, key_of(path, start + cached + offset))
        self.naive.release(kept + inserted)
        return len(inserted)


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=120, stateful_step_count=50)


def sequence(pool: PagedPool, path: Path, length: int, limit: int) -> BlockTable:
    """A sequence of ``length`` full blocks that looked at most ``limit`` of them up."""
    table = BlockTable(path)
    hits, _ = pool.match(path, limit)
    pool.acquire(table, hits)
    grow(pool, table, length)
    return table


def grow(pool: PagedPool, table: BlockTable, length: int) -> None:
    new = length - table.hashed - table.loose
    pool.take(new)
    table.loose += new
    pool.extend(table, length)


ALONG: Path = ((0, 0, OPEN_END),)


def test_a_released_prompt_is_hit_and_evicted_tail_first() -> None:
    pool = PagedPool(4)
    pool.release(sequence(pool, ALONG, 3, 0))
    assert pool.match(ALONG, 9) == (3, 3)
    pool.take(2)
    assert (pool.match(ALONG, 9), pool.evicted_blocks, pool.num_free) == ((2, 2), 1, 2)
    assert pool.match(ALONG, 1) == (1, 1)


def test_blocks_without_a_hash_are_used_before_cached_ones() -> None:
    pool = PagedPool(4)
    first = sequence(pool, ALONG, 2, 0)
    second = BlockTable(((-1, 0, OPEN_END),))
    pool.take(2)
    second.loose = 2
    pool.release(first)
    pool.release(second)
    pool.take(2)
    assert (pool.evicted_blocks, pool.match(ALONG, 2)) == (0, (2, 2))


def test_without_prefix_caching_nothing_is_hit() -> None:
    pool = PagedPool(4, enable_prefix_caching=False)
    pool.release(sequence(pool, ALONG, 3, 0))
    assert (pool.match(ALONG, 3), pool.num_blank) == ((0, 0), 4)


@pytest.mark.parametrize("evicts_the_older", [False, True])
def test_a_sequence_may_go_on_past_its_duplicate(evicts_the_older: bool) -> None:
    """Its last prompt block was cached by another one and computed again; three blocks are three blocks."""
    pool = PagedPool(8)
    older = sequence(pool, ALONG, 2, 0)
    younger = sequence(pool, ALONG, 2, 1)
    assert pool.num_free == 5
    pool.release(older)
    assert pool.num_free == 6
    if evicts_the_older:
        other = BlockTable(((-1, 0, OPEN_END),))
        pool.take(6)
        other.loose = 6
        pool.release(other)
    grow(pool, younger, 3)
    assert pool.num_free == 5
    pool.check_integrity()
    pool.release(younger)
    assert pool.num_free == 8
    pool.check_integrity()


def test_preempted_blocks_are_found_again() -> None:
    pool = PagedPool(8)
    path: Path = ((0, 0, 2), (-1, 2, OPEN_END))
    table = sequence(pool, path, 5, 0)
    pool.release_to_resume(table)
    assert pool.match(path, 9) == (5, 5)


def test_the_younger_copy_serves_once_the_older_is_evicted() -> None:
    pool = PagedPool(6)
    older, _younger = sequence(pool, ALONG, 3, 0), sequence(pool, ALONG, 3, 1)
    assert (pool.num_free, pool.match(ALONG, 9)) == (1, (3, 0))
    pool.release(older)
    assert (pool.num_free, pool.match(ALONG, 9)) == (3, (3, 2))
    pool.take(2)
    assert (pool.evicted_blocks, pool.match(ALONG, 9)) == (1, (3, 1))
    pool.take(1)
    assert (pool.evicted_blocks, pool.match(ALONG, 9)) == (2, (3, 0))
    pool.check_integrity()


def test_finished_private_blocks_are_not_looked_up_but_wait_their_turn() -> None:
    pool = PagedPool(8)
    pool.release(sequence(pool, ((0, 0, 2), (-1, 2, OPEN_END)), 5, 0))
    assert (pool.num_cached_free, pool.match(ALONG, 9)) == (5, (2, 2))
    pool.take(3 + 3)
    assert (pool.evicted_blocks, pool.match(ALONG, 9)) == (3, (2, 2))


@pytest.mark.parametrize(
    ("path", "other", "shared"),
    [
        (((0, 0, 4), (-1, 4, OPEN_END)), ((0, 0, 3), (-2, 3, OPEN_END)), 3),
        (((0, 0, 4), (1, 4, 9)), ((0, 0, 4), (2, 4, 9)), 4),
        (((0, 0, 4), (1, 4, 9)), ((0, 0, 4), (1, 4, 7), (2, 7, 9)), 7),
        (((-1, 0, OPEN_END),), ((-2, 0, OPEN_END),), 0),
    ],
)
def test_paths_have_in_common_what_lies_before_they_part(path: Path, other: Path, shared: int) -> None:
    assert shared_blocks(path, other) == shared_blocks(other, path) == shared


def test_who_finds_its_own_blocks_again_frees_each_once() -> None:
    """A request that is preempted, given up and sent again: its first blocks are hit, those behind are new."""
    pool, path = PagedPool(8), ((-1, 0, OPEN_END),)
    first = BlockTable(path)
    pool.take(3)
    first.loose = 3
    pool.extend(first, 2)
    pool.release_to_resume(first)
    again = BlockTable(path)
    hits, _ = pool.match(path, 1)
    assert hits == 1
    pool.acquire(again, hits)
    pool.take(2)
    again.loose = 2
    pool.extend(again, 3)
    pool.release(again)
    pool.check_integrity()
    assert pool.num_free == 8
