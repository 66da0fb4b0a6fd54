"""Which round of a conversation hits how much."""

from __future__ import annotations

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import percent
from kvsim.workload.workload import Ints

SHOWN = 4
"""Rounds that have a figure of their own, the last one for all that follow."""


def by_round(evidence: Evidence) -> Reason | None:
    """Hit rates by the place of a request in its session, where sessions have several."""
    table, workload = evidence.result.table, evidence.experiment.workload
    requests = table["request_id"].astype(np.int64)
    rows = np.flatnonzero(workload.session_id[requests] >= 0)
    if not len(rows):
        return None
    turn = _turns(workload.session_id)[requests[rows]]
    if turn.max() < 1:
        return None
    prompt = table["prompt_tokens"][rows]
    hit = prompt - table["computed_tokens"][rows]
    turn = np.minimum(turn, SHOWN - 1)
    figures: dict[str, float | int | None] = {}
    words = []
    for number in range(int(turn.max()) + 1):
        own = turn == number
        if not own.any():
            continue
        rate = float(hit[own].sum() / prompt[own].sum())
        label = f"round_{number + 1}" + ("_on" if number == SHOWN - 1 else "")
        figures[f"hit_rate_{label}"] = rate
        figures[f"requests_{label}"] = int(own.sum())
        words.append(f"{percent(rate)} in {_name(number)} ({int(own.sum()):,})")
    later = float(prompt[turn > 0].sum() / table["prompt_tokens"].sum())
    figures["prompt_tokens_share_later"] = later
    sentence = f"Hits of prompt tokens by round of the conversation (requests): {', '.join(words)}."
    return Reason(
        about="rounds",
        rule="by_round",
        sentence=sentence,
        figures=figures,
        weight=later / 2,
        system=evidence.result.name,
    )


def _turns(session_id: Ints) -> Ints:
    """How many requests of its session come before each."""
    by_session = np.argsort(session_id, kind="stable")
    grouped, found = session_id[by_session], np.empty(len(session_id), dtype=np.int64)
    found[by_session] = np.arange(len(session_id)) - np.searchsorted(grouped, grouped, side="left")
    return found


def _name(number: int) -> str:
    return f"round {number + 1}" + (" and later" if number == SHOWN - 1 else "")


RULES = (by_round,)
