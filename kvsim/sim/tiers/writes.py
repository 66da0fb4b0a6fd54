"""Writes of chunks to a tier, and loads of them into an engine: chunks are there once the last byte has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kvsim.policy.eviction.access import Access
from kvsim.sim.clock import Clock, Timer
from kvsim.sim.event_queue import Entry, EventQueue
from kvsim.sim.tiers.chunks import Run
from kvsim.sim.tiers.ports import Transfer, Watcher
from kvsim.sim.tiers.tier import Tier

NO_READS: Final[list[Transfer]] = []
LOST: Final = -1
"""Number of a write that will not arrive."""


class Receiver:
    """Somebody whose tiers chunks are written to."""

    def written(self, now_s: float, tier_number: int, runs: list[Run], access: Access) -> None:
        """Take in chunks that have arrived at one of its tiers."""
        raise NotImplementedError

    def tier_of(self, number: int) -> Tier:
        """The tier that it knows by that number."""
        raise NotImplementedError


class Write(Watcher):
    """Chunks that go to one tier of a receiver."""

    __slots__ = ("_reads", "_transfer", "_writes", "access", "done_s", "number", "receiver", "runs", "tier_number")

    def __init__(
        self,
        writes: Writes,
        transfer: Transfer,
        reads: list[Transfer],
        receiver: Receiver,
        tier_number: int,
        runs: list[Run],
        access: Access,
    ) -> None:
        """``reads``: by which they come from where they are. They are passed on as they come."""
        self._writes, self._transfer, self._reads = writes, transfer, reads
        self.receiver, self.tier_number, self.runs, self.access = receiver, tier_number, runs, access
        self.done_s = -1.0
        self.number = 0
        """Number of its entry in ``Writes`` that counts; others are of times that have changed."""
        transfer.watch(self)
        for read in reads:
            read.watch(self)
        self.retimed()

    def retimed(self) -> None:
        done_s = self._transfer.arrives_s
        for read in self._reads:
            if read.arrives_s > done_s:
                done_s = read.arrives_s
        if done_s != self.done_s:
            self.done_s = done_s
            self._writes.add(self)


class _Arrival(Entry):
    """When a write is done, by what was known when it was added."""

    __slots__ = ("write",)

    def __init__(self, write: Write, number: int) -> None:
        super().__init__()
        self.time_s, self.number, self.write = write.done_s, number, write


class Writes:
    """All writes under way below a system's engines.

    Nobody waits for a write, and nobody sees it but who asks the tiers: it is no event. Whoever is about to ask lets
    happen first what lies in the past.
    """

    __slots__ = ("_added", "_clock", "_lost", "_queue")

    def __init__(self, clock: Clock | None = None) -> None:
        """``clock``: where writes cause others, so that each is an event after all."""
        self._clock = clock
        self._queue = EventQueue()
        self._added = self._lost = 0

    def add(self, write: Write) -> None:
        """Let it happen in its time, which may be another one than before, and after those of the same time that were
        added before.
        """
        if write.number == LOST or 0 < write.number <= self._lost:
            return
        self._added += 1
        write.number = self._added
        self._queue.add(_Arrival(write, self._added))
        if self._clock is not None:
            self._clock.schedule(write.done_s, callback=self._on_timer)

    def lose_all(self) -> list[Write]:
        """Lose all writes under way, which will not arrive, and return them: power off."""
        lost: list[Write] = []
        while True:
            entry = self._queue.pop()
            if entry is None:
                break
            assert isinstance(entry, _Arrival)
            if entry.write.number == entry.number:
                lost.append(entry.write)
        self._queue, self._lost = EventQueue(), self._added
        return lost

    def lose(self, is_lost: Callable[[Write], bool]) -> list[Write]:
        """Lose some of the writes under way, which will not arrive, and return them."""
        kept = EventQueue()
        lost: list[Write] = []
        while True:
            entry = self._queue.pop()
            if entry is None:
                break
            assert isinstance(entry, _Arrival)
            if entry.write.number != entry.number:
                continue
            if is_lost(entry.write):
                entry.write.number = LOST
                lost.append(entry.write)
            else:
                kept.add(entry)
        self._queue = kept
        return lost

    def _on_timer(self, _: Timer) -> None:
        if self._clock is not None:
            self.settle(self._clock.now)

    def settle(self, now_s: float) -> None:
        """Let all writes that are done by now arrive, in the order of time; one may cause another."""
        queue = self._queue
        while True:
            entry = queue.pop_until(now_s)
            if entry is None:
                return
            assert isinstance(entry, _Arrival)
            write = entry.write
            if write.number == entry.number:
                write.receiver.written(write.done_s, write.tier_number, write.runs, write.access)


class Load(Watcher):
    """The transfers that one prompt waits for."""

    __slots__ = ("_clock", "_loaded", "_timer", "_transfers", "done_s")

    def __init__(self, clock: Clock, transfers: list[Transfer], loaded: Callable[[], None]) -> None:
        """``loaded()`` once all ``transfers`` have arrived."""
        self._clock, self._transfers, self._loaded = clock, transfers, loaded
        self._timer: Timer | None = None
        self.done_s = -1.0
        for transfer in transfers:
            transfer.watch(self)
        self.retimed()

    def retimed(self) -> None:
        done_s = self._clock.now
        for transfer in self._transfers:
            if transfer.arrives_s > done_s:
                done_s = transfer.arrives_s
        if done_s == self.done_s:
            return
        if self._timer is not None:
            self._clock.cancel(self._timer)
        self.done_s = done_s
        self._timer = self._clock.schedule(done_s, callback=self._on_timer)

    def _on_timer(self, _: Timer) -> None:
        self._loaded()
