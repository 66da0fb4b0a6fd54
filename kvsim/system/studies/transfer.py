"""How KV should move: the transfer strategies side by side at the run's load."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvsim.config.changed import changed
from kvsim.config.derived import nic_bytes_per_s_per_gpu
from kvsim.config.schema import Config
from kvsim.record.result import SystemResult
from kvsim.system.plan import Plan, make_plan
from kvsim.system.studies.bed import Bed, ttft_ms
from kvsim.system.studies.intervals import difference, interval
from kvsim.units import GB

TRANSFER = "pd_separation.transfer"
CONFIGURED = "as configured"
FACTOR = 2.0
"""Latencies need no more requests than this x E2E x rate."""


def transfer_variants(config: Config) -> dict[str, dict[str, Any]]:
    """What is compared: a name and the values it changes, keyed below ``pd_separation.transfer``."""
    nic_gb_per_s = nic_bytes_per_s_per_gpu(config) / config.pd_separation.transfer.rdma_efficiency / GB
    push = {"strategy": "push", "pipelining": True, "layerwise": False, "decode_start": "last_chunk"}
    return {
        CONFIGURED: {},
        "push, by chunk": push,
        "push, by layer": {**push, "layerwise": True},
        "push, no overlap": {**push, "pipelining": False},
        "pull": {**push, "strategy": "pull"},
        "pull on demand": {**push, "strategy": "pull_on_demand"},
        "first chunk (optimistic)": {**push, "decode_start": "first_chunk"},
        "fifo": {"contention": "fifo"},
        "no contention": {"contention": "none"},
        "compressed 2 x": {"compression_ratio": 2 * config.pd_separation.transfer.compression_ratio},
        "NIC x 1/4": {"rdma_gb_per_s": nic_gb_per_s / 4},
    }


def transfer_study(bed: Bed) -> dict[str, Any]:
    """The report's ``studies.transfer``: TTFT of each variant, and its paired difference to what is configured."""
    plan, confidence = bed.sample, bed.confidence
    plans = {
        name: changed_plan(plan, {f"{TRANSFER}.{key}": value for key, value in values.items()}, name)
        for name, values in transfer_variants(plan.config).items()
    }
    rate_per_s = bed.sample_requests_per_s
    num_requests = bed.requests_at(plan, rate_per_s, FACTOR)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in plans}
    for seed in bed.replications():
        workload = bed.workload(rate_per_s, num_requests, seed)
        for name, variant in plans.items():
            found[name].append(_figures(bed.run(name, "pd", variant, workload, seed)))
    rows = []
    for name, figures in found.items():
        row: dict[str, Any] = {"name": name, "changes": transfer_variants(plan.config)[name]}
        for figure in figures[0]:
            row[figure] = interval([one[figure] for one in figures], confidence).report()
        base = [one["ttft_mean_ms"] for one in found[CONFIGURED]]
        apart = difference([one["ttft_mean_ms"] for one in figures], base, confidence)
        row["ttft_mean_difference_ms"] = apart.report()
        row["tie"] = name != CONFIGURED and apart.holds_zero
        rows.append(row)
    return {
        "instances": plan.num_instances,
        "replications": len(bed.seeds),
        "confidence": confidence,
        "requests": num_requests,
        "requests_per_s": rate_per_s,
        "rows": rows,
    }


def changed_plan(plan: Plan, values: dict[str, Any], where: str) -> Plan:
    """``plan`` built from a configuration with other values, at the same size and ratio."""
    if not values:
        return plan
    made = make_plan(changed(plan.config, values, where), stepwise=plan.prefill_settings.stepwise)
    budget = plan.colocated_settings.max_num_batched_tokens
    return made.with_colocated_budget(budget).sized(plan.num_instances, plan.num_prefill)


def _figures(result: SystemResult) -> dict[str, float]:
    ttft, moved = ttft_ms(result), result.transfer
    assert moved is not None
    return {
        "ttft_mean_ms": float(ttft.mean()),
        "ttft_p50_ms": float(np.percentile(ttft, 50)),
        "ttft_p99_ms": float(np.percentile(ttft, 99)),
        "transfer_mean_ms": float(result.table["transfer_s"][result.measured].mean()) * 1000,
        "hidden_share": moved.hidden_share if moved.transfers else 0.0,
        "nic_out_utilisation": moved.nic_out_utilisation,
    }
