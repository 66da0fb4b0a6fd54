"""Groups of layers over one pool of blocks, each with a block table of its own: vLLM's hybrid KV cache manager.

Layers with a window free what lies before it, those with a state all but the last one. A prefix is a hit as far as
every group has what it needs of it. All groups have blocks of as many tokens, as vLLM makes their pages equal.
"""

from __future__ import annotations

from collections.abc import Callable

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.block_table import BlockTable, Path
from kvsim.sim.engine.group_kinds import LayerKind, Stateful, kinds_of
from kvsim.sim.engine.group_table import GroupTable, Row, absent
from kvsim.sim.engine.single_blocks import OFFSET_BITS, SingleBlockPool


class Hits:
    """What a lookup found: ``tokens`` at the head of a sequence that all groups have."""

    __slots__ = ("junction", "rows", "tokens")

    def __init__(self, tokens: int, rows: list[Row], longest_tokens: int) -> None:
        self.tokens, self.rows = tokens, rows
        self.junction = longest_tokens if longest_tokens > tokens else 0
        """Tokens of the longest head that some group has, where that is longer."""


class GroupedPool(SingleBlockPool):
    """The KV blocks of an engine whose layers are of several kinds."""

    __slots__ = ("_block_size", "_fresh", "_is_simple", "_kinds", "_of_group", "_states", "_to_next")

    def __init__(self, settings: EngineSettings, on_evict: Callable[[int, int], None] | None) -> None:
        kinds = kinds_of(settings)
        caching = settings.enable_prefix_caching
        num_groups, primary = len(settings.kv_groups), kinds[0].groups[0]
        super().__init__(settings.num_blocks, num_groups, primary, enable_prefix_caching=caching, on_evict=on_evict)
        self._kinds = kinds
        """In the order in which they are looked up."""
        self._is_simple = len(kinds) == 2 and type(kinds[0]) is LayerKind
        self._of_group = [next(kind for kind in kinds if place in kind.groups) for place in range(num_groups)]
        self._states = [place for place in range(num_groups) if isinstance(self._of_group[place], Stateful)]
        self._fresh: set[tuple[int, int]] = set()
        """Groups and keys of states that this step hashes: none can be read before it is there."""
        self._block_size = settings.block_size
        self._to_next = self._distances(1 if settings.async_scheduling else 0)

    @property
    def has_states(self) -> bool:
        return bool(self._states)

    def begin_step(self) -> None:
        if self._fresh:
            self._fresh.clear()

    def match(self, path: Path, limit: int) -> tuple[int, int]:
        hits = self.look_up(path, limit * self._block_size)
        return hits.tokens // self._block_size, self.free_among(hits, 0)

    def look_up(self, path: Path, most_tokens: int) -> Hits:
        """The longest head of ``path``, of at most ``most_tokens`` tokens, that all groups have.

        Each kind shortens what those before it have found, until all agree; with full attention and one other kind
        the first answer stands.
        """
        keys = self._keys(path, 0, most_tokens // self._block_size) if self.enable_prefix_caching else []
        if not keys:
            return Hits(0, [], 0)
        rows: list[Row] = [[] for _ in self._of_group]
        longest, hit_tokens = 0, most_tokens
        while True:
            tokens = hit_tokens
            for kind in self._kinds:
                found = kind.found(self, keys, tokens)
                tokens = len(found[0]) * self._block_size
                for group, row in zip(kind.groups, found, strict=True):
                    rows[group] = row
                longest = max(longest, tokens)
            is_agreed = tokens >= hit_tokens
            hit_tokens = tokens
            if is_agreed or self._is_simple:
                break
        for row in rows:
            del row[hit_tokens // self._block_size :]
        return Hits(hit_tokens, rows, longest)

    def needed_anew(self, hits: Hits, tokens: int, known_tokens: int, is_capped: bool) -> int:
        """Free blocks that a sequence takes which has ``hits`` and is to have ``tokens`` tokens, free hits among them.

        ``known_tokens``: hits, and tokens whose KV will come from elsewhere. ``is_capped``: at most what it may hold at
        a time.
        """
        needed = self.free_among(hits, known_tokens)
        for group, kind in enumerate(self._of_group):
            row = hits.rows[group] if hits.rows else []
            had = max(len(row), kind.skipped_tokens(known_tokens) // self._block_size)
            needed += kind.lasting(max(0, kind.needed(tokens, is_capped) - had))
        return needed

    def is_fresh(self, hits: Hits) -> bool:
        """Whether a state among them is yet to be written by the step that is being scheduled."""
        for group in self._states if hits.tokens else ():
            last = hits.rows[group][-1]
            if last is not None and (group, last.key) in self._fresh:
                return True
        return False

    def needed(self, table: BlockTable, tokens: int) -> int:
        """Free blocks that a sequence takes until it has ``tokens`` tokens."""
        rows, needed = _of(table).rows, 0
        for group, kind in enumerate(self._of_group):
            needed += kind.lasting(max(0, kind.needed(tokens, False) - len(rows[group])))
        return needed

    def hold(self, table: BlockTable, hits: Hits, known_tokens: int) -> None:
        """Let a sequence that has nothing hold what was found for it and is not behind its first ``known_tokens``."""
        own = table.groups = GroupTable(len(self._of_group))
        own.junction = hits.junction
        for group, kind in enumerate(self._of_group):
            skipped = kind.skipped_tokens(known_tokens) // self._block_size
            row = absent(skipped)
            own.rows[group] = row
            for block in hits.rows[group][skipped:] if hits.rows else []:
                if block is not None:
                    self.touch(block)
                row.append(block)
        table.hashed = hits.tokens // self._block_size

    def grow(self, table: BlockTable, tokens: int) -> None:
        """Take blocks for the sequence's first ``tokens`` tokens. There must be as many."""
        own = _of(table)
        for group, kind in enumerate(self._of_group):
            row = own.rows[group]
            places = kind.needed(tokens, False) - len(row)
            if places > 0:
                lasting = kind.lasting(places)
                row.extend(absent(places - lasting))
                for _ in range(lasting):
                    row.append(self.pop())

    def drop(self, table: BlockTable, processed_tokens: int) -> None:
        """Free what nobody looks at any more once the sequence's first ``processed_tokens`` have been computed."""
        own = _of(table)
        for group, kind in enumerate(self._of_group):
            skipped = kind.skipped_tokens(processed_tokens) // self._block_size
            row, dropped = own.rows[group], own.dropped[group]
            end = min(skipped, len(row))
            if end > dropped:
                freed = [block for block in reversed(row[dropped:end]) if block is not None]
                if freed:
                    self.let_go(freed)
                row[dropped:end] = absent(end - dropped)
                own.dropped[group] = end

    def extend(self, table: BlockTable, full_blocks: int) -> None:
        first = table.hashed
        if not self.enable_prefix_caching or full_blocks <= first:
            return
        keys = self._keys(table.path, first, full_blocks)
        rows = _of(table).rows
        for group, row in enumerate(rows):
            for place in range(first, full_blocks):
                block = row[place]
                if block is not None:
                    self.hash_block(block, group, keys[place - first])
                    if group in self._states:
                        self._fresh.add((group, keys[place - first]))
        table.hashed = full_blocks

    def refresh(self, table: BlockTable, full_blocks: int) -> None:
        """Let nobody hit the state behind the first ``full_blocks`` in this step, where the sequence holds it."""
        if full_blocks and self.enable_prefix_caching:
            for group in self._states:
                block = _of(table).rows[group][full_blocks - 1]
                if block is not None:
                    self._fresh.add((group, block.key))

    def release(self, table: BlockTable) -> None:
        own, table.groups = table.groups, None
        if own is not None:
            for row in own.rows:
                self.let_go([block for block in reversed(row) if block is not None])
        table.entry = table.hashed = table.loose = 0

    def release_to_resume(self, table: BlockTable) -> None:
        self.release(table)

    def insert(self, path: Path, entry: int, first: int, end: int) -> int:
        """As if a request had computed them, holding all groups' blocks, and had ended."""
        table, size = BlockTable(path), self._block_size
        hits = self.look_up(path, end * size)
        had = hits.tokens // size
        if not self.enable_prefix_caching or not first <= had < end:
            return 0
        self.hold(table, hits, 0)
        fits = self.needed(table, end * size) <= self.num_free
        if fits:
            self.grow(table, end * size)
            self.extend(table, end)
        self.release(table)
        return end - had if fits else 0

    def uncached(self, table: BlockTable) -> int:
        return sum([block is not None and not block.is_hashed for row in _of(table).rows for block in row])

    def held_blocks(self, table: BlockTable) -> list[int]:
        """Blocks that a sequence holds, by group."""
        return [sum(block is not None for block in row) for row in _of(table).rows]

    def is_settled(self, table: BlockTable, computed_tokens: int) -> bool:
        """Whether a step that adds one token to so many changes nothing that a decoding sequence holds or caches."""
        return computed_tokens < _of(table).settled_until

    def events(self, table: BlockTable, first: int, end: int) -> list[int]:
        """Counts of computed tokens in ``[first, end)`` with which something changes, where each step adds one."""
        found, computed = [], max(first, _of(table).settled_until)
        while computed < end:
            found.append(computed)
            computed += self._to_next[computed % self._block_size]
        return found

    def settle(self, table: BlockTable, computed_tokens: int, is_steady: bool) -> None:
        """All is done for a decoding sequence with so many computed tokens. ``is_steady``: and its steps since the last
        time were of one token each."""
        distance = self._to_next[computed_tokens % self._block_size] if is_steady else 1
        _of(table).settled_until = computed_tokens + distance

    def unsettle(self, table: BlockTable) -> None:
        """A decoding sequence is not in every step: look at it in the next one it is in."""
        _of(table).settled_until = 0

    def junction_of(self, table: BlockTable) -> int:
        """See ``GroupTable.junction``."""
        return _of(table).junction

    def free_among(self, hits: Hits, known_tokens: int) -> int:
        """Hits that nobody holds, of those that are not behind the first ``known_tokens``."""
        free = 0
        for group, row in enumerate(hits.rows):
            skipped = self._of_group[group].skipped_tokens(known_tokens) // self._block_size
            for place in range(skipped, len(row)):
                block = row[place]
                if block is not None and not block.holders:
                    free += 1
        return free

    def _keys(self, path: Path, first: int, end: int) -> list[int]:
        """Keys of blocks ``[first, end)`` of a path, as far as it reaches."""
        keys: list[int] = []
        for chain, low, high in path:
            if low >= end:
                break
            if high > first:
                key = (chain << OFFSET_BITS) - low
                keys.extend(range(key + max(low, first), key + min(high, end)))
        return keys

    def _distances(self, lag: int) -> list[int]:
        """By computed tokens modulo the block size: steps of one token each until one changes something.

        It takes a block where the last one is full, hashes one whose last token is known, and frees those that fell
        behind the tokens that have been computed, which are ``lag`` fewer.
        """
        size = self._block_size
        eventful = {0, (lag - 1) % size}
        for kind in self._kinds:
            eventful.update((residue + lag) % size for residue in kind.events())
        return [min((residue - own - 1) % size + 1 for residue in eventful) for own in range(size)]


def _of(table: BlockTable) -> GroupTable:
    own = table.groups
    assert own is not None, "it holds nothing"
    return own
