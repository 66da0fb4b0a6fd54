"""Means of replications with their intervals, and which differences are real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_ROUNDING = 1e-9
"""Figures that are this near, relatively, differ by rounding alone."""


@dataclass(frozen=True)
class Interval:
    """Mean and half width of Student's interval for it; the half width of a single value is infinite."""

    mean: float
    half_width: float

    @property
    def holds_zero(self) -> bool:
        """Whether zero lies inside: the difference it is the mean of is a tie."""
        return abs(self.mean) <= self.half_width

    def report(self) -> dict[str, Any]:
        return {"mean": self.mean, "half_width": self.half_width if math.isfinite(self.half_width) else None}


def interval(values: Sequence[float], confidence: float) -> Interval:
    """Of independent replications of one figure."""
    # scipy.stats has the same under a better name, and takes a second to import.
    from scipy.special import stdtrit

    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2:
        return Interval(float(found.mean()), math.inf)
    if float(np.ptp(found)) <= _ROUNDING * float(np.abs(found).max()):
        return Interval(float(found.mean()), 0.0)
    quantile = float(stdtrit(len(found) - 1, (1 + confidence) / 2))
    return Interval(float(found.mean()), quantile * float(found.std(ddof=1)) / math.sqrt(len(found)))


def difference(values: Sequence[float], base: Sequence[float], confidence: float) -> Interval:
    """Of ``values`` over ``base``, pair by pair: both met the same requests, so that much of the noise goes."""
    apart = [
        0.0 if math.isclose(one, other, rel_tol=_ROUNDING) else one - other
        for one, other in zip(values, base, strict=True)
    ]
    return interval(apart, confidence)
