"""The radix tree against a naive one, operation by operation, and on a recorded trace."""

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


class Stretch:
    """A node of the naive tree: some blocks, each by its chain and place, after those of the node above."""

    def __init__(self, above: Stretch | None, own: list[tuple[int, int]]) -> None:
        self.above, self.own = above, own
        self.below: list[Stretch] = []
        self.touched = 0
        self.holders = 0


class Naive:
    """The tree as SGLang's own classes were seen to keep it, with lists of blocks for edges."""

    def __init__(self) -> None:
        self.root = Stretch(None, [])
        self.now = 0

    def touch(self, node: Stretch) -> None:
        self.now += 1
        node.touched = self.now

    def found(self, path: Path, limit: int) -> list[tuple[Stretch, int]]:
        """Nodes along the path, and how many of their blocks lie on it."""
        wanted, node, along = blocks(path, limit), self.root, []
        while wanted:
            below = [one for one in node.below if one.own[0] == wanted[0]]
            if not below:
                break
            (node,) = below
            alike = next((i for i, pair in enumerate(zip(node.own, wanted, strict=False)) if pair[0] != pair[1]), None)
            count = min(len(node.own), len(wanted)) if alike is None else alike
            along.append((node, count))
            if count < len(node.own):
                break
            wanted = wanted[count:]
        return along

    def match(self, path: Path, limit: int) -> int:
        return sum(count for _, count in self.found(path, limit))

    def split(self, node: Stretch, count: int) -> Stretch:
        upper = Stretch(node.above, node.own[:count])
        upper.holders, upper.below = node.holders, [node]
        node.above.below[node.above.below.index(node)] = upper
        node.above, node.own = upper, node.own[count:]
        self.touch(upper)
        self.touch(node)
        return upper

    def look_up(self, path: Path, limit: int) -> Stretch:
        node = self.root
        for node, count in self.found(path, limit):
            if count < len(node.own):
                node = self.split(node, count)
            self.touch(node)
        return node

    def enter(self, path: Path, count: int) -> Stretch:
        node, known = self.root, 0
        for node, alike in self.found(path, count):
            known += alike
            self.touch(node)
            if alike < len(node.own):
                node = self.split(node, alike)
        if known < count:
            node.below.append(Stretch(node, blocks(path, count)[known:]))
            node = node.below[-1]
            self.touch(node)
        return node

    def hold(self, node: Stretch, by: int) -> None:
        while node.above is not None:
            node.holders += by
            node = node.above

    def evict(self) -> None:
        leaves = [node for node in self.nodes() if not node.below and not node.holders]
        victim = min(leaves, key=lambda node: node.touched)
        victim.above.below.remove(victim)

    def nodes(self) -> list[Stretch]:
        found = list(self.root.below)
        for node in found:
            found.extend(node.below)
        return found

    @property
    def size(self) -> int:
        return sum(len(node.own) for node in self.nodes())

    @property
    def unheld(self) -> int:
        return sum(len(node.own) for node in self.nodes() if not node.holders)


class RadixMachine(RuleBasedStateMachine):
    """Sequences come, compute, leave; prompts are looked up; KV comes from elsewhere; blocks run short."""

    def __init__(self) -> None:
        super().__init__()
        self.shrunk: dict[int, int] = {}
        self.pool = RadixPool(NUM_BLOCKS, on_evict=self.shrunk.__setitem__)
        self.naive = Naive()
        self.tables: list[tuple[BlockTable, int, list[Stretch]]] = []
        """With the blocks each holds in all, and the node that it holds."""

    def make_room(self, count: int) -> None:
        while NUM_BLOCKS - self.used - self.naive.size < count and self.naive.unheld:
            self.naive.evict()

    @property
    def used(self) -> int:
        """Blocks that are held and not in the tree."""
        return sum(table.loose for table, _, _ in self.tables)

    @rule(path=st.sampled_from(PATHS), limit=st.integers(0, 9))
    def match(self, path: Path, limit: int) -> None:
        hits, free = self.pool.match(path, limit)
        assert hits == self.naive.match(path, limit)
        assert free == sum(count for node, count in self.naive.found(path, limit) if not node.holders)

    @rule(path=st.sampled_from(PATHS), limit=st.integers(0, 9))
    def look_up(self, path: Path, limit: int) -> None:
        node, hits = self.pool.look_up(path, limit)
        assert hits == self.naive.match(path, limit)
        self.naive.look_up(path, limit)
        assert self.pool.unheld(node) == sum(len(one.own) for one, _ in self.naive.found(path, hits) if not one.holders)

    @rule(count=st.integers(0, NUM_BLOCKS + 2))
    def room_is_made(self, count: int) -> None:
        self.make_room(count)
        assert self.pool.make_room(count) == (NUM_BLOCKS - self.used - self.naive.size >= count)

    @rule(path=st.sampled_from(PATHS), size=st.integers(1, 9))
    def come(self, path: Path, size: int) -> None:
        hits, free = self.pool.match(path, size - 1)
        if size - hits > self.pool.num_free - free:
            return
        table = BlockTable(path)
        self.pool.acquire(table, hits)
        node = self.naive.look_up(path, hits)
        self.naive.hold(node, 1)
        self.make_room(size - hits)
        self.pool.take(size - hits)
        table.loose = size - hits
        self.tables.append((table, size, [node]))

    def entered(self, table: BlockTable, full: int, held: list[Stretch]) -> None:
        node = self.naive.enter(table.path, full)
        self.naive.hold(held[0], -1)
        self.naive.hold(node, 1)
        held[0] = node

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def compute(self, data: st.DataObject) -> None:
        table, size, held = data.draw(st.sampled_from(self.tables))
        full = data.draw(st.integers(table.hashed, size))
        self.pool.extend(table, full)
        if full > table.hashed:
            self.entered(table, full, held)
        self.pool.begin_step()
        assert table.hashed >= full and table.hashed + table.loose == size

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def publish(self, data: st.DataObject) -> None:
        table, size, held = data.draw(st.sampled_from(self.tables))
        full, prompt = data.draw(st.integers(table.hashed, size)), data.draw(st.integers(0, size))
        self.pool.publish(table, full, prompt)
        self.entered(table, full, held)
        if 0 < prompt < full:
            self.naive.enter(table.path, prompt)
        assert table.hashed == full and table.hashed + table.loose == size

    @precondition(lambda self: self.tables)
    @rule(data=st.data(), answers=st.booleans())
    def leave(self, data: st.DataObject, answers: bool) -> None:
        place = data.draw(st.integers(0, len(self.tables) - 1))
        table, size, held = self.tables.pop(place)
        if answers and size > table.hashed:
            self.pool.extend(table, size)
            self.entered(table, size, held)
        self.pool.release(table)
        self.naive.hold(held[0], -1)

    @rule(path=st.sampled_from(PATHS), size=st.integers(1, 9))
    def arrive_from_elsewhere(self, path: Path, size: int) -> None:
        cached = self.naive.match(path, size)
        inserted = self.pool.insert(path, len(path) - 1, min(path[-1][1], size), size)
        if cached < min(path[-1][1], size) or cached == size:
            assert inserted == 0
            return
        node = self.naive.look_up(path, cached)
        self.naive.hold(node, 1)
        room = NUM_BLOCKS - self.used - self.naive.size + self.naive.unheld
        assert inserted == (size - cached if room >= size - cached else 0)
        if inserted:
            self.make_room(inserted)
        self.naive.hold(node, -1)
        if inserted:
            self.naive.enter(path, size)

    @invariant()
    def books_agree(self) -> None:
        self.pool.check_integrity()
        assert self.pool.num_blank == NUM_BLOCKS - self.used - self.naive.size
        assert self.pool.num_cached_free == self.naive.unheld
        ours = {
            tuple((c, i) for c, low, high in node.edge for i in range(low, high)): (node.refs, node.stamp)
            for node in self.nodes()
        }
        assert ours == {tuple(node.own): (node.holders, node.touched) for node in self.naive.nodes()}

    @invariant()
    def routers_are_told_of_what_is_gone(self) -> None:
        for chain, left in self.shrunk.items():
            assert chain >= 0 and left >= 0

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


def test_what_diverges_splits_an_edge_for_good_and_leaves_go_whole() -> None:
    pool = RadixPool(20)
    served(pool, ((0, 0, OPEN_END),), 6)
    (edge,) = pool.root.children.values()
    assert (edge.size, edge.children) == (6, {})
    served(pool, ((0, 0, 4), (1, 4, OPEN_END)), 7)
    (upper,) = pool.root.children.values()
    assert (upper.size, [child.size for child in upper.children.values()]) == (4, [2, 3])
    assert pool.num_blank == 20 - 9
    pool.take(20 - 9 + 1)
    (upper,) = pool.root.children.values()
    assert (upper.size, [child.size for child in upper.children.values()]) == (4, [3])
    assert (pool.num_blank, pool.evicted_blocks) == (1, 2)


def test_an_answer_goes_before_its_prompt() -> None:
    pool = RadixPool(20)
    table = BlockTable(((0, 0, OPEN_END),))
    pool.take(9)
    table.loose = 9
    pool.publish(table, 5, 5)
    pool.publish(table, 9, 5)
    pool.drop(table)
    (prompt,) = pool.root.children.values()
    assert (prompt.size, [child.size for child in prompt.children.values()]) == (5, [4])
    whole = BlockTable(((1, 0, OPEN_END),))
    pool.take(4)
    whole.loose = 4
    pool.publish(whole, 4, 2)
    pool.drop(whole)
    assert [node.size for node in pool.root.children.values()] == [5, 2]
    assert pool.make_room(pool.num_blank + 1)
    assert pool.match(((0, 0, OPEN_END),), 9) == (5, 5)


def test_what_is_looked_up_outlives_what_is_not() -> None:
    pool = RadixPool(8)
    one, other = ((0, 0, OPEN_END),), ((1, 0, OPEN_END),)
    served(pool, one, 4)
    served(pool, other, 4)
    assert pool.match(one, 4) == pool.match(other, 4) == (4, 4)
    node, hits = pool.look_up(one, 4)
    assert (hits, pool.unheld(node)) == (4, 4)
    pool.take(1)
    assert (pool.match(one, 4)[0], pool.match(other, 4)[0], pool.num_blank) == (4, 0, 3)


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


def naive_hits(prompts: list[Path], capacity: int) -> int:
    """Prompts one after the other through the naive tree."""
    tree, hits = Naive(), 0
    size = 0
    for path in prompts:
        known = tree.match(path, len(path))
        hits += known
        tree.hold(tree.look_up(path, known), 1)
        while size + len(path) - known > capacity:
            before = tree.size
            tree.evict()
            size -= before - tree.size
        size += len(path) - known
        tree.hold(tree.look_up(path, known), -1)
        tree.enter(path, len(path))
    return hits


@pytest.mark.parametrize(("capacity", "requests"), [(300, 150), (1500, 150), (20_000, 200)])
def test_mooncake_hits_are_those_of_the_naive_tree(capacity: int, requests: int) -> None:
    """Blocks are the trace's own of 512 tokens, one access a request in the order of the file."""
    path = DATA / "traces" / "mooncake_conversation_trace.jsonl"
    if not path.exists():
        pytest.skip(f"third-party data is not at {DATA} (KVSIM_DATA)")
    with path.open() as lines:
        prompts = [json.loads(line)["hash_ids"] for _, line in zip(range(requests), lines, strict=False)]
    prompts = [ids for ids in prompts if len(ids) <= capacity]
    numbers: dict[tuple, int] = {}
    paths = []
    for ids in prompts:
        past: tuple = ()
        path_of = []
        for place, block in enumerate(ids):
            past = (past, block)
            path_of.append((numbers.setdefault(past, len(numbers)), place, place + 1))
        paths.append(tuple(path_of))
    pool = RadixPool(capacity)
    hits = sum(served(pool, path, len(path)) for path in paths)
    pool.check_integrity()
    assert hits == naive_hits(paths, capacity)
    assert (pool.evicted_blocks > 0) == (capacity < 20_000)
