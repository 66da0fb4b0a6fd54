"""What an eviction policy is: which block leaves a full cache. One class, one file, one line in the registry each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from kvsim.errors import ConfigError
from kvsim.policy.eviction.access import NEVER, Access

__all__ = ["NEVER", "NOBODY", "Access", "Eviction", "next_uses"]

NOBODY = -1
"""No key: what ``admit`` returns when nothing had to leave."""


class Eviction(ABC):
    """The keys of a cache of ``capacity_blocks`` equal blocks, and which of them goes when room is needed.

    Keys are whole numbers >= 0. A policy knows nothing of SimPy, of where time comes from, or of bytes; what it needs
    to know about an access stands in :class:`Access`. It never holds more than ``capacity_blocks`` keys.
    """

    name: ClassVar[str]
    is_offline: ClassVar[bool] = False
    """Reads ``Access.next_use``: only for traces that are known to their end."""
    needs_access: ClassVar[bool] = False
    """Reads fields of ``Access`` other than ``next_use``; they may be left unfilled otherwise."""
    heads_first: ClassVar[bool] = False
    """Knows by itself what a prompt's tail is worth without its head, and is told of a prompt's keys from the head on.
    Others are told from the tail on, where a prompt is asked for as a whole, so that of equals the tail goes first.
    """

    def __init__(self, capacity_blocks: int, seed: int = 0) -> None:
        """``seed`` is for policies that draw. Raises ``ConfigError`` for less than one block."""
        if capacity_blocks < 1:
            raise ConfigError(f"eviction '{self.name}': a capacity of {capacity_blocks} blocks; allowed: 1 or more")
        self.capacity_blocks = capacity_blocks

    @abstractmethod
    def __contains__(self, key: int) -> bool:
        """Whether ``key`` is resident."""

    @abstractmethod
    def __len__(self) -> int:
        """Resident keys, at most ``capacity_blocks``."""

    @abstractmethod
    def hit(self, key: int, access: Access) -> None:
        """``key``, which is resident, is asked for."""

    @abstractmethod
    def admit(self, key: int, access: Access) -> int:
        """``key``, which is not resident, becomes so. Returns the key evicted for it, or ``NOBODY``.

        That may be ``key`` itself, which then has not come in. No other key leaves, here or in ``hit``.
        """

    @abstractmethod
    def discard(self, key: int) -> None:
        """``key``, which is resident, leaves for another reason than lack of room; no ghost remembers it."""

    def refresh(self, keys: Sequence[int]) -> None:  # noqa: B027 - most policies need not care
        """All of one prompt that is resident, from its end to its head, once it has been served.

        For policies that go by the order of use alone: what is nearer to the head was used later.
        """

    def replay(self, keys: Sequence[int]) -> int:
        """The hits of a trace that consists of keys alone, every miss admitted. Policies may do this faster."""
        access = Access()
        hit, admit = self.hit, self.admit
        uses = next_uses(keys) if self.is_offline else None
        hits = 0
        for index, key in enumerate(keys):
            access.index = index
            if uses is not None:
                access.next_use = uses[index]
            if key in self:
                hits += 1
                hit(key, access)
            else:
                admit(key, access)
        return hits


def next_uses(keys: Sequence[int]) -> list[int]:
    """For each access the index of the next one to the same key, ``NEVER`` for the last."""
    array = np.asarray(keys, dtype=np.int64)
    order = np.argsort(array, kind="stable")
    again = array[order[1:]] == array[order[:-1]]
    uses = np.full(len(array), NEVER, dtype=np.int64)
    uses[order[:-1][again]] = order[1:][again]
    return list(uses.tolist())
