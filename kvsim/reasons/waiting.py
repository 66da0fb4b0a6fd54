"""What requests waited for in the queue of an engine: what was short just before each was admitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.times import Times, sent_s, times_of
from kvsim.record.result import Table
from kvsim.workload.workload import Floats, Ints

QUESTIONS = 400
"""Requests that waited which are looked at, evenly spread."""
SAME_S = 1e-9
"""Instants that are no further apart are one: they are sums of the same seconds in another order."""
HOLDERS = ("seats", "kv_blocks", "step_under_way", "step_or_budget", "unknown")
MOST_A_STEP = 16
"""Tokens that a sequence which answers takes of a step, and has blocks for ahead of them, at most: one, and drafts."""


@dataclass(frozen=True)
class Holders:
    """Shares of queueing time by what was short at its end."""

    shares: dict[str, float]
    looked_at: int
    """Requests that waited, of ``waited``."""
    waited: int


def holders(evidence: Evidence) -> Holders:
    """What was short as requests were admitted: seats, KV blocks, neither, or not to be told.

    Blocks that prompts share are not counted one by one: that blocks were short is told where what was computed there
    alone fills them, that they were not where all would fit without sharing. Whoever is preempted has no seat until it
    is admitted again; that it stands at the head of a queue by arrival tells that blocks are short. That only the step
    under way was waited for is told where all who were there during the wait fit beside each other, in tokens too.
    """
    table, measured = evidence.result.table, evidence.result.measured
    waited = np.flatnonzero(measured & (table["queue_s"] > 0))
    rows = waited[:: max(1, -(-len(waited) // QUESTIONS))]
    found = dict.fromkeys(HOLDERS, 0.0)
    times = times_of(evidence)
    for row in rows.tolist():
        found[_holder(evidence, table, row, times)] += float(table["queue_s"][row])
    total = sum(found.values())
    shares = {name: value / total if total else 0.0 for name, value in found.items()}
    return Holders(shares, len(rows), len(waited))


def _holder(evidence: Evidence, table: Table, row: int, times: Times) -> str:
    settings, at_s = evidence.settings, times.from_s[row]
    arrival_s = sent_s(table, row)
    if table["tier_load_s"][row] > 0:
        return "unknown"
    here = np.flatnonzero(table["prefill_instance"] == table["prefill_instance"][row])
    # SGLang's scheduler keeps room for answers that are to come: that all had room at the time does not tell.
    by_blocks = settings.sglang is None and not settings.kv_groups
    # Of attempts that came to nothing the table has no rows, though they had seats and blocks; and whatever happens to
    # instances may be waited for, too.
    is_whole = not evidence.result.in_flight and evidence.result.fleet is None
    is_told = settings.batching != "static" and is_whole and by_blocks
    if is_told and _has_room(evidence, _there(table, here, times, arrival_s, at_s)):
        seated = _there(table, here, times, arrival_s, at_s)[0]
        return "step_under_way" if _has_budget(evidence, row, seated, times, arrival_s) else "step_or_budget"
    short = _short(evidence, row, here, times, at_s)
    if short is not None or not is_told:
        return short or "unknown"
    if settings.async_scheduling:
        decided_s = _decided_s(evidence, row, here, times)
        return "unknown" if decided_s is None else _short(evidence, row, here, times, decided_s) or "unknown"
    return "step_or_budget" if _has_room(evidence, _there(table, here, times, at_s, at_s)) else "unknown"


def _short(evidence: Evidence, row: int, here: Ints, times: Times, before_s: float) -> str | None:
    """Whether seats, or else blocks, were surely short for ``row`` just before that instant."""
    settings, table, from_s = evidence.settings, evidence.result.table, times.from_s
    before = here[(from_s[here] < from_s[row] - SAME_S) & (from_s[here] <= before_s + SAME_S)]
    seated, holding = (
        before[until_s[before] >= before_s - SAME_S] for until_s in (times.computed_s[0], times.released_s[0])
    )
    steady = table["preemptions"] == 0
    if steady[seated].sum() >= settings.max_num_seqs:
        return "seats"
    surely = holding if settings.scheduling_policy == "fcfs" else holding[steady[holding]]
    needed = -(-int(table["computed_tokens"][row]) // settings.block_size)
    return "kv_blocks" if _least(evidence, surely, before_s) + needed > _room_blocks(evidence) else None


def _decided_s(evidence: Evidence, row: int, here: Ints, times: Times) -> float | None:
    """When asynchronous scheduling decided that ``row`` is in a step that began later; ``None``: that is not known.

    It is when somebody left, where from then on all had room: ``row`` was not left out once more.
    """
    table, at_s = evidence.result.table, times.from_s[row]
    left_s = times.released_s[0][here]
    left_s = left_s[(left_s < at_s - SAME_S) & (left_s > sent_s(table, row))]
    if evidence.is_pd or not len(left_s):
        return None
    found = float(left_s.max())
    there = _there(table, here, times, found + 2 * SAME_S, at_s)
    has_room = _has_room(evidence, there) and _has_budget(evidence, row, there[0], times, found)
    return found if has_room else None


def _has_room(evidence: Evidence, there: tuple[Ints, Ints]) -> bool:
    return len(there[0]) <= evidence.settings.max_num_seqs and _most(evidence, there[1]) <= _room_blocks(evidence)


def _room_blocks(evidence: Evidence) -> int:
    settings = evidence.settings
    return settings.num_blocks - int(settings.watermark * (settings.num_blocks + 1))


def _there(table: Table, here: Ints, times: Times, since_s: float, at_s: float) -> tuple[Ints, Ints]:
    """Who of ``here`` may have had a seat, and who blocks, between ``since_s`` and ``at_s``, both included."""
    admitted = times.from_s[here] <= at_s + SAME_S
    coming = (table["loaded_tokens"][here] > 0) & (table["arrival_s"][here] <= at_s)
    seated = here[admitted & (times.computed_s[1][here] >= since_s - SAME_S)]
    return seated, here[(admitted | coming) & (times.released_s[1][here] >= since_s - SAME_S)]


def _has_budget(evidence: Evidence, row: int, seated: Ints, times: Times, since_s: float) -> bool:
    """Whether every step from then on had tokens left for ``row`` beside all who were ``seated`` meanwhile."""
    table, settings = evidence.result.table, evidence.settings
    others = seated[seated != row]
    is_prompt = (times.computed_s[1] if evidence.is_pd else table["first_token_s"])[others] >= since_s - SAME_S
    again = table["prompt_tokens"][others] + table["output_tokens"][others]
    tokens = np.where(is_prompt, table["computed_tokens"][others], MOST_A_STEP)
    most = float(np.where(table["preemptions"][others] > 0, again, np.maximum(tokens, MOST_A_STEP)).sum())
    own = 1.0 if settings.enable_chunked_prefill else float(table["computed_tokens"][row])
    return most + own <= settings.max_num_batched_tokens


def _answered(evidence: Evidence, rows: Ints, at_s: float) -> Floats:
    """Tokens of answers that an instance which computes prompts had by ``at_s``, as if evenly spaced."""
    if evidence.is_pd:
        return np.zeros(len(rows))
    table = evidence.result.table
    first_s, finish_s = table["first_token_s"][rows], table["finish_s"][rows]
    lasts_s = np.maximum(finish_s - first_s, 1e-12)
    found: Floats = np.clip((at_s - first_s) / lasts_s, 0, 1) * (table["output_tokens"][rows] - 1)
    return found


def _least(evidence: Evidence, rows: Ints, at_s: float) -> int:
    """Blocks that ``rows`` hold at least: what they found cached is not counted."""
    table, block = evidence.result.table, evidence.settings.block_size
    begun = table["first_token_s"][rows] <= at_s
    # Hits are whole blocks, so what was computed behind them begins with a block of its own.
    computed = table["computed_tokens"][rows] + np.floor(_answered(evidence, rows, at_s))
    return int((-(-np.where(begun, computed, 0.0) // block)).sum())


def _most(evidence: Evidence, rows: Ints) -> int:
    """Blocks that ``rows`` hold at most: nothing is shared, and all has been answered."""
    table, block = evidence.result.table, evidence.settings.block_size
    tokens = table["prompt_tokens"][rows] + (0 if evidence.is_pd else table["output_tokens"][rows]) + MOST_A_STEP
    return int((-(-tokens // block)).sum())
