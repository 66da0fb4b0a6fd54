"""GreedyDual-Size-Frequency: whoever costs least to lose goes, by uses, cost and how long ago that was.

Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Labs 1998.
"""

from __future__ import annotations

from kvsim.policy.eviction.base import NOBODY, Access, Eviction
from kvsim.policy.eviction.heap import KeyHeap

DEPTH_OF_DOUBLE_COST = 100
"""Blocks before a block whose attention takes as much work as its weights.

The weights take 2 * P operations a token, attention 4 * layers * width a token and token before it: for Llama-3.1-70B
they are equal after 54,000 tokens, a hundred blocks of 512.
"""


class Gdsf(Eviction):
    """Lowest ``L + uses * cost`` first, ``L`` being the priority of the last victim; blocks have one size.

    The cost is that of computing the block again, in units of a prompt's first: ``1 + depth / 100``, for the work on
    its own tokens and the attention to all before it. So of two blocks used as often the deeper one stays.
    """

    name = "gdsf"
    needs_access = True

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._keys = KeyHeap()
        self._uses: dict[int, int] = {}
        self._inflation = 0.0

    def __contains__(self, key: int) -> bool:
        return key in self._uses

    def __len__(self) -> int:
        return len(self._uses)

    def hit(self, key: int, access: Access) -> None:
        uses = self._uses[key] = self._uses[key] + 1
        self._keys.put(key, self._inflation + uses * cost(access.depth))

    def admit(self, key: int, access: Access) -> int:
        victim = NOBODY
        if len(self._uses) >= self.capacity_blocks:
            victim, self._inflation = self._keys.least()
            del self._uses[victim]
            self._keys.replace(victim, key, self._inflation + cost(access.depth))
        else:
            self._keys.put(key, self._inflation + cost(access.depth))
        self._uses[key] = 1
        return victim

    def discard(self, key: int) -> None:
        del self._uses[key]
        self._keys.remove(key)


def cost(depth: int) -> float:
    """What computing the block at that depth again costs, in units of a prompt's first block."""
    return 1 + depth / DEPTH_OF_DOUBLE_COST
