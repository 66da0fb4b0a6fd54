"""Hits as they were counted, against the audit's arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvsim.lab.kv.analysis.metrics import Rows
from kvsim.lab.kv.trial import PhaseRow


@dataclass(frozen=True, kw_only=True)
class HitCheck:
    """Sums over those phase rows that have both sides of a comparison."""

    point: int
    at: Mapping[str, float]
    phase: str
    answers_phases: int
    """Rows with an expected number and the answers' own; below, their sums."""
    answers_expected: int
    answers_found: int
    counters_phases: int
    """As above, by the server's counters."""
    counters_expected: int
    counters_found: float
    unequal: tuple[int, ...]
    """Repeats in which one of both differs from what was expected."""


def hit_checks(rows: Rows) -> list[HitCheck]:
    """One of each phase of each point that has something to compare."""
    found = []
    for point in rows.points:
        here = [row for row in rows.phases_at(point) if row.started and row.expected_hit_tokens is not None]
        for phase in dict.fromkeys(row.phase for row in here):
            one = _check(rows, point, phase, [row for row in here if row.phase == phase])
            if one.answers_phases or one.counters_phases:
                found.append(one)
    return found


def _check(rows: Rows, point: int, phase: str, here: list[PhaseRow]) -> HitCheck:
    answers = [row for row in here if row.cached_tokens is not None]
    counters = [row for row in here if row.counters == "direct" and row.prefix_hits is not None]
    unequal = {row.repeat for row in answers if row.cached_tokens != row.expected_hit_tokens}
    unequal |= {row.repeat for row in counters if row.prefix_hits != row.expected_hit_tokens}
    return HitCheck(
        point=point,
        at=rows.at(point),
        phase=phase,
        answers_phases=len(answers),
        answers_expected=sum(row.expected_hit_tokens or 0 for row in answers),
        answers_found=sum(row.cached_tokens or 0 for row in answers),
        counters_phases=len(counters),
        counters_expected=sum(row.expected_hit_tokens or 0 for row in counters),
        counters_found=sum(row.prefix_hits or 0.0 for row in counters),
        unequal=tuple(sorted(unequal)),
    )
