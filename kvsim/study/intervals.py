"""Means of replications with their intervals, and what may be said of a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["same", "tie", "lower", "higher", "open"]
"""``same``: nothing changes, in any run. ``tie``: surely smaller than what matters. ``open``: not told apart."""

_ROUNDING = 1e-9
"""Figures that are this near, relatively, differ by rounding alone."""


@dataclass(frozen=True)
class Interval:
    """Mean and half width of Student's interval for it; the half width of a single value is infinite.

    Both are NaN where a value is: a figure that not every run has.
    """

    mean: float
    half_width: float

    @property
    def holds_zero(self) -> bool:
        return abs(self.mean) <= self.half_width

    def verdict(self, margin: float) -> Verdict:
        """The verdict on a difference, of which nothing up to ``margin`` matters."""
        if self.mean == 0 and self.half_width == 0:
            return "same"
        if abs(self.mean) + self.half_width <= margin:
            return "tie"
        if math.isnan(self.mean) or self.holds_zero:
            return "open"
        return "lower" if self.mean < 0 else "higher"

    def is_within(self, share: float) -> bool:
        """Whether the half width is at most this share of the mean."""
        return self.half_width <= share * abs(self.mean)


def interval(values: Sequence[float], confidence: float) -> Interval:
    """The interval of the mean of independent replications of one figure."""
    # scipy.stats has the same under a better name, and takes a second to import.
    from scipy.special import stdtrit

    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any():
        return Interval(math.nan, math.nan)
    if len(found) < 2:
        return Interval(float(found.mean()), math.inf)
    if float(np.ptp(found)) <= _ROUNDING * float(np.abs(found).max()):
        return Interval(float(found.mean()), 0.0)
    quantile = float(stdtrit(len(found) - 1, (1 + confidence) / 2))
    return Interval(float(found.mean()), quantile * float(found.std(ddof=1)) / math.sqrt(len(found)))


def difference(values: Sequence[float], base: Sequence[float], confidence: float) -> Interval:
    """The interval of ``values`` less ``base``, pair by pair: both met the same requests, so much of the noise goes.

    ``values`` may be fewer: they are of the first replications.
    """
    apart = [
        0.0 if math.isclose(one, other, rel_tol=_ROUNDING) else one - other
        for one, other in zip(values, base[: len(values)], strict=True)
    ]
    return interval(apart, confidence)
