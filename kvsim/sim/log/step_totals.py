"""What the steps of one role's engines come to, and the sum of it over several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.pickling import by_fields
from kvsim.record.histogram import WeightedHistogram

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StepTotals:
    """Steps of all engines of a role."""

    itl: WeightedHistogram
    """Inter-token latencies that count."""
    busy_s: float
    """Instance-seconds of steps."""
    bin_s: float
    """Width of the bins of time."""
    busy_bins: Floats
    """Busy instance-seconds in each."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)

    def timeline(self, end_s: float) -> tuple[Floats, Floats]:
        """Left edges of equal bins up to ``end_s``, and busy instance-seconds per second in each."""
        most = len(self.busy_bins)
        bins = max(1, min(most, int(np.ceil(end_s / self.bin_s)))) if end_s > 0 else 1
        widths = np.full(bins, self.bin_s)
        if end_s > 0:
            widths[-1] = min(self.bin_s, end_s - (bins - 1) * self.bin_s)
        return np.arange(bins, dtype=np.float64) * self.bin_s, self.busy_bins[:bins] / widths


def added(parts: Sequence[StepTotals]) -> StepTotals:
    """The steps of several runs side by side, whose bins are those of one that is as long as the longest."""
    itl, bin_s = WeightedHistogram(), max(part.bin_s for part in parts)
    bins = np.zeros(len(parts[0].busy_bins))
    for part in parts:
        itl.add(part.itl)
        bins += folded(part.busy_bins, round(bin_s / part.bin_s))
    return StepTotals(itl, sum(part.busy_s for part in parts), bin_s, bins)


def folded(bins: Floats, times: int) -> Floats:
    """Bins ``times`` as wide, a power of two, and zeros behind them: their number stays. The last axis is time."""
    while times > 1:
        pairs = bins.reshape(*bins.shape[:-1], bins.shape[-1] // 2, 2).sum(axis=-1)
        bins = np.concatenate((pairs, np.zeros_like(pairs)), axis=-1)
        times //= 2
    return bins
