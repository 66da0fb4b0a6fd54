"""Which prefill:decode ratio serves most: every ratio is offered the same requests, more than any can take."""

from __future__ import annotations

import math
from typing import Any

from kvsim.config import derived
from kvsim.system.capacity import balanced_pd_ratio, maximum_rate
from kvsim.system.plan import Plan
from kvsim.system.steady import pd_stay
from kvsim.system.studies.bed import Bed, throughput_per_s
from kvsim.system.studies.intervals import difference, interval

OVERLOAD = 1.15
"""Offered load over the largest analytic maximum rate of the grid."""
NEIGHBOURS = (-0.125, -0.0625, 0.0625, 0.125)
"""Points beside the balanced ratio, as shares of the instances that change sides."""
WITHIN = 0.8
"""Of the first run's best throughput: points below it are not run again."""
_FILLED, _OUTLASTING = 3.0, 1.6
"""Length of a run in units of mean and of late E2E: decode fills up first, the window is in the rest."""


def pd_ratio_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.pd_ratio``: throughput at saturation of every ratio, the best one, and its ties.

    Where ``requests`` is below ``requests_needed``, ``studies.max_requests`` ended the runs before a steady state.
    """
    plan, confidence = bed.sample, bed.confidence
    balanced = balanced_pd_ratio(plan, bed.demand)
    grid = ratio_grid(plan, balanced)
    analytic = {counts: maximum_rate(plan.with_counts(*counts), bed.demand, "pd") for counts in grid}
    offered_per_s = OVERLOAD * max(analytic.values())
    stay = pd_stay(plan.with_counts(*balanced), bed.demand, offered_per_s)
    needed = math.ceil(max(_FILLED * stay.mean_s, _OUTLASTING * stay.late_s) * offered_per_s)
    num_requests = min(needed, plan.config.studies.max_requests)
    served = _served(bed, grid, offered_per_s, num_requests)
    repeated = [counts for counts in grid if len(served[counts]) == len(bed.seeds)]
    best = max(repeated, key=lambda counts: sum(served[counts]))
    points = []
    for counts in grid:
        behind = difference(served[counts], served[best][: len(served[counts])], confidence)
        points.append(
            {
                "ratio": list(counts),
                "balanced": counts == balanced,
                "configured": counts == (plan.num_prefill, plan.num_decode),
                "analytic_requests_per_s": analytic[counts],
                "throughput_requests_per_s": interval(served[counts], confidence).report(),
                "difference_to_best": behind.report(),
                "best": counts == best,
                "runs": len(served[counts]),
                "tie": counts != best and len(served[counts]) > 1 and behind.holds_zero,
            }
        )
    return {
        "instances": plan.num_instances,
        "replications": len(bed.seeds),
        "confidence": confidence,
        "requests": num_requests,
        "requests_needed": needed,
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
    total, gpus = plan.num_prefill + plan.num_decode, plan.num_gpus
    prefills = {balanced[0], plan.num_prefill}
    for ratio in plan.config.pd_experiments.pd_ratios:
        prefills.add(derived.rounded_prefill(gpus, plan.degrees, ratio))
    for share in NEIGHBOURS:
        step = math.copysign(max(1, round(abs(share) * total)), share)
        prefills.add(balanced[0] + int(step))
    return [(prefill, plan.decode_beside(prefill)) for prefill in sorted(prefills) if 1 <= prefill <= plan.most_prefill]


def _served(
    bed: Bed, grid: list[tuple[int, int]], offered_per_s: float, num_requests: int
) -> dict[tuple[int, int], list[float]]:
    """Throughput of each ratio, one entry a replication. Who is far behind in the first is in no other."""
    served: dict[tuple[int, int], list[float]] = {counts: [] for counts in grid}
    running = grid
    for seed in bed.replications():
        workload = bed.workload(offered_per_s, num_requests, seed)
        for counts in running:
            plan = bed.sample.with_counts(*counts)
            result = bed.run(f"P:D {counts[0]}:{counts[1]}", "pd", plan, workload, seed, drains=False)
            served[counts].append(throughput_per_s(result))
        enough = WITHIN * max(values[0] for values in served.values())
        running = [counts for counts in grid if served[counts][0] >= enough]
    return served
