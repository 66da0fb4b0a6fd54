"""Least squares with numbers that have a least, against rows of which some are far off."""

from __future__ import annotations

import numpy as np

from kvsim.validate.accuracy import Floats

REWEIGHTED = 6
_HUBER = 1.345
"""Robust standard deviations beyond which a row counts by its distance, not its square."""


def robust(rows: Floats, seconds: Floats, scales: Floats, least: Floats) -> Floats:
    """Huber's estimate by reweighting; no number is below its ``least``."""
    from scipy.optimize import lsq_linear

    rows, target = rows * scales[:, None], seconds * scales
    sizes = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    weights = np.ones(len(target))
    values = np.zeros(len(sizes))
    for _ in range(REWEIGHTED):
        root = np.sqrt(weights)
        solved = lsq_linear(rows / sizes * root[:, None], target * root, bounds=(least * sizes, np.inf))
        values = np.maximum(solved.x / sizes, least)
        off = np.abs(rows @ values - target)
        spread = max(1.4826 * float(np.median(off)), 1e-9)
        weights = np.minimum(1.0, _HUBER * spread / np.maximum(off, 1e-300))
    return values
