"""Sentences on PD, tiers and more instances, and what makes them true."""

from __future__ import annotations

import re

import numpy as np
from reason_checker import LABELS, Facts, N, P, all_same, findings, same, says
from reason_sentences import TOKENS
from reason_waiting import queue

from kvsim.record.result import COMPONENTS, TierUse

__all__ = ["findings", "queue"]

RATIO = r"(\d+):(\d+)"


@says(
    rf"The (prefill|decode) side is the first to bind: it is asked {P} of its maximum rate, "
    rf"(prefill|decode) {P}(?:; P:D {RATIO} would load both nearest alike, {RATIO} was simulated)?\."
)
def side(facts: Facts, first: str, asked: str, other: str, less: str, *ratios: str | None) -> bool:
    loads, cluster = {role.role: role.load for role in facts.result.roles}, facts.experiment.cluster
    told = all_same((asked, less), loads[first], loads[other]) and loads[first] > loads[other]
    if ratios[0] is None:
        return told and cluster.balanced_pd_ratio in (None, (cluster.prefill_instances, cluster.decode_instances))
    balanced, own = tuple(map(int, ratios[:2])), tuple(map(int, ratios[2:]))  # type: ignore[arg-type]
    return (
        told and balanced == cluster.balanced_pd_ratio and own == tuple(role.instances for role in facts.result.roles)
    )


@says(
    rf"Mean TTFT is {N} ms with PD and {N} ms unified; what (adds|saves) most is ([a-z ]+), {N} ms "
    r"(longer|shorter) with PD\."
)
def ttft_gap(facts: Facts, own: str, theirs: str, does: str, label: str, gap: str, more: str) -> bool:
    sign = 1 if does == "adds" else -1
    gaps = {name: sign * (facts.ttft_ms(name) - facts.unified.ttft_ms(name)) for name in COMPONENTS}
    told = all_same((own, theirs, gap), facts.ttft_ms(), facts.unified.ttft_ms(), gaps[LABELS[label]])
    return (
        told
        and gaps[LABELS[label]] == max(gaps.values())
        and (more == "longer") == (sign > 0)
        and (sign * (facts.ttft_ms() - facts.unified.ttft_ms()) > 0)
    )


@says(
    rf"Prompts queue (longer|shorter) with PD: {N} ms on average for {N} prefill instances?, {N} ms for "
    rf"{N} unified instances?\."
)
def prefill_queue(facts: Facts, more: str, own: str, few: str, theirs: str, many: str) -> bool:
    waits = facts.ttft_ms("queue_s"), facts.unified.ttft_ms("queue_s")
    sizes = all_same((few, many), *(each.result.roles[0].instances for each in (facts, facts.unified)))
    return sizes and all_same((own, theirs), *waits) and (waits[0] > waits[1]) == (more == "longer")


@says(
    rf"Mean TPOT is {N} ms with PD and {N} ms unified: a decode instance has {N} answers under way on "
    rf"average, a unified one {N} and prompts beside\."
)
def decode_batch(facts: Facts, own: str, theirs: str, few: str, many: str) -> bool:
    each = (facts, facts.unified)
    return all_same((own, theirs), *map(_tpot_ms, each)) and all_same((few, many), *map(_under_way, each))


def _tpot_ms(facts: Facts) -> float:
    table = facts.measured
    rows = table["output_tokens"] > 1
    return float(((table["finish_s"] - table["first_token_s"])[rows] / (table["output_tokens"][rows] - 1)).mean()) * 1e3


def _under_way(facts: Facts) -> float:
    """By walking over beginnings and ends of answers."""
    table, area, now, count = facts.table, 0.0, 0.0, 0
    events = sorted(
        [(at_s, 1) for at_s in table["first_token_s"].tolist()] + [(at_s, -1) for at_s in table["finish_s"].tolist()]
    )
    for at_s, change in events:
        area, now, count = area + count * (at_s - now), at_s, count + change
    return area / (max(table["finish_s"]) - min(table["arrival_s"])) / facts.result.roles[-1].instances


@says(
    rf"PD's decode instances compute no prompts: p99 of the gaps between tokens is {N} ms, against {N} ms "
    r"on unified instances, which do\."
)
def decode_alone(facts: Facts, own: str, theirs: str) -> bool:
    detail = facts.result.detail
    assert detail is not None
    decoding = np.isin(detail.steps["instance"], [i for i, one in enumerate(detail.instances) if one.role == "decode"])
    alone = not detail.steps["prefill_tokens"][decoding].any()
    return alone and all_same((own, theirs), facts.result.itl.p99 * 1e3, facts.unified.result.itl.p99 * 1e3)


@says(
    rf"Handing over is {N} of {N} ms of PD's mean TTFT: exposed transfer {N}, waiting on the decode side "
    rf"{N}, the first decode step {N}\."
)
def handed_over(facts: Facts, added: str, whole: str, *parts: str) -> bool:
    own = [facts.ttft_ms(name) for name in ("transfer_s", "decode_wait_s", "first_decode_s")]
    return all_same((added, whole), sum(own), facts.ttft_ms()) and all_same(parts, *own)


@says(
    rf"Sending KV, which unified instances do not, adds {N} ms to mean TTFT: {N} MB a transfer, {P} of its "
    r"time behind the prefill\."
)
def sending(facts: Facts, exposed: str, megabytes: str, hidden: str) -> bool:
    use = facts.result.transfer
    assert use is not None
    return all_same(
        (exposed, megabytes, hidden),
        facts.ttft_ms("transfer_s"),
        use.bytes_sent / use.transfers / 1e6,
        use.hidden_share,
    )


EVICTED = (
    "had been written to tiers and evicted from all of them, or stood behind what was missing there, before they were "
    "asked for"
)
MISSED = {
    "declined_tokens": " lay in tiers within reach and were computed: at the queues of the moment that was faster than "
    "loading them (cache.load_or_recompute).",
    "pending_tokens": " were asked for while an earlier request with them was still being computed or written to a "
    "tier.",
    "evicted_tokens": f" {EVICTED} again.",
    "elsewhere_tokens": " lay in memory of another instance, host or rack, out of reach.",
}


def missed(facts: Facts, name: str, share: str, count: str) -> bool:
    use = facts.result.cache
    return all_same((share, count), use.misses[name] / use.query_tokens, use.misses[name])


for _name, _text in MISSED.items():
    says(TOKENS + re.escape(_text))(lambda facts, share, count, name=_name: missed(facts, name, share, count))


@says(
    rf"{TOKENS} had been written to tiers and lost as memory was \(cache\.restart_after_requests\), evicted from all "
    r"of them, or stood behind what was missing there, before they were asked for again(?:: .+ full at the end)?\."
)
def lost_below(facts: Facts, share: str, count: str) -> bool:
    is_restarted = any(note.startswith("memory was lost after") for note in facts.result.notes)
    return is_restarted and missed(facts, "evicted_tokens", share, count)


@says(
    rf"{TOKENS} had been written to tiers and lost with what failed \(fleet\.events: ([a-z_, ]+)\), or evicted from "
    r"all of them, or stood behind what was missing there, before they were asked for again(?:: .+ full at the end)?\."
)
def lost_with_what_failed(facts: Facts, share: str, count: str, kinds: str) -> bool:
    events = {event.kind for event in facts.plan.config.fleet.events}
    known = set(kinds.replace(" and ", ", ").split(", ")) <= events & {"fail", "pool", "drive"}
    return known and missed(facts, "evicted_tokens", share, count)


@says(
    rf"At least {TOKENS} were found when the prompt was looked up and were gone when it was served, after "
    r"its wait in the queue\."
)
def gone(facts: Facts, share: str, count: str) -> bool:
    return missed(facts, "gone_tokens", share, count)


@says(
    rf"{TOKENS} had been computed and never written to a tier: {N} chunks were refused by admission, {N} "
    r"dropped at busy ports\."
)
def refused(facts: Facts, share: str, count: str, refusals: str, drops: str) -> bool:
    tiers = facts.result.cache.tiers
    counts = sum(tier.refused_chunks for tier in tiers), sum(tier.dropped_chunks for tier in tiers)
    return missed(facts, "refused_tokens", share, count) and all_same((refusals, drops), *counts)


@says(rf"{TOKENS} {EVICTED} again: (.+) (?:was|were) full at the end\.")
def too_small(facts: Facts, share: str, count: str, pools: str) -> bool:
    tiers = {tier.name: tier for tier in facts.result.cache.tiers}
    told = re.findall(rf"(\w+) \({N} GB in {N} pools?\)", pools)
    full = all(
        _is_full(tiers[name]) and all_same(sizes, tiers[name].capacity_bytes / 1e9, tiers[name].tiers)
        for name, *sizes in told
    )
    return bool(told) and full and missed(facts, "evicted_tokens", share, count)


def _is_full(tier: TierUse) -> bool:
    return tier.held_bytes >= 0.9 * tier.capacity_bytes > 0 and tier.evicted_chunks > 0


@says(rf"Nothing was evicted from {N} KV blocks an instance: tiers can give it only what others computed\.")
def nothing_evicted(facts: Facts, blocks: str) -> bool:
    detail = facts.result.detail
    assert detail is not None
    return all(
        one.evicted_blocks == 0 and same(blocks, one.kv_blocks) for one in detail.instances if one.role != "decode"
    )


@says(
    rf"Tiers gave {TOKENS} for {N} ms of waiting in all; at this run's {N} tokens/s computing them would "
    rf"take {N} ms\."
)
def saved(facts: Facts, share: str, count: str, load: str, rate: str, compute: str) -> bool:
    table, detail = facts.table, facts.result.detail
    assert detail is not None
    loaded, speed = (
        float(detail.served["tokens"].sum()),
        float(table["computed_tokens"].sum() / table["prefill_s"].sum()),
    )
    figures = (loaded, loaded / facts.prompt_tokens, table["tier_load_s"].sum() * 1e3, speed, loaded / speed * 1e3)
    return all_same((count, share, load, rate, compute), *figures)


@says(
    rf"Requests queue for {N} of {N} ms of mean TTFT; a hit in a tier spares its own request computing, "
    rf"and loading and computing are {N} ms\."
)
def queued_first(facts: Facts, queue: str, whole: str, rest: str) -> bool:
    own = facts.ttft_ms("tier_load_s") + facts.ttft_ms("prefill_s")
    return all_same((queue, whole, rest), facts.ttft_ms("queue_s"), facts.ttft_ms(), own)


@says(rf"No prompt token was loaded from a tier, though {N} blocks were evicted from the instances' own caches\.")
def nothing_loaded(facts: Facts, blocks: str) -> bool:
    detail = facts.result.detail
    assert detail is not None
    own = sum(one.evicted_blocks for one in detail.instances if one.role != "decode")
    return not facts.table["loaded_tokens"].any() and same(blocks, own)


@says(
    rf"Requests spread over {N} caches hit {P}; what others of them had computed before would make it {P} "
    r"at most: each further instance begins with none of it\."
)
def spread(facts: Facts, instances: str, now: str, then: str) -> bool:
    others = facts.account.total("elsewhere") + facts.account.total("answers")
    figures = (facts.result.roles[0].instances, facts.hits, facts.hits + others / facts.prompt_tokens)
    return all_same((instances, now, then), *figures)


@says(
    rf"{P} of mean TTFT, {N} ms, is computing the request's own prompt, which one instance does, however "
    r"many there are\."
)
def own_compute(facts: Facts, share: str, ms: str) -> bool:
    return all_same((share, ms), facts.ttft_ms("prefill_s") / facts.ttft_ms(), facts.ttft_ms("prefill_s"))


@says(
    rf"{N} instances? (?:is|are) asked {P} of the maximum rate, and waiting for other requests is {P} of "
    r"mean TTFT: more of them can take away no more of it\."
)
def idle(facts: Facts, instances: str, load: str, waiting: str) -> bool:
    role = facts.result.roles[0]
    shares = sum(facts.ttft_ms(name) for name in ("queue_s", "interference_s", "preemption_s")) / facts.ttft_ms()
    return all_same((instances, load, waiting), role.instances, role.load, shares) and role.load < 0.5
