"""Means of replications with their intervals, and which differences are real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


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
    quantile = float(stdtrit(len(found) - 1, (1 + confidence) / 2))
    return Interval(float(found.mean()), quantile * float(found.std(ddof=1)) / math.sqrt(len(found)))


def difference(values: Sequence[float], base: Sequence[float], confidence: float) -> Interval:
    """Of ``values`` over ``base``, pair by pair: both met the same requests, so that much of the noise goes."""
    return interval([one - other for one, other in zip(values, base, strict=True)], confidence)
