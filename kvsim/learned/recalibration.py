"""Chances corrected while a run goes on, by what became of the blocks that they were given to.

Traffic changes: users pause longer than those the model learned from, or go on with other prompts. Of every run of
blocks the middle one is watched, whether the cache keeps it or not: prompts name what they ask for either way. A prompt
that asks for a block twice, as one does whose block is moved up before it is used, has not asked for it again. Blocks
behind a prompt's end are of its answer, which models are not trained on: they are not watched.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np

from kvsim.learned.examples import WEIGHT_POWER, Ints
from kvsim.learned.features import FEATURES, Matrix
from kvsim.learned.gittins import AGES_S, LEAST_CHANCE, STEPS, Floats
from kvsim.learned.stream import Part

EVERY_S = 30.0
"""Seconds of the traffic's time between two corrections."""
MEMORY_S = 900.0
"""What was seen so long ago counts 1/e of what is seen now."""
KINDS = 4
"""Blocks seen before; new ones of a follow-up, of a long first prompt, and of a shorter one."""
LONG_BLOCKS = 20
LATE_STEP = AGES_S.index(80.0)
"""From this step of age on each kind has a correction of its own."""
LEAST_LOGIT, BIN_LOGIT, BINS = -8.0, 0.9, 10
"""Chances are tallied in bins of their logarithmic odds; the outer ones are open."""
DOUBT_ALL, DOUBT_STEP, DOUBT_KIND, DOUBT_LATE = 5.0, 20.0, 10.0, 20.0
"""1 / variance of a normal prior around no correction: of one for all, for a step, a kind, and a kind from then on."""
MOST_ROUNDS, LONGEST_MOVE, SETTLED = 8, 1.0, 1e-3
"""Bounds of Newton's method in one update."""
LEAST_WEIGHT = 1e-9
"""What was seen so long ago that less is left of it says nothing any more."""
MOST_WATCHED = 100_000
"""Runs; of more the oldest are let go."""
RESTART_S = 60.0
"""A time that lies so far back is of a trace that begins anew, not of a prompt that comes out of order."""

_NOBODY = (-1, -1)
_USES, _TURN, _PROMPT_BLOCKS, _BEHIND = map(FEATURES.index, ("uses", "turn", "prompt_blocks", "behind_blocks"))


class _Runs(NamedTuple):
    """Runs of blocks that are watched, the oldest first."""

    key: Ints
    """The block in the middle."""
    time_s: Floats
    again_s: Floats
    """When it was asked for again; infinite if not yet."""
    weight: Floats
    kind: Ints
    logits: Floats
    """The model's, by step of age."""


class Recalibration:
    """What is added to the logarithmic odds of chances, by kind of block and step of age; nothing at first.

    It is the likeliest by a normal prior around nothing and by the outcomes seen, weighted as in training, with
    forgetting: few outcomes hardly move it. An outcome counts when its step of age is over, so that no uses are seen
    before those that did not come.
    """

    def __init__(self) -> None:
        self.shift = np.zeros((KINDS, STEPS))
        self._runs = _nothing_watched()
        self._fresh: list[_Runs] = []
        """Not yet in ``_runs``."""
        self._uses: list[tuple[int, float]] = []
        """Numbers of runs whose middle block was asked for again, and when; not yet in ``_runs``."""
        self._first = self._next = 0
        """Numbers of the oldest run that is watched, and of the next to come."""
        self._watched: dict[int, tuple[int, int]] = {}
        """The number of the run that a block was last the middle of, and the index of its prompt."""
        self._counted = [0] * STEPS
        """The number of the first run whose outcome at a step is still open."""
        self._asked, self._weight, self._logits = np.zeros((3, STEPS * KINDS * BINS))
        """By step, kind and bin: weight of those asked for, and of all; weighted sum of logits."""
        self._updated_s = self._last_s = -np.inf
        self._ahead_s = 0.0
        """What is added to the times that come in, so that they never go back."""
        self._corrections = np.zeros(_DESIGN.shape[1])

    def see(self, part: Part, chances: Floats) -> None:
        """Blocks were asked for; ``chances`` by the model, a row for each run."""
        time_s = self._in_order(part.time_s)
        for key in part.keys:
            number, index = self._watched.get(key, _NOBODY)
            if number >= 0 and index != part.asker:
                del self._watched[key]
                self._uses.append((number, time_s))
        features, blocks = part.runs
        middles = [part.keys[end - count + count // 2] for count, end in zip(blocks, accumulate(blocks), strict=True)]
        of_prompt = features[:, _BEHIND] >= 0
        rows = [row for row, key in enumerate(middles) if of_prompt[row] and key not in self._watched]
        if not rows:
            return
        keys = [middles[row] for row in rows]
        self._watched.update((key, (number, part.asker)) for number, key in enumerate(keys, self._next))
        self._next += len(keys)
        self._fresh.append(
            _Runs(
                np.array(keys, dtype=np.int64),
                np.full(len(keys), time_s),
                np.full(len(keys), np.inf),
                np.array(blocks, dtype=np.float64)[rows] ** WEIGHT_POWER,
                kinds_of(features)[rows],
                _logits(chances[rows]),
            )
        )
        if self._next - self._first >= 2 * MOST_WATCHED:
            self._take_fresh()
            self._let_go(self._next - self._first - MOST_WATCHED)

    def is_due(self, now_s: float) -> bool:
        """Whether ``update`` should be called."""
        return now_s + self._ahead_s - self._updated_s >= EVERY_S

    def update(self, now_s: float) -> None:
        """Count what has become of blocks by ``now_s``, and correct by it from then on."""
        now_s = max(self._last_s, now_s + self._ahead_s)
        kept = np.exp((self._updated_s - now_s) / MEMORY_S)
        for tally in (self._asked, self._weight, self._logits):
            tally *= kept
        self._updated_s = now_s
        self._take_fresh()
        for step in range(STEPS):
            self._count(step, now_s)
        self._let_go(int(np.searchsorted(self._runs.time_s, now_s - AGES_S[-1], side="right")))
        self._fit()

    def corrected(self, chances: Floats, kinds: Ints) -> Floats:
        """Chances as they are now thought to be; a row for each of ``kinds``, a column for each step."""
        return _chances(_logits(chances) + self.shift[kinds])

    def _in_order(self, time_s: float) -> float:
        late_s = self._last_s - (time_s + self._ahead_s)
        if late_s > RESTART_S:
            self._ahead_s += late_s
        self._last_s = max(self._last_s, time_s + self._ahead_s)
        return self._last_s

    def _take_fresh(self) -> None:
        self._runs = _Runs._make(map(np.concatenate, zip(self._runs, *self._fresh, strict=True)))
        self._fresh.clear()
        for number, time_s in self._uses:
            if number >= self._first:
                self._runs.again_s[number - self._first] = time_s
        self._uses.clear()

    def _count(self, step: int, now_s: float) -> None:
        """Count runs for which the step is over since the last time, if they reached it."""
        runs, begin = self._runs, max(self._counted[step] - self._first, 0)
        end = int(np.searchsorted(runs.time_s, now_s - AGES_S[step + 1], side="right"))
        if end <= begin:
            return
        self._counted[step] = self._first + end
        ages_s = runs.again_s[begin:end] - runs.time_s[begin:end]
        at_risk = begin + np.flatnonzero(ages_s >= AGES_S[step])
        asked = ages_s[at_risk - begin] < AGES_S[step + 1]
        over_s = now_s - runs.time_s[at_risk] - AGES_S[step + 1]
        weight, logits = runs.weight[at_risk] * np.exp(-over_s / MEMORY_S), runs.logits[at_risk, step]
        bins = np.clip(((logits - LEAST_LOGIT) / BIN_LOGIT).astype(np.int64), 0, BINS - 1)
        cells = (step * KINDS + runs.kind[at_risk]) * BINS + bins
        self._asked += np.bincount(cells, weight * asked, len(self._asked))
        self._weight += np.bincount(cells, weight, len(self._weight))
        self._logits += np.bincount(cells, weight * logits, len(self._logits))

    def _let_go(self, count: int) -> None:
        """The oldest runs."""
        for number, key in enumerate(self._runs.key[:count].tolist(), self._first):
            if self._watched.get(key, _NOBODY)[0] == number:
                del self._watched[key]
        self._runs = _Runs._make(array[count:] for array in self._runs)
        self._first += count

    def _fit(self) -> None:
        """Towards the likeliest corrections, by a few rounds of Newton's method from the last ones on."""
        seen = np.flatnonzero(self._weight > LEAST_WEIGHT)
        design, asked, weight = _DESIGN[seen], self._asked[seen], self._weight[seen]
        logits, found = self._logits[seen] / weight, self._corrections
        for _ in range(MOST_ROUNDS):
            chances = _chances(logits + design @ found)
            slope = design.T @ (asked - weight * chances) - _DOUBTS * found
            bend = (design.T * (weight * chances * (1 - chances))) @ design + np.diag(_DOUBTS)
            move = np.clip(np.linalg.solve(bend, slope), -LONGEST_MOVE, LONGEST_MOVE)
            found = found + move
            if np.max(np.abs(move)) < SETTLED:
                break
        self._corrections = found
        every_bin = (_DESIGN @ found).reshape(STEPS, KINDS, BINS)
        self.shift = np.ascontiguousarray(every_bin[:, :, 0].T)


def kinds_of(features: Matrix) -> Ints:
    """Kinds of runs: 0 seen before, 1 new in a follow-up, 2 new in a long first prompt, 3 in a shorter one."""
    of_first = np.where(features[:, _PROMPT_BLOCKS] >= LONG_BLOCKS, 2, 3)
    of_new = np.where(features[:, _TURN] > 0, 1, of_first)
    return np.where(features[:, _USES] > 0, 0, of_new)


def _logits(chances: Floats) -> Floats:
    chances = np.clip(chances, LEAST_CHANCE, 1 - LEAST_CHANCE)
    return np.asarray(np.log(chances / (1 - chances)))


def _chances(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _nothing_watched() -> _Runs:
    none = np.zeros(0)
    return _Runs(none.astype(np.int64), none, none, none, none.astype(np.int64), np.zeros((0, STEPS)))


def _design() -> Floats:
    """For each cell of step, kind and bin: which corrections add up there."""
    steps, kinds, _ = np.indices((STEPS, KINDS, BINS)).reshape(3, -1)
    late = (steps >= LATE_STEP)[:, None]
    of_kind = np.eye(KINDS)[kinds]
    return np.column_stack((np.ones(len(steps)), np.eye(STEPS)[steps], of_kind, of_kind * late))


_DESIGN = _design()
_DOUBTS = np.repeat((DOUBT_ALL, DOUBT_STEP, DOUBT_KIND, DOUBT_LATE), (1, STEPS, KINDS, KINDS))
