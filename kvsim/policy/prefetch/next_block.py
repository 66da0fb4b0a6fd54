"""Next block: what followed the last block of this prompt when a prompt last went on behind it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from kvsim.errors import ConfigError
from kvsim.policy.eviction.base import Access
from kvsim.policy.prefetch.base import Prefetch, PrefetchSettings


class NextBlock(Prefetch):
    """One successor per block, that of its latest prompt, followed for up to ``ahead_blocks`` steps.

    It remembers the ``memory_blocks`` blocks that were last gone on from.
    """

    name = "next_block"

    def __init__(self, settings: PrefetchSettings) -> None:
        super().__init__(settings)
        if settings.memory_blocks < 1 or settings.ahead_blocks < 1:
            raise ConfigError(f"next_block: {settings}; allowed: 1 or more of both")
        self._next: OrderedDict[int, int] = OrderedDict()

    def after(self, path_keys: Sequence[int], access: Access) -> Sequence[int]:
        self._learn(path_keys)
        found: dict[int, None] = {}
        key = self._next.get(path_keys[-1]) if path_keys else None
        while key is not None and key not in found and len(found) < self.settings.ahead_blocks:
            found[key] = None
            key = self._next.get(key)
        return tuple(found)

    def _learn(self, path_keys: Sequence[int]) -> None:
        for key, follower in pairwise(path_keys):
            self._next[key] = follower
            self._next.move_to_end(key)
        while len(self._next) > self.settings.memory_blocks:
            self._next.popitem(last=False)
