"""Equal bins of time: what spans of time add to each, exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def crossings(start_s: Floats, end_s: Floats, bin_s: float, bins: int) -> tuple[Ints, Ints]:
    """``(row, bin)`` for each pair of a span of time and one of ``bins`` bins, ``bin_s`` wide from 0 on, that it meets.

    Spans lie within the bins.
    """
    first = np.minimum((start_s / bin_s).astype(np.int64), bins - 1)
    last = np.minimum((end_s / bin_s).astype(np.int64), bins - 1)
    counts = last - first + 1
    rows = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, first[rows] + within


def integrals(
    series: Ints, start_s: Floats, end_s: Floats, level: Floats, bin_s: float, shape: tuple[int, int]
) -> Floats:
    """Levels that hold from ``start_s`` to ``end_s``, integrated over time, by series and bin: of that ``shape``."""
    rows, bins = crossings(start_s, end_s, bin_s, shape[1])
    begin_s, stop_s = np.maximum(start_s[rows], bins * bin_s), np.minimum(end_s[rows], (bins + 1) * bin_s)
    # Where rounding puts a time just beyond its bin, nothing of the span is there.
    weights = level[rows] * np.maximum(stop_s - begin_s, 0.0)
    found = np.bincount(series[rows] * shape[1] + bins, weights, shape[0] * shape[1])
    return np.asarray(found, dtype=np.float64).reshape(shape)


def totals(series: Ints, time_s: Floats, amount: Floats, bin_s: float, shape: tuple[int, int]) -> Floats:
    """Amounts at points of time, summed by series and bin: of that ``shape``."""
    bins = np.minimum((time_s / bin_s).astype(np.int64), shape[1] - 1)
    found = np.bincount(series * shape[1] + bins, amount, shape[0] * shape[1])
    return np.asarray(found, dtype=np.float64).reshape(shape)
