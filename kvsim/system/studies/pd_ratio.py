"""Which prefill:decode ratio serves most: every ratio is offered the same requests, more than any can take."""

from __future__ import annotations

import math
from typing import Any

from kvsim.config import derived
from kvsim.system.capacity import balanced_pd_ratio, maximum_rate
from kvsim.system.plan import Plan
from kvsim.system.studies.bed import Bed, throughput_per_s
from kvsim.system.studies.intervals import difference, interval

OVERLOAD = 1.15
"""Offered load over the largest analytic maximum rate of the grid."""
NEIGHBOURS = (-0.125, -0.0625, 0.0625, 0.125)
"""Points beside the balanced ratio, as shares of the instances that change sides."""
_FILLED = 4.0
"""Requests of a run, in units of E2E x rate: decode fills up in the first, the window is in the rest."""


def pd_ratio_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.pd_ratio``: throughput at saturation of every ratio, the best one, and its ties."""
    plan, confidence = bed.sample, bed.confidence
    balanced = balanced_pd_ratio(plan, bed.demand)
    grid = ratio_grid(plan, balanced)
    analytic = {counts: maximum_rate(plan.with_counts(*counts), bed.demand, "pd") for counts in grid}
    offered_per_s = OVERLOAD * max(analytic.values())
    num_requests = bed.requests_at(plan.with_counts(*balanced), offered_per_s, _FILLED)
    served: dict[tuple[int, int], list[float]] = {counts: [] for counts in grid}
    for seed in bed.seeds:
        workload = bed.workload(offered_per_s, num_requests, seed)
        for counts in grid:
            label = f"P:D {counts[0]}:{counts[1]}"
            result = bed.run(label, "pd", plan.with_counts(*counts), workload, seed)
            served[counts].append(throughput_per_s(result))
    best = max(grid, key=lambda counts: sum(served[counts]))
    points = []
    for counts in grid:
        behind = difference(served[counts], served[best], confidence)
        points.append(
            {
                "ratio": list(counts),
                "balanced": counts == balanced,
                "configured": counts == (plan.num_prefill, plan.num_decode),
                "analytic_requests_per_s": analytic[counts],
                "throughput_requests_per_s": interval(served[counts], confidence).report(),
                "difference_to_best": behind.report(),
                "best": counts == best,
                "tie": counts != best and behind.holds_zero,
            }
        )
    return {
        "instances": plan.num_instances,
        "replications": len(bed.seeds),
        "confidence": confidence,
        "requests": num_requests,
        "offered_requests_per_s": offered_per_s,
        "balanced": list(balanced),
        "best": list(best),
        "tied": [point["ratio"] for point in points if point["tie"]],
        "points": points,
    }


def ratio_grid(plan: Plan, balanced: tuple[int, int]) -> list[tuple[int, int]]:
    """``pd_experiments.pd_ratios``, the plan's own ratio, the balanced one and its neighbours, in whole instances.

    In the order of their share of prefill instances.
    """
    total = plan.num_instances
    prefills = {balanced[0], plan.num_prefill}
    for prefill, decode in plan.config.pd_experiments.pd_ratios:
        prefills.add(derived.rounded_prefill(total, prefill, decode))
    for share in NEIGHBOURS:
        step = math.copysign(max(1, round(abs(share) * total)), share)
        prefills.add(balanced[0] + int(step))
    return [(prefill, total - prefill) for prefill in sorted(prefills) if 1 <= prefill < total]
