"""How many requests a run needs for a window in a steady state, and a study for its latencies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kvsim.capacity.decode_residency import DecodeResidency, largest
from kvsim.capacity.demand import Demand
from kvsim.capacity.filling import Decoding, window_s
from kvsim.capacity.kv_links import KvLinks
from kvsim.capacity.maximum_rates import (
    colocated_requests_per_s,
    decode_load_at,
    decode_step_s,
    pool_maxima,
    prefill_s_per_request,
)
from kvsim.plan.plan import Plan
from kvsim.record.windows import LATE

_WINDOW_SHARE = 0.3
"""Share of a study's run for its measured window, at least: a quarter, and what rounding its start may take."""
_ROUNDED_SHARE = 0.05
"""Share of a run by which its window may begin later than it could, at the next mark."""
_KEEPS_UP, _MOST_LOAD = 0.999, 0.95
"""Shares: what is served of the rate that is asked where a system keeps up, and at most how much of what unified
instances can serve they are looked at with."""
_ERROR = 1.1
"""Late E2E as measured over that by arithmetic, which knows of no queues, at the most."""


@dataclass(frozen=True)
class Residence:
    """E2E without queues, seconds."""

    mean_s: float
    late_s: float
    """The ``LATE`` percentile, by the length of the answer."""
    decoding: Decoding | None
    """``None``: nothing decodes, or not as much as is asked."""


def run_requests(
    plan: Plan, demand: Demand, requests_per_s: float, factor: float, warmup: int | None, warmup_share: float
) -> int:
    """Requests of a run whose window is ``factor`` times late E2E long, and in it as many complete as come.

    The window begins when the run is as old as late E2E, and behind the warm-up (``warmup_share`` of the run, if none
    is given). The slower of the two systems decides, at its full load where the rate is above that.
    """
    residences = _residences(plan, demand, requests_per_s)
    late_s = _ERROR * max(residence.late_s for residence in residences)
    filling = late_s * requests_per_s
    decodings = [each.decoding for each in residences if each.decoding is not None]
    filled_s = max((window_s(each, requests_per_s, late_s) for each in decodings), default=0.0)
    window = max(factor * late_s, filled_s) * requests_per_s
    free_share = 1 - _ROUNDED_SHARE
    behind_fill = (filling + window) / free_share
    if warmup is None:
        return max(1, math.ceil(max(behind_fill, window / (free_share - warmup_share))))
    return max(1, math.ceil(max(behind_fill, (warmup + window) / free_share)))


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
    before_s = prefill_s_per_request(plan, demand) + KvLinks(plan.one_cell, demand).sending_s()
    if not residency.mean_steps:
        return _residence(before_s, residency, 0.0, None)
    rate_per_s = requests_per_s / plan.num_decode
    load = decode_load_at(plan, demand, rate_per_s)
    step_s = decode_step_s(plan, load)
    seats = plan.decode_settings.max_num_seqs
    decoding = Decoding(residency, lambda batch: decode_step_s(plan, residency.load(batch)), seats, plan.num_decode)
    keeps_up = load.num_seqs / (residency.mean_steps * step_s) > _KEEPS_UP * rate_per_s
    return _residence(before_s, residency, step_s, decoding if keeps_up else None)


def unified_residence(plan: Plan, demand: Demand, requests_per_s: float) -> Residence:
    """E2E in the unified system.

    Prompts take ``u = rate x prefill time`` of an instance, so that its n = rate x E2E decodes advance 1 / (1 - u)
    times slower than alone. Of several kinds, each asked for its share of what all can serve, it is the slowest one's.
    """
    if plan.pools:
        maxima, kinds = pool_maxima(plan, demand), plan.by_kind()
        rates = [requests_per_s * own / sum(maxima) for own in maxima]
        found = [unified_residence(kind, demand, rate) for kind, rate in zip(kinds, rates, strict=True)]
        return max(found, key=lambda residence: residence.late_s)
    own, seats = plan.colocated, plan.colocated_settings.max_num_seqs
    prefill, decode = replace(own, settings=plan.prefill_settings), replace(own, settings=plan.decode_settings)
    plan = replace(plan, prefill=prefill, decode=decode)
    asked_per_s = requests_per_s / plan.num_instances
    rate_per_s = min(asked_per_s, _MOST_LOAD * colocated_requests_per_s(plan, demand))
    residency = DecodeResidency.of_colocated(plan, demand)
    prefill_s = prefill_s_per_request(plan, demand)
    free_share = max(1 - rate_per_s * prefill_s, 0.05)

    def step_s(batch: float) -> float:
        return decode_step_s(plan, residency.load(batch)) / free_share

    def served_per_s(num_seqs: float) -> float:
        return num_seqs / (residency.mean_steps * step_s(num_seqs))

    if not residency.mean_steps:
        return _residence(prefill_s / free_share, residency, 0.0, None)
    decoding_s = largest(served_per_s, rate_per_s, float(seats)) / rate_per_s
    decoding = Decoding(residency, step_s, seats, plan.num_instances) if rate_per_s == asked_per_s else None
    return _residence(prefill_s, residency, decoding_s / residency.mean_steps, decoding)


def _residence(before_s: float, residency: DecodeResidency, step_s: float, decoding: Decoding | None) -> Residence:
    late_steps = float(np.percentile(residency.steps, LATE))
    return Residence(before_s + residency.mean_steps * step_s, before_s + late_steps * step_s, decoding)
