"""Checks of a trace's times: their order, how fine they are, and whether their unit can be right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvsim.workload.info import Finding
from kvsim.workload.rawtrace import RawTrace, in_sessions
from kvsim.workload.times import PER_SECOND
from kvsim.workload.workload import Floats

# Thresholds of suspicion: wide enough that published traces of real services pass. They ask for 0.2 to 100 requests/s.
MIN_ROWS = 20
COARSE_SHARE = 0.5
MAX_MEAN_RATE_PER_S = 2_000
MAX_MEAN_GAP_S = 60
MAX_GAP_OF_FEW_S = 3600
MAX_SPAN_S = 366 * 86_400
# No engine streams an answer faster than this, and the next turn comes after it.
MIN_ANSWER_S_PER_TOKEN = 5e-4


def time_findings(raw: RawTrace) -> Iterator[Finding]:
    """Findings about the times that the file gives; those of turns that follow an answer are kvsim's own."""
    (given,) = np.nonzero(raw.is_timed)
    time_s = raw.time_s[given]
    (back,) = np.nonzero(np.diff(time_s) < 0)
    if len(back):
        yield raw.finding("warning", "unsorted", given[back + 1], "earlier than the row before")
    distinct, first = np.unique(time_s, return_index=True)
    if len(distinct) < len(time_s):
        tied = np.setdiff1d(np.arange(len(time_s)), first)
        yield from _coarse(int(raw.line[given[tied[0]]]), len(time_s), distinct)
    yield from _unit(raw, float(distinct[-1] - distinct[0]), len(given))


def _coarse(line: int, rows: int, distinct: Floats) -> Iterator[Finding]:
    whole = not np.any(distinct % 1)
    if rows < MIN_ROWS or (len(distinct) > COARSE_SHARE * rows and not whole):
        return
    gap_s = float(np.median(np.diff(distinct))) if len(distinct) > 1 else 0.0
    message = (
        f"{len(distinct):,} distinct times among {rows:,} rows, about {gap_s:.3g} s apart"
        f"{', all whole seconds' if whole else ''}: bursts that the service did not see; --workload-dequantise "
        "spreads them"
    )
    yield Finding("warning", "coarse-times", line, message)


def _unit(raw: RawTrace, span_s: float, rows: int) -> Iterator[Finding]:
    gap_s = span_s / max(rows - 1, 1)
    enough = rows >= MIN_ROWS
    if span_s > MAX_SPAN_S or gap_s > (MAX_MEAN_GAP_S if enough else MAX_GAP_OF_FEW_S):
        message = f"{rows:,} requests in {span_s:,.0f} s, {gap_s:,.1f} s apart: is the time unit too coarse?"
        message += _plausible(raw.unit, span_s, rows)
    elif enough and gap_s < 1 / MAX_MEAN_RATE_PER_S:
        message = f"{rows:,} requests in {span_s:.3g} s: is the time unit too fine?"
        message += _plausible(raw.unit, span_s, rows)
    elif (pace_s := _answer_s_per_token(raw)) is not None and pace_s < MIN_ANSWER_S_PER_TOKEN:
        message = f"turns follow each other in {pace_s * 1e6:.3g} us a token of the answer: is the time unit too fine?"
    else:
        return
    yield Finding("warning", "time-unit", int(raw.line[0]), message)


def _plausible(unit: str, span_s: float, rows: int) -> str:
    """The flag of each unit in which such a span would be ordinary; nothing where there is none."""
    if unit not in PER_SECOND or rows < 2:
        return ""
    spans_s = {other: span_s * PER_SECOND[unit] / per_second for other, per_second in PER_SECOND.items()}
    ordinary = [
        f"--workload-time-unit {other} makes it {other_s:,.4g} s"
        for other, other_s in spans_s.items()
        if other != unit and 1 / MAX_MEAN_RATE_PER_S <= other_s / (rows - 1) <= MAX_MEAN_GAP_S and other_s <= MAX_SPAN_S
    ]
    return f" {', '.join(ordinary)}" if ordinary else ""


def _answer_s_per_token(raw: RawTrace) -> float | None:
    """From one turn of a session to the next, over the tokens answered in between: the median of many."""
    earlier, later = in_sessions(raw)
    answered = raw.output_tokens[earlier] > 0
    earlier, later = earlier[answered], later[answered]
    if len(later) < MIN_ROWS:
        return None
    return float(np.median((raw.time_s[later] - raw.time_s[earlier]) / raw.output_tokens[earlier]))
