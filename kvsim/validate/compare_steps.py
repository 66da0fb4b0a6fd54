"""Steps of a recorded run beside what their batches are predicted to take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kvsim.record.result import Table
from kvsim.steptime import StepTime
from kvsim.units import MILLI
from kvsim.validate.accuracy import Floats, percent_off
from kvsim.validate.recorded_steps import TOGETHER_S, Ints, StepsUnknownError, Stretches, stretches_of

LIMITS = (8, 16, 32, 64, 128, 256, 512, 1024, 10**9)
"""Sequences of a row at most."""


@dataclass(frozen=True)
class StepRow:
    """Steps of one kind and of batches of about one size; milliseconds of one step, the mean."""

    kind: str
    """``decode``, or ``mixed``: steps that also compute whole prompts."""
    least_decodes: int
    most_decodes: int
    steps: int
    measured_ms: float
    predicted_ms: float
    error_pct: float


def compare_steps(requests: Table, hit_tokens: Floats, step_time: StepTime, token_budget: int) -> list[StepRow]:
    """``requests``: as of a ``MeasuredRun``, of one engine; ``hit_tokens``: of their prompts, those not computed.

    Raises ``StepsUnknownError`` where the times do not say how long steps took.
    """
    found = stretches_of(requests, step_time)
    pure = found.is_decode
    steps = found.steps[pure]
    rows = _rows("decode", found.decodes[pure], steps, found.seconds[pure], steps * found.decode_s[pure])
    mixed = np.array(list(_mixed(requests, hit_tokens, found, step_time, token_budget))).reshape(-1, 3)
    every = [*rows, *_rows("mixed", mixed[:, 0], np.ones(len(mixed)), mixed[:, 1], mixed[:, 2])]
    if not every:
        raise StepsUnknownError("none of them is like others of batches as large")
    return every


def _rows(
    kind: str, decodes: Floats | Ints, steps: Floats | Ints, measured_s: Floats, predicted_s: Floats
) -> Iterator[StepRow]:
    least = 0
    for most in LIMITS:
        own = (least <= decodes) & (decodes <= most)
        count = int(steps[own].sum())
        if count:
            ours, theirs = float(predicted_s[own].sum()) / count, float(measured_s[own].sum()) / count
            sizes = int(decodes[own].min()), int(decodes[own].max())
            yield StepRow(kind, *sizes, count, theirs / MILLI, ours / MILLI, percent_off(ours, theirs))
        least = most + 1


def _mixed(
    requests: Table, hit_tokens: Floats, found: Stretches, step_time: StepTime, token_budget: int
) -> Iterator[tuple[float, float, float]]:
    """Sequences that decode beside prompts, and the step's seconds, measured and predicted.

    Of stretches whose prompts were scheduled together and computed in one step, their last: the others are decode steps
    as long as those of batches as large.
    """
    begin_s, end_s = found.begin_s, found.begin_s + found.seconds
    for place in np.flatnonzero(found.prefills):
        inside = (requests["scheduled_s"] < end_s[place]) & (requests["first_token_s"] > begin_s[place] + TOGETHER_S)
        started_s, first_s = requests["scheduled_s"][inside], requests["first_token_s"][inside]
        new = (requests["prompt_tokens"] - hit_tokens)[inside]
        decodes, kv = int(found.decodes[place]), found.kv_tokens[place]
        if not len(new) or started_s.min() < begin_s[place] or np.ptp(started_s) > TOGETHER_S:
            continue
        if first_s.max() > end_s[place] + TOGETHER_S or new.sum() + decodes > token_budget:
            continue
        chunks = zip(new, hit_tokens[inside], strict=True)
        work = sum(step_time.chunk_work(int(tokens), int(prefix)) for tokens, prefix in chunks)
        tokens, sequences = int(new.sum()) + decodes, decodes + len(new)
        longest = int(found.longest_tokens[place])
        predicted_s = step_time.mixed_s(tokens, sequences, decodes, int(kv), longest, work)
        decode_s = found.decode_s[place] * found.usual[place]
        measured_s = found.seconds[place] - (found.steps[place] - 1) * decode_s
        if measured_s >= decode_s:  # Else too many of its steps were taken for decode steps.
            yield decodes, measured_s, predicted_s
