"""Why memory below the GPUs helps or does not: what tiers gave, and why not the rest."""

from __future__ import annotations

from kvsim.reasons.evidence import WORTH, Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import counted, listed, number, percent
from kvsim.units import GB

FULL = 0.9
"""The share of its bytes from which on a pool is full."""
MOSTLY = 0.5
"""The share of mean TTFT from which on queueing hides what tiers change."""


def _reason(evidence: Evidence, rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    return Reason(
        about="offload", rule=rule, sentence=sentence, figures=figures, weight=weight, system=evidence.result.name
    )


def _missed(evidence: Evidence, rule: str, name: str, text: str, **figures: float | int | None) -> Reason | None:
    """A reason from ``text``, in which ``{}`` stands for the tokens missed by the reason ``name``."""
    use = evidence.result.cache
    tokens = use.misses.get(name, 0)
    if not use.tiers or not use.query_tokens or tokens < WORTH * use.query_tokens:
        return None
    share = tokens / use.query_tokens
    said = text.format(f"{percent(share)} of prompt tokens ({tokens:,})")
    return _reason(evidence, rule, share, said, tokens=tokens, prompt_tokens=use.query_tokens, **figures)


def _lost(evidence: Evidence) -> str:
    """What became of chunks that tiers had, and have no more. The cache of another instance may still have them."""
    lost = [each.kind for each in evidence.incidents if each.kind in ("fail", "pool", "drive")]
    gone = "lost as memory was (cache.restart_after_requests), " if evidence.is_restarted else ""
    if lost:
        gone += f"lost with what failed (fleet.events: {listed(list(dict.fromkeys(lost)))}), or "
    return (
        f"had been written to tiers and {gone}evicted from all of them, or stood behind what was missing there, before "
        "they were asked for again"
    )


def nothing_evicted(evidence: Evidence) -> Reason | None:
    """No instance's own cache lost anything."""
    use = evidence.result.cache
    if not use.tiers or use.evicted_blocks or evidence.is_forgetful or not evidence.settings.enable_prefix_caching:
        return None
    said = (
        f"Nothing was evicted from {use.blocks_per_instance:,} KV blocks an instance: tiers can give it only what "
        "others computed."
    )
    loaded = sum(tier.loaded_tokens for tier in use.tiers)
    weight = 1.0 - (loaded / use.query_tokens if use.query_tokens else 0.0)
    figures = {"evicted_blocks": 0, "blocks_per_instance": use.blocks_per_instance, "loaded_tokens": loaded}
    return _reason(evidence, "nothing_evicted", weight, said, **figures)


def declined(evidence: Evidence) -> Reason | None:
    """Within reach, and computed because that is faster than the link."""
    text = (
        "{} lay in tiers within reach and were computed: at the queues of the moment that was faster than loading them "
        "(cache.load_or_recompute)."
    )
    return _missed(evidence, "declined", "declined_tokens", text)


def pending(evidence: Evidence) -> Reason | None:
    """Asked for before they had been computed or written."""
    text = "{} were asked for while an earlier request with them was still being computed or written to a tier."
    return _missed(evidence, "pending", "pending_tokens", text)


def gone(evidence: Evidence) -> Reason | None:
    """There when looked up, gone when served."""
    text = (
        "At least {} were found when the prompt was looked up and were gone when it was served, after its wait in the "
        "queue."
    )
    return _missed(evidence, "gone", "gone_tokens", text)


def too_small(evidence: Evidence) -> Reason | None:
    """Evicted from every tier, by pools that are full."""
    tiers = evidence.result.cache.tiers
    full = [tier for tier in tiers if tier.held_bytes >= FULL * tier.capacity_bytes > 0 and tier.evicted_chunks]
    if not full:
        return None
    pools = listed(
        [f"{tier.name} ({number(tier.capacity_bytes / GB)} GB in {counted(tier.tiers, 'pool')})" for tier in full]
    )
    are = "was" if len(full) == 1 else "were"
    text = f"{{}} {_lost(evidence)}: {pools} {are} full at the end."
    sizes = {f"{tier.name}_gb": tier.capacity_bytes / GB for tier in full}
    return _missed(evidence, "too_small", "evicted_tokens", text, **sizes)


def lost_below(evidence: Evidence) -> Reason | None:
    """Evicted from every tier, where no pool is full."""
    if too_small(evidence) is not None:
        return None
    return _missed(evidence, "lost_below", "evicted_tokens", f"{{}} {_lost(evidence)}.")


def out_of_reach(evidence: Evidence) -> Reason | None:
    """In memory of another instance, host or rack."""
    text = "{} lay in memory of another instance, host or rack, out of reach."
    return _missed(evidence, "out_of_reach", "elsewhere_tokens", text)


def refused(evidence: Evidence) -> Reason | None:
    """Never written."""
    tiers = evidence.result.cache.tiers
    refusals, drops = sum(tier.refused_chunks for tier in tiers), sum(tier.dropped_chunks for tier in tiers)
    text = (
        "{} had been computed and never written to a tier: "
        f"{refusals:,} chunks were refused by admission, {drops:,} dropped at busy ports."
    )
    return _missed(evidence, "refused", "refused_tokens", text, refused_chunks=refusals, dropped_chunks=drops)


def saved(evidence: Evidence) -> Reason | None:
    """What was loaded, how long that took, and how long computing it would have."""
    use, table = evidence.result.cache, evidence.result.table
    loaded, load_s = int(table["loaded_tokens"].sum()), float(table["tier_load_s"].sum())
    computed, prefill_s = float(table["computed_tokens"].sum()), float(table["prefill_s"].sum())
    if not use.tiers or not use.query_tokens or loaded < WORTH * use.query_tokens or not computed or not prefill_s:
        return None
    compute_s = loaded * prefill_s / computed
    share = loaded / float(table["prompt_tokens"].sum())
    said = (
        f"Tiers gave {percent(share)} of prompt tokens ({loaded:,}) for {number(load_s * 1e3)} ms of waiting in all; "
        f"at this run's {number(computed / prefill_s)} tokens/s computing them would take {number(compute_s * 1e3)} ms."
    )
    figures = {"loaded_tokens": loaded, "load_ms": load_s * 1e3, "compute_ms": compute_s * 1e3}
    rates = {"loaded_share": share, "prefill_tokens_per_s": computed / prefill_s}
    return _reason(evidence, "saved", share, said, **figures, **rates)


def queued_first(evidence: Evidence) -> Reason | None:
    """Most of TTFT is over before what tiers give counts."""
    parts, use = evidence.summary.attribution_ms.mean, evidence.result.cache
    total_ms, queue_ms = sum(value or 0.0 for value in parts.values()), parts["queue"] or 0.0
    if not any(tier.loaded_tokens for tier in use.tiers) or not total_ms or queue_ms < MOSTLY * total_ms:
        return None
    own_ms = (parts["tier_load"] or 0.0) + (parts["prefill"] or 0.0)
    said = (
        f"Requests queue for {number(queue_ms)} of {number(total_ms)} ms of mean TTFT; a hit in a tier spares its own "
        f"request computing, and loading and computing are {number(own_ms)} ms."
    )
    figures = {"queue_ms": queue_ms, "ttft_mean_ms": total_ms, "load_and_compute_ms": own_ms}
    return _reason(evidence, "queued_first", queue_ms / total_ms, said, **figures)


def nothing_loaded(evidence: Evidence) -> Reason | None:
    """No tier ever served a token."""
    use = evidence.result.cache
    if not use.tiers or any(tier.loaded_tokens for tier in use.tiers) or not use.evicted_blocks:
        return None
    said = (
        f"No prompt token was loaded from a tier, though {use.evicted_blocks:,} blocks were evicted from the "
        "instances' own caches."
    )
    return _reason(evidence, "nothing_loaded", 0.5, said, loaded_tokens=0, evicted_blocks=use.evicted_blocks)


RULES = (
    nothing_evicted,
    declined,
    pending,
    gone,
    too_small,
    lost_below,
    out_of_reach,
    refused,
    saved,
    queued_first,
    nothing_loaded,
)
