"""Random: any resident key goes, each as likely as the others. What a policy must beat to have learned anything."""

from __future__ import annotations

import numpy as np

from kvsim.policy.eviction.base import NOBODY, Access, Eviction


class RandomChoice(Eviction):
    """A draw per eviction, from a generator of its own: the same seed gives the same victims."""

    name = "random"

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        super().__init__(capacity_blocks, seed)
        self._random = np.random.default_rng(seed).random
        self._keys: list[int] = []
        self._places: dict[int, int] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._keys)

    def hit(self, key: int, access: Access) -> None:
        pass

    def admit(self, key: int, access: Access) -> int:
        keys, places = self._keys, self._places
        if len(keys) < self.capacity_blocks:
            places[key] = len(keys)
            keys.append(key)
            return NOBODY
        place = int(self._random() * len(keys))
        victim, keys[place] = keys[place], key
        del places[victim]
        places[key] = place
        return victim

    def discard(self, key: int) -> None:
        place, last = self._places.pop(key), self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._places[last] = place
