"""A tier under any eviction and admission policy, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable

from kvsim.policy.admission import Admission
from kvsim.policy.eviction import NOBODY, Access, Eviction
from kvsim.sim.tiers.chunk_directory import ChunkDirectory
from kvsim.sim.tiers.chunks import Run, chunk_chain, chunk_key, chunk_keys, chunk_place, runs_of
from kvsim.sim.tiers.tier import Tier


class PolicyTier(Tier):
    """Holds what an admission policy lets in, as many chunks as its eviction policy has room for."""

    __slots__ = ("_admission", "_eviction", "_here", "_next_use")

    def __init__(
        self,
        name: str,
        eviction: Eviction,
        number: int = 0,
        directory: ChunkDirectory | None = None,
        *,
        admission: Admission | None = None,
        next_use: Callable[[int, int], int] | None = None,
        is_volatile: bool = False,
    ) -> None:
        """``admission``: ``None`` lets everything in. ``next_use(key, index)``: the next request after ``index`` that
        asks, for policies that know the future. ``is_volatile``: it may lose all it has, so it keeps a list.
        """
        super().__init__(name, eviction.capacity_blocks, number, directory)
        self._eviction, self._admission, self._next_use = eviction, admission, next_use
        self.heads_first = eviction.heads_first
        self._here: set[int] | None = set() if is_volatile else None

    def __len__(self) -> int:
        return len(self._eviction)

    def held_to(self, chain: int, place: int, end: int) -> int:
        while place < end and chunk_key(chain, place) in self._eviction:
            place += 1
        return place

    def usable_to(self, chain: int, place: int, end: int, access: Access) -> int:
        while place < end and self._has(chunk_key(chain, place), access):
            place += 1
        return place

    def absent_to(self, chain: int, place: int, end: int) -> int:
        while place < end and chunk_key(chain, place) not in self._eviction:
            place += 1
        return place

    def use(self, runs: list[Run], access: Access) -> list[Run]:
        missing: list[int] = []
        for key in self._ordered(chunk_keys(runs)):
            if not self._has(key, access):
                missing.append(key)
                continue
            self._aim(access, key)
            self._eviction.hit(key, access)
        return runs_of(self._ordered(missing))

    def admitted(self, runs: list[Run], access: Access) -> list[Run]:
        admission = self._admission
        if admission is None:
            return runs
        welcome: list[int] = []
        refused: list[int] = []
        for key in chunk_keys(runs):
            self._aim(access, key)
            if admission.admits(key, access):
                welcome.append(key)
            else:
                refused.append(key)
        self.refused += len(refused)
        self.refuse(runs_of(refused))
        return runs_of(welcome)

    def discard(self, runs: list[Run]) -> None:
        for key in chunk_keys(runs):
            if key in self._eviction:
                self._discard(key)

    def lose_all(self) -> None:
        for key in sorted(self._here or ()):
            self._discard(key)

    def _has(self, key: int, access: Access) -> bool:
        """Whether the chunk is here for who asks; one that the admission policy takes for too old leaves."""
        if key not in self._eviction:
            return False
        if self._admission is not None and self._admission.expired(key, access):
            self._discard(key)
            return False
        return True

    def _discard(self, key: int) -> None:
        self._went(chunk_chain(key), 1)
        self._eviction.discard(key)
        if self._here is not None:
            self._here.remove(key)

    def _store(self, run: Run, access: Access, victims: list[Run]) -> None:
        displaced: list[int] = []
        for key in self._ordered(chunk_keys((run,))):
            if key not in self._eviction:
                self._admit(key, access, displaced)
        victims.extend(_backward_runs(displaced))

    def _ordered(self, keys: list[int]) -> list[int]:
        """From the head on as the policy is told of them, and back."""
        return keys if self.heads_first else keys[::-1]

    def _admit(self, key: int, access: Access, displaced: list[int]) -> None:
        self._aim(access, key)
        place = access.depth
        self._came(chunk_chain(key), place, place + 1)
        victim = self._eviction.admit(key, access)
        if victim != NOBODY:
            displaced.append(victim)
        if self._here is not None:
            self._here.add(key)
            self._here.discard(victim)

    def _aim(self, access: Access, key: int) -> None:
        access.depth = chunk_place(key)
        if self._next_use is not None:
            access.next_use = self._next_use(key, access.index)


def _backward_runs(keys: list[int]) -> list[Run]:
    """Chunks by name as runs, where those of one prompt stand in reverse."""
    return runs_of(reversed(keys))[::-1]
