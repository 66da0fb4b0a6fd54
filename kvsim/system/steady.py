"""How many requests a run needs to be in a steady state for most of its length."""

from __future__ import annotations

import math

from kvsim.system.answers import Answers, largest
from kvsim.system.capacity import colocated_requests_per_s, decode_load_at, decode_step_s, prefill_s_per_request
from kvsim.system.demand import Demand
from kvsim.system.plan import Plan


def steady_requests(plan: Plan, demand: Demand, requests_per_s: float, factor: float, warmup: int | None) -> int:
    """Requests so that after the warm-up (the first tenth, if none is given) ``factor`` x E2E x rate are left.

    The slower of the two systems decides, at its full load where the rate is above that.
    """
    e2e_s = max(pd_e2e_s(plan, demand, requests_per_s), unified_e2e_s(plan, demand, requests_per_s))
    measured = factor * e2e_s * requests_per_s
    total = measured / 0.9 if warmup is None else measured + warmup
    return max(1, math.ceil(total))


def pd_e2e_s(plan: Plan, demand: Demand, requests_per_s: float) -> float:
    """Mean time in the PD system without queues: prefill, transfer, and decode steps as long as the load makes them."""
    load = decode_load_at(plan, demand, requests_per_s / plan.num_decode)
    decoding_s = Answers.of_decode(plan, demand).mean_steps * decode_step_s(plan, load)
    sending_s = float(demand.sent_tokens.mean()) * plan.kv_bytes_per_token / plan.nic_bytes_per_s
    return prefill_s_per_request(plan, demand) + sending_s + decoding_s


def unified_e2e_s(plan: Plan, demand: Demand, requests_per_s: float) -> float:
    """Mean time in the unified system without queues.

    Prompts take ``u = rate x prefill time`` of an instance, so that its n = rate x E2E decodes advance 1 / (1 - u)
    times slower than alone.
    """
    rate_per_s = min(requests_per_s / plan.num_instances, 0.95 * colocated_requests_per_s(plan, demand))
    answers = Answers.of_colocated(plan, demand)
    prefill_s = prefill_s_per_request(plan, demand)
    free_share = max(1 - rate_per_s * prefill_s, 0.05)

    def served_per_s(num_seqs: float) -> float:
        return num_seqs / (answers.mean_steps * decode_step_s(plan, answers.load(num_seqs))) * free_share

    if not answers.mean_steps:
        return prefill_s / free_share
    seats = float(plan.colocated_settings.max_num_seqs)
    return prefill_s + largest(served_per_s, rate_per_s, seats) / rate_per_s
