"""Undoing coarse timestamps: what a service saw spread out, its log has as bursts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.workload.workload import Floats, Workload

# A clock's tick is about the smallest gap between its times; a few smaller ones are jitter.
TICK_PERCENTILE = 5


def dequantised(workload: Workload) -> Workload:
    """``workload`` with those requests that share a time spread evenly from it, in their order.

    The n of one time ``t`` go to ``t + j / n * gap``, j from 0, with the gap to the next time, but no more than the
    tick of the clock that made the times, taken for the 5th percentile of all gaps: whole seconds are spread over their
    second also where nothing comes for minutes after. After the last time, the tick is the gap. Times that are all
    distinct stay, and so do those that are all one.
    """
    found = spread(workload.arrival_s)
    if found is None:
        return workload
    arrival_s, note = found
    return replace(workload, arrival_s=arrival_s, info=workload.info.noted(note))


def spread(ordered_s: Floats) -> tuple[Floats, str] | None:
    """Ascending times spread, and what was done to them; ``None`` where they stay."""
    times_s, first, counts = np.unique(ordered_s, return_index=True, return_counts=True)
    if len(times_s) < 2 or counts.max() == 1:
        return None
    gaps_s = np.diff(times_s)
    tick_s = float(np.percentile(gaps_s, TICK_PERCENTILE, method="lower"))
    room_s = np.append(np.minimum(gaps_s, tick_s), tick_s)
    place = np.arange(len(ordered_s)) - np.repeat(first, counts)
    shared = f"{int(counts[counts > 1].sum()):,} of {len(ordered_s):,} requests shared theirs"
    note = f"arrival times spread: {shared}, {len(times_s):,} times in all, over up to {tick_s:.3g} s each"
    return ordered_s + place * np.repeat(room_s / counts, counts), note
