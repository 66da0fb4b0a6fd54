"""How far predictions are from what was measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PERCENTILES = (50, 90, 95, 99)


def error_summary(predicted: Floats, measured: Floats) -> dict[str, float | None]:
    """Signed errors of the mean and of percentiles, and the mean absolute error over requests; all in percent.

    The arrays hold one entry a request, in the same order; a request that is NaN in either, or was measured to take no
    time, counts in none. ``None`` where that leaves no request.
    """
    known = np.isfinite(predicted) & np.isfinite(measured) & (measured > 0)
    ours, theirs = predicted[known], measured[known]
    found: dict[str, float | None] = dict.fromkeys(("mean_pct", *(f"p{n}_pct" for n in PERCENTILES), "mape_pct"))
    if not len(ours):
        return found
    found["mean_pct"] = percent(ours.mean(), theirs.mean())
    for level in PERCENTILES:
        found[f"p{level}_pct"] = percent(np.percentile(ours, level), np.percentile(theirs, level))
    found["mape_pct"] = float(np.mean(np.abs(ours / theirs - 1))) * 100
    return found


def percent(predicted: float, measured: float) -> float:
    """Signed error of a prediction."""
    return float(predicted / measured - 1) * 100
