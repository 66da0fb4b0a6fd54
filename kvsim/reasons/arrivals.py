"""Why requests meet: how they arrive where they queue or share steps."""

from __future__ import annotations

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.reasons.ttft import parts_of
from kvsim.record.labels import counted, number

BURSTY, PER_BIN = 3.0, 10
"""Variance over mean of arrivals in bins of ``PER_BIN`` on average, from which on they come in bursts; 1 at random."""
BESIDE = 0.9
"""How arrivals weigh beside the part of TTFT that they explain."""


def _weight(evidence: Evidence, *names: str) -> float | None:
    """The share of mean TTFT of the first of its parts that is large; ``None``: none is."""
    for name in names:
        parts = parts_of(evidence, name)
        if parts is not None:
            return parts["mean_ms"] / parts["ttft_mean_ms"] * BESIDE
    return None


def _reason(evidence: Evidence, rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    return Reason(
        about="ttft", rule=rule, sentence=sentence, figures=figures, weight=weight, system=evidence.result.name
    )


def bursts(evidence: Evidence) -> Reason | None:
    """Arrivals that come in bursts, where requests queue."""
    weight = _weight(evidence, "queue")
    arrival_s = np.sort(evidence.result.table["arrival_s"])
    span_s, bins = float(np.ptp(arrival_s)), len(arrival_s) // PER_BIN
    if weight is None or bins < PER_BIN or not span_s or _together(evidence) is not None:
        return None
    counts, _ = np.histogram(arrival_s, bins=bins)
    mean, busiest = float(counts.mean()), int(counts.max())
    dispersion = float(counts.var() / mean)
    if dispersion < BURSTY:
        return None
    said = (
        f"Arrivals come in bursts: {busiest:,} within {number(span_s / bins)} s, where {number(mean)} come on average; "
        f"their variance over mean is {number(dispersion)}, 1 where they come at random."
    )
    figures = {"busiest_arrivals": busiest, "bin_s": span_s / bins, "mean_arrivals": mean, "dispersion": dispersion}
    return _reason(evidence, "bursts", weight, said, **figures)


def in_step(evidence: Evidence) -> Reason | None:
    """Requests that arrive at one instant at one instance."""
    weight, found = _weight(evidence, "queue", "interference"), _together(evidence)
    if weight is None or found is None or _users(evidence) is not None:
        return None
    return _reason(evidence, "in_step", weight, f"{_said(evidence, found)}.", **_figures(evidence, found))


def users_in_step(evidence: Evidence) -> Reason | None:
    """Equal requests of a fixed number of users end together and come together."""
    weight, found = _weight(evidence, "queue", "interference"), _together(evidence)
    users = _users(evidence)
    if weight is None or found is None or users is None:
        return None
    said = (
        f"{users:,} users send requests of one length, so that they end and begin together: "
        f"{_said(evidence, found)}. Lengths that vary, as in=400-600, spread them."
    )
    return _reason(evidence, "users_in_step", weight, said, users=users, **_figures(evidence, found))


def _users(evidence: Evidence) -> int | None:
    """Users of a closed loop whose requests are all alike."""
    users, table = evidence.experiment.workload.max_concurrency, evidence.result.table
    if users is None or users < 2 or np.ptp(table["prompt_tokens"]) or np.ptp(table["output_tokens"]):
        return None
    return users


def _together(evidence: Evidence) -> tuple[int, int] | None:
    """Requests that came at the same instant to the same instance as another, and the most that did; ``None``: fewer
    than half."""
    table = evidence.result.table
    places = np.stack([table["arrival_s"], table["prefill_instance"]])
    _, index, sizes = np.unique(places, axis=1, return_inverse=True, return_counts=True)
    together = int((sizes[index.reshape(-1)] > 1).sum())
    return (together, int(sizes.max())) if len(sizes) and together >= max(places.shape[1] / 2, 2) else None


def _said(evidence: Evidence, found: tuple[int, int]) -> str:
    together, most = found
    return (
        f"{together:,} of {counted(len(evidence.result.table['arrival_s']), 'request')} arrive at the same instant and "
        f"instance as another, up to {most:,} at once, and share steps or queue for each other"
    )


def _figures(evidence: Evidence, found: tuple[int, int]) -> dict[str, float | int | None]:
    return {"together": found[0], "requests": len(evidence.result.table["arrival_s"]), "most_at_once": found[1]}


RULES = (bursts, in_step, users_in_step)
