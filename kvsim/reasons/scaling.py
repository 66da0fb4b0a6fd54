"""Why more instances would not help, or did not: what of latency and of hits they leave as it is."""

from __future__ import annotations

from kvsim.modes.cluster import DeployedCluster
from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import counted, number, percent

LOST = 0.05
"""Points of hit rate from which on the spreading of requests is told."""
OWN, IDLE, SMALL_WAIT = 0.7, 0.5, 0.1
"""The share of TTFT from which on it is the request's own computing; the load and the share of waiting below which
another instance has next to nothing to take over."""
SHARED = ("queue", "interference", "preemption")
"""Parts of TTFT that other requests on the same instance cause."""


def _reason(evidence: Evidence, rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    return Reason(
        about="scaling", rule=rule, sentence=sentence, figures=figures, weight=weight, system=evidence.result.name
    )


def _is_asked(evidence: Evidence) -> bool:
    """Where instances are several, or a deployment is predicted, whose reader may add some."""
    return not evidence.is_pd and (evidence.instances > 1 or isinstance(evidence.experiment.cluster, DeployedCluster))


def _share_of_ttft(evidence: Evidence, part: str) -> float | None:
    mean = evidence.summary.attribution_ms.mean
    total = sum(value or 0.0 for value in mean.values())
    return (mean[part] or 0.0) / total if total else None


def spread(evidence: Evidence) -> Reason | None:
    """Hits that are lost as requests spread over caches of their own."""
    missed = evidence.missed
    lost = missed.total("elsewhere") + missed.total("answers")
    if evidence.is_pd or evidence.instances < 2 or evidence.has_tiers or lost < LOST * missed.prompt_tokens:
        return None
    now, then = (tokens / missed.prompt_tokens for tokens in (missed.hit_tokens, missed.hit_tokens + lost))
    said = (
        f"Requests spread over {evidence.instances:,} caches hit {percent(now)}; what others of them had computed "
        f"before would make it {percent(then)} at most: each further instance begins with none of it."
    )
    figures = {"instances": evidence.instances, "hit_rate": now, "hit_rate_anywhere": then}
    return _reason(evidence, "spread", then - now, said, **figures)


def own_compute(evidence: Evidence) -> Reason | None:
    """TTFT is the computing of one request's prompt."""
    share = _share_of_ttft(evidence, "prefill")
    if not _is_asked(evidence) or share is None or share < OWN:
        return None
    ms = evidence.summary.attribution_ms.mean["prefill"]
    said = (
        f"{percent(share)} of mean TTFT, {number(ms)} ms, is computing the request's own prompt, which one "
        "instance does, however many there are."
    )
    return _reason(evidence, "own_compute", share, said, prefill_share=share, prefill_ms=ms)


def idle(evidence: Evidence) -> Reason | None:
    """Instances that are asked for little, and let nobody wait."""
    shares, use = [_share_of_ttft(evidence, part) for part in SHARED], evidence.summary.utilisation.get("colocated")
    if not _is_asked(evidence) or use is None or use.load is None or None in shares or evidence.incidents:
        return None
    waiting = sum(share or 0.0 for share in shares)
    if use.load >= IDLE or waiting >= SMALL_WAIT:
        return None
    count = evidence.instances
    said = (
        f"{counted(count, 'instance')} {'is' if count == 1 else 'are'} asked {percent(use.load)} of the maximum rate, "
        f"and waiting for other requests is {percent(waiting)} of mean TTFT: more of them can take away no more of it."
    )
    return _reason(evidence, "idle", 1 - use.load, said, load=use.load, waiting_share=waiting, instances=count)


RULES = (spread, own_compute, idle)
