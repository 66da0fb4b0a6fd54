"""Which prefill:decode ratio serves most: every ratio is offered the same requests, more than any can take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kvsim.config import derived
from kvsim.errors import CapacityError
from kvsim.record.result import SystemResult
from kvsim.system.capacity import balanced_pd_ratio, maximum_rate
from kvsim.system.plan import Plan
from kvsim.system.steady import pd_stay
from kvsim.system.studies.bed import Bed, throughput_per_s
from kvsim.system.studies.sequential import SIGN, Figures, Replicated
from kvsim.workload.workload import Workload

Counts = tuple[int, int]
SERVED = "throughput_requests_per_s"

OVERLOAD = 1.15
"""Offered load over the largest analytic maximum rate of the grid."""
NEIGHBOURS = (-0.125, -0.0625, 0.0625, 0.125)
"""Points beside the balanced ratio, as shares of the instances that change sides."""
WITHIN = 0.8
"""Of the first run's best throughput: points below it are not run again."""
_FILLED, _OUTLASTING = 3.0, 1.6
"""Length of a run in units of mean and of late E2E: decode fills up first, the window is in the rest."""
_FEWEST = 1_000
"""Requests of a run, where those units are short: what completes in a window of a few is chance."""


def pd_ratio_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.pd_ratio``: throughput at saturation of every ratio, the best one, and its ties.

    Where ``requests`` is below ``requests_needed``, ``studies.max_requests`` or the configured sessions ended the runs
    before a steady state. Raises ``CapacityError`` where nothing completes.
    """
    plan = bed.small
    balanced = balanced_pd_ratio(plan, bed.demand)
    grid = ratio_grid(plan, balanced)
    analytic = {counts: maximum_rate(plan.with_counts(*counts), bed.demand, "pd") for counts in grid}
    offered_per_s = OVERLOAD * max(analytic.values())
    stay = pd_stay(plan.with_counts(*balanced), bed.demand, offered_per_s)
    needed = math.ceil(max(_FILLED * stay.mean_s, _OUTLASTING * stay.late_s) * offered_per_s)
    num_requests = min(max(needed, _FEWEST), plan.config.studies.max_requests)
    found = _served(bed, grid, offered_per_s, num_requests)
    best = _best(found.figures)
    if not found.means(best)[SERVED]["mean"]:
        few = f"a steady state takes {needed:,}, studies.max_requests is {plan.config.studies.max_requests:,}"
        raise CapacityError(f"none of {num_requests:,} requests completes before the last one arrives: {few}")
    points = []
    for counts in grid:
        apart = found.apart(counts, best, SERVED)
        points.append(
            {
                "ratio": list(counts),
                "balanced": counts == balanced,
                "configured": counts == (plan.num_prefill, plan.num_decode),
                "analytic_requests_per_s": analytic[counts],
                "throughput_requests_per_s": found.means(counts)[SERVED],
                "difference_to_best": apart.report(),
                "best": counts == best,
                "runs": len(found.figures[counts]),
                "tie": counts != best and apart.verdict in ("same", "tie"),
                "open": counts != best and len(found.figures[counts]) > 1 and apart.verdict == "open",
            }
        )
    return {
        **bed.sizes(plan),
        **found.report(),
        "requests": found.requests_a_run,
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


def _served(bed: Bed, grid: list[Counts], offered_per_s: float, num_requests: int) -> Replicated[Counts]:
    """Throughput of each ratio. Who is far behind in the first run is in no other."""

    def serve(counts: Counts, workload: Workload, seed: int) -> SystemResult:
        plan = bed.small.with_counts(*counts)
        return bed.run(f"P:D {counts[0]}:{counts[1]}", "pd", plan, workload, seed, drains=False)

    def is_far_behind(counts: Counts, found: Mapping[Counts, Sequence[Figures]]) -> bool:
        return found[counts][0][SERVED] < WITHIN * max(values[0][SERVED] for values in found.values())

    return bed.replicate(
        grid,
        lambda _, found: _best(found),
        lambda seed: bed.workload(offered_per_s, num_requests, seed),
        serve,
        lambda result: {SERVED: throughput_per_s(result)},
        bed.goal(SERVED, precision=SIGN, has_level=True),
        is_out=is_far_behind,
        at_saturation=True,
    )


def _best(found: Mapping[Counts, Sequence[Figures]]) -> Counts:
    """Of the ratios that were run most often, the one with the highest mean."""
    most = max(len(values) for values in found.values())
    repeated = [counts for counts in found if len(found[counts]) == most]
    return max(repeated, key=lambda counts: sum(one[SERVED] for one in found[counts]))
