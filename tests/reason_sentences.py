"""Sentences on hits, rounds and TTFT, and what makes them true."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import accumulate

import numpy as np
from reason_checker import PARTS, Facts, N, P, all_same, half_a_digit, same, says
from token_account import Served, Written

TOKENS = rf"{P} of prompt tokens \({N}\)"
KEY = r"(?: \((?:engine\.block_size|pd_separation\.compute\.tokens_per_block)\))"
PART = rf"{P} of mean TTFT \({N} ms\) and {P} of TTFT at p99"


def tokens_are(facts: Facts, share: str, count: str, true: int) -> bool:
    return same(count, true) and same(share, true / facts.prompt_tokens) and true >= 0.01 * facts.prompt_tokens


def _within(least: str, most: str, true: float) -> bool:
    bounds = [float(text.replace(",", "")) for text in (least, most)]
    return bounds[0] - true * 0.005 <= true <= bounds[1] + true * 0.005 if least != most else same(least, true)


def _computed_s(facts: Facts, written: Written) -> float:
    """When a request had been computed with, by the steps of its instance."""
    detail = facts.result.detail
    if not facts.is_pd or detail is None:
        return written.released_s
    own = detail.chunks["step"][detail.chunks["request_id"] == written.request_id].astype(int)
    roles = np.array([one.role == "prefill" for one in detail.instances])
    is_prefill = roles[detail.steps["instance"][own].astype(int)]
    return float(detail.steps["end_s"][own][is_prefill].max())


def having(facts: Facts, name: str) -> list[Served]:
    return [each for each in facts.account.served if each.classes[name]]


@says(rf"Prefix caching is off: {TOKENS} begin as an earlier prompt or answer did\.")
def caching_off(facts: Facts, share: str, count: str) -> bool:
    off = not facts.settings.enable_prefix_caching and facts.hits == 0
    found = facts.account.total("off")
    return off and all_same((count, share), found, found / facts.prompt_tokens)


@says(r"The trace has neither hash ids nor sessions, so every prompt is taken to be unlike all others: no hits\.")
def unknown_content(facts: Facts) -> bool:
    asked = facts.experiment.workload
    silent = asked.info.hash_block_tokens is None and (asked.session_id < 0).all() and asked.info.format != "synthetic"
    return bool(silent) and facts.hits == 0 and facts.account.total("cold") == facts.prompt_tokens


@says(rf"No prompt begins as an earlier prompt or answer did: no cache could hit any of {N} prompt tokens\.")
def nothing_shared(facts: Facts, count: str) -> bool:
    return all_same((count, count), facts.prompt_tokens, facts.account.total("cold"))


@says(
    rf"{N} prompts? of {N} ha(?:s|ve) at most {N} tokens, one block{KEY}, and can hit nothing: {TOKENS} "
    r"were shared there in vain\."
)
def shorter_than_block(facts: Facts, few: str, of: str, block: str, share: str, count: str) -> bool:
    short = [each for each in facts.account.served if each.prompt <= facts.settings.block_size]
    lost = sum(each.classes["partial"] + each.classes["last"] for each in short if each.shared == each.prompt)
    sizes = all_same((few, of, block), len(short), len(facts.account.served), facts.settings.block_size)
    return sizes and all(each.hit == 0 for each in short) and tokens_are(facts, share, count, lost)


@says(
    rf"{N} prompts? of {N} shares? a head of at most {N} tokens, which fills no block of {N}{KEY}: neither "
    rf"routing nor memory can make {TOKENS} hits\."
)
def shared_below_block(facts: Facts, few: str, of: str, most: str, block: str, share: str, count: str) -> bool:
    size = facts.settings.block_size
    below = [each for each in facts.account.served if 0 < each.shared < min(size, each.prompt)]
    lost = sum(each.classes["partial"] for each in below)
    longest = max(each.shared for each in below)
    sizes = all_same((few, of, most, block), len(below), len(facts.account.served), longest, size)
    return sizes and tokens_are(facts, share, count, lost)


@says(
    rf"{TOKENS} were shared in a last block that was not whole: {N} tokens a prompt in {N} prompts?, with "
    rf"blocks of {N}{KEY}\."
)
def partial_blocks(facts: Facts, share: str, count: str, each_one: str, prompts: str, block: str) -> bool:
    size = facts.settings.block_size
    long = [each for each in having(facts, "partial") if each.shared >= size and each.prompt > size]
    lost = sum(each.classes["partial"] for each in long)
    sizes = all_same((each_one, prompts, block), lost / len(long), len(long), size)
    return sizes and tokens_are(facts, share, count, lost)


@says(
    rf"{TOKENS} are the last block of {N} prompts? that an earlier one has in full: a block of {N} tokens "
    r"is computed again for its last token\."
)
def repeated_whole(facts: Facts, share: str, count: str, prompts: str, block: str) -> bool:
    own = [each for each in having(facts, "last") if each.prompt > facts.settings.block_size]
    lost = sum(each.classes["last"] for each in own)
    return all_same((prompts, block), len(own), facts.settings.block_size) and tokens_are(facts, share, count, lost)


@says(
    rf"{TOKENS} had been computed by another of {N} instances and not by the one that they were routed to "
    r"\(routing\.prefill (\w+)\)\."
)
def elsewhere(facts: Facts, share: str, count: str, instances: str, router: str) -> bool:
    there = same(instances, facts.result.roles[0].instances) and router == facts.plan.config.routing.prefill
    return there and tokens_are(facts, share, count, facts.account.total("elsewhere"))


@says(
    rf"{TOKENS} were answers of earlier requests, generated (on decode instances and not in the cache of "
    r"the prefill instance|by another instance)\."
)
def answers(facts: Facts, share: str, count: str, where: str) -> bool:
    return where.startswith("on") == facts.is_pd and tokens_are(facts, share, count, facts.account.total("answers"))


@says(
    rf"{TOKENS} had been computed by the same instance and evicted before {N} prompts? asked for them "
    rf"again(?:, {N}(?: to {N})? s \(median(?: of {N})?\) after their last use)?\."
)
def evicted(
    facts: Facts, share: str, count: str, prompts: str, least: str | None, most: str | None, _: str | None
) -> bool:
    own, account = having(facts, "evicted"), facts.account
    waits_s = []
    for each in own:
        by = account.wrote(each, each.hit // account.block, here=True)
        ends_s = [_computed_s(facts, one) for one in by if not (one.is_answer and facts.is_pd)]
        waits_s += [each.admitted_s - max(ends_s)] if ends_s else []
    middle = float(np.median(waits_s)) if waits_s else None
    timed = middle is None if least is None else middle is not None and _within(least, most or least, middle)
    return timed and same(prompts, len(own)) and tokens_are(facts, share, count, account.total("evicted"))


@says(
    rf"{N} GB more KV an instance, beside {N}, would span the reuse distances of (at least|about) half of what was "
    rf"evicted \((?:{N} of )?{N} prompts? looked at\): hits about {P} in place of {P}, where requests come"
    r"(?: to the same instances)? at the same times\."
)
def capacity(
    facts: Facts, more_gb: str, held_gb: str, half: str, some: str | None, prompts: str, then: str, now: str
) -> bool:
    spec, blocks = (facts.plan.prefill.spec if facts.is_pd else facts.plan.spec), facts.settings.num_blocks
    block_gb = facts.settings.block_size * spec.kv_bytes_per_token / 1e9
    gain = facts.account.total("evicted") / facts.prompt_tokens
    told = all_same((held_gb, now), blocks * block_gb, facts.hits)
    missing = len(having(facts, "evicted"))
    told &= int(prompts) <= missing if some is None else same(prompts, missing) and int(some) < missing
    told &= (half == "about") == (some is not None)
    rate, extra = float(then.rstrip("%")) / 100, float(more_gb.replace(",", "")) / block_gb
    spans = sorted(_distances(facts))
    middle = spans[(len(spans) - 1) // 2] - blocks
    is_half = facts.hits + gain / 2 - 0.006 <= rate <= facts.hits + gain + 0.006
    # Second copies of blocks, which the engine has where prompts repeat each other whole, are not counted here.
    # Of some prompts the middle is another.
    rounded = 1 + half_a_digit(more_gb) / block_gb + (0 if some is None else 0.05 * spans[len(spans) // 2])
    return told and is_half and -rounded <= extra - max(middle, 1) <= rounded + 0.25 * spans[len(spans) // 2]


def _distances(facts: Facts) -> list[int]:
    """Of every evicted block: the different blocks that its instance used since its last use, and those before it."""
    account, found = facts.account, []
    kept = {id(each): account.blocks(each) for each in account.served}
    for each in having(facts, "evicted"):
        first, gone = each.hit // account.block, each.classes["evicted"] // account.block
        own = [account.key(each, place) for place in range(first + gone)]
        used: dict[float, set[tuple[int, int]]] = {}
        before: dict[float, list[int]] = {}
        for block in range(first, first + gone):
            by = [one for one in account.wrote(each, block, here=True) if one.released_s <= each.admitted_s]
            since_s = max((one.released_s for one in by if not (one.is_answer and facts.is_pd)), default=None)
            if since_s is None:
                continue
            if since_s not in used:
                others = [other for other in account.served if _was_there(other, each, since_s)]
                used[since_s] = set().union(*(kept[id(other)] for other in others))
                before[since_s] = list(accumulate(key not in used[since_s] for key in own))
            found.append(len(used[since_s]) + before[since_s][block])
    return found


def _was_there(other: Served, each: Served, since_s: float) -> bool:
    is_late = other.released_s > since_s and other.admitted_s < each.admitted_s
    return is_late and other.instance == each.instance


@says(
    rf"{TOKENS}, of {N} prompts?, had been asked for by an earlier request, or were part of its answer, "
    r"and were not computed yet when they were asked for again\."
)
def pending(facts: Facts, share: str, count: str, prompts: str) -> bool:
    own = having(facts, "pending")
    return same(prompts, len(own)) and tokens_are(facts, share, count, facts.account.total("pending"))


@says(
    rf"{TOKENS} had been asked for by an earlier request and were gone or not there yet; all that was "
    rf"cached was lost when {N} requests? had arrived \(cache\.restart_after_requests\)\."
)
def restart(facts: Facts, share: str, count: str, after: str) -> bool:
    lost = facts.account.total("evicted") + facts.account.total("pending")
    known = same(after, facts.plan.config.cache.restart_after_requests or 0)
    return known and facts.result.arrived >= int(after) and tokens_are(facts, share, count, lost)


@says(
    rf"{TOKENS} had been asked for by an earlier request and were gone or not there yet"
    rf"(?:; caches were lost {N} times? \(fleet\.events: ([a-z_, ]+)\))?(?:(?:;| and) {N} attempts? came to nothing)?\."
)
def lost_with_instances(
    facts: Facts, share: str, count: str, times: str | None, kinds: str | None, attempts: str | None
) -> bool:
    lost = facts.account.total("evicted") + facts.account.total("pending")
    config = facts.plan.config.fleet
    known = kinds is None or set(kinds.replace(" and ", ", ").split(", ")) <= {each.kind for each in config.events}
    known &= times is None or int(times) >= 1
    known &= (attempts is None) == (facts.lost_attempts == 0) and same(attempts or "0", facts.lost_attempts)
    return known and tokens_are(facts, share, count, lost)


@says(
    rf"{TOKENS} were in no earlier prompt or answer: a cache without end, token by token, could hit {P} at "
    rf"most, and {P} were hit\."
)
def cold(facts: Facts, share: str, count: str, endless: str, now: str) -> bool:
    known = sum(max(each.shared, each.hit) for each in facts.account.served) / facts.prompt_tokens
    return all_same((endless, now), known, facts.hits) and tokens_are(facts, share, count, facts.account.total("cold"))


@says(rf"The first {N} requests began with empty caches and hit {P}; the other {N} hit {P}\.")
def filling(facts: Facts, first: str, early: str, others: str, late: str) -> bool:
    own, count = facts.account.served, int(first.replace(",", ""))
    rates = [sum(each.hit for each in part) / sum(each.prompt for each in part) for part in (own[:count], own[count:])]
    return count == len(own) // 10 and all_same((others, early, late), len(own) - count, *rates)


@says(rf"{TOKENS} hit what caches held from the start, before any request \(load\.warm_caches\)\.")
def warm(facts: Facts, share: str, count: str) -> bool:
    found = sum(max(each.hit - each.shared, 0) for each in facts.account.served)
    return facts.plan.config.load.warm_caches and tokens_are(facts, share, count, found)


@says(
    rf"{TOKENS} were hit though no completed request had them before"
    r"(: of unknown origin|; attempts that came to nothing may have)\."
)
def unknown(facts: Facts, share: str, count: str, origin: str) -> bool:
    found = sum(max(each.hit - each.shared, 0) for each in facts.account.served)
    is_known = facts.lost_attempts > 0
    return is_known == ("attempts" in origin) and all_same((share, count), found / facts.prompt_tokens, found)


@says(r"Hits of prompt tokens by round of the conversation \(requests\): (.+)\.")
def by_round(facts: Facts, told: str) -> bool:
    seen: Counter[int] = Counter()
    turns = {}
    for place, session in enumerate(facts.experiment.workload.session_id.tolist()):
        turns[place] = min(seen[session], 3) if session >= 0 else None
        seen[session] += 1
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for each in facts.account.served:
        turn = turns[each.request.request_id]
        if turn is not None:
            sums[turn] = [a + b for a, b in zip(sums[turn], (each.hit, each.prompt, 1), strict=True)]
    words = told.split(", ")
    expected = {f"round {turn + 1}{' and later' if turn == 3 else ''}": one for turn, one in sums.items()}
    for word in words:
        share, _, rest = word.partition(" in ")
        name, _, count = rest.rstrip(")").partition(" (")
        hit, prompt, requests = expected.pop(name)
        if not all_same((share, count), hit / prompt, requests):
            return False
    return not expected


def part_is(facts: Facts, name: str, share: str, ms: str, late: str) -> bool:
    late_rows, table = facts.late(), facts.measured
    at_p99 = float(table[name][late_rows].mean() / (table["first_token_s"] - table["arrival_s"])[late_rows].mean())
    return all_same((share, ms, late), facts.ttft_ms(name) / facts.ttft_ms(), facts.ttft_ms(name), at_p99)


OTHERS = "|".join(re.escape(name) for name in PARTS if PARTS[name] not in ("queue_s", "retry_s"))


@says(rf"({OTHERS}) {PART}(.*)\.")
def part(facts: Facts, name: str, share: str, ms: str, late: str, rest: str) -> bool:
    return part_is(facts, PARTS[name], share, ms, late) and _rest(facts, PARTS[name], rest)


def _rest(facts: Facts, name: str, rest: str) -> bool:
    """What follows a part of TTFT."""
    import re

    table, use = facts.measured, facts.result.transfer
    figures = re.findall(N, rest)
    if name == "prefill_s":
        tokens = float(table["computed_tokens"].sum())
        return all_same(figures, tokens / len(table["prefill_s"]), tokens / float(table["prefill_s"].sum()))
    if name == "preemption_s":
        return same(figures[0], facts.result.cache.preemptions)
    if name == "transfer_s":
        return use is not None and same(figures[0], use.bytes_sent / use.transfers / 1e6)
    if name == "tier_load_s":
        return same(figures[0], facts.result.cache.loads)
    if name == "decode_wait_s":
        return use is not None and same(figures[0], use.reservation_waits)
    if name == "proxy_s":
        proxied = np.allclose(table["proxy_s"], facts.plan.config.pd_separation.proxy_ms / 1e3)
        return rest == ": pd_separation.proxy_ms, whatever the load" and bool(proxied)
    return rest in ("", ": the first token comes from the decode instance")


@says(
    rf"{N} prompts? of {N} computes? more than the {N} tokens that a step takes of one, at least {N} steps "
    rf"for the longest: mean TTFT {N} ms(?: against {N} ms of the others)?\."
)
def chunking(facts: Facts, long: str, of: str, most: str, steps: str, own_ms: str, others_ms: str | None) -> bool:
    table, settings = facts.measured, facts.settings
    size = min(settings.max_num_batched_tokens, settings.long_prefill_token_threshold or 10**9)
    rows = table["computed_tokens"] > size
    ttft_ms = (table["first_token_s"] - table["arrival_s"]) * 1e3
    longest = -(-float(table["computed_tokens"].max()) // size)
    told = all_same((long, of, most, steps, own_ms), rows.sum(), len(rows), size, longest, ttft_ms[rows].mean())
    return told and (bool(rows.all()) if others_ms is None else same(others_ms, ttft_ms[~rows].mean()))


@says(
    rf"Arrivals come in bursts: {N} within {N} s, where {N} come on average; their variance over mean is "
    rf"{N}, 1 where they come at random\."
)
def bursts(facts: Facts, most: str, bin_s: str, mean: str, dispersion: str) -> bool:
    arrival_s = sorted(facts.table["arrival_s"].tolist())
    bins = len(arrival_s) // 10
    width_s = (arrival_s[-1] - arrival_s[0]) / bins
    counts = Counter(min(int((at_s - arrival_s[0]) / width_s), bins - 1) for at_s in arrival_s)
    own = np.array([counts[place] for place in range(bins)])
    return (
        all_same((bin_s, mean), width_s, own.mean())
        and abs(int(most) - own.max()) <= 1
        and (abs(float(dispersion) / (own.var() / own.mean()) - 1) < 0.05)
    )


TOGETHER = (
    rf"{N} of {N} requests arrive at the same instant and instance as another, up to {N} at once, "
    r"and share steps or queue for each other"
)


@says(rf"{TOGETHER}\.")
def in_step(facts: Facts, together: str, of: str, most: str) -> bool:
    places = Counter(zip(facts.table["arrival_s"].tolist(), facts.table["prefill_instance"].tolist(), strict=True))
    several = [count for count in places.values() if count > 1]
    return all_same((together, of, most), sum(several), places.total(), max(several))


@says(
    rf"{N} users send requests of one length, so that they end and begin together: {TOGETHER}\. Lengths "
    r"that vary, as in=400-600, spread them\."
)
def users_in_step(facts: Facts, users: str, together: str, of: str, most: str) -> bool:
    lengths = set(zip(facts.table["prompt_tokens"].tolist(), facts.table["output_tokens"].tolist(), strict=True))
    alike = len(lengths) == 1 and facts.experiment.workload.max_concurrency == int(users)
    return alike and in_step(facts, together, of, most)


@says(
    rf"Lost attempts are {PART}, of {N} of {N} requests: (?:the router sent {N} attempts? again"
    rf"(?: \((\w+) ([^()]+?) at {N} s hit {N}(, the most)?\))?)?(?: and )?(?:clients sent {N} attempts? again"
    rf"(?: \({N} attempts? timed out\))?)?\."
)
def retry(facts: Facts, share: str, ms: str, late: str, again: str, of: str, *rest: str | None) -> bool:
    resent, kind, where, begin_s, hit, most, retried, timed_out = rest
    fleet, table = facts.result.fleet, facts.measured
    assert fleet is not None
    hits = sorted((each.requests_hit for each in fleet.incidents if each.requests_hit), reverse=True)
    own = [each for each in fleet.incidents if (each.kind, each.where) == (kind, where) and same(begin_s, each.begin_s)]
    counts = ((resent, fleet.resent), (retried, fleet.retried), (timed_out, fleet.timed_out if retried else 0))
    found = all(same(said or "0", true) for said, true in counts)
    if kind is not None:
        found &= any(same(hit, each.requests_hit) and each.requests_hit == hits[0] for each in own)
        found &= (most is not None) == (len(hits) > 1)
    found &= all_same((again, of), int((table["retry_s"] > 0).sum()), len(table["retry_s"]))
    return found and part_is(facts, "retry_s", share, ms, late)
