"""The report's ``cluster`` section: what was simulated, and what it could have served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvsim.capacity.demand import Demand
from kvsim.capacity.gathered import served_demand
from kvsim.capacity.load_search import Offered
from kvsim.capacity.maximum_rates import balanced_pd_ratio, maximum_rate
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult

Maxima = Mapping[str, Mapping[str, float]]


def cluster_section(
    mode: Mode,
    offered: Offered,
    results: Sequence[SystemResult],
    maxima: Maxima,
    demand: Demand,
    *,
    has_pd: bool,
) -> dict[str, Any]:
    """``maxima``: requests/s by variant and role; ``demand``: what requests ask of the PD system, if that was run.

    ``has_pd``: it was to be.
    """
    if mode.is_pd:
        served = {result.name: _served_maximum(offered, result) for result in results}
        return _of_pd(offered, demand, maxima, has_pd) | {"served_max_requests_per_s": served}
    plan = offered.plan
    kv_tokens = plan.spec.num_blocks * plan.spec.block_size_tokens
    return {
        **_size(plan),
        "prefill_instances": 0,
        "decode_instances": 0,
        "balanced_pd_ratio": None,
        **_memory(plan),
        "kv_cache_bytes_per_instance": kv_tokens * plan.spec.kv_bytes_per_token,
        "tiers": list(plan.tiers),
        "served_max_requests_per_s": {name: min(roles.values()) for name, roles in maxima.items()},
    }


def _of_pd(offered: Offered, demand: Demand, maxima: Maxima, has_pd: bool) -> dict[str, Any]:
    """``None`` stands for what is of a system that did not run: it would be by the hits of the other one."""
    plan = offered.plan
    pd, unified = maxima.get("pd", {}), maxima.get("unified", {})
    return {
        **_size(plan),
        "prefill_instances": plan.num_prefill if has_pd else 0,
        "decode_instances": plan.num_decode if has_pd else 0,
        "prefill_gpus_per_instance": plan.degrees[0],
        "decode_gpus_per_instance": plan.degrees[1],
        "balanced_pd_ratio": list(balanced_pd_ratio(plan, demand)) if pd else None,
        **_memory(plan),
        "kv_blocks_per_prefill_instance": plan.prefill.spec.num_blocks,
        "kv_blocks_per_decode_instance": plan.decode.spec.num_blocks,
        "unified_token_budget": plan.colocated_settings.max_num_batched_tokens,
        "unified_tuning": offered.tuning,
        "max_requests_per_s": {
            "prefill": pd.get("prefill"),
            "decode": pd.get("decode"),
            "unified": unified.get("colocated"),
        },
    }


def _size(plan: Plan) -> dict[str, Any]:
    return {"gpus": plan.num_gpus, "instances": plan.num_instances, "racks": plan.num_racks}


def _memory(plan: Plan) -> dict[str, Any]:
    return {
        "described_gpus": plan.config.cluster.total_gpus,
        "kv_blocks_per_instance": plan.spec.num_blocks,
        "kv_cache_tokens_per_instance": plan.spec.num_blocks * plan.spec.block_size_tokens,
    }


def _served_maximum(offered: Offered, result: SystemResult) -> float | None:
    """The system's maximum rate for the requests that completed inside the measured window; ``None``: none did."""
    demand = served_demand(offered.workload, offered.plan, result)
    return None if demand is None else maximum_rate(offered.plan, demand, result.name)
