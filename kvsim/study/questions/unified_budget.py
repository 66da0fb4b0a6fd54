"""How large the unified baseline's steps should be: token budgets side by side at the run's rate."""

from __future__ import annotations

from typing import Any

from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.study.context import LOAD, Bed, latencies, own_load
from kvsim.units import MILLI

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


def unified_budget_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.unified_budget``: latencies and goodput of each budget, paired with the run's own.

    The budgets are ``engine.colocated_budgets`` and the one that the run used. ``loads``: what share of its maximum
    rate that one was offered in these runs.
    """
    plan = bed.sample
    used = plan.colocated_settings.max_num_batched_tokens
    plans = {tokens: plan.with_colocated_budget(tokens) for tokens in _budgets(bed, used)}
    rate_per_s = bed.sample_requests_per_s
    num_requests = bed.requests_at(plan, rate_per_s, FACTOR)
    found = bed.replicate(
        list(plans),
        lambda *_: used,
        lambda seed: bed.workload(rate_per_s, num_requests, seed),
        lambda tokens, workload, seed: bed.run(f"budget {tokens:,}", "unified", plans[tokens], workload, seed),
        lambda tokens, workload, result: {
            **_figures(bed, result),
            **(own_load(plans[used], workload, result) if tokens == used else {}),
        },
        bed.goal("good_share"),
    )
    rows = []
    for tokens in plans:
        apart = found.apart(tokens, used, "good_share").report()
        row = {"max_num_batched_tokens": tokens, "used": tokens == used, **found.means(tokens)}
        tie = tokens != used and apart["tie"]
        rows.append({**row, "good_share_difference": apart, "runs": len(found.figures[tokens]), "tie": tie})
    return {
        **bed.sizes(plan),
        **found.report(),
        "requests": found.requests_a_run,
        "requests_per_s": rate_per_s,
        "loads": {"unified": found.means(used, (LOAD,))[LOAD]["mean"]},
        "rows": rows,
    }


def _budgets(bed: Bed, used: int) -> list[int]:
    return sorted({*bed.plan.config.engine.colocated_budgets, used})


def _figures(bed: Bed, result: SystemResult) -> dict[str, float]:
    slo = bed.plan.config.slo
    in_ttft, in_tpot = within_limits(rows_of(result, result.measured), slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    good = in_ttft & in_tpot
    return {**latencies(result), "good_share": float(good.mean())}
