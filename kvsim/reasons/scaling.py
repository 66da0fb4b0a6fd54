"""Why more GPUs would not make a deployment faster."""

from __future__ import annotations

from kvsim.modes.cluster import DeployedCluster
from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import number, percent

LIGHT, OWN = 0.5, 0.5
"""A load below which instances have time, and the share of TTFT that no other instance could take over."""


def has_time(evidence: Evidence) -> Reason | None:
    """Lightly loaded, and TTFT is the prompt's own computation."""
    use, parts = next(iter(evidence.summary.utilisation.values())), evidence.summary.attribution_ms.mean
    ttft_ms, own_ms = evidence.summary.ttft_ms.mean, parts["prefill"]
    if not isinstance(evidence.experiment.cluster, DeployedCluster) or use.load is None or not ttft_ms:
        return None
    if use.load >= LIGHT or own_ms is None or own_ms < OWN * ttft_ms:
        return None
    said = (
        f"More instances would hardly shorten TTFT: at {percent(use.load)} of the maximum rate {number(own_ms)} of "
        f"{number(ttft_ms)} ms are a prompt's own computation; more GPUs an instance would."
    )
    figures = {"load": use.load, "prefill_ms": own_ms, "ttft_ms": ttft_ms}
    return Reason(
        about="scaling", rule="has_time", sentence=said, figures=figures, weight=own_ms / ttft_ms,
        system=evidence.result.name,
    )  # fmt: skip


RULES = (has_time,)
