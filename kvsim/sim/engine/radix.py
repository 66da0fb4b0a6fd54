"""Prefixes in a radix tree, as SGLang keeps them (Zheng et al. 2024, "SGLang", section 3).

A prompt, once computed, is a path from the root; what two prompts share is one run of blocks. A sequence holds the node
its head ends in, and with it all above. Blocks that nobody holds stay until room is needed: then the leaf that was
touched longest ago goes, whole, and only leaves go, so that what is cached is always whole heads.

SGLang's rules, checked against recordings of its own classes: a chunk enters the tree when its step has run, an answer
when it is complete, and not while it is generated; what another sequence has brought into the tree meanwhile is freed
and the tree's copy held instead. An answer that enters is cut off at its prompt's end, so that it can go alone. Touched
is what is looked up, and the path along which something enters; a node that is split is new below the cut, too. A block
is a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

from kvsim.sim.engine.block_pool import BlockPool
from kvsim.sim.engine.block_table import BlockTable, Path
from kvsim.sim.engine.radix_node import RadixNode


class RadixPool(BlockPool):
    """``num_blocks`` KV blocks of one engine, the cached ones in a radix tree."""

    __slots__ = ("_clock", "_computed", "_leaves", "_serial", "root")

    hashes_when_scheduled = False

    def __init__(
        self,
        num_blocks: int,
        *,
        enable_prefix_caching: bool = True,
        on_evict: Callable[[int, int], None] | None = None,
    ) -> None:
        """``on_evict(chain, cached)`` is told when a shared chain shrinks to ``cached`` blocks."""
        super().__init__(num_blocks, enable_prefix_caching, on_evict)
        self.root = RadixNode(None, [], 0)
        self._clock = 0
        """Touches so far."""
        self._computed: dict[BlockTable, int] = {}
        """Tables with full blocks that will enter the tree when the step has run."""
        self._leaves: list[tuple[int, int, RadixNode]] = []
        """A heap of leaves that nobody holds, by a stamp that they had: one entry a node, which may be too old or of a
        node that may not go any more."""
        self._serial = 0

    def begin_step(self) -> None:
        if self._computed:
            computed, self._computed = self._computed, {}
            for table, full_blocks in computed.items():
                self._enter(table, full_blocks)

    def match(self, path: Path, limit: int) -> tuple[int, int]:
        hits = free = 0
        for node, size in self._walk(path, limit):
            hits += size
            if not node.refs:
                free += size
        return hits, free

    def acquire(self, table: BlockTable, hits: int) -> None:
        self.hold(table, self.look_up(table.path, hits)[0], hits)

    def look_up(self, path: Path, limit: int) -> tuple[RadixNode, int]:
        """The node in which the longest cached head of ``path`` ends, at most ``limit`` blocks, and how many these are.
        All of it is touched, and where it ends within a node, that is split.
        """
        hits, node = 0, self.root
        for node, found in list(self._walk(path, limit)):
            hits += found
            if found < node.size:
                node = self._split(node, found)
            self._touch(node)
        return node, hits

    def hold(self, table: BlockTable, node: RadixNode, hits: int) -> None:
        """Give a fresh table the ``hits`` blocks that end in ``node``."""
        table.node, table.hashed = node, hits
        self._hold(node, self.root)

    def unheld(self, node: RadixNode) -> int:
        """Blocks of ``node`` and of what lies above it that nobody holds."""
        blocks = 0
        while node.parent is not None and not node.refs:
            blocks += node.size
            node = node.parent
        return blocks

    def make_room(self, count: int) -> bool:
        """Evict until ``count`` blocks cache nothing, or all that can go has gone; whether there are as many."""
        if count > self.num_blank:
            self._evict(count)
        return count <= self.num_blank

    def take(self, count: int) -> None:
        self.make_room(count)
        self.num_blank -= count
        self.num_free -= count

    def extend(self, table: BlockTable, full_blocks: int) -> None:
        if self.enable_prefix_caching and full_blocks > table.hashed:
            self._computed[table] = full_blocks

    def enter(self, table: BlockTable, full_blocks: int) -> None:
        if self.enable_prefix_caching and full_blocks > table.hashed:
            self._enter(table, full_blocks)

    def release(self, table: BlockTable) -> None:
        full_blocks = self._computed.pop(table, 0)
        if full_blocks:
            self._enter(table, full_blocks)
        self.drop(table)

    def drop(self, table: BlockTable) -> None:
        """Free all the table holds; what has not entered the tree is gone."""
        self.num_blank += table.loose
        self.num_free += table.loose
        if table.node is not None:
            self._let_go(table.node)
        table.node = None
        table.hashed = table.loose = 0

    def publish(self, table: BlockTable, full_blocks: int, prompt_blocks: int) -> None:
        """Let the table's first ``full_blocks`` blocks enter the tree now; those behind its prompt's can go alone."""
        if self.enable_prefix_caching:
            self._enter(table, full_blocks)
            if 0 < prompt_blocks < full_blocks:
                self._walked(table.path, prompt_blocks)

    def release_to_resume(self, table: BlockTable) -> None:
        self.release(table)

    def insert(self, path: Path, entry: int, first: int, end: int) -> int:
        """Cache blocks from elsewhere if they continue what is cached and fit; returns how many were taken."""
        cached, _ = self.match(path, end)
        count = end - cached
        if cached < first or count <= 0 or not self.enable_prefix_caching:
            return 0
        carrier = BlockTable(path)
        self.acquire(carrier, cached)
        inserted = 0
        if self.num_free >= count:
            self.take(count)
            carrier.loose = inserted = count
            self._enter(carrier, end)
        self.release(carrier)
        return inserted

    def check_integrity(self) -> None:
        free = held = 0
        nodes = [self.root]
        for node in nodes:
            nodes.extend(node.children.values())
            assert node is self.root or node.refs >= sum(child.refs for child in node.children.values())
            for key, child in node.children.items():
                assert child.parent is node and child.key() == key
                assert child.queued or child.refs or child.children, child.edge
                assert child.size == sum(high - low for _, low, high in child.edge) > 0
            if node.refs:
                held += node.size
            else:
                free += node.size
        assert self.num_free == self.num_blank + free, (self.num_free, self.num_blank, free)
        assert self.num_blank >= 0 and self.num_free + held <= self.num_blocks, (self.num_free, held)

    def _walk(self, path: Path, limit: int) -> Iterator[tuple[RadixNode, int]]:
        """The nodes along ``path`` and how many of their blocks lie on it, at most ``limit`` in all."""
        node, index, place = self.root, 0, 0
        while limit > 0 and index < len(path):
            chain, first, end = path[index]
            if place == end - first:
                index, place = index + 1, 0
                continue
            child = node.children.get((chain, place))
            if child is None:
                return
            node, size = child, 0
            for chain, low, high in node.edge:
                if place == path[index][2] - path[index][1]:
                    index, place = index + 1, 0
                if index == len(path) or path[index][0] != chain or place != low:
                    break
                room = path[index][2] - path[index][1]
                step = min(high, room) - low
                size += step
                place += step
                if low + step < high:
                    break
            size = min(size, limit)
            limit -= size
            yield node, size
            if size < node.size:
                return

    def _touch(self, node: RadixNode) -> None:
        self._clock += 1
        node.stamp = self._clock

    def _split(self, node: RadixNode, size: int) -> RadixNode:
        """Cut the first ``size`` blocks off into a node above, which is returned; both are new."""
        upper = node.split(size)
        self._touch(upper)
        self._touch(node)
        return upper

    def _walked(self, path: Path, full_blocks: int) -> tuple[RadixNode, int]:
        """The node in which the cached head of ``path`` ends, and its blocks, as an insertion goes there: whatever it
        passes is touched, and what it splits is younger than what is above."""
        known, node = 0, self.root
        for node, found in list(self._walk(path, full_blocks)):
            known += found
            self._touch(node)
            if found < node.size:
                node = self._split(node, found)
        return node, known

    def _enter(self, table: BlockTable, full_blocks: int) -> None:
        """The table's blocks up to ``full_blocks`` are computed: those that the tree lacks go in, others are freed."""
        path, held = table.path, table.node
        node, known = self._walked(path, full_blocks)
        if known < full_blocks:
            child = RadixNode(node, _segments(path, known, full_blocks), 0)
            self._touch(child)
            node.children[child.key()] = child
            node = child
        duplicates = known - table.hashed
        self.num_blank += duplicates
        self.num_free += duplicates
        table.loose -= full_blocks - table.hashed
        self._hold(node, self.root if held is None else held)
        self.num_free += full_blocks - known
        table.node, table.hashed = node, full_blocks

    def _hold(self, node: RadixNode, above: RadixNode) -> None:
        """One table more holds ``node`` and what lies between it and ``above``, which it holds already."""
        while node is not above and node.parent is not None:
            if not node.refs:
                self.num_free -= node.size
            node.refs += 1
            node = node.parent

    def _let_go(self, node: RadixNode) -> None:
        lowest = node
        while node.parent is not None:
            node.refs -= 1
            if not node.refs:
                self.num_free += node.size
            node = node.parent
        self._may_go(lowest)

    def _may_go(self, node: RadixNode) -> None:
        if not (node.children or node.refs or node.queued or node.parent is None):
            node.queued = True
            self._serial += 1
            heappush(self._leaves, (node.stamp, self._serial, node))

    def _evict(self, count: int) -> None:
        """Free leaves, the longest untouched first, until ``count`` blocks are blank or none is left."""
        leaves = self._leaves
        while leaves and self.num_blank < count:
            stamp, _, node = heappop(leaves)
            node.queued = False
            parent = node.parent
            if node.children or node.refs or parent is None:
                continue
            if node.stamp != stamp:
                self._may_go(node)
                continue
            self._remove(node, parent)
            self._may_go(parent)

    def _remove(self, leaf: RadixNode, parent: RadixNode) -> None:
        del parent.children[leaf.key()]
        leaf.parent = None
        self.evicted_blocks += leaf.size
        self.num_blank += leaf.size
        if self._on_evict is not None:
            for chain, low, _ in reversed(leaf.edge):
                if chain >= 0:
                    self._on_evict(chain, low)


def _segments(path: Path, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Blocks ``[start, stop)`` of a path as segments of its chains."""
    found = []
    for chain, first, end in path:
        low, high = max(start, first), min(stop, end)
        if high > low:
            found.append((chain, low - first, high - first))
    return found
