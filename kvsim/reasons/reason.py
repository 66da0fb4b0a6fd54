"""One reason: a sentence, and the figures that its numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Subject = Literal["hit_rate", "ttft", "pd", "offload", "scaling", "rounds"]
SUBJECTS: tuple[Subject, ...] = ("hit_rate", "ttft", "pd", "offload", "scaling", "rounds")
PRINTED = 6
"""Reasons that a terminal shows."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why something came out as it did, by one rule; ``docs/reasons.md`` has all of them."""

    about: Subject
    rule: str
    """The rule's name, unique within ``about``."""
    sentence: str
    figures: Mapping[str, float | int | None]
    """What the sentence's numbers come from, with units in the names; shares lie between 0 and 1."""
    weight: float
    """The share that it explains, 0..1: of prompt tokens, of TTFT, of what is compared. The larger is told first."""
    system: str | None = None
    """The name of the result that it is about; ``None``: of all."""


def most_important(reasons: tuple[Reason, ...], count: int = PRINTED) -> tuple[Reason, ...]:
    """The ``count`` that explain most, in that order; of one subject and system no more than half of them."""
    found: list[Reason] = []
    for reason in sorted(reasons, key=lambda each: -each.weight):
        if any(each.sentence == reason.sentence for each in found):
            continue
        alike = sum((each.about, each.system) == (reason.about, reason.system) for each in found)
        if alike < max(count // 2, 1) and len(found) < count:
            found.append(reason)
    return tuple(found)
