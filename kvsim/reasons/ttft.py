"""Why TTFT is as long as it is: its parts, and what the queue waits for."""

from __future__ import annotations

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.reasons.waiting import Holders, holders
from kvsim.record.labels import counted, listed, number, percent
from kvsim.record.summary import ttft_s

LARGE = 0.2
"""The share of mean or p99 TTFT from which on a part is told."""
MOSTLY = 0.5
"""The share of queueing time from which on it is told what it waited for."""
BUSY = 0.9
"""The share of the maximum rate from which on it is told beside the queue."""


def parts_of(evidence: Evidence, part: str) -> dict[str, float] | None:
    """Milliseconds of a part and of TTFT, over all measured requests and at p99; ``None`` where it is small."""
    attribution = evidence.summary.attribution_ms
    mean, p99 = attribution.mean, attribution.p99
    totals = [sum(value or 0.0 for value in each.values()) for each in (mean, p99)]
    own = [mean.get(part) or 0.0, p99.get(part) or 0.0]
    if not all(totals) or max(own[0] / totals[0], own[1] / totals[1]) < LARGE:
        return None
    return {"mean_ms": own[0], "ttft_mean_ms": totals[0], "p99_ms": own[1], "ttft_p99_ms": totals[1]}


def _said(parts: dict[str, float]) -> str:
    shares = [percent(parts[f"{at}_ms"] / parts[f"ttft_{at}_ms"]) for at in ("mean", "p99")]
    return f"{shares[0]} of mean TTFT ({number(parts['mean_ms'])} ms) and {shares[1]} of TTFT at p99"


def _reason(evidence: Evidence, rule: str, weight: float, sentence: str, **figures: float | int | None) -> Reason:
    return Reason(
        about="ttft", rule=rule, sentence=sentence, figures=figures, weight=weight, system=evidence.result.name
    )


def _of_part(evidence: Evidence, rule: str, part: str, text: str, **figures: float | int | None) -> Reason | None:
    """A reason from ``text``, in which ``{}`` stands for the share."""
    parts = parts_of(evidence, part)
    if parts is None:
        return None
    weight = max(parts["mean_ms"] / parts["ttft_mean_ms"], parts["p99_ms"] / parts["ttft_p99_ms"])
    return _reason(evidence, rule, weight, text.format(_said(parts)), **parts, **figures)


def retry(evidence: Evidence) -> Reason | None:
    """Attempts that came to nothing: lost with an instance, or given up by a client that tries again."""
    fleet = evidence.result.fleet
    if fleet is None or not fleet.resent + fleet.retried:
        return None
    again = evidence.result.table["retry_s"][evidence.result.measured] > 0
    causes = []
    if fleet.resent:
        causes.append(f"the router sent {counted(fleet.resent, 'attempt')} again{_whose(evidence)}")
    if fleet.retried:
        timed_out = f" ({counted(fleet.timed_out, 'attempt')} timed out)" if fleet.timed_out else ""
        causes.append(f"clients sent {counted(fleet.retried, 'attempt')} again{timed_out}")
    text = f"Lost attempts are {{}}, of {int(again.sum()):,} of {len(again):,} requests: {listed(causes)}."
    counts = {"resent": fleet.resent, "retried": fleet.retried, "timed_out": fleet.timed_out}
    sent = {"requests_sent_again": int(again.sum()), "requests": len(again)}
    return _of_part(evidence, "retry", "retry", text, **counts, **sent)


def _whose(evidence: Evidence) -> str:
    """The incidents that hit most requests."""
    hit = sorted((each for each in evidence.incidents if each.requests_hit), key=lambda each: -each.requests_hit)
    if not hit:
        return ""
    most = ", the most" if len(hit) > 1 else ""
    return f" ({hit[0].kind} {hit[0].where} at {number(hit[0].begin_s)} s hit {hit[0].requests_hit:,}{most})"


def proxy(evidence: Evidence) -> Reason | None:
    """Prefill and decode instances stand behind a proxy that asks one after the other."""
    text = "The hop through the proxy is {}: pd_separation.proxy_ms, whatever the load."
    return _of_part(evidence, "proxy", "proxy", text)


def queue(evidence: Evidence) -> Reason | None:
    """The wait to be scheduled: a queue and what it waits for, or the step under way; and a rate near the maximum."""
    if parts_of(evidence, "queue") is None:
        return None
    held, settings = holders(evidence), evidence.settings
    text = _under_way(evidence, held) or _queued(evidence, held)
    fleet = evidence.result.fleet
    if fleet is not None and fleet.held:
        text += f"; requests were held at the router {counted(fleet.held, 'time')} until an instance could take them"
    hung = sum(each.instances for each in evidence.incidents if each.kind == "hang")
    if hung:
        text += f"; {counted(hung, 'instance')} hung for a while, where requests waited too"
    load = next(iter(evidence.summary.utilisation.values())).load
    if load is not None and load >= BUSY:
        text += f"; the rate is {percent(load)} of the maximum"
    figures = {f"waited_for_{each}": share for each, share in held.shares.items()}
    sizes = {
        "looked_at": held.looked_at,
        "waited": held.waited,
        "max_num_seqs": settings.max_num_seqs,
        "kv_blocks": settings.num_blocks,
        "token_budget": settings.max_num_batched_tokens,
    }
    return _of_part(evidence, "queue", "queue", f"{text}.", **figures, **sizes, load=load)


def _under_way(evidence: Evidence, held: Holders) -> str | None:
    """Where most of the wait is for a step that began before the request came."""
    share = held.shares["step_under_way"]
    if share < MOSTLY or evidence.settings.max_loras or evidence.has_kinds:
        return None
    step = "the step under way"
    if evidence.settings.async_scheduling:
        step += " and any scheduled behind it already"
    least = "at least " if share < 1 else ""
    return (
        f"Waiting to be scheduled is {{}}, {least}{percent(share)} of it{_looked_at(held)} for {step}: engine steps "
        "are not interrupted, and a seat, KV blocks and token budget were free"
    )


def _queued(evidence: Evidence, held: Holders) -> str:
    shares = held.shares | {"step_or_budget": held.shares["step_or_budget"] + held.shares["step_under_way"]}
    name = max(("seats", "kv_blocks", "step_or_budget"), key=lambda each: shares[each])
    # Who waits for an adapter's slot is not told apart, nor are seats and blocks by kind.
    if shares[name] < MOSTLY or evidence.settings.max_loras or evidence.has_kinds:
        return "Queueing is {}"
    least = "at least " if shares["unknown"] else ""
    return (
        f"Queueing is {{}}; at the end of {least}{percent(shares[name])} of that time{_looked_at(held)} "
        f"{_short(evidence)[name]}"
    )


def _looked_at(held: Holders) -> str:
    return "" if held.looked_at == held.waited else f" ({held.looked_at:,} of {held.waited:,} that waited looked at)"


def _short(evidence: Evidence) -> dict[str, str]:
    settings = evidence.settings
    seats = "the only seat" if settings.max_num_seqs == 1 else f"all {settings.max_num_seqs:,} seats"
    return {
        "seats": f"{seats} (max_num_seqs) {'was' if settings.max_num_seqs == 1 else 'were'} taken",
        "kv_blocks": f"too few of {settings.num_blocks:,} KV blocks were free",
        "step_or_budget": (
            "a seat and KV blocks were free: requests waited for a step under way or for the token budget of "
            f"{settings.max_num_batched_tokens:,}"
        ),
    }


def interference(evidence: Evidence) -> Reason | None:
    """Steps that take longer for what others compute in them."""
    text = "Others' work in the same steps (batch interference) is {}."
    if evidence.summary.adapters is not None and evidence.summary.adapters.lost_s:
        text = "Others' work in the same steps (batch interference), and loads of LoRA adapters before them, are {}."
    return _of_part(evidence, "interference", "interference", text)


def chunking(evidence: Evidence) -> Reason | None:
    """Prompts of more tokens than a step computes."""
    settings, result = evidence.settings, evidence.result
    most = settings.max_num_batched_tokens
    if settings.long_prefill_token_threshold:
        most = min(most, settings.long_prefill_token_threshold)
    computed = result.table["computed_tokens"][result.measured]
    table = {name: result.table[name][result.measured] for name in ("first_token_s", "arrival_s")}
    long = computed > most
    if not long.any() or not settings.enable_chunked_prefill or evidence.has_kinds:
        return None
    ttfts_s = ttft_s(table)
    weight = float(ttfts_s[long].sum() / ttfts_s.sum()) if ttfts_s.sum() else 0.0
    if weight < LARGE:
        return None
    count, steps = int(long.sum()), int(-(-computed.max() // most))
    said = (
        f"{counted(count, 'prompt')} of {len(long):,} compute{'s' if count == 1 else ''} more than the {most:,} tokens "
        f"that a step takes of one, at least {steps:,} steps for the longest: mean TTFT "
        f"{number(float(ttfts_s[long].mean()) * 1e3)} ms"
    )
    rest_ms = float(ttfts_s[~long].mean()) * 1e3 if count < len(long) else None
    said += "." if rest_ms is None else f" against {number(rest_ms)} ms of the others."
    figures = {"prompts": count, "requests": len(long), "step_tokens": most, "steps": steps}
    times = {"ttft_ms": float(ttfts_s[long].mean()) * 1e3, "ttft_others_ms": rest_ms}
    return _reason(evidence, "chunking", weight, said, **figures, **times)


def prefill(evidence: Evidence) -> Reason | None:
    """The computing of the request's own prompt."""
    table, rows = evidence.result.table, evidence.result.measured
    tokens, seconds = float(table["computed_tokens"][rows].sum()), float(table["prefill_s"][rows].sum())
    if not seconds:
        return None
    mean_tokens, rate = tokens / int(rows.sum()), tokens / seconds
    text = f"Computing the prompt itself is {{}}: {number(mean_tokens)} tokens a request, at {number(rate)} tokens/s."
    return _of_part(
        evidence, "prefill", "prefill", text, computed_tokens_a_request=mean_tokens, prefill_tokens_per_s=rate
    )


def preemption(evidence: Evidence) -> Reason | None:
    """Prompts that lost their blocks and were computed again."""
    count = evidence.summary.preemptions
    short = f"KV blocks ran short in {counted(count, 'preemption')}"
    text = f"Preemption is {{}}: {short}, and what was lost was computed again."
    return _of_part(evidence, "preemption", "preemption", text, preemptions=count)


def transfer(evidence: Evidence) -> Reason | None:
    """KV on its way to the decode instance, not hidden behind the prefill."""
    use = evidence.result.transfer
    if use is None or not use.transfers:
        return None
    sent_mb = use.bytes_sent / use.transfers / 1e6
    text = f"KV on its way to decode instances is {{}}: {number(sent_mb)} MB a transfer."
    return _of_part(evidence, "transfer", "transfer", text, megabytes_a_transfer=sent_mb)


def tier_load(evidence: Evidence) -> Reason | None:
    """Loads from memory below the GPUs."""
    text = f"Loading KV from tiers is {{}}, in {counted(evidence.summary.cache.loads, 'load')}."
    return _of_part(evidence, "tier_load", "tier_load", text, loads=evidence.summary.cache.loads)


def decode_wait(evidence: Evidence) -> Reason | None:
    """No room on a decode instance, or KV that has come and no step yet that takes the request in."""
    use = evidence.result.transfer
    waits = 0 if use is None else use.reservation_waits
    text = (
        f"Waiting for room on the decode side and for a step there is {{}}; room or seats were short "
        f"{counted(waits, 'time')}."
    )
    return _of_part(evidence, "decode_wait", "decode_wait", text, reservation_waits=waits)


def first_decode(evidence: Evidence) -> Reason | None:
    """The first token is the decode instance's."""
    text = "The first decode step is {}: the first token comes from the decode instance."
    return _of_part(evidence, "first_decode", "first_decode", text)


RULES = (
    retry,
    proxy,
    queue,
    interference,
    chunking,
    prefill,
    preemption,
    transfer,
    tier_load,
    decode_wait,
    first_decode,
)
