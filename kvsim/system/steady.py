"""How many requests a run needs to be in a steady state for most of its length."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kvsim.system.answers import Answers, largest
from kvsim.system.capacity import colocated_requests_per_s, decode_load_at, decode_step_s, prefill_s_per_request
from kvsim.system.demand import Demand
from kvsim.system.plan import Plan

LATE = 95
"""Percentile of E2E at which completions keep up with arrivals: the measured window begins when a run is that old."""
_WINDOW_SHARE = 0.3
"""Of a run, at least, for its measured window: a quarter, and as much again as rounding its start may take."""


@dataclass(frozen=True)
class Stay:
    """E2E without queues, seconds."""

    mean_s: float
    late_s: float
    """The ``LATE`` percentile, by the length of the answer."""


def steady_requests(plan: Plan, demand: Demand, requests_per_s: float, factor: float, warmup: int | None) -> int:
    """Requests that a run takes to be steady and to have a window in which its throughput is measured.

    After the warm-up (the first tenth, if none is given) ``factor`` x E2E x rate are left; and late E2E is at most 70%
    of the arrivals' span. The slower of the two systems decides, at its full load where the rate is above that.
    """
    stays = pd_stay(plan, demand, requests_per_s), unified_stay(plan, demand, requests_per_s)
    measured = factor * max(stay.mean_s for stay in stays) * requests_per_s
    steady = measured / 0.9 if warmup is None else measured + warmup
    windowed = max(stay.late_s for stay in stays) / (1 - _WINDOW_SHARE) * requests_per_s
    return max(1, math.ceil(max(steady, windowed)))


def pd_stay(plan: Plan, demand: Demand, requests_per_s: float) -> Stay:
    """In the PD system: prefill, transfer, and decode steps as long as the load makes them."""
    answers = Answers.of_decode(plan, demand)
    sending_s = float(demand.sent_tokens.mean()) * plan.kv_bytes_per_token / plan.pair_bytes_per_s
    before_s = prefill_s_per_request(plan, demand) + sending_s
    if not answers.mean_steps:
        return _stay(before_s, answers, 0.0)
    load = decode_load_at(plan, demand, requests_per_s / plan.num_decode)
    return _stay(before_s, answers, decode_step_s(plan, load))


def _stay(before_s: float, answers: Answers, step_s: float) -> Stay:
    late_steps = float(np.percentile(answers.steps, LATE))
    return Stay(before_s + answers.mean_steps * step_s, before_s + late_steps * step_s)


def unified_stay(plan: Plan, demand: Demand, requests_per_s: float) -> Stay:
    """In the unified system.

    Prompts take ``u = rate x prefill time`` of an instance, so that its n = rate x E2E decodes advance 1 / (1 - u)
    times slower than alone.
    """
    plan = replace(plan, own_prefill=None, own_decode=None)
    rate_per_s = min(requests_per_s / plan.num_instances, 0.95 * colocated_requests_per_s(plan, demand))
    answers = Answers.of_colocated(plan, demand)
    prefill_s = prefill_s_per_request(plan, demand)
    free_share = max(1 - rate_per_s * prefill_s, 0.05)

    def served_per_s(num_seqs: float) -> float:
        return num_seqs / (answers.mean_steps * decode_step_s(plan, answers.load(num_seqs))) * free_share

    if not answers.mean_steps:
        return _stay(prefill_s / free_share, answers, 0.0)
    seats = float(plan.colocated_settings.max_num_seqs)
    decoding_s = largest(served_per_s, rate_per_s, seats) / rate_per_s
    return _stay(prefill_s, answers, decoding_s / answers.mean_steps)
