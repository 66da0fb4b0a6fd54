"""How far predictions are from what was measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """Signed errors of the mean and of percentiles, and the mean absolute error over requests; all in percent.

    ``None`` where no request has both values.
    """

    mean_pct: float | None = None
    p50_pct: float | None = None
    p90_pct: float | None = None
    p95_pct: float | None = None
    p99_pct: float | None = None
    mape_pct: float | None = None


def accuracy_of(predicted: Floats, measured: Floats) -> Accuracy:
    """The arrays hold one entry a request, in the same order.

    A request that is NaN in either, or was measured to take no time, counts in none.
    """
    known = np.isfinite(predicted) & np.isfinite(measured) & (measured > 0)
    ours, theirs = predicted[known], measured[known]
    if not len(ours):
        return Accuracy()
    p50, p90, p95, p99 = (percent_off(np.percentile(ours, n), np.percentile(theirs, n)) for n in (50, 90, 95, 99))
    each = float(np.mean(np.abs(ours / theirs - 1))) * 100
    return Accuracy(percent_off(ours.mean(), theirs.mean()), p50, p90, p95, p99, each)


def percent_off(predicted: float, measured: float) -> float:
    """Signed error of a prediction."""
    return float(predicted / measured - 1) * 100
