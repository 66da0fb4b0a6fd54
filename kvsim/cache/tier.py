"""One tier below the GPUs' memory: which chunks it holds, and whom a new one displaces. It knows no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvsim.cache.chunks import chunk_place, is_shared
from kvsim.cache.runlru import STEP, RunLru
from kvsim.policy.admission import Admission
from kvsim.policy.eviction import NOBODY, Access, Eviction


class Tier:
    """``capacity_chunks`` chunks under an eviction and an admission policy, with books that must balance.

    An ``Access`` that is handed in says who asks and when; the tier fills in which chunk of the prompt it is.
    """

    __slots__ = (
        "_admission",
        "_census",
        "_eviction",
        "_here",
        "_lru",
        "_next_use",
        "capacity_chunks",
        "discarded",
        "evicted",
        "name",
        "refused",
        "stored",
        "touched",
    )

    def __init__(
        self,
        name: str,
        capacity_chunks: int,
        eviction: Eviction | None = None,
        admission: Admission | None = None,
        census: dict[int, int] | None = None,
        next_use: Callable[[int, int], int] | None = None,
        *,
        is_volatile: bool = False,
    ) -> None:
        """``eviction``: of that capacity; ``None``: LRU. ``admission``: ``None`` lets everything in.

        ``census``: copies of each shared chunk, kept by many tiers. ``next_use(key, index)``: the next request after
        ``index`` that asks, for policies that know the future. ``is_volatile``: it may lose all it has, so it keeps
        a list.
        """
        self.name, self.capacity_chunks = name, capacity_chunks
        self._lru = RunLru(capacity_chunks) if eviction is None else None
        self._eviction, self._admission, self._census, self._next_use = eviction, admission, census, next_use
        self._here: set[int] | None = set() if is_volatile else None
        self.stored = self.touched = self.refused = self.evicted = self.discarded = 0

    def __contains__(self, key: int) -> bool:
        if self._lru is not None:
            return key in self._lru
        return key in self._policy

    def __len__(self) -> int:
        return len(self._lru) if self._lru is not None else len(self._policy)

    @property
    def _policy(self) -> Eviction:
        assert self._eviction is not None
        return self._eviction

    def has(self, key: int, access: Access) -> bool:
        """Whether the chunk is here for who asks; one that the admission policy takes for too old leaves."""
        if key not in self:
            return False
        if self._admission is not None and self._admission.expired(key, access):
            self.discard(key)
            return False
        return True

    def use(self, keys: Sequence[int], access: Access) -> list[int]:
        """Chunks of a prompt are in use: touch those that are here, return the others."""
        missing: list[int] = []
        if self._lru is not None and self._admission is None:
            self.touched += self._lru.touch_all(keys, missing)
            return missing
        for key in keys:
            if not self.has(key, access):
                missing.append(key)
                continue
            self.touched += 1
            if self._lru is not None:
                self._lru.touch_all((key,), missing)
            else:
                self._aim(access, key)
                self._policy.hit(key, access)
        return missing

    def store_all(self, chunks: Sequence[int], access: Access) -> list[int]:
        """Take chunks of one prompt in, in order, those that are here already left out; returns those displaced."""
        victims: list[int] = []
        private: list[int] = []
        gathers = self._lru is not None and self._admission is None and self._here is None
        for key in chunks:
            if gathers and not is_shared(key):
                if private and key != private[-1] + STEP:
                    self._store_run(private, victims)
                    private = []
                private.append(key)
            elif key not in self:
                self._store(key, access, victims)
        if private:
            self._store_run(private, victims)
        self.evicted += len(victims)
        for victim in victims:
            self._count(victim, -1)
        return victims

    def discard(self, key: int) -> None:
        """A chunk that is here leaves for another tier, or is lost."""
        self.discarded += 1
        self._count(key, -1)
        if self._lru is not None:
            self._lru.discard(key)
        else:
            self._policy.discard(key)

    def lose_all(self) -> None:
        """Power off: nothing that a volatile tier had is here any more."""
        for key in sorted(self._here or ()):
            self.discard(key)

    def check_integrity(self) -> None:
        """Assert that what came and has not left is here, and fits."""
        here = self.stored - self.evicted - self.discarded
        assert here == len(self), (self.name, here, len(self))
        assert here <= self.capacity_chunks, (self.name, here, self.capacity_chunks)

    def _store(self, key: int, access: Access, victims: list[int]) -> None:
        if self._eviction is not None or self._admission is not None:
            self._aim(access, key)
        if self._admission is not None and not self._admission.admits(key, access):
            self.refused += 1
            return
        self.stored += 1
        self._count(key, 1)
        if self._lru is not None:
            self._lru.admit(key, victims)
            return
        victim = self._policy.admit(key, access)
        if victim != NOBODY:
            victims.append(victim)

    def _store_run(self, keys: list[int], victims: list[int]) -> None:
        assert self._lru is not None
        self.stored += len(keys)
        self._lru.admit_run(keys, victims)

    def _aim(self, access: Access, key: int) -> None:
        access.depth = chunk_place(key)
        if self._next_use is not None:
            access.next_use = self._next_use(key, access.index)

    def _count(self, key: int, change: int) -> None:
        if self._here is not None:
            if change > 0:
                self._here.add(key)
            else:
                self._here.remove(key)
        if self._census is not None and is_shared(key):
            self._census[key] = self._census.get(key, 0) + change
