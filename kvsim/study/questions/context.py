"""What long prompts do to either system: equal requests of several context lengths, at the same rate on both."""

from __future__ import annotations

import math
from typing import Any

from kvsim.capacity.demand import demand_of
from kvsim.capacity.maximum_rates import balanced_pd_ratio, maximum_rate
from kvsim.capacity.steady import pd_stay
from kvsim.plan.plan import Plan
from kvsim.sim.run import SYSTEMS
from kvsim.study.context import Bed, latencies
from kvsim.workload.synthetic.fixed import fixed
from kvsim.workload.workload import Workload

FEWEST_REQUESTS = 300
_FILLED = 2.5
"""Length of a run in units of E2E."""
_METRICS = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms")


def context_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.context``: at each length PD at the ratio that suits it beside unified, on the same GPUs.

    Both are offered ``load.rho`` of the smaller of their maximum rates.
    """
    config = bed.plan.config
    output_tokens = config.studies.context_output_tokens
    longest = config.model.max_model_len - output_tokens
    lengths = list(dict.fromkeys(min(asked, longest) for asked in config.studies.context_tokens))
    found = [_row(bed, prompt_tokens, output_tokens, 1 / len(lengths)) for prompt_tokens in lengths]
    return {
        **bed.sizes(bed.sample),
        "confidence": bed.confidence,
        "precision": config.studies.precision,
        "tie_share": config.studies.tie_share,
        "replications": max((row["replications"] for row in found if row), default=0),
        "fewest_replications": min((row["fewest_replications"] for row in found if row), default=0),
        "within_budget": all(row["within_budget"] for row in found if row),
        "trace_requests": None,
        "output_tokens": output_tokens,
        "load": config.load.rho,
        "rows": [row for row in found if row],
    }


def _row(bed: Bed, prompt_tokens: int, output_tokens: int, share: float) -> dict[str, Any] | None:
    """One context length; ``None`` where an instance cannot hold a request of it."""
    plan = bed.sample
    if prompt_tokens < 1 or not _fits(plan, prompt_tokens + output_tokens):
        return None

    def requests(num: int, rate_per_s: float, seed: int) -> Workload:
        return fixed(num, rate_per_s, prompt_tokens, output_tokens, "poisson", seed)

    demand = demand_of(requests(64, 1.0, bed.seed), plan)
    plan = plan.with_counts(*balanced_pd_ratio(plan, demand))
    maxima = {name: maximum_rate(plan, demand, name) for name in SYSTEMS}
    rate_per_s = plan.config.load.rho * min(maxima.values())
    num = max(FEWEST_REQUESTS, math.ceil(_FILLED * pd_stay(plan, demand, rate_per_s).mean_s * rate_per_s))
    num = min(num, plan.config.studies.max_requests)
    found = bed.replicate(
        list(SYSTEMS),
        lambda *_: "unified",
        lambda seed: requests(num, rate_per_s, seed),
        lambda name, workload, seed: bed.run(f"{name} {prompt_tokens:,} tokens", name, plan, workload, seed),
        lambda _, __, result: latencies(result),
        bed.goal("ttft_mean_ms"),
        share,
    )
    return {
        "context_tokens": prompt_tokens,
        "requests": num,
        "requests_per_s": rate_per_s,
        "pd_ratio": [plan.num_prefill, plan.num_decode],
        "load": {name: rate_per_s / maximum for name, maximum in maxima.items()},
        **found.report(),
        **{name: found.means(name, _METRICS) for name in SYSTEMS},
        "pd_minus_unified": {metric: found.apart("pd", "unified", metric).report() for metric in _METRICS},
    }


def _fits(plan: Plan, tokens: int) -> bool:
    """Whether an instance of any role has room for so many tokens."""
    sides = (plan.colocated, plan.prefill, plan.decode)
    return tokens <= min(side.spec.num_blocks * side.spec.block_size_tokens for side in sides)
