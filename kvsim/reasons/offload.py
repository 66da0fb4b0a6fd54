"""Why memory below the GPUs does or does not help."""

from __future__ import annotations

from kvsim.reasons.evidence import WORTH, Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import number, percent


def _reason(evidence: Evidence, rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    name = evidence.result.name
    return Reason(about="offload", rule=rule, sentence=sentence, figures=figures, weight=weight, system=name)


def _loaded(evidence: Evidence) -> float:
    by_tier = evidence.summary.cache.by_tier
    return sum(share or 0.0 for name, share in by_tier.items() if name != "hbm")


def loaded(evidence: Evidence) -> Reason | None:
    """What tiers gave, and what loading it cost."""
    share = _loaded(evidence)
    if not evidence.has_tiers or share < WORTH:
        return None
    own, cost_ms = evidence.summary.cache.by_tier.get("hbm") or 0.0, evidence.summary.attribution_ms.mean["tier_load"]
    said = (
        f"Tiers gave {percent(share)} of prompt tokens, the GPUs' own caches {percent(own)}; loading took "
        f"{number(cost_ms)} ms of mean TTFT."
    )
    return _reason(evidence, "loaded", share, said, tier_share=share, hbm_share=own, tier_load_ms=cost_ms)


def nothing_evicted(evidence: Evidence) -> Reason | None:
    """The GPUs' own caches lost nothing."""
    if not evidence.has_tiers or evidence.summary.cache.evictions:
        return None
    said = (
        "Nothing was evicted from the GPUs' own caches: what an instance has computed it still has, and tiers can give "
        "it only what others computed."
    )
    return _reason(evidence, "nothing_evicted", 0.5, said, evictions=0)


def faster_computed(evidence: Evidence) -> Reason | None:
    """Computing was faster than loading."""
    share = evidence.summary.cache.misses.get("declined_tokens") or 0.0
    if not evidence.has_tiers or share < WORTH:
        return None
    said = (
        f"{percent(share)} of prompt tokens were within reach and computed: at the queues of the moment that was "
        "faster than loading them (cache.load_or_recompute)."
    )
    return _reason(evidence, "faster_computed", share, said, declined_share=share)


def lost_below(evidence: Evidence) -> Reason | None:
    """The tiers themselves are too small."""
    share = evidence.summary.cache.misses.get("evicted_tokens") or 0.0
    if not evidence.has_tiers or share < WORTH:
        return None
    said = (
        f"{percent(share)} of prompt tokens had been computed and evicted from every tier before they were asked for."
    )
    return _reason(evidence, "lost_below", share, said, evicted_share=share)


def out_of_reach(evidence: Evidence) -> Reason | None:
    """In memory of other hosts or racks."""
    share = evidence.summary.cache.misses.get("elsewhere_tokens") or 0.0
    if not evidence.has_tiers or share < WORTH:
        return None
    said = (
        f"{percent(share)} of prompt tokens were in memory that the instance could not reach: of another host or rack."
    )
    return _reason(evidence, "out_of_reach", share, said, elsewhere_share=share)


def refused(evidence: Evidence) -> Reason | None:
    """Admission, or ports without time."""
    share = evidence.summary.cache.misses.get("refused_tokens") or 0.0
    if not evidence.has_tiers or share < WORTH:
        return None
    said = f"{percent(share)} of prompt tokens had been computed and never written: refused, or ports had no time."
    return _reason(evidence, "refused", share, said, refused_share=share)


RULES = (loaded, nothing_evicted, faster_computed, lost_below, out_of_reach, refused)
