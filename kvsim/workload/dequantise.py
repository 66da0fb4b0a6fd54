"""Undoing coarse timestamps: what a service saw spread out, its log has as bursts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.workload.workload import Workload

# A clock's tick is about the smallest gap between its times; a few smaller ones are jitter.
TICK_PERCENTILE = 5


def dequantised(workload: Workload) -> Workload:
    """The same requests in the same order, with those that share a time spread evenly from it.

    The n of one time ``t`` go to ``t + j / n * gap``, j from 0, with the gap to the next time, but no more than the
    tick of the clock that made the times, taken for the 5th percentile of all gaps: whole seconds are spread over their
    second also where nothing comes for minutes after. After the last time, the tick is the gap. Times that are all
    distinct stay, and so do those that are all one.
    """
    times_s, first, counts = np.unique(workload.arrival_s, return_index=True, return_counts=True)
    if len(times_s) < 2 or counts.max() == 1:
        return workload
    gaps_s = np.diff(times_s)
    tick_s = float(np.percentile(gaps_s, TICK_PERCENTILE, method="lower"))
    room_s = np.append(np.minimum(gaps_s, tick_s), tick_s)
    place = np.arange(len(workload)) - np.repeat(first, counts)
    arrival_s = workload.arrival_s + place * np.repeat(room_s / counts, counts)
    shared = int(counts[counts > 1].sum())
    note = (
        f"arrival times spread: {shared:,} of {len(workload):,} requests shared theirs, {len(times_s):,} times in all, "
        f"over up to {tick_s:.3g} s each"
    )
    return replace(workload, arrival_s=arrival_s, info=workload.info.noted(note))
