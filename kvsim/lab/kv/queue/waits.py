"""Why requests wait under a budget whose footprints are kept whole: for memory, for a seat, or for the next step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kvsim.record.binned import Floats
from kvsim.workload.workload import Ints


@dataclass(frozen=True)
class Waits:
    """Seconds of each request in the queue, by cause; they sum to its wait."""

    memory_s: Floats
    """A seat was free, and it, or whoever goes before it, did not fit what was left of the budget."""
    seats_s: Floats
    """All seats were taken, whether it would have fitted or not."""
    step_s: Floats
    """Neither: the step under way had to end, or its token budget was used up."""


@dataclass(frozen=True)
class Queue:
    """Requests that were served, in the order in which they reached the engine."""

    reached_s: Floats
    admitted_s: Floats
    finish_s: Floats
    blocks: Ints
    """Footprints."""

    def waiting(self, now_s: float) -> Ints:
        """Who waits from that instant on."""
        return np.flatnonzero((self.reached_s <= now_s) & (now_s < self.admitted_s))

    def running(self, now_s: float) -> Ints:
        """Who holds memory from that instant on."""
        return np.flatnonzero((self.admitted_s <= now_s) & (now_s < self.finish_s))

    def changes_s(self) -> Floats:
        """When somebody comes, is admitted or ends."""
        return np.unique(np.concatenate((self.reached_s, self.admitted_s, self.finish_s)))


def waits_of(queue: Queue, priorities: Sequence[int] | None, num_blocks: int, seats: int, *, passes: bool) -> Waits:
    """Follow the queue from change to change. ``priorities``: lower goes first, of equals who came first; ``passes``:
    whoever fits goes before who does not."""
    order = np.arange(len(queue.blocks)) if priorities is None else np.lexsort((priorities,))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    found = Waits(*(np.zeros(len(order)) for _ in range(3)))
    times_s = queue.changes_s()
    for now_s, next_s in pairwise(times_s.tolist()):
        waiting = queue.waiting(now_s)
        if not len(waiting):
            continue
        running = queue.running(now_s)
        room = num_blocks - int(queue.blocks[running].sum())
        if len(running) >= seats:
            found.seats_s[waiting] += next_s - now_s
            continue
        judged = waiting if passes else waiting[[np.argmin(place[waiting])]]
        is_short = np.broadcast_to(queue.blocks[judged] > room, waiting.shape)
        found.memory_s[waiting[is_short]] += next_s - now_s
        found.step_s[waiting[~is_short]] += next_s - now_s
    return found
