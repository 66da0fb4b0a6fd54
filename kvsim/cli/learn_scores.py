"""What a model is worth: hits on the part of a trace that it has not seen, beside LRU, the classics and Belady."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvsim.policy.eviction import EVICTIONS, Access, Eviction, make_eviction, next_uses
from kvsim.workload.accesses import Accesses

NOT_CLASSIC = ("learned", "belady", "random")
CAPACITIES = (1000, 2000, 5000, 10000, 20000, 50000)


@dataclass(frozen=True)
class Score:
    """Hits at one capacity, of ``accesses`` that were counted."""

    capacity_blocks: int
    accesses: int
    lru: int
    classic: int
    classic_name: str
    learned: int
    belady: int

    @property
    def gap_closed(self) -> float | None:
        """Share of what lies between LRU and Belady that the model gains; ``None`` where nothing does."""
        return self._closed(self.learned)

    @property
    def gap_closed_by_classic(self) -> float | None:
        """Share of it that the best classic policy gains; ``None`` as in ``gap_closed``."""
        return self._closed(self.classic)

    def as_figures(self) -> Mapping[str, Any]:
        """Hit ratios and shares, for a report."""
        names = ("lru", "classic", "learned", "belady")
        return {
            "capacity_blocks": self.capacity_blocks,
            **{f"{name}_hit_ratio": getattr(self, name) / self.accesses for name in names},
            "best_classic": self.classic_name,
            "gap_closed": self.gap_closed,
            "gap_closed_by_best_classic": self.gap_closed_by_classic,
        }

    def _closed(self, hits: int) -> float | None:
        gap = self.belady - self.lru
        return (hits - self.lru) / gap if gap else None


def scored(
    accesses: Accesses,
    first_prompt: int,
    capacity_blocks: int,
    learned: Callable[[int], Eviction],
    *,
    cold: bool = False,
) -> Score:
    """Hits of prompts from number ``first_prompt`` on. ``learned(capacity)`` makes the policy to be scored.

    The caches have served all earlier prompts, each under its own policy, and nothing of that counts; ``cold``: they
    start empty at ``first_prompt``. Belady knows the trace to its end.
    """
    if cold:
        accesses, first_prompt = prompts_from(accesses, first_prompt), 0
    hits = partial(hits_from, accesses=accesses, first_prompt=first_prompt, uses=next_uses(accesses.keys))

    classics = {name: hits(make_eviction(name, capacity_blocks)) for name in EVICTIONS if name not in NOT_CLASSIC}
    best = max(classics, key=lambda name: classics[name])
    return Score(
        capacity_blocks,
        accesses.offsets[-1] - accesses.offsets[first_prompt],
        classics["lru"],
        classics[best],
        best,
        hits(learned(capacity_blocks)),
        hits(make_eviction("belady", capacity_blocks)),
    )


def hits_from(policy: Eviction, accesses: Accesses, first_prompt: int, uses: list[int]) -> int:
    """Replay all of ``accesses``; count hits from ``first_prompt`` on. ``uses``: of :func:`next_uses`."""
    access, hits = Access(), 0
    for prompt, (start, stop, time_s, session_id, turn) in enumerate(accesses.prompts()):
        access.time_s, access.session_id, access.turn, access.blocks = time_s, session_id, turn, stop - start
        counts = prompt >= first_prompt
        for index in range(start, stop):
            access.index, access.depth, access.next_use = index, index - start, uses[index]
            key = accesses.keys[index]
            if key in policy:
                hits += counts
                policy.hit(key, access)
            else:
                policy.admit(key, access)
    return hits


def prompts_from(accesses: Accesses, first_prompt: int) -> Accesses:
    """The prompts from that number on."""
    start = accesses.offsets[first_prompt]
    return Accesses(
        keys=accesses.keys[start:],
        offsets=[offset - start for offset in accesses.offsets[first_prompt:]],
        time_s=accesses.time_s[first_prompt:],
        session_id=accesses.session_id[first_prompt:],
        turn=accesses.turn[first_prompt:],
    )
