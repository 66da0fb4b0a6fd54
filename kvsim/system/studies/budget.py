"""How large the unified baseline's steps should be: token budgets side by side at the run's load."""

from __future__ import annotations

from typing import Any

from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, within_limits
from kvsim.system.studies.bed import Bed, latencies
from kvsim.system.studies.intervals import difference, interval
from kvsim.units import MILLI

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


def unified_budget_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.unified_budget``: latencies and goodput of each budget, paired with the run's own.

    The budgets are ``engine.colocated_budgets`` and the one that the run used.
    """
    plan, confidence = bed.sample, bed.confidence
    used = plan.colocated_settings.max_num_batched_tokens
    plans = {tokens: plan.with_colocated_budget(tokens) for tokens in _budgets(bed, used)}
    rate_per_s = bed.sample_requests_per_s
    num_requests = bed.requests_at(plan, rate_per_s, FACTOR)
    found: dict[int, list[dict[str, float]]] = {tokens: [] for tokens in plans}
    for seed in bed.replications():
        workload = bed.workload(rate_per_s, num_requests, seed)
        for tokens, variant in plans.items():
            result = bed.run(f"budget {tokens:,}", "unified", variant, workload, seed)
            found[tokens].append(_figures(bed, result))
    rows = []
    for tokens, figures in found.items():
        row: dict[str, Any] = {"max_num_batched_tokens": tokens, "used": tokens == used}
        for name in figures[0]:
            row[name] = interval([one[name] for one in figures], confidence).report()
        apart = difference(
            [one["good_share"] for one in figures], [one["good_share"] for one in found[used]], confidence
        )
        row["good_share_difference"] = apart.report()
        row["tie"] = tokens != used and apart.holds_zero
        rows.append(row)
    return {
        "instances": plan.num_instances,
        "replications": len(bed.seeds),
        "confidence": confidence,
        "requests": num_requests,
        "requests_per_s": rate_per_s,
        "rows": rows,
    }


def _budgets(bed: Bed, used: int) -> list[int]:
    return sorted({*bed.plan.config.engine.colocated_budgets, used})


def _figures(bed: Bed, result: SystemResult) -> dict[str, float]:
    slo = bed.plan.config.slo
    in_ttft, in_tpot = within_limits(rows_of(result, result.measured), slo.ttft_ms * MILLI, slo.tpot_ms * MILLI)
    good = in_ttft & in_tpot
    return {**latencies(result), "good_share": float(good.mean())}
