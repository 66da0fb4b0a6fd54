"""Inter-token latencies and busy time of one side of the system, from spans of steps, without a row per token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kvsim.record.histogram import WeightedHistogram
from kvsim.sim.log.step_spans import FIELDS, StepSpans
from kvsim.sim.log.step_totals import StepTotals

Floats = npt.NDArray[np.float64]

_BINS = 256


class StepLog:
    """Collects spans of steps: engines add them to ``rows``."""

    def __init__(self) -> None:
        self.itl = WeightedHistogram()
        self.busy_s = 0.0
        self.steps = 0
        self.rows = StepSpans(self.flush)
        self._busy_bins: Floats = np.zeros(_BINS)
        self._bin_s = 1e-3

    def gap(self, interval_s: float) -> None:
        """One token came ``interval_s`` after its sequence's previous one, outside any span."""
        self.rows.add(0.0, 0.0, interval_s, 0.0, 0, 1)

    def flush(self) -> None:
        """Fold the rows collected so far into the aggregates."""
        rows = np.frombuffer(self.rows.taken(), dtype=np.float64).reshape(-1, FIELDS)
        if len(rows):
            self.fold(rows)

    def fold(self, rows: Floats) -> None:
        """Count spans, as ``StepSpans`` has them."""
        counted = rows[:, 2:6][rows[:, 5] > 0]
        np.maximum(counted[:, 2], 1.0, out=counted[:, 2])
        if len(counted):
            self.itl.add_segments(counted)
        starts, ends = rows[:, 0], rows[:, 1]
        self.busy_s += float((ends - starts).sum())
        self.steps += int(rows[:, 4].sum())
        self._add_busy(starts, ends)

    def busy_between(self, start_s: float, end_s: float) -> float:
        """Busy instance-seconds in the window, to the resolution of the bins."""
        self.flush()
        edges = np.arange(_BINS + 1) * self._bin_s
        cumulative = np.concatenate(([0.0], np.cumsum(self._busy_bins)))
        low, high = np.interp((start_s, end_s), edges, cumulative)
        return float(high - low)

    def totals(self) -> StepTotals:
        """What it all comes to, so far."""
        self.flush()
        return StepTotals(self.itl, self.busy_s, self._bin_s, self._busy_bins)

    def timeline(self, end_s: float) -> tuple[Floats, Floats]:
        """As :meth:`StepTotals.timeline`."""
        return self.totals().timeline(end_s)

    def _add_busy(self, starts: Floats, ends: Floats) -> None:
        while ends.max() > self._bin_s * _BINS:
            self._busy_bins = np.concatenate((self._busy_bins.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2)))
            self._bin_s *= 2
        self._busy_bins += np.diff(_busy_before(ends, self._bin_s) - _busy_before(starts, self._bin_s))


def _busy_before(times_s: Floats, bin_s: float) -> Floats:
    """For each bin edge e the sum of min(t, e) over ``times_s``."""
    index = np.minimum((times_s / bin_s).astype(np.int64), _BINS - 1)
    count = np.bincount(index, minlength=_BINS)
    total = np.bincount(index, weights=times_s, minlength=_BINS)
    before_count = np.concatenate(([0], np.cumsum(count)))
    before_total = np.concatenate(([0.0], np.cumsum(total)))
    edges = np.arange(_BINS + 1, dtype=np.float64) * bin_s
    found: Floats = before_total + edges * (len(times_s) - before_count)
    return found
