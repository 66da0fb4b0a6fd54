"""Intervals for the mean of paired differences: Student's over repeats, joined with the bootstrap-t over requests.

Which covers how often is measured by ``benchmarks/lab_coverage.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvsim.record.binned import Floats
from kvsim.study.intervals import interval

Bounds = tuple[float, float]
DRAWS = 2_000
FEWEST, MOST = 8, 2_000
"""Pairs that are resampled: fewer give too few different samples, more differ from Student's by nothing."""
_LEAST_SHARE = 0.9
"""How many of the draws must have a spread of their own."""


def student(values: Sequence[float], confidence: float) -> Bounds | None:
    """Student's interval; ``None`` where there is none: no two values, or certainty is asked for."""
    if len(values) < 2:
        return None
    found = interval(values, confidence)
    if not math.isfinite(found.half_width):
        return None
    return found.mean - found.half_width, found.mean + found.half_width


def studentised(values: Sequence[float], confidence: float, seed: Sequence[int]) -> Bounds | None:
    """From the lower of the ends of Student's and of the bootstrap-t interval to the higher of both.

    Of skewed values the one covers too seldom where their mean is not zero, the other where it is. Where resampling
    cannot tell how they spread, Student's alone.
    """
    alone = student(values, confidence)
    found = np.asarray(values, dtype=np.float64)
    if alone is None or not FEWEST <= len(found) <= MOST:
        return alone
    scores = _scores(found, np.random.default_rng(list(seed)))
    if len(scores) < _LEAST_SHARE * DRAWS:
        return alone
    tail = (1 - confidence) / 2
    low, high = np.quantile(scores, [tail, 1 - tail])
    error = float(found.std(ddof=1)) / math.sqrt(len(found))
    middle = float(found.mean())
    return min(alone[0], middle - float(high) * error), max(alone[1], middle - float(low) * error)


def _scores(found: Floats, draws: np.random.Generator) -> Floats:
    """How many of its own standard errors each resampled mean is off; without samples that have no spread."""
    samples = found[draws.integers(0, len(found), (DRAWS, len(found)))]
    spread = samples.std(axis=1, ddof=1)
    known = spread > 1e-9 * float(np.abs(found).max())
    off = samples.mean(axis=1) - found.mean()
    return np.asarray(off[known] * math.sqrt(len(found)) / spread[known], dtype=np.float64)
