"""What long prompts do to either system: equal requests of several context lengths at the same relative load."""

from __future__ import annotations

import math
from typing import Any

from kvsim.record.result import SystemResult
from kvsim.system.capacity import maximum_rate
from kvsim.system.demand import demand_of
from kvsim.system.pilot import SYSTEMS
from kvsim.system.plan import Plan
from kvsim.system.steady import pd_stay
from kvsim.system.studies.bed import Bed, latencies, throughput_per_s
from kvsim.system.studies.intervals import difference, interval
from kvsim.workload.synthetic.fixed import fixed
from kvsim.workload.workload import Workload

FEWEST_REQUESTS = 300
_FILLED = 2.5
"""Length of a run in units of E2E."""
_METRICS = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "throughput_requests_per_s")


def context_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.context``. PD has the configured ratio; load is ``load.rho`` of PD's maximum each time."""
    plan, config = bed.sample, bed.plan.config
    output_tokens = config.studies.context_output_tokens
    longest = config.model.max_model_len - output_tokens
    rows = []
    for asked_tokens in config.studies.context_tokens:
        prompt_tokens = min(asked_tokens, longest)
        row = _row(bed, plan, prompt_tokens, output_tokens)
        if row is not None:
            rows.append({"context_tokens": prompt_tokens, **row})
    return {
        "instances": plan.num_instances,
        "replications": len(bed.seeds),
        "confidence": bed.confidence,
        "output_tokens": output_tokens,
        "load": config.load.rho,
        "rows": rows,
    }


def _row(bed: Bed, plan: Plan, prompt_tokens: int, output_tokens: int) -> dict[str, Any] | None:
    """One context length; ``None`` where an instance cannot hold a request of it."""
    if prompt_tokens + output_tokens > plan.spec.num_blocks * plan.spec.block_size_tokens or prompt_tokens < 1:
        return None

    def requests(num: int, rate_per_s: float, seed: int) -> Workload:
        return fixed(num, rate_per_s, prompt_tokens, output_tokens, "poisson", seed)

    demand = demand_of(requests(64, 1.0, bed.seed), plan)
    rate_per_s = plan.config.load.rho * maximum_rate(plan, demand, "pd")
    num = max(FEWEST_REQUESTS, math.ceil(_FILLED * pd_stay(plan, demand, rate_per_s).mean_s * rate_per_s))
    num = min(num, plan.config.studies.max_requests)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    for seed in bed.replications():
        workload = requests(num, rate_per_s, seed)
        for name in SYSTEMS:
            label = f"{name} {prompt_tokens:,} tokens"
            found[name].append(_figures(bed.run(label, name, plan, workload, seed)))
    row: dict[str, Any] = {"requests": num, "requests_per_s": rate_per_s}
    for name, figures in found.items():
        row[name] = {metric: interval([one[metric] for one in figures], bed.confidence).report() for metric in _METRICS}
    apart = {
        metric: difference(
            [one[metric] for one in found["pd"]], [one[metric] for one in found["unified"]], bed.confidence
        )
        for metric in _METRICS
    }
    row["pd_minus_unified"] = {metric: {**at.report(), "tie": at.holds_zero} for metric, at in apart.items()}
    return row


def _figures(result: SystemResult) -> dict[str, float]:
    return {**latencies(result), "throughput_requests_per_s": throughput_per_s(result)}
