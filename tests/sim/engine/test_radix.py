"""The radix tree against a plain dictionary of blocks, and on a recorded trace against a model of a few lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from places import DATA

from kvsim.sim.engine.block_table import OPEN_END, BlockTable, Path
from kvsim.sim.engine.radix import RadixPool

PATHS: tuple[Path, ...] = (
    ((0, 0, OPEN_END),),
    ((0, 0, 3), (1, 3, OPEN_END)),
    ((0, 0, 3), (1, 3, 5), (2, 5, OPEN_END)),
    ((0, 0, 3), (1, 3, 5), (4, 5, OPEN_END)),
    ((0, 0, 1), (3, 1, OPEN_END)),
    ((5, 0, 2), (-7, 2, OPEN_END)),
    ((-8, 0, OPEN_END),),
)
NUM_BLOCKS = 14


def blocks(path: Path, count: int) -> list[tuple[int, int]]:
    """The first blocks of a path, each by its chain and place, which tell its whole past."""
    return [next((c, i - first) for c, first, end in path if i < end) for i in range(count)]


class Naive:
    """Every cached block by itself: when it was touched, who holds it, what follows it."""

    def __init__(self) -> None:
        self.parent: dict[tuple, tuple | None] = {}
        self.touched: dict[tuple, int] = {}
        self.holders: dict[tuple, int] = {}
        self.now = 0

    def match(self, path: Path, limit: int) -> int:
        hits = 0
        for block in blocks(path, limit):
            if block not in self.parent:
                break
            hits += 1
        return hits

    def touch(self, path: Path, count: int) -> None:
        self.now += 1
        for block in blocks(path, count):
            self.touched[block] = self.now

    def enter(self, path: Path, count: int) -> None:
        before = None
        for block in blocks(path, count):
            if block not in self.parent:
                self.parent[block], self.holders[block] = before, 0
            before = block
        self.touch(path, count)

    def hold(self, path: Path, start: int, stop: int, by: int) -> None:
        for block in blocks(path, stop)[start:]:
            self.holders[block] += by

    def evict(self) -> None:
        inner = set(self.parent.values())
        leaves = [b for b in self.parent if b not in inner and not self.holders[b]]
        victim = min(leaves, key=self.touched.__getitem__)
        for books in (self.parent, self.touched, self.holders):
            del books[victim]

    @property
    def unheld(self) -> int:
        return sum(not count for count in self.holders.values())


class RadixMachine(RuleBasedStateMachine):
    """Sequences come, compute, leave; answers come from elsewhere; blocks run short."""

    def __init__(self) -> None:
        super().__init__()
        self.shrunk: dict[int, int] = {}
        self.pool = RadixPool(NUM_BLOCKS, on_evict=self.shrunk.__setitem__)
        self.naive = Naive()
        self.tables: list[tuple[BlockTable, int]] = []
        """With the blocks each holds in all."""

    def take(self, count: int) -> None:
        while NUM_BLOCKS - self.used - len(self.naive.parent) < count:
            self.naive.evict()
        self.pool.take(count)

    @property
    def used(self) -> int:
        """Blocks that are held and not in the tree."""
        return sum(table.loose for table, _ in self.tables)

    @rule(path=st.sampled_from(PATHS), limit=st.integers(0, 9))
    def match(self, path: Path, limit: int) -> None:
        hits, free = self.pool.match(path, limit)
        assert hits == self.naive.match(path, limit)
        assert free == sum(not self.naive.holders[block] for block in blocks(path, hits))

    @rule(path=st.sampled_from(PATHS), size=st.integers(1, 9))
    def come(self, path: Path, size: int) -> None:
        hits, free = self.pool.match(path, size - 1)
        if size - hits > self.pool.num_free - free:
            return
        table = BlockTable(path)
        if hits:
            self.pool.acquire(table, hits)
            self.naive.touch(path, hits)
            self.naive.hold(path, 0, hits, 1)
        self.take(size - hits)
        table.loose = size - hits
        self.tables.append((table, size))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        table, size = data.draw(st.sampled_from(self.tables))
        full = data.draw(st.integers(table.hashed, size))
        self.pool.extend(table, full)
        if full > table.hashed:
            before = table.hashed
            self.naive.enter(table.path, full)
            self.naive.hold(table.path, before, full, 1)
        self.pool.begin_step()
        assert table.hashed >= full and table.hashed + table.loose == size

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), answers=st.booleans())
    def leave(self, data: st.DataObject, answers: bool) -> None:
        place = data.draw(st.integers(0, len(self.tables) - 1))
        table, size = self.tables.pop(place)
        if answers and size > table.hashed:
            before = table.hashed
            self.pool.extend(table, size)
            self.naive.enter(table.path, size)
            self.naive.hold(table.path, before, size, 1)
        held = max(size if answers else 0, table.hashed)
        self.pool.release(table)
        self.naive.hold(table.path, 0, held, -1)
        if held:
            self.naive.touch(table.path, held)

    @rule(path=st.sampled_from(PATHS), size=st.integers(1, 9))
    def arrive_from_elsewhere(self, path: Path, size: int) -> None:
        cached = self.naive.match(path, size)
        room = NUM_BLOCKS - self.used - sum(bool(n) for n in self.naive.holders.values())
        room -= sum(not self.naive.holders[block] for block in blocks(path, cached))
        inserted = self.pool.insert(path, len(path) - 1, min(path[-1][1], size), size)
        if cached < min(path[-1][1], size) or cached == size:
            assert inserted == 0
            return
        self.naive.touch(path, cached)
        assert inserted == (size - cached if room >= size - cached else 0)
        if inserted:
            self.naive.hold(path, 0, cached, 1)
            while NUM_BLOCKS - self.used - len(self.naive.parent) < inserted:
                self.naive.evict()
            self.naive.hold(path, 0, cached, -1)
            self.naive.enter(path, size)

    @invariant()
    def books_agree(self) -> None:
        self.pool.check_integrity()
        assert self.pool.num_blank == NUM_BLOCKS - self.used - len(self.naive.parent)
        assert self.pool.num_cached_free == self.naive.unheld
        cached = {(c, i) for node in self.nodes() for c, low, high in node.edge for i in range(low, high)}
        assert cached == set(self.naive.parent)

    @invariant()
    def references_agree(self) -> None:
        for node in self.nodes():
            chain, low, _ = node.edge[0]
            assert node.refs == self.naive.holders[chain, low]

    @invariant()
    def routers_are_told_of_what_is_gone(self) -> None:
        for chain, left in self.shrunk.items():
            assert chain >= 0 and self.naive.match(((chain, 0, OPEN_END),), 0) == 0 and left >= 0

    def nodes(self) -> list:
        found = list(self.pool.root.children.values())
        for node in found:
            found.extend(node.children.values())
        return found


TestRadix = RadixMachine.TestCase
TestRadix.settings = settings(max_examples=90, stateful_step_count=40, deadline=None)


def served(pool: RadixPool, path: Path, size: int) -> int:
    """One request alone: its hits; all of it is computed, cached, and let go."""
    hits, _ = pool.match(path, size)
    table = BlockTable(path)
    pool.acquire(table, hits)
    pool.take(size - hits)
    table.loose = size - hits
    pool.extend(table, size)
    pool.release(table)
    return hits


def test_what_diverges_splits_an_edge_and_what_is_left_alike_joins_again() -> None:
    pool = RadixPool(20)
    served(pool, ((0, 0, OPEN_END),), 6)
    (edge,) = pool.root.children.values()
    assert (edge.size, edge.children) == (6, {})
    served(pool, ((0, 0, 4), (1, 4, OPEN_END)), 7)
    (upper,) = pool.root.children.values()
    assert (upper.size, sorted(child.size for child in upper.children.values())) == (4, [2, 3])
    pool.take(20 - 9 + 2)
    (joined,) = pool.root.children.values()
    assert joined.size + sum(child.size for child in joined.children.values()) == 7
    again = BlockTable(((0, 0, 4), (1, 4, OPEN_END)))
    pool.acquire(again, 7)
    pool.release(again)
    (joined,) = pool.root.children.values()
    assert (joined.size, joined.edge, joined.children) == (7, [(0, 0, 4), (1, 0, 3)], {})


def test_a_duplicate_is_freed_and_the_tree_s_copy_held() -> None:
    pool = RadixPool(10)
    one, other = (BlockTable(((0, 0, OPEN_END),)) for _ in range(2))
    for table in (one, other):
        pool.take(4)
        table.loose = 4
        pool.extend(table, 4)
    assert pool.num_free == 2
    pool.begin_step()
    assert (pool.num_free, one.loose, other.loose, one.node is other.node) == (6, 0, 0, True)
    pool.release(one)
    assert (pool.num_free, pool.num_cached_free) == (6, 0)
    pool.release(other)
    assert (pool.num_free, pool.num_cached_free) == (10, 4)


def test_without_caching_nothing_stays() -> None:
    pool = RadixPool(10, enable_prefix_caching=False)
    assert served(pool, ((0, 0, OPEN_END),), 4) == served(pool, ((0, 0, OPEN_END),), 4) == 0
    assert pool.num_blank == 10


def leaf_lru_hits(prompts: list[list[int]], capacity: int) -> int:
    """Leaf-LRU over blocks: each block follows its parent, is touched with it, and goes before it."""
    touched: dict[tuple, int] = {}
    children: dict[tuple, int] = {}
    hits = 0
    for now, ids in enumerate(prompts):
        past: tuple = ()
        nodes = [past := (past, block) for block in ids]
        known = next((i for i, node in enumerate(nodes) if node not in touched), len(nodes))
        hits += known
        own = set(nodes[:known])
        for node in own:
            touched[node] = now
        while len(touched) + len(nodes) - known > capacity:
            leaves = (node for node in touched if not children.get(node) and node not in own)
            victim = min(leaves, key=touched.__getitem__)
            del touched[victim]
            children[victim[0]] -= 1
        for node in nodes[known:]:
            touched[node] = now
            children[node[0]] = children.get(node[0], 0) + 1
    return hits


@pytest.mark.parametrize(("capacity", "requests"), [(300, 250), (1500, 250), (20_000, 600)])
def test_mooncake_hits_are_those_of_leaf_lru(capacity: int, requests: int) -> None:
    """Blocks are the trace's own of 512 tokens, one access a request in the order of the file."""
    path = DATA / "traces" / "mooncake_conversation_trace.jsonl"
    if not path.exists():
        pytest.skip(f"third-party data is not at {DATA} (KVSIM_DATA)")
    with path.open() as lines:
        prompts = [json.loads(line)["hash_ids"] for _, line in zip(range(requests), lines, strict=False)]
    prompts = [ids for ids in prompts if len(ids) <= capacity]
    numbers: dict[tuple, int] = {}
    pool, hits = RadixPool(capacity), 0
    for ids in prompts:
        past: tuple = ()
        path_of = []
        for place, block in enumerate(ids):
            past = (past, block)
            path_of.append((numbers.setdefault(past, len(numbers)), place, place + 1))
        hits += served(pool, tuple(path_of), len(ids))
    pool.check_integrity()
    assert hits == leaf_lru_hits(prompts, capacity)
    assert (pool.evicted_blocks > 0) == (capacity < 20_000)
