"""When each output token came: made of the steps that a run kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvsim.record.binned import Floats, Ints
from kvsim.record.detail import Detail
from kvsim.record.result import SystemResult


def step_ends_s(detail: Detail, instance: int) -> Floats:
    """The times at which the steps of one instance that decoded ended, one after the other."""
    steps = detail.steps
    own = (steps["instance"] == instance) & (steps["decode_seqs"] > 0)
    number = steps["num_steps"][own].astype(np.int64)
    rows = np.repeat(np.arange(len(number)), number)
    count = np.arange(1, len(rows) + 1) - np.repeat(np.cumsum(number) - number, number)
    first_s, slope_s = steps["first_step_s"][own][rows], steps["slope_s"][own][rows]
    ends_s = steps["start_s"][own][rows] + count * first_s + slope_s * (count * (count - 1) / 2)
    # The last of a span's is known as it was scheduled.
    last = np.cumsum(number) - 1
    ends_s[last] = steps["end_s"][own]
    return np.asarray(ends_s, dtype=np.float64)


def token_times_s(result: SystemResult, detail: Detail, rows: Ints) -> Iterator[tuple[int, Floats, bool]]:
    """``(row, times, exact)`` for each of ``rows`` of the requests' table, instance by instance.

    A request that decodes gets a token from every step of its instance that decodes, up to its last. One that was
    preempted, or left out of a step, has other times than these: its tokens are spread evenly between the first and the
    last, and ``exact`` says so.
    """
    table = result.table
    places = {(facts.role, facts.number): place for place, facts in enumerate(detail.instances)}
    role = "decode" if any(facts.role == "decode" for facts in detail.instances) else "colocated"
    for number in np.unique(table["decode_instance"][rows]).astype(int):
        place = places[role, number]
        ends_s, may_wait = step_ends_s(detail, place), role == "decode" and not _leaves_out(detail, place)
        for row in rows[table["decode_instance"][rows] == number]:
            first_s, finish_s = table["first_token_s"][row], table["finish_s"][row]
            later = int(table["output_tokens"][row]) - 1
            begin, stop = np.searchsorted(ends_s, (first_s, finish_s), side="right")
            # With its first token from elsewhere it may wait for a seat before it gets the second.
            count = stop - begin
            if not table["preemptions"][row] and (count == later or (may_wait and count > later)):
                yield int(row), np.append(first_s, ends_s[stop - later : stop]), True
            else:
                yield int(row), np.linspace(first_s, finish_s, later + 1), False


def _leaves_out(detail: Detail, instance: int) -> bool:
    """Whether a step of an instance did not reach all requests that ran there."""
    steps = detail.steps
    reached = steps["decode_seqs"] + steps["prefill_seqs"]
    return bool(np.any((steps["running"] > reached) & (steps["instance"] == instance)))
