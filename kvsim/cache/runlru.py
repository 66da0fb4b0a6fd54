"""LRU over chunks, where a run of chunks that nobody else can ask for is one entry."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kvsim.cache.chunks import is_shared

STEP = 2
"""Between the names of neighbouring chunks of one prompt."""


class RunLru:
    """Evicts exactly as ``kvsim.policy.eviction.lru`` does, in less time.

    Chunks that one request has to itself are the tail of its prompt: they come together, once, are never asked for
    again, and go in order.
    """

    __slots__ = ("_beside", "_order", "_runs", "capacity_chunks")

    def __init__(self, capacity_chunks: int) -> None:
        self.capacity_chunks = capacity_chunks
        self._order: OrderedDict[int, None] = OrderedDict()
        self._runs: dict[int, list[int]] = {}
        """By the run's first chunk: how many have gone, and how many there were; the entry keeps the first's name."""
        self._beside = 0
        """Chunks of runs beyond one an entry."""

    def __contains__(self, key: int) -> bool:
        return key in self._order

    def __len__(self) -> int:
        return len(self._order) + self._beside

    def touch_all(self, keys: Sequence[int], missing: list[int]) -> int:
        """Use the chunks that are here, in order; the others go to ``missing``. Returns how many were."""
        order, touched = self._order, 0
        for key in keys:
            if not key & 1 and key in order:
                order.move_to_end(key)
                touched += 1
            else:
                missing.append(key)
        return touched

    def admit(self, key: int, victims: list[int]) -> None:
        """Take in a chunk that is not here; who goes for it is added to ``victims``."""
        if len(self._order) + self._beside >= self.capacity_chunks:
            self._make_room(1, victims)
        self._order[key] = None

    def admit_run(self, keys: list[int], victims: list[int]) -> None:
        """Take in chunks with names ``STEP`` apart, which are never asked for again."""
        gone = max(len(keys) - self.capacity_chunks, 0)
        self._make_room(len(keys) - gone, victims)
        victims.extend(keys[:gone])
        first, count = keys[gone], len(keys) - gone
        self._order[first] = None
        if count > 1:
            self._runs[first] = [0, count]
            self._beside += count - 1

    def discard(self, key: int) -> None:
        """A shared chunk that is here leaves."""
        del self._order[key]

    def _make_room(self, count: int, victims: list[int]) -> None:
        missing = len(self._order) + self._beside + count - self.capacity_chunks
        order, runs = self._order, self._runs
        while missing > 0:
            first = next(iter(order))
            run = None if is_shared(first) else runs.get(first)
            if run is None:
                del order[first]
                victims.append(first)
                missing -= 1
                continue
            taken = min(missing, run[1] - run[0])
            victims.extend(range(first + STEP * run[0], first + STEP * (run[0] + taken), STEP))
            run[0] += taken
            missing -= taken
            self._beside -= taken
            if run[0] == run[1]:
                del order[first], runs[first]
                self._beside += 1
