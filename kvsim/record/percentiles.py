"""Percentiles by one rule everywhere: numpy's linear interpolation between closest ranks, weighted or not."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kvsim.record.result import Distribution

Floats = npt.NDArray[np.float64]

PERCENTS = (50.0, 90.0, 95.0, 99.0)
"""The percentiles every latency is reported at."""


def percentiles(values: Floats, percents: npt.ArrayLike, weights: Floats | None = None) -> Floats:
    """The ``percents`` (0..100) of ``values``, in their unit; ``nan`` for an empty sample.

    Rank ``q/100 * (n - 1)`` of the sorted sample, linear between neighbours (Hyndman and Fan's type 7, numpy's
    default). ``weights`` are counts: the answer is that of the sample with each value repeated ``weights`` times.
    """
    wanted = np.asarray(percents, dtype=np.float64)
    if weights is not None:
        return _weighted(values[weights > 0], weights[weights > 0], wanted)
    if values.size == 0:
        return np.full(wanted.shape, math.nan)
    return np.asarray(np.percentile(values, wanted), dtype=np.float64)


def _weighted(values: Floats, weights: Floats, percents: Floats) -> Floats:
    if values.size == 0:
        return np.full(percents.shape, math.nan)
    order = np.argsort(values, kind="stable")
    ordered, ranks = values[order], np.cumsum(weights[order])
    position = percents / 100 * max(ranks[-1] - 1, 0.0)
    below = np.floor(position)
    last = values.size - 1
    lower = ordered[np.minimum(np.searchsorted(ranks, below, side="right"), last)]
    upper = ordered[np.minimum(np.searchsorted(ranks, below + 1, side="right"), last)]
    return np.asarray(lower + (position - below) * (upper - lower), dtype=np.float64)


def weighted_distribution(values: Floats, weights: Floats) -> Distribution:
    """``values`` of which each stands for as many as its weight says, in any unit; all ``nan`` when empty.

    Value ``k`` of ``n`` in order has rank ``(k - 1) w_k + (n - 1) sum(w_1 .. w_{k-1})``, and a percentile that share of
    the last one's, linear between neighbours: :func:`percentiles` where all weigh alike, and no jump where one weighs a
    little more.
    """
    if values.size == 0:
        return Distribution(0, *[math.nan] * 6)
    order = np.argsort(values, kind="stable")
    ordered, weight = values[order], weights[order] / weights.max()
    before = np.cumsum(weight) - weight
    ranks = np.arange(values.size) * weight + (values.size - 1) * before
    p50, p90, p95, p99 = (float(np.interp(percent / 100 * ranks[-1], ranks, ordered)) for percent in PERCENTS)
    return Distribution(values.size, float(np.average(ordered, weights=weight)), p50, p90, p95, p99, float(ordered[-1]))


def distribution(values: Floats, weights: Floats | None = None) -> Distribution:
    """``values`` (with ``weights`` as counts, if given) reduced to what the reports show; all ``nan`` when empty."""
    count = values.size if weights is None else round(float(weights.sum()))
    if count == 0:
        return Distribution(0, *[math.nan] * 6)
    present = values if weights is None else values[weights > 0]
    p50, p90, p95, p99 = (float(x) for x in percentiles(values, PERCENTS, weights))
    mean = float(np.average(values, weights=weights))
    return Distribution(count, mean, p50, p90, p95, p99, float(present.max()))
