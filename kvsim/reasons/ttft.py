"""Why TTFT is what it is: its largest parts, and what stood in the way at the time."""

from __future__ import annotations

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.labels import number, percent

LARGE = 0.25
"""Share of the mean TTFT, or of that at p99, from which on a part is told."""
FULL, BUSY = 0.85, 0.9
"""Shares of KV blocks in use, and of the maximum rate, that a queue is told with."""


def _part(evidence: Evidence, name: str, rest: str, **figures: float | int | None) -> Reason | None:
    """A reason for a part of TTFT, if it is large; ``rest`` follows its figures."""
    attribution = evidence.summary.attribution_ms
    mean_ms, p99_ms = attribution.mean.get(name) or 0.0, attribution.p99.get(name) or 0.0
    whole_ms, late_ms = (sum(value or 0.0 for value in parts.values()) for parts in (attribution.mean, attribution.p99))
    if not whole_ms or not late_ms or max(mean_ms / whole_ms, p99_ms / late_ms) < LARGE:
        return None
    said = (
        f"{_NAMES[name]} is {percent(mean_ms / whole_ms)} of mean TTFT ({number(mean_ms)} of {number(whole_ms)} ms) "
        f"and {percent(p99_ms / late_ms)} at p99 ({number(p99_ms)} of {number(late_ms)} ms){rest}."
    )
    return Reason(
        about="ttft",
        rule=name,
        sentence=said,
        figures={"mean_ms": mean_ms, "ttft_ms": whole_ms, "p99_ms": p99_ms, "ttft_p99_ms": late_ms, **figures},
        weight=mean_ms / whole_ms,
        system=evidence.result.name,
    )


_NAMES = {
    "proxy": "The hop through the proxy",
    "queue": "Waiting to be scheduled",
    "interference": "Time in steps spent on other requests",
    "preemption": "Work done again after preemptions",
    "tier_load": "Loading from tiers",
    "prefill": "Computing the prompt itself",
    "transfer": "KV transfer that prefill does not hide",
    "decode_wait": "Waiting on the decode side",
    "first_decode": "The first decode step",
}


def proxy(evidence: Evidence) -> Reason | None:
    """Prefill and decode instances stand behind a proxy that asks one after the other."""
    return _part(evidence, "proxy", ": pd_separation.proxy_ms, whatever the load")


def queue(evidence: Evidence) -> Reason | None:
    """Requests wait; for KV blocks, where these are full, or at a rate near or above the maximum."""
    use = next(iter(evidence.summary.utilisation.values()))
    kv, load, seats = use.kv_usage or 0.0, use.load or 0.0, evidence.settings.max_num_seqs
    running = peak_running(evidence)
    facts = [f"KV blocks are {percent(kv)} in use"] if kv >= FULL else []
    facts += [f"all {seats:,} seats of an instance were taken at times"] if running >= seats else []
    facts += [f"the rate is {percent(load)} of what can be served"] if load >= BUSY else []
    if not facts:
        facts = [f"KV blocks are {percent(kv)} in use, and of {seats:,} seats an instance had {running:,} at most"]
    rest = f"; {', '.join(facts)}"
    return _part(evidence, "queue", rest, kv_usage=kv, load=load, seats=seats, peak_running=running)


def peak_running(evidence: Evidence) -> int:
    """The most requests that an instance which computes prompts had scheduled at a time."""
    table = evidence.result.table
    start_s = table["arrival_s"] + table["proxy_s"] + table["queue_s"]
    end_s = table["first_token_s"] if evidence.is_pd else table["finish_s"]
    instance, number = table["prefill_instance"], len(start_s)
    at_s, change = np.concatenate([start_s, end_s]), np.repeat([1, -1], number)
    # Who ends makes room before who begins at the same instant takes it.
    order = np.lexsort((change, at_s, np.concatenate([instance, instance])))
    return int(np.cumsum(change[order]).max(initial=0))


def interference(evidence: Evidence) -> Reason | None:
    """Steps are shared with other prompts and with decodes."""
    tokens = evidence.settings.max_num_batched_tokens
    return _part(evidence, "interference", f"; a step holds up to {tokens:,} tokens of all", step_tokens=tokens)


def preemption(evidence: Evidence) -> Reason | None:
    """KV blocks ran out under requests that had begun."""
    count = evidence.summary.preemptions
    return _part(evidence, "preemption", f"; {count:,} times blocks ran out under a running request", preemptions=count)


def tier_load(evidence: Evidence) -> Reason | None:
    """What tiers have takes its way over their ports."""
    loads = evidence.summary.cache.loads
    return _part(evidence, "tier_load", f"; {loads:,} loads were made", loads=loads)


def prefill(evidence: Evidence) -> Reason | None:
    """Long prompts: their own computation, cut into chunks where they are longer than a step."""
    computed, budget = evidence.result.table["computed_tokens"], evidence.settings.max_num_batched_tokens
    mean, over = float(computed.mean()), float((computed > budget).mean())
    rest = f"; {number(mean)} tokens a prompt are computed"
    if over >= 0.01 and evidence.settings.enable_chunked_prefill:
        rest += f", {percent(over)} of prompts in several steps of {budget:,}"
    return _part(evidence, "prefill", rest, computed_tokens=mean, share_in_chunks=over, step_tokens=budget)


def transfer(evidence: Evidence) -> Reason | None:
    """KV has to reach the decode instance before its first step."""
    use = evidence.result.transfer
    moved = None if use is None else use.bytes_sent / 1e9
    rest = "" if moved is None else f"; {number(moved)} GB moved in all"
    return _part(evidence, "transfer", rest, moved_gb=moved)


def decode_wait(evidence: Evidence) -> Reason | None:
    """Room on a decode instance, or its step under way."""
    return _part(evidence, "decode_wait", ": for room there, and for the end of the step under way")


def first_decode(evidence: Evidence) -> Reason | None:
    """The first token is the decode instance's."""
    return _part(evidence, "first_decode", ": the first token comes from the decode instance")


def users_in_step(evidence: Evidence) -> Reason | None:
    """Equal requests of a fixed number of users end together and come together."""
    workload = evidence.experiment.workload
    users, table = workload.max_concurrency, evidence.result.table
    if users is None or users < 2 or np.ptp(table["prompt_tokens"]) or np.ptp(table["output_tokens"]):
        return None
    said = (
        f"{users:,} users send requests of one length, so that they end and begin together: prompts meet in the same "
        "steps. Lengths that vary, as in=400-600, spread them."
    )
    return Reason(
        about="ttft",
        rule="users_in_step",
        sentence=said,
        figures={"users": users, "prompt_tokens": int(table["prompt_tokens"][0])},
        weight=0.5,
        system=evidence.result.name,
    )


RULES = (
    proxy, queue, interference, preemption, tier_load, prefill, transfer, decode_wait, first_decode, users_in_step
)  # fmt: skip
