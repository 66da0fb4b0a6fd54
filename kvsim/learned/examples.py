"""Examples to learn from: for blocks that were asked for, whether they were again within each step of their age."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kvsim.learned.features import FEATURES, HISTORY_BLOCKS, History, Matrix, Prompt, Runs
from kvsim.learned.gittins import AGES_S, STEPS, Floats
from kvsim.workload.accesses import Accesses

Ints = npt.NDArray[np.int64]

WEIGHT_POWER = 0.5
"""Neighbours of one run with one fate are one example, of the weight ``blocks ** 0.5``.

They come back or not together: 100 blocks tell hardly more than one. With 1 a few long prompts drown all others.
"""


class Examples(NamedTuple):
    """Rows to train on; the last column of ``table`` is the step of age."""

    table: Matrix
    asked: npt.NDArray[np.bool_]
    weight: Floats

    def __len__(self) -> int:
        return len(self.asked)


@dataclass(frozen=True)
class Asked:
    """Blocks that prompts asked for, in their order, with what a server knew then."""

    features: Matrix
    """A row for each run of blocks."""
    run: Ints
    """The run of each block."""
    keys: Ints
    time_s: Floats
    """When each was asked for."""

    @classmethod
    def of(cls, runs: list[Runs], keys: list[int], time_s: Floats) -> Asked:
        """``time_s`` of each block."""
        blocks = np.array([count for each in runs for count in each.blocks], dtype=np.int64)
        features = [np.zeros((0, len(FEATURES)), dtype=np.float32), *(each.features for each in runs)]
        run = np.repeat(np.arange(len(blocks)), blocks)
        return cls(np.concatenate(features), run, np.array(keys, dtype=np.int64), time_s)

    def before(self, blocks: int) -> Asked:
        """The first ones."""
        return Asked(self.features, self.run[:blocks], self.keys[:blocks], self.time_s[:blocks])


def asked_by(accesses: Accesses, history_blocks: int = HISTORY_BLOCKS) -> Asked:
    """A trace with its features, one prompt after the other: none depends on what comes after its prompt."""
    history = History(history_blocks)
    runs = [
        history.ask(Prompt(time_s, stop - start, session_id, turn), accesses.keys[start:stop])
        for start, stop, time_s, session_id, turn in accesses.prompts()
    ]
    times_s = np.repeat(np.asarray(accesses.time_s, dtype=np.float64), np.diff(accesses.offsets))
    return Asked.of(runs, accesses.keys, times_s)


def examples_of(asked: Asked, first: int = 0, end_s: float | None = None) -> Examples:
    """Examples of the blocks from number ``first`` on, with what is known at ``end_s``, by default at the last.

    A step that was not over by then says nothing and is left out; so are steps after the block was asked for again.
    """
    if not len(asked.keys):
        return Examples(np.zeros((0, len(FEATURES) + 1), dtype=np.float32), np.zeros(0, dtype=bool), np.zeros(0))
    again_s = _times_of_next(asked) - asked.time_s
    begins = np.ones(len(again_s), dtype=np.bool_)
    begins[1:] = (np.diff(asked.run) != 0) | (again_s[1:] != again_s[:-1])
    (chosen,) = np.nonzero(begins)
    weights = np.diff(np.append(chosen, len(again_s))) ** WEIGHT_POWER
    weights, chosen = weights[chosen >= first], chosen[chosen >= first]
    known_s = (float(asked.time_s[-1]) if end_s is None else end_s) - asked.time_s[chosen]
    return _step_by_step(asked.features[asked.run[chosen]], again_s[chosen], known_s, weights)


def _step_by_step(features: Matrix, again_s: Floats, known_s: Floats, weights: Floats) -> Examples:
    """For each row and each step that it reached: if it was asked for then. ``known_s``: how long it was watched."""
    rows, steps, outcomes = [], [], []
    for step in range(STEPS):
        (at_risk,) = np.nonzero((again_s >= AGES_S[step]) & (known_s >= AGES_S[step + 1]))
        rows.append(at_risk)
        steps.append(np.full(len(at_risk), step, dtype=np.float32))
        outcomes.append(again_s[at_risk] < AGES_S[step + 1])
    row = np.concatenate(rows)
    return Examples(np.column_stack((features[row], np.concatenate(steps))), np.concatenate(outcomes), weights[row])


def _times_of_next(asked: Asked) -> Floats:
    """When the block of each access is asked for again; infinite where it is not."""
    order = np.argsort(asked.keys, kind="stable")
    same = asked.keys[order[1:]] == asked.keys[order[:-1]]
    next_s = np.full(len(order), np.inf)
    next_s[order[:-1][same]] = asked.time_s[order[1:][same]]
    return next_s
