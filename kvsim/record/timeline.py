"""What instances did over time: exact means over equal bins, made of the steps and levels that a run kept."""

from __future__ import annotations

import numpy as np

from kvsim.record.binned import Floats, Ints, crossings, integrals, totals
from kvsim.record.detail import HELD, QUEUED, Detail
from kvsim.record.result import Table

SUMS = (
    "busy_s",
    "running_s",
    "waiting_s",
    "held_block_s",
    "prefill_tokens",
    "output_tokens",
    "query_tokens",
    "hit_tokens",
)
"""What adds up over instances and bins. Seconds that steps ran; requests in the step under way, requests that waited
for one and blocks in use, integrated over time; tokens of prompts computed and tokens of answers, at the end of the
step that gave them; tokens of prompts that were scheduled for the first time, and of them found, at its beginning.
"""


def edges_s(detail: Detail, end_s: float) -> Floats:
    """The edges of the bins of a run that ended at ``end_s``: equal ones, of which the last is cut there."""
    bins = detail.levels.shape[2]
    edges = np.arange(bins + 1, dtype=np.float64) * detail.bin_s
    edges[-1] = max(min(edges[-1], end_s), edges[-2])
    return edges


def sums(detail: Detail) -> dict[str, Floats]:
    """``SUMS``, each by instance and bin."""
    steps, shape = detail.steps, detail.levels.shape[1:]
    instance = steps["instance"].astype(np.int64)
    start_s, end_s, bin_s = steps["start_s"], steps["end_s"], detail.bin_s

    def level(values: Floats) -> Floats:
        return integrals(instance, start_s, end_s, values, bin_s, shape)

    def at(time_s: Floats, name: str) -> Floats:
        return totals(instance, time_s, steps[name], bin_s, shape)

    return {
        "busy_s": level(np.ones(len(instance))),
        "running_s": level(steps["running"]),
        "waiting_s": detail.levels[QUEUED],
        "held_block_s": detail.levels[HELD],
        "prefill_tokens": at(end_s, "prefill_tokens"),
        "output_tokens": _generated(steps, instance, bin_s, shape),
        "query_tokens": at(start_s, "query_tokens"),
        "hit_tokens": at(start_s, "hit_tokens"),
    }


def _generated(steps: Table, instance: Ints, bin_s: float, shape: tuple[int, int]) -> Floats:
    """Tokens by the ends of the steps that gave them."""
    at_once = steps["output_tokens"] - steps["decode_seqs"] * steps["num_steps"]
    found = totals(instance, steps["end_s"], at_once, bin_s, shape)
    rows, bins = crossings(steps["start_s"], steps["end_s"], bin_s, shape[1])
    if not len(rows):
        return found
    changes = rows[1:] != rows[:-1]
    ended = _ended(steps, rows, np.asarray((bins + 1) * bin_s, dtype=np.float64))
    is_last = np.append(changes, True)
    ended[is_last] = steps["num_steps"][rows[is_last]]
    before = np.append(0.0, np.where(changes, 0.0, ended[:-1]))
    weights = steps["decode_seqs"][rows] * (ended - before)
    spread = np.bincount(instance[rows] * shape[1] + bins, weights, shape[0] * shape[1])
    return found + np.asarray(spread, dtype=np.float64).reshape(shape)


def _ended(steps: Table, rows: Ints, time_s: Floats) -> Floats:
    """How many steps of the spans at ``rows`` have ended before ``time_s``; to a rounding of their times.

    The k-th of them ends ``k first + slope k (k - 1) / 2`` after the span's start, which is solved for k.
    """
    elapsed_s = time_s - steps["start_s"][rows]
    first_s, slope_s, most = steps["first_step_s"][rows], steps["slope_s"][rows], steps["num_steps"][rows]
    half_s = first_s - 0.5 * slope_s
    with np.errstate(divide="ignore", invalid="ignore"):
        # The root of the quadratic in a form that stays exact as the slope goes to 0.
        root = 2 * elapsed_s / (half_s + np.sqrt(np.maximum(half_s * half_s + 2 * slope_s * elapsed_s, 0.0)))
    before = np.ceil(np.nan_to_num(root, nan=np.inf, posinf=np.inf)) - 1
    return np.asarray(np.clip(before, 0.0, most), dtype=np.float64)
