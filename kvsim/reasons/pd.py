"""Why prefill/decode separation does better or worse than unified serving of the same requests."""

from __future__ import annotations

from kvsim.modes.cluster import PdCluster
from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.figures import SystemSummary
from kvsim.record.labels import number, percent, ratio

NEAR = 0.1
"""Relative differences below it are not told."""
HANDED_OVER = ("transfer", "decode_wait", "first_decode")
"""Parts of TTFT that unified serving does not have."""


def _unified(evidence: Evidence) -> SystemSummary | None:
    """What the PD system is compared with; ``None`` where this is not PD's evidence, or nothing else was run."""
    if not evidence.is_pd:
        return None
    return next((other for other in evidence.others if other.name == "unified"), None)


def _reason(rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    return Reason(about="pd", rule=rule, sentence=sentence, figures=figures, weight=weight)


def sides(evidence: Evidence) -> Reason | None:
    """Which side is loaded more, and the ratio that would balance them."""
    cluster, use = evidence.experiment.cluster, evidence.summary.utilisation
    if not evidence.is_pd or not isinstance(cluster, PdCluster) or cluster.balanced_pd_ratio is None:
        return None
    prefill, decode = use["prefill"].load, use["decode"].load
    if prefill is None or decode is None:
        return None
    actual, balanced = (cluster.prefill_instances, cluster.decode_instances), cluster.balanced_pd_ratio
    binds, other = ("prefill", "decode") if prefill >= decode else ("decode", "prefill")
    loads = {"prefill": prefill, "decode": decode}
    if loads[other] >= (1 - NEAR) * loads[binds]:
        return None
    said = f"The {binds} side binds: loaded to {percent(loads[binds])}, the {other} side to {percent(loads[other])}"
    said += f"; P:D {ratio(balanced)} balances them, {ratio(actual)} was run." if balanced != actual else "."
    return _reason("sides", 0.6, said, prefill_load=prefill, decode_load=decode)


def handed_over(evidence: Evidence) -> Reason | None:
    """What handing a request over to a decode instance adds to TTFT."""
    unified = _unified(evidence)
    parts = evidence.summary.attribution_ms.mean
    added_ms, whole_ms = sum(parts[name] or 0.0 for name in HANDED_OVER), evidence.summary.ttft_ms.mean
    if unified is None or not whole_ms or added_ms < NEAR * whole_ms:
        return None
    said = (
        f"Handing over costs PD {number(added_ms)} of {number(whole_ms)} ms of mean TTFT: transfer "
        f"{number(parts['transfer'])}, waiting to decode {number(parts['decode_wait'])}, the first decode step "
        f"{number(parts['first_decode'])}."
    )
    figures = {f"{name}_ms": parts[name] for name in HANDED_OVER}
    return _reason("handed_over", added_ms / whole_ms, said, added_ms=added_ms, ttft_ms=whole_ms, **figures)


def prefill_queue(evidence: Evidence) -> Reason | None:
    """Fewer instances compute prompts than in the unified system."""
    unified = _unified(evidence)
    own_ms = evidence.summary.attribution_ms.mean["queue"]
    if unified is None or own_ms is None or not evidence.summary.ttft_ms.mean:
        return None
    theirs_ms = unified.attribution_ms.mean["queue"] or 0.0
    if abs(own_ms - theirs_ms) < NEAR * evidence.summary.ttft_ms.mean:
        return None
    prompts, all_ = evidence.instances, sum(use.instances for use in unified.utilisation.values())
    more = "longer" if own_ms > theirs_ms else "shorter"
    said = (
        f"Prompts queue {more} with PD: {number(own_ms)} ms at {prompts:,} prefill instances against "
        f"{number(theirs_ms)} ms at {all_:,} unified ones."
    )
    figures = {"pd_queue_ms": own_ms, "unified_queue_ms": theirs_ms, "prefill_instances": prompts, "instances": all_}
    return _reason("prefill_queue", min(abs(own_ms - theirs_ms) / evidence.summary.ttft_ms.mean, 1.0), said, **figures)


def decode_alone(evidence: Evidence) -> Reason | None:
    """Decode steps compute no prompts, so that no token waits for one."""
    unified = _unified(evidence)
    if unified is None:
        return None
    own_ms, theirs_ms = evidence.summary.itl_ms.p99, unified.itl_ms.p99
    if own_ms is None or theirs_ms is None or own_ms >= (1 - NEAR) * theirs_ms:
        return None
    said = (
        f"PD's decode steps compute no prompts: p99 of the gaps between tokens is {number(own_ms)} ms against "
        f"{number(theirs_ms)} ms where prompts are computed in the same steps."
    )
    return _reason("decode_alone", 1 - own_ms / theirs_ms, said, pd_itl_p99_ms=own_ms, unified_itl_p99_ms=theirs_ms)


RULES = (sides, handed_over, prefill_queue, decode_alone)
