"""How many requests a run needs for a window in a steady state, and a study for its latencies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kvsim.capacity.decode_residency import DecodeResidency, largest
from kvsim.capacity.demand import Demand
from kvsim.capacity.kv_links import KvLinks
from kvsim.capacity.maximum_rates import colocated_requests_per_s, decode_load_at, decode_step_s, prefill_s_per_request
from kvsim.plan.plan import Plan
from kvsim.record.windows import LATE

_WINDOW_SHARE = 0.3
"""Share of a study's run for its measured window, at least: a quarter, and what rounding its start may take."""
_ROUNDED_SHARE = 0.05
"""Share of a run by which its window may begin later than it could, at the next mark."""
_ERROR = 1.1
"""Late E2E as measured over that by arithmetic, which knows of no queues, at the most."""


@dataclass(frozen=True)
class Residence:
    """E2E without queues, seconds."""

    mean_s: float
    late_s: float
    """The ``LATE`` percentile, by the length of the answer."""


def run_requests(
    plan: Plan, demand: Demand, requests_per_s: float, factor: float, warmup: int | None, warmup_share: float
) -> int:
    """Requests of a run whose window is ``factor`` times late E2E long, as a steady one is.

    The window begins when the run is as old as late E2E, and behind the warm-up (``warmup_share`` of the run, if none
    is given). The slower of the two systems decides, at its full load where the rate is above that.
    """
    residences = _residences(plan, demand, requests_per_s)
    late_s = _ERROR * max(residence.late_s for residence in residences)
    filling = late_s * requests_per_s
    free_share = 1 - _ROUNDED_SHARE
    behind_fill = (1 + factor) * filling / free_share
    if warmup is None:
        return max(1, math.ceil(max(behind_fill, factor * filling / (free_share - warmup_share))))
    return max(1, math.ceil(max(behind_fill, (warmup + factor * filling) / free_share)))


def steady_requests(plan: Plan, demand: Demand, requests_per_s: float, factor: float, warmup: int | None) -> int:
    """Requests that a run of a study takes to tell latencies, and to have a window in which throughput is measured.

    After the warm-up (``pd_experiments.warmup_share``, if none is given) ``factor`` x E2E x rate are left; and late E2E
    is at most 70% of the arrivals' span. The slower of the two systems decides, at its full load where the rate is
    above that.
    """
    residences = _residences(plan, demand, requests_per_s)
    measured = factor * max(residence.mean_s for residence in residences) * requests_per_s
    share = plan.config.pd_experiments.warmup_share
    steady = measured / (1 - share) if warmup is None else measured + warmup
    windowed = max(residence.late_s for residence in residences) / (1 - _WINDOW_SHARE) * requests_per_s
    return max(1, math.ceil(max(steady, windowed)))


def _residences(plan: Plan, demand: Demand, requests_per_s: float) -> list[Residence]:
    """In each of the systems that the plan has instances for."""
    found = [unified_residence(plan, demand, requests_per_s)]
    return [*found, pd_residence(plan, demand, requests_per_s)] if plan.num_decode else found


def pd_residence(plan: Plan, demand: Demand, requests_per_s: float) -> Residence:
    """E2E in the PD system: prefill, transfer, and decode steps as long as the load makes them."""
    residency = DecodeResidency.of_decode(plan, demand)
    before_s = prefill_s_per_request(plan, demand) + KvLinks(plan, demand).sending_s()
    if not residency.mean_steps:
        return _residence(before_s, residency, 0.0)
    load = decode_load_at(plan, demand, requests_per_s / plan.num_decode)
    return _residence(before_s, residency, decode_step_s(plan, load))


def _residence(before_s: float, residency: DecodeResidency, step_s: float) -> Residence:
    late_steps = float(np.percentile(residency.steps, LATE))
    return Residence(before_s + residency.mean_steps * step_s, before_s + late_steps * step_s)


def unified_residence(plan: Plan, demand: Demand, requests_per_s: float) -> Residence:
    """E2E in the unified system.

    Prompts take ``u = rate x prefill time`` of an instance, so that its n = rate x E2E decodes advance 1 / (1 - u)
    times slower than alone.
    """
    own = plan.colocated
    prefill, decode = replace(own, settings=plan.prefill_settings), replace(own, settings=plan.decode_settings)
    plan = replace(plan, prefill=prefill, decode=decode)
    rate_per_s = min(requests_per_s / plan.num_instances, 0.95 * colocated_requests_per_s(plan, demand))
    residency = DecodeResidency.of_colocated(plan, demand)
    prefill_s = prefill_s_per_request(plan, demand)
    free_share = max(1 - rate_per_s * prefill_s, 0.05)

    def served_per_s(num_seqs: float) -> float:
        return num_seqs / (residency.mean_steps * decode_step_s(plan, residency.load(num_seqs))) * free_share

    if not residency.mean_steps:
        return _residence(prefill_s / free_share, residency, 0.0)
    seats = float(plan.colocated_settings.max_num_seqs)
    decoding_s = largest(served_per_s, rate_per_s, seats) / rate_per_s
    return _residence(prefill_s, residency, decoding_s / residency.mean_steps)
