"""Inter-token latencies of a whole run in bounded memory: exact count, sum and maximum, percentiles from fine bins."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.record.percentiles import distribution
from kvsim.record.result import Distribution

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LOWEST_S = 1e-7
HIGHEST_S = 1e4
RELATIVE_WIDTH = 1e-3
_LOG_WIDTH = math.log1p(RELATIVE_WIDTH)
_BINS = math.ceil(math.log(HIGHEST_S / LOWEST_S) / _LOG_WIDTH)
_SLICE = 1_000_000
"""Values expanded at a time."""


class WeightedHistogram:
    """Collects arithmetic segments of latencies (a span of decode steps, seen by every sequence of its batch).

    Count, sum and maximum are exact. Percentiles come from logarithmic bins of relative width 1e-3 between 1e-7 s and
    1e4 s, each bin answering with its middle, so they err by at most half of that; values outside the range are
    counted in the outermost bins, and no answer lies outside the exact minimum and maximum.
    """

    def __init__(self) -> None:
        self._weights: Floats = np.zeros(_BINS)
        self._count = 0.0
        self._sum_s = 0.0
        self._min_s = math.inf
        self._max_s = -math.inf

    def add_segments(self, rows: Floats) -> None:
        """Add segments ``(first_s, slope_s, count, weight)``, shape ``(k, 4)``.

        ``weight`` sequences each saw the ``count`` latencies ``first_s, first_s + slope_s, ...``. Rows whose count or
        weight is 0 say nothing. A segment costs the bins it crosses or its latencies, whichever are fewer.
        """
        rows = rows[(rows[:, 2] > 0) & (rows[:, 3] > 0)]
        if rows.shape[0] == 0:
            return
        first, slope, count, weight = rows.T
        last = first + slope * (count - 1)
        self._count += float((count * weight).sum())
        self._sum_s += float((weight * count * (first + last) / 2).sum())
        low, high = np.minimum(first, last), np.maximum(first, last)
        self._min_s, self._max_s = min(self._min_s, float(low.min())), max(self._max_s, float(high.max()))
        self._spread(low, np.abs(slope), count, weight, _bin_of(low), _bin_of(high))

    def add(self, other: WeightedHistogram) -> None:
        """Add all that another has collected."""
        self._weights += other._weights
        self._count += other._count
        self._sum_s += other._sum_s
        self._min_s, self._max_s = min(self._min_s, other._min_s), max(self._max_s, other._max_s)

    def __getstate__(self) -> dict[str, Any]:
        """Few of the bins are filled."""
        filled = np.flatnonzero(self._weights)
        return self.__dict__ | {"_weights": (filled, self._weights[filled])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        filled, weights = state["_weights"]
        self.__dict__.update(state, _weights=np.zeros(_BINS))
        self._weights[filled] = weights

    def distribution(self) -> Distribution:
        """The latencies so far, in seconds."""
        filled = np.flatnonzero(self._weights)
        middles = LOWEST_S * np.exp((filled + 0.5) * _LOG_WIDTH)
        binned = distribution(np.clip(middles, self._min_s, self._max_s), self._weights[filled])
        if binned.count == 0:
            return binned
        return dataclasses.replace(binned, mean=self._sum_s / self._count, max=self._max_s)

    def _spread(self, low: Floats, slope: Floats, count: Floats, weight: Floats, start: Ints, stop: Ints) -> None:
        """Put ascending segments into the bins ``start..stop`` that they cross."""
        inside = start == stop
        self._put(start[inside], (count * weight)[inside])
        crossed = stop - start + 1
        by_value = ~inside & (count <= crossed)
        for part in _slices(by_value, count):
            step = _within(count[part].astype(np.int64))
            owner = np.repeat(part, count[part].astype(np.int64))
            self._put(_bin_of(low[owner] + step * slope[owner]), weight[owner])
        for part in _slices(~inside & ~by_value, crossed):
            owner = np.repeat(part, crossed[part])
            bins = start[owner] + _within(crossed[part])
            below = np.where(bins == start[owner], 0.0, _steps_below(bins, low[owner], slope[owner]))
            upto = np.where(bins == stop[owner], count[owner], _steps_below(bins + 1, low[owner], slope[owner]))
            self._put(bins, (np.minimum(upto, count[owner]) - np.minimum(below, count[owner])) * weight[owner])

    def _put(self, bins: Ints, weights: Floats) -> None:
        self._weights += np.bincount(bins, weights=weights, minlength=_BINS)


def _bin_of(values_s: Floats) -> Ints:
    inside = np.clip(values_s, LOWEST_S, HIGHEST_S)
    return np.minimum(np.log(inside / LOWEST_S) / _LOG_WIDTH, _BINS - 1).astype(np.int64)


def _steps_below(bins: Ints, low: Floats, slope: Floats) -> Floats:
    """How many latencies of each segment lie below the lower edge of a bin."""
    edges = LOWEST_S * np.exp(bins * _LOG_WIDTH)
    return np.asarray(np.maximum(np.ceil((edges - low) / slope), 0.0), dtype=np.float64)


def _within(lengths: Ints) -> Ints:
    """0, 1, ..., n - 1 for each n of ``lengths``, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _slices(chosen: npt.NDArray[np.bool_], lengths: npt.NDArray[np.floating | np.integer]) -> list[Ints]:
    """The indices ``chosen``, in runs whose ``lengths`` add up to about ``_SLICE``."""
    indices = np.flatnonzero(chosen)
    if indices.size == 0:
        return []
    piece = np.cumsum(lengths[indices]) // _SLICE
    return np.split(indices, np.flatnonzero(np.diff(piece)) + 1)
