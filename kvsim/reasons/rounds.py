"""Which round of a conversation hits how much."""

from __future__ import annotations

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import percent

FEWEST = 20
"""Requests of a round that is told."""
MOST_ROUNDS = 6


def by_round(evidence: Evidence) -> Reason | None:
    """Hits of the first, second, ... request of sessions that have several."""
    table, workload = evidence.result.table, evidence.experiment.workload
    order = np.argsort(table["arrival_s"], kind="stable")
    session = workload.session_id[table["request_id"][order].astype(np.int64)]
    prompt, hit = table["prompt_tokens"][order], (table["prompt_tokens"] - table["computed_tokens"])[order]
    names, which, counts = np.unique(session, return_inverse=True, return_counts=True)
    several = (names[which] >= 0) & (counts[which] > 1)
    if several.sum() < 2 * FEWEST:
        return None
    number_of = np.empty(len(session), dtype=np.int64)
    grouped = np.argsort(which, kind="stable")
    number_of[grouped] = np.arange(len(session)) - np.repeat(np.cumsum(counts) - counts, counts)
    rates: dict[int, float] = {}
    for place in range(MOST_ROUNDS):
        rows = several & (number_of == place)
        if rows.sum() >= FEWEST:
            rates[place + 1] = float(hit[rows].sum() / prompt[rows].sum())
    if len(rates) < 2:
        return None
    listed = ", ".join(f"{place} {percent(rate)}" for place, rate in rates.items())
    return Reason(
        about="rounds",
        rule="by_round",
        sentence=f"Hits by the round of a conversation: {listed}.",
        figures={f"round_{place}_hit_rate": rate for place, rate in rates.items()},
        weight=max(rates.values()) - min(rates.values()),
        system=evidence.result.name,
    )


RULES = (by_round,)
