"""From chances of being asked for again to what a block is worth: hits per second of the room that it takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

AGES_S = (0.0, 15.0, 30.0, 45.0, 60.0, 80.0, 100.0, 130.0, 170.0, 220.0, 300.0, 400.0, 550.0, 800.0, 1200.0)
"""Bounds of the steps of a block's age, the time since it was last asked for. Beyond the last nothing is predicted."""
STEPS = len(AGES_S) - 1
LEAST_CHANCE = 1e-7


def gittins_index(chances: Floats) -> Floats:
    """For each block (row) and step of its age: the most hits per second that keeping it can bring from there on.

    ``chances[:, j]``: that it is asked for within step ``j``, when it was not before. A keeper may give up after any
    step, so the best of all ends counts: ``max over T of P(asked for by T) / E[time kept]``. That is the index of
    Gittins, "Bandit Processes and Dynamic Allocation Indices", Journal of the Royal Statistical Society B 41(2), 1979.
    An index of the next step alone would evict who pauses to think just before coming back.
    """
    chances = np.clip(chances, LEAST_CHANCE, 1 - LEAST_CHANCE)
    missing, widths_s = 1 - chances, np.diff(AGES_S) * (1 - chances / 2)
    best = np.empty_like(chances)
    for begin in range(STEPS):
        left = np.cumprod(missing[:, begin:], axis=1)
        kept_s = widths_s[:, begin:].copy()
        kept_s[:, 1:] *= left[:, :-1]
        best[:, begin] = np.max((1 - left) / np.cumsum(kept_s, axis=1), axis=1)
    return best
