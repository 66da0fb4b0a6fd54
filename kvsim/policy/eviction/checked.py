"""A user's own eviction policy, held to what :class:`Eviction` promises. Policies of kvsim's pay nothing for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from kvsim.policy.checked_policy import Guard, shown
from kvsim.policy.eviction.base import NOBODY, Access, Eviction


class CheckedEviction(Eviction):
    """Keeps books of its own of what is resident, by the victims it is told, and compares after each call.

    Raises ``ConfigError`` from any method when the policy raises something or breaks its word. Traces are replayed
    access by access: a fast way that the class inherits knows nothing of what it overrides.
    """

    def __init__(self, policy: Eviction, guard: Guard, capacity_blocks: int) -> None:
        super().__init__(capacity_blocks)
        self._policy, self._guard = policy, guard
        self._resident: set[int] = set()

    def __contains__(self, key: int) -> bool:
        found = self._guard.call("__contains__", lambda: key in self._policy)
        if found != (key in self._resident):
            why = "in it; it never came or has left" if found else "not in it; it came and admit returned it for nobody"
            raise self._guard.error(f"__contains__ says that key {key} is {why}")
        return found

    def __len__(self) -> int:
        return self._guard.call("__len__", len, self._policy)

    def hit(self, key: int, access: Access) -> None:
        self._guard.call("hit", self._policy.hit, key, access)
        self._check_size("hit")

    def admit(self, key: int, access: Access) -> int:
        victim = self._victim(key, self._guard.call("admit", self._policy.admit, key, access))
        self._resident.add(key)
        self._resident.discard(victim)
        for each in (key, victim):
            if each != NOBODY:
                self.__contains__(each)
        self._check_size("admit")
        return victim

    def discard(self, key: int) -> None:
        self._guard.call("discard", self._policy.discard, key)
        self._resident.discard(key)
        self._check_size("discard")

    def refresh(self, keys: Sequence[int]) -> None:
        self._guard.call("refresh", self._policy.refresh, keys)
        self._check_size("refresh")

    def _victim(self, key: int, victim: object) -> int:
        if isinstance(victim, bool) or not isinstance(victim, int | np.integer):
            raise self._guard.error(f"admit returned {shown(victim)}; allowed: the key evicted, or NOBODY")
        number = int(victim)
        if number not in (key, NOBODY) and number not in self._resident:
            raise self._guard.error(f"admit returned {number}, which was not resident; allowed: a key that was, NOBODY")
        return number

    def _check_size(self, method: str) -> None:
        size, wanted = len(self), len(self._resident)
        if size > self.capacity_blocks:
            raise self._guard.error(f"{size} keys after {method}; allowed: its capacity of {self.capacity_blocks}")
        if size != wanted:
            raise self._guard.error(f"{size} keys after {method}; {wanted} came and did not leave as admit's victims")


def own_eviction(found: type[Eviction], name: str, capacity_blocks: int, seed: int) -> Eviction:
    """An empty cache under a user's own policy. Raises ``ConfigError`` where it cannot be made."""
    guard = Guard("eviction", name)
    policy = guard.call("__init__", found, capacity_blocks, seed)
    said = {
        "name": name,
        "is_offline": bool(policy.is_offline),
        "needs_access": bool(policy.needs_access),
        "heads_first": bool(policy.heads_first),
    }
    return cast(Eviction, type(found.__name__, (CheckedEviction,), said)(policy, guard, capacity_blocks))
