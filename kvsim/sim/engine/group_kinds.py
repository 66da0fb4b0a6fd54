"""Kinds of layers, by vLLM's rules: how much of a sequence's past each keeps, and what of it a lookup has to find."""

from __future__ import annotations

from kvsim.plan.engine_settings import EngineSettings, KvGroup
from kvsim.sim.engine.group_table import Row, absent
from kvsim.sim.engine.single_blocks import SingleBlockPool


class LayerKind:
    """Layers with full attention, which keep everything; the other kinds build on it."""

    __slots__ = ("block_size", "groups", "most_blocks")

    def __init__(self, groups: list[int], block_size: int, most_blocks: int) -> None:
        self.groups = groups
        """Groups of this kind and size, which are looked up together."""
        self.block_size = block_size
        self.most_blocks = most_blocks
        """Blocks of a group that a sequence holds at most, whatever its length; 0: there is no such limit."""

    def skipped_tokens(self, computed_tokens: int) -> int:
        """Tokens that nothing after the first ``computed_tokens`` looks at any more."""
        return 0

    def found(self, pool: SingleBlockPool, keys: list[int], most_tokens: int) -> list[Row]:
        """The longest cached head of at most ``most_tokens`` tokens, by group: what of it is needed, and ``None``."""
        rows: list[Row] = [[] for _ in self.groups]
        for place in range(most_tokens // self.block_size):
            if not self._append(pool, keys[place], rows):
                break
        return rows

    def needed(self, tokens: int, is_capped: bool) -> int:
        """Places of a row with ``tokens`` tokens. ``is_capped``: no more than it may hold at a time."""
        places = -(-tokens // self.block_size)
        return min(places, self.most_blocks) if is_capped and self.most_blocks else places

    def lasting(self, places: int) -> int:
        """How many of so many new places at a row's end get a block."""
        return places

    def events(self) -> list[int]:
        """Counts of computed tokens, modulo the block size, with which a block falls behind."""
        return []

    def _append(self, pool: SingleBlockPool, key: int, rows: list[Row]) -> bool:
        """Append the blocks of a key to the groups' rows, if all of them have it."""
        blocks: Row = []
        for group in self.groups:
            block = pool.find(group, key)
            if block is None:
                return False
            blocks.append(block)
        for row, block in zip(rows, blocks, strict=True):
            row.append(block)
        return True


class Windowed(LayerKind):
    """A token looks at itself and the ``window_tokens - 1`` before it."""

    __slots__ = ("window_tokens",)

    def __init__(self, groups: list[int], block_size: int, most_blocks: int, window_tokens: int) -> None:
        super().__init__(groups, block_size, most_blocks)
        self.window_tokens = window_tokens

    def skipped_tokens(self, computed_tokens: int) -> int:
        return max(0, computed_tokens - self.window_tokens + 1)

    def found(self, pool: SingleBlockPool, keys: list[int], most_tokens: int) -> list[Row]:
        """The last run of cached blocks that is as long as a window; where there is none, the run at the beginning."""
        enough = -(-(self.window_tokens - 1) // self.block_size)
        backwards: list[Row] = [[] for _ in self.groups]
        for place in range(most_tokens // self.block_size - 1, -1, -1):
            if not self._append(pool, keys[place], backwards):
                for row in backwards:
                    row.clear()
            elif len(backwards[0]) >= enough:
                return _behind(place, backwards)
        return _behind(0, backwards)

    def events(self) -> list[int]:
        return [(self.window_tokens - 1) % self.block_size]


class Chunked(LayerKind):
    """A token looks back to the beginning of its chunk of ``chunk_tokens``."""

    __slots__ = ("chunk_tokens",)

    def __init__(self, groups: list[int], block_size: int, most_blocks: int, chunk_tokens: int) -> None:
        super().__init__(groups, block_size, most_blocks)
        self.chunk_tokens = chunk_tokens

    def skipped_tokens(self, computed_tokens: int) -> int:
        return computed_tokens // self.chunk_tokens * self.chunk_tokens

    def found(self, pool: SingleBlockPool, keys: list[int], most_tokens: int) -> list[Row]:
        """Chunks that are over before ``most_tokens`` count as found."""
        first = self.skipped_tokens(most_tokens) // self.block_size
        rows: list[Row] = [[] for _ in self.groups]
        for place in range(first, most_tokens // self.block_size):
            if not self._append(pool, keys[place], rows):
                break
        return [absent(first) + row for row in rows]

    def events(self) -> list[int]:
        if self.chunk_tokens % self.block_size:
            return list(range(self.block_size))
        return [0]


class Stateful(LayerKind):
    """A token looks at the state behind the one before it: one block, hashed where the state stands at a block's edge
    (vLLM's ``mamba_cache_mode`` ``align``)."""

    __slots__ = ()

    def skipped_tokens(self, computed_tokens: int) -> int:
        return max(0, computed_tokens - 1)

    def found(self, pool: SingleBlockPool, keys: list[int], most_tokens: int) -> list[Row]:
        """The last state that is cached."""
        last: list[Row] = [[] for _ in self.groups]
        for place in range(most_tokens // self.block_size - 1, -1, -1):
            if self._append(pool, keys[place], last):
                return _behind(place, last)
        return last

    def lasting(self, places: int) -> int:
        return min(places, 1)

    def events(self) -> list[int]:
        return [1 % self.block_size]


class Uncached(LayerKind):
    """States where nothing is cached: a sequence has one block for all its tokens (``mamba_cache_mode`` ``none``)."""

    __slots__ = ()

    def needed(self, tokens: int, is_capped: bool) -> int:
        return 1


def kinds_of(settings: EngineSettings) -> list[LayerKind]:
    """The kinds of the settings' groups, those with full attention first, else in their order."""
    alike: dict[KvGroup, list[int]] = {}
    for place, group in enumerate(settings.kv_groups):
        alike.setdefault(group, []).append(place)
    found = [_kind_of(group, places, settings) for group, places in alike.items()]
    return sorted(found, key=lambda kind: type(kind) is not LayerKind)


def _kind_of(group: KvGroup, places: list[int], settings: EngineSettings) -> LayerKind:
    size, most_blocks = settings.block_size, settings.most_blocks(group)
    if group.kind == "window":
        return Windowed(places, size, most_blocks, group.tokens)
    if group.kind == "chunk":
        return Chunked(places, size, most_blocks, group.tokens)
    if group.kind == "state":
        return Stateful(places, size, 0) if settings.enable_prefix_caching else Uncached(places, size, 0)
    return LayerKind(places, size, 0)


def _behind(places: int, backwards: list[Row]) -> list[Row]:
    """Rows that were found from their end on, behind so many places without a block."""
    return [absent(places) + row[::-1] for row in backwards]
