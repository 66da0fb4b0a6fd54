"""Blocks by what they are worth now: who is to go first, though every block's worth changes as it waits."""

from __future__ import annotations

from heapq import heappop
from itertools import islice

import numpy as np

from kvsim.learned.examples import Ints
from kvsim.learned.gittins import AGES_S, STEPS, Floats, gittins_index
from kvsim.learned.model import Model
from kvsim.learned.recalibration import Recalibration, kinds_of
from kvsim.learned.stream import Part

CANDIDATES_SHARE = 64
"""One of so many blocks, the worth least, are picked at a time, to go one after the other."""
LEAST_CANDIDATES = 32
MOST_WAITING = 4096
"""Runs of blocks that the model is asked about at once, at the latest."""
FIRST_SLOTS = 1024


class Ranking:
    """Blocks, each with its worth at every step of its age. Without a model the longest idle is worth least.

    What the model says of blocks is corrected by what became of those before.
    """

    def __init__(self, model: Model | None, capacity_blocks: int, recalibrates: bool = True) -> None:
        """``recalibrates``: not where what is asked for here is not what prompts ask for."""
        self.model, self._recalibrates = model, recalibrates
        self._recalibration = Recalibration()
        self._capacity = capacity_blocks
        slots = min(capacity_blocks, FIRST_SLOTS)
        self._slot: dict[int, int] = {}
        self._key = [-1] * slots
        self._uses = [0] * slots
        """Goes up whenever a slot's block is asked for or leaves: what was said of it before is void."""
        self._free = list(range(slots - 1, -1, -1))
        self._asked_s = np.full(slots, np.inf)
        """When a slot's block was asked for last; infinite in empty slots and where it is not judged yet."""
        self._chances, self._worth = np.zeros((2, slots, STEPS), dtype=np.float32)
        """Chances as the model gave them, and what follows from them as they are corrected now."""
        self._run, self._kind = np.zeros((2, slots), dtype=np.int64)
        """The number of the run of blocks that a slot's block is part of, and its kind."""
        self._parts: list[Part] = []
        """What the model has not been asked about."""
        self._first_run = self._next_run = 0
        """Numbers of its first run, and of the next to come."""
        self._waiting: dict[int, int] = {}
        """By slot: which of these runs its block is part of."""
        self._victims: list[tuple[float, int, int]] = []
        """Worth, slot and its uses then: the least first."""

    def __contains__(self, key: int) -> bool:
        return key in self._slot

    def __len__(self) -> int:
        return len(self._slot)

    def add(self, key: int) -> None:
        """A block that is not there; it stays until it is judged, unless it is removed."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._slot[key] = slot
        self._key[slot] = key

    def ask(self, key: int) -> None:
        """A block that is there has been asked for: it stays until it is judged anew."""
        self._void(self._slot[key])

    def remove(self, key: int) -> None:
        """A block that is there leaves."""
        slot = self._slot.pop(key)
        self._void(slot)
        self._free.append(slot)

    def judge(self, part: Part) -> None:
        """Blocks have been asked for, with these features; those that are not there do not count."""
        self._note(part)
        if self.model is not None and self._next_run - self._first_run > MOST_WAITING:
            self._bring_up_to_date(self.model, part.time_s)

    def learned(self, model: Model, parts: list[Part]) -> None:
        """Judge by ``model`` from now on, and by it anew what was learned from: no corrections come from that."""
        self.model = model
        for part in parts:
            self._note(part)
            if self._next_run - self._first_run > MOST_WAITING:
                self._ask_model(model, watches=False)
        self._ask_model(model, watches=False)

    def pop(self, now_s: float) -> int:
        """Remove the block that is worth least; one must have been judged."""
        while True:
            while self._victims:
                _, slot, uses = heappop(self._victims)
                if self._uses[slot] == uses:
                    key = self._key[slot]
                    self.remove(key)
                    return key
            self._pick(now_s)

    def _void(self, slot: int) -> None:
        self._uses[slot] += 1
        self._asked_s[slot] = np.inf
        self._waiting.pop(slot, None)

    def _pick(self, now_s: float) -> None:
        """Fill ``_victims`` with those that are worth least now."""
        if self.model is not None:
            self._bring_up_to_date(self.model, now_s)
        judged = np.flatnonzero(np.isfinite(self._asked_s))
        assert len(judged), "nobody can go: no block has been judged"
        now = self._worth_now(judged, now_s)
        count = max(LEAST_CANDIDATES, len(judged) // CANDIDATES_SHARE)
        if count < len(judged):
            least = np.argpartition(now, count)[:count]
            judged, now = judged[least], now[least]
        uses = self._uses
        ranked = zip(now.tolist(), judged.tolist(), strict=True)
        self._victims = sorted((worth, slot, uses[slot]) for worth, slot in ranked)

    def _worth_now(self, slots: Ints, now_s: float) -> Floats:
        """Beyond the model's last age, and without a model, the longest idle is worth least, and less than others."""
        ages_s = now_s - self._asked_s[slots]
        if self.model is None:
            return -ages_s
        steps = np.searchsorted(AGES_S, ages_s, side="right") - 1
        worth = self._worth[slots, np.clip(steps, 0, STEPS - 1)].astype(np.float64)
        return np.where(steps < STEPS, worth, -ages_s)

    def _note(self, part: Part) -> None:
        """When its blocks were asked for, and, where there is a model, that they wait to be judged by it."""
        keys = iter(part.keys)
        for blocks in part.runs.blocks:
            for key in islice(keys, blocks):
                slot = self._slot.get(key)
                if slot is not None:
                    self._asked_s[slot] = part.time_s
                    if self.model is not None:
                        self._waiting[slot] = self._next_run
            self._next_run += 1
        if self.model is None:
            self._first_run = self._next_run
        else:
            self._parts.append(part)

    def _bring_up_to_date(self, model: Model, now_s: float) -> None:
        if self._parts:
            self._ask_model(model, self._recalibrates)
        if self._recalibrates and self._recalibration.is_due(now_s):
            self._recalibration.update(now_s)
            self._value(np.flatnonzero(np.isfinite(self._asked_s)))

    def _ask_model(self, model: Model, watches: bool) -> None:
        """About every run, also of blocks that have gone: corrections are learned from all."""
        if not self._parts:
            return
        features = np.concatenate([part.runs.features for part in self._parts])
        chances = model.chances(features)
        begin = 0
        for part in self._parts if watches else ():
            end = begin + len(part.runs.blocks)
            self._recalibration.see(part, chances[begin:end])
            begin = end
        slots = np.fromiter(self._waiting, np.int64, len(self._waiting))
        run = np.fromiter(self._waiting.values(), np.int64, len(slots))
        self._run[slots] = run
        self._chances[slots] = chances[run - self._first_run]
        self._kind[slots] = kinds_of(features)[run - self._first_run]
        self._value(slots)
        self._parts.clear()
        self._waiting.clear()
        self._first_run = self._next_run

    def _value(self, slots: Ints) -> None:
        """Slots' worth by the corrections of now; that of neighbours is worked out once."""
        _, first, neighbours = np.unique(self._run[slots], return_index=True, return_inverse=True)
        one_each = slots[first]
        chances = self._recalibration.corrected(self._chances[one_each].astype(np.float64), self._kind[one_each])
        self._worth[slots] = gittins_index(chances)[neighbours]

    def _grow(self) -> None:
        """Twice the slots, up to the capacity."""
        old = len(self._key)
        more = min(2 * old, self._capacity) - old
        self._key += [-1] * more
        self._uses += [0] * more
        self._free = list(range(old + more - 1, old - 1, -1))
        self._asked_s = np.concatenate((self._asked_s, np.full(more, np.inf)))
        steps, numbers = np.zeros((more, STEPS), dtype=np.float32), np.zeros(more, dtype=np.int64)
        self._chances, self._worth = (np.concatenate((array, steps)) for array in (self._chances, self._worth))
        self._run, self._kind = (np.concatenate((array, numbers)) for array in (self._run, self._kind))
