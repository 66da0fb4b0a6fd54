"""How much KV a request sends to its decode instance, which may have some of it."""

from __future__ import annotations

from kvsim.plan.plan import Plan
from kvsim.study.context import StudyContext

FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


def sent_bytes(context: StudyContext, plan: Plan) -> float:
    """The mean of one run of the plan at the sample's rate."""
    rate_per_s, seed = context.sample_requests_per_s, context.seeds[0]
    workload = context.workload(rate_per_s, context.requests_at(plan, rate_per_s, FACTOR), seed)
    (result,) = context.run(context.case("bytes", "pd", plan, workload, seed))
    return float(result.table["transferred_bytes"][result.measured].mean())
