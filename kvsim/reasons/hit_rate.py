"""Why the hit rate is what it is: what became of the prompt tokens that were computed."""

from __future__ import annotations

import numpy as np

from kvsim.config.derived import block_size_key
from kvsim.reasons.evidence import WORTH, Evidence
from kvsim.reasons.reason import Reason
from kvsim.reasons.reuse import extra_blocks, idle_s
from kvsim.reasons.times import times_of
from kvsim.record.labels import counted, number, percent
from kvsim.units import GB


def _reason(evidence: Evidence, rule: str, tokens: float, sentence: str, **figures: float | int | None) -> Reason:
    """A reason for so many prompt tokens."""
    prompt_tokens = evidence.missed.prompt_tokens
    return Reason(
        about="hit_rate",
        rule=rule,
        sentence=sentence[:-1] + evidence.sampled + ".",
        figures={"prompt_tokens": prompt_tokens, "tokens": int(tokens), **figures},
        weight=tokens / prompt_tokens,
        system=evidence.result.name,
    )


def _worth(evidence: Evidence, tokens: float) -> bool:
    return tokens >= WORTH * evidence.missed.prompt_tokens and tokens > 0


def _share(evidence: Evidence, tokens: float) -> str:
    return f"{percent(tokens / evidence.missed.prompt_tokens)} of prompt tokens ({int(tokens):,})"


def caching_off(evidence: Evidence) -> Reason | None:
    """Prefix caching is off, and prompts share heads."""
    tokens = evidence.missed.total("off")
    if evidence.settings.enable_prefix_caching or evidence.has_tiers or not tokens:
        return None
    said = f"Prefix caching is off: {_share(evidence, tokens)} begin as an earlier prompt or answer did."
    return _reason(evidence, "caching_off", tokens, said)


def unknown_content(evidence: Evidence) -> Reason | None:
    """A trace says neither by hash ids nor by sessions what prompts share."""
    workload = evidence.experiment.workload
    info = workload.info
    is_said = info.format == "synthetic" or info.hash_block_tokens is not None or bool((workload.session_id >= 0).any())
    if is_said or bool((workload.piece_chain >= 0).any()):
        return None
    said = "The trace has neither hash ids nor sessions, so every prompt is taken to be unlike all others: no hits."
    return _reason(evidence, "unknown_content", evidence.missed.prompt_tokens, said)


def nothing_shared(evidence: Evidence) -> Reason | None:
    """No prompt begins like an earlier one, though it is known what they share."""
    missed = evidence.missed
    if missed.shared.any() or missed.hit_tokens or unknown_content(evidence) is not None:
        return None
    said = (
        f"No prompt begins as an earlier prompt or answer did: no cache could hit any of {missed.prompt_tokens:,} "
        "prompt tokens."
    )
    return _reason(evidence, "nothing_shared", missed.prompt_tokens, said)


def shorter_than_block(evidence: Evidence) -> Reason | None:
    """Prompts of at most a block, all of which some earlier one had, and whose last token is computed in any case."""
    missed, block = evidence.missed, evidence.settings.block_size
    short = missed.prompt <= block
    lost = int((missed.tokens["partial"] + missed.tokens["last"])[short & (missed.shared >= missed.prompt)].sum())
    if not evidence.settings.enable_prefix_caching or not _worth(evidence, lost):
        return None
    count = int(short.sum())
    said = (
        f"{counted(count, 'prompt')} of {len(short):,} {'has' if count == 1 else 'have'} at most {block:,} tokens, "
        f"one block{_key(evidence)}, and can hit nothing: {_share(evidence, lost)} were shared there in vain."
    )
    return _reason(evidence, "shorter_than_block", lost, said, prompts=count, requests=len(short), block_tokens=block)


def shared_below_block(evidence: Evidence) -> Reason | None:
    """Heads that are shared, and shorter than a block."""
    missed, block = evidence.missed, evidence.settings.block_size
    below = (missed.shared > 0) & (missed.shared < block) & (missed.shared < missed.prompt)
    lost = int(missed.tokens["partial"][below].sum())
    if not evidence.settings.enable_prefix_caching or not _worth(evidence, lost):
        return None
    longest, count = int(missed.shared[below].max()), int(below.sum())
    said = (
        f"{counted(count, 'prompt')} of {len(below):,} {'shares' if count == 1 else 'share'} a head of at most "
        f"{longest:,} tokens, which fills no block of {block:,}{_key(evidence)}: neither routing nor memory can make "
        f"{_share(evidence, lost)} hits."
    )
    figures = {"prompts": count, "requests": len(below), "longest_shared_tokens": longest, "block_tokens": block}
    return _reason(evidence, "shared_below_block", lost, said, **figures)


def partial_blocks(evidence: Evidence) -> Reason | None:
    """Shared heads of a block at least, and the block in which they end."""
    missed, block = evidence.missed, evidence.settings.block_size
    long = missed.shared >= block
    tokens = missed.tokens["partial"] * (long & (missed.prompt > block))
    lost, count = int(tokens.sum()), int((tokens > 0).sum())
    if not evidence.settings.enable_prefix_caching or not _worth(evidence, lost):
        return None
    said = (
        f"{_share(evidence, lost)} were shared in a last block that was not whole: {number(lost / count)} tokens a "
        f"prompt in {counted(count, 'prompt')}, with blocks of {block:,}{_key(evidence)}."
    )
    figures = {"prompts": count, "block_tokens": block, "tokens_a_prompt": lost / count}
    return _reason(evidence, "partial_blocks", lost, said, **figures)


def repeated_whole(evidence: Evidence) -> Reason | None:
    """Prompts that an earlier one begins with, and whose last block is computed for the last token."""
    missed, block = evidence.missed, evidence.settings.block_size
    tokens = missed.tokens["last"] * (missed.prompt > block)
    lost, count = int(tokens.sum()), int((tokens > 0).sum())
    if not _worth(evidence, lost):
        return None
    said = (
        f"{_share(evidence, lost)} are the last block of {counted(count, 'prompt')} that an earlier one has in full: a "
        f"block of {block:,} tokens is computed again for its last token."
    )
    return _reason(evidence, "repeated_whole", lost, said, prompts=count, block_tokens=block)


def elsewhere(evidence: Evidence) -> Reason | None:
    """Another instance had computed them."""
    lost = evidence.missed.total("elsewhere")
    if evidence.has_tiers or not _worth(evidence, lost):
        return None
    plan, count = evidence.plan, evidence.instances
    router = plan.config.routing.prefill + ("" if plan.cells == 1 else f", {plan.cells:,} cells")
    said = (
        f"{_share(evidence, lost)} had been computed by another of {count:,} instances and not by the one that they "
        f"were routed to (routing.prefill {router})."
    )
    return _reason(evidence, "elsewhere", lost, said, instances=count)


def answers(evidence: Evidence) -> Reason | None:
    """Generated tokens, which decode instances or other instances have."""
    lost = evidence.missed.total("answers")
    if evidence.has_tiers or not _worth(evidence, lost):
        return None
    where = (
        "on decode instances and not in the cache of the prefill instance" if evidence.is_pd else "by another instance"
    )
    said = f"{_share(evidence, lost)} were answers of earlier requests, generated {where}."
    return _reason(evidence, "answers", lost, said)


def evicted(evidence: Evidence) -> Reason | None:
    """The instance had computed them, and evicted them before they were asked for again."""
    missed = evidence.missed
    lost = missed.total("evicted")
    if evidence.has_tiers or evidence.is_forgetful or not _worth(evidence, lost):
        return None
    count = int((missed.tokens["evicted"] > 0).sum())
    medians_s, timed = _idle_s(evidence)
    of = "median" if timed == count else f"median of {timed:,}"
    least, most = (number(median_s) for median_s in medians_s)
    when = f", {least if least == most else f'{least} to {most}'} s ({of}) after their last use" if timed else ""
    said = (
        f"{_share(evidence, lost)} had been computed by the same instance and evicted before "
        f"{counted(count, 'prompt')} asked for them again{when}."
    )
    idle = {"median_idle_s_least": medians_s[0], "median_idle_s_most": medians_s[1]} if timed else {}
    return _reason(evidence, "evicted", lost, said, prompts=count, timed=timed, **idle)


def _idle_s(evidence: Evidence) -> tuple[tuple[float, float], int]:
    """Bounds on the median time since what was evicted had last been computed with, and of how many prompts it is."""
    waits_s = [idle_s(evidence, until_s) for until_s in times_of(evidence).computed_s]
    if min(map(len, waits_s)) == 0:
        return (np.nan, np.nan), 0
    return (float(np.median(waits_s[1])), float(np.median(waits_s[0]))), len(waits_s[1])


def capacity(evidence: Evidence) -> Reason | None:
    """How much more KV cache would keep half of what was evicted, by reuse distances."""
    missed = evidence.missed
    untold = evidence.has_tiers or evidence.is_forgetful or evidence.has_kinds or bool(evidence.settings.kv_groups)
    if untold or not _worth(evidence, missed.total("evicted")):
        return None
    found = extra_blocks(evidence, times_of(evidence).released_s[0])
    if found is None:
        return None
    spec, block = evidence.spec, evidence.settings.block_size
    extra_gb = found.blocks * block * spec.kv_bytes_per_token / GB
    hits = missed.hit_tokens + found.tokens
    held_gb = evidence.settings.num_blocks * block * spec.kv_bytes_per_token / GB
    routed = " to the same instances" if evidence.instances > 1 else ""
    half = "at least half" if found.prompts == found.missing else "about half"
    of = "" if found.prompts == found.missing else f"{found.prompts:,} of "
    rates = missed.hit_tokens / missed.prompt_tokens, hits / missed.prompt_tokens
    said = (
        f"{number(extra_gb)} GB more KV an instance, beside {number(held_gb)}, would span the reuse distances of "
        f"{half} of what was evicted ({of}{counted(found.missing, 'prompt')} looked at): hits about "
        f"{percent(rates[1])} in place of {percent(rates[0])}, where requests come{routed} at the same times."
    )
    figures = {
        "extra_gb_per_instance": extra_gb,
        "extra_blocks_per_instance": found.blocks,
        "prompts": found.prompts,
        "prompts_that_missed": found.missing,
        "kv_gb_per_instance": held_gb,
        "hit_rate": rates[0],
        "hit_rate_then": rates[1],
    }
    return _reason(evidence, "capacity", found.tokens, said, **figures)


def pending(evidence: Evidence) -> Reason | None:
    """An earlier request with them was waiting or under way."""
    lost = evidence.missed.total("pending")
    if evidence.has_tiers or evidence.is_forgetful or not _worth(evidence, lost):
        return None
    count = int((evidence.missed.tokens["pending"] > 0).sum())
    said = (
        f"{_share(evidence, lost)}, of {counted(count, 'prompt')}, had been asked for by an earlier request, or were "
        "part of its answer, and were not computed yet when they were asked for again."
    )
    return _reason(evidence, "pending", lost, said, prompts=count)


def restart(evidence: Evidence) -> Reason | None:
    """Caches or attempts were lost on the way, which the table does not tell from evictions."""
    lost = evidence.missed.total("evicted") + evidence.missed.total("pending")
    if evidence.has_tiers or not evidence.is_forgetful or not _worth(evidence, lost):
        return None
    after = evidence.plan.config.cache.restart_after_requests if evidence.is_restarted else None
    said = (
        f"{_share(evidence, lost)} had been asked for by an earlier request and were gone or not there yet; "
        f"{evidence.forgot}."
    )
    figures = {} if after is None else {"after_requests": after}
    if evidence.result.fleet is not None:
        figures |= {"caches_lost": evidence.caches_lost}
    return _reason(evidence, "restart", lost, said, **figures)


def cold(evidence: Evidence) -> Reason | None:
    """Never asked for before; what a cache without end would hit."""
    missed = evidence.missed
    lost = missed.total("cold")
    if not missed.shared.any() or not _worth(evidence, lost):
        return None
    endless = int(np.maximum(missed.shared, missed.hit).sum())
    rate, now = endless / missed.prompt_tokens, missed.hit_tokens / missed.prompt_tokens
    said = (
        f"{_share(evidence, lost)} were in no earlier prompt or answer: a cache without end, token by token, could hit "
        f"{percent(rate)} at most, and {percent(now)} were hit."
    )
    return _reason(evidence, "cold", lost, said, endless_hit_rate=rate, hit_rate=now)


def filling(evidence: Evidence) -> Reason | None:
    """The first tenth of the requests, which begin with empty caches, hit much less than the others."""
    missed = evidence.missed
    first = len(missed.prompt) // 10
    if first < 10 or missed.warm.any():
        return None
    rates = [float(missed.hit[part].sum() / missed.prompt[part].sum()) for part in (slice(first), slice(first, None))]
    lost = (rates[1] - rates[0]) * float(missed.prompt[:first].sum())
    if rates[1] - rates[0] < 0.05 or not _worth(evidence, lost):
        return None
    said = (
        f"The first {first:,} requests began with empty caches and hit {percent(rates[0])}; the other "
        f"{len(missed.prompt) - first:,} hit {percent(rates[1])}."
    )
    figures = {"first_requests": first, "hit_rate_first": rates[0], "hit_rate_others": rates[1]}
    return _reason(evidence, "filling", lost, said, **figures)


def warm(evidence: Evidence) -> Reason | None:
    """Hits on what caches held from the start, or that nothing accounts for."""
    found = int(evidence.missed.warm.sum())
    if evidence.plan.config.load.warm_caches and evidence.experiment.workload.info.format == "synthetic":
        if not _worth(evidence, found):
            return None
        said = f"{_share(evidence, found)} hit what caches held from the start, before any request (load.warm_caches)."
        return _reason(evidence, "warm", found, said)
    if not found:
        return None
    origin = "; attempts that came to nothing may have" if _has_lost_attempts(evidence) else ": of unknown origin"
    said = f"{_share(evidence, found)} were hit though no completed request had them before{origin}."
    return _reason(evidence, "unknown", found, said)


def _has_lost_attempts(evidence: Evidence) -> bool:
    fleet = evidence.result.fleet
    return fleet is not None and fleet.lost_attempts > 0


def _key(evidence: Evidence) -> str:
    return f" ({block_size_key(evidence.plan.config)})"


RULES = (
    caching_off,
    unknown_content,
    nothing_shared,
    shorter_than_block,
    shared_below_block,
    partial_blocks,
    repeated_whole,
    elsewhere,
    answers,
    evicted,
    capacity,
    pending,
    restart,
    cold,
    filling,
    warm,
)
