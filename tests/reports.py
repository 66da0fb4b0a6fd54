"""Reports built by hand, small enough to know every figure of; and reports read back from their JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from kvsim.capacity.load_search import Load
from kvsim.config import load_config
from kvsim.modes.cluster import MaximumRates, PdCluster, TieredCluster
from kvsim.plan.mode import ModeName
from kvsim.record.figures import SystemSummary
from kvsim.record.labels import COMPONENT_LABELS
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock
from kvsim.report.sections import Calibration, WorkloadFacts

WORKLOAD = WorkloadFacts(
    source="synthetic chat",
    format="synthetic",
    sha256=None,
    requests=10,
    span_s=10.0,
    prompt_tokens=20_000,
    output_tokens=110,
    infinite_cache_hit_rate=0.7,
    lint=(),
    notes=(),
    infinite_cache_hit_rate_full_blocks=None,
    infinite_cache_hit_rate_tokens=None,
    hash_block_tokens=None,
    load=Load(rho=0.7, of="pd", requests_per_s=1.0, max_requests_per_s=1.43),
    asked_requests_per_s=None,
    users=None,
)
PD_CLUSTER = PdCluster(
    gpus=64,
    instances=16,
    racks=1,
    prefill_instances=4,
    decode_instances=12,
    balanced_pd_ratio=(4, 12),
    prefill_gpus_per_instance=4,
    decode_gpus_per_instance=4,
    described_gpus=64,
    kv_blocks_per_instance=28_636,
    kv_cache_tokens_per_instance=458_176,
    kv_blocks_per_prefill_instance=28_636,
    kv_blocks_per_decode_instance=28_636,
    unified_token_budget=8192,
    unified_tuning=None,
    max_requests_per_s=MaximumRates(prefill=1.5, decode=1.43, unified=1.2),
    served_max_requests_per_s={"unified": 1.2, "pd": 1.43},
)
TIERED_CLUSTER = TieredCluster(
    gpus=8,
    instances=2,
    racks=1,
    prefill_instances=0,
    decode_instances=0,
    balanced_pd_ratio=None,
    described_gpus=8,
    kv_blocks_per_instance=28_636,
    kv_cache_tokens_per_instance=458_176,
    kv_cache_bytes_per_instance=1.5e11,
    tiers=("dram",),
    served_max_requests_per_s={"baseline": 1.2},
)
CALIBRATION = Calibration(
    profile=None,
    method="roofline",
    sources=None,
    validity=None,
    readiness="roofline",
    warnings=(),
    description=None,
    provenance=None,
    fit_error=None,
    notes=(),
    level="roofline",
)
_LATENCY = {"mean": 100.0, "p50": 100.0, "p90": 100.0, "p95": 100.0, "p99": 100.0, "max": 100.0}
_NOTHING = dict.fromkeys(COMPONENT_LABELS, 0.0)
SUMMARY: dict[str, Any] = {
    "name": "pd",
    "requests": {
        "arrived": 100,
        "completed": 100,
        "failed": 0,
        "in_flight": 0,
        "measured": 100,
        "completed_in_window": 100,
        "failed_in_window": 0,
    },
    "ttft_ms": _LATENCY,
    "tpot_ms": _LATENCY,
    "itl_ms": _LATENCY,
    "e2e_ms": _LATENCY,
    "throughput": {"requests_per_s": 10.0, "output_tokens_per_s": 100.0, "tokens_per_s_per_gpu": 12.5},
    "goodput": {
        "requests_per_s": 10.0,
        "share": 1.0,
        "ttft_share": 1.0,
        "tpot_share": 1.0,
        "slo": {"ttft_ms": 2000.0, "tpot_ms": 50.0},
    },
    "cache": {
        "prefix_hit_rate": 0.5,
        "by_tier": {"hbm": 0.5},
        "query_tokens": 1000,
        "hit_tokens": 500,
        "evictions": 0,
        "blocks_per_instance": 100,
        "recomputed_tokens": 0,
        "active": {"instances": 2, "racks": 1},
        "loads": 0,
        "tiers": {},
        "misses": {},
        "movements": {},
    },
    "transfer": None,
    "preemptions": 0,
    "attribution_ms": {"mean": _NOTHING, "p99": _NOTHING},
    "utilisation": {},
    "conservation": {"ok": True, "checks": []},
    "steady": {
        "ok": True,
        "why": "",
        "overloaded": False,
        "ttft_growth_s_per_min": 0.0,
        "asked_requests_per_s": None,
        "possible_requests_per_s": None,
    },
    "incomplete": False,
    "window_s": {"start": 0.0, "end": 10.0, "whole": False},
    "simulated_s": 10.0,
    "notes": [],
}
"""A system with which all is well."""
TIER = {
    "name": "dram",
    "tiers": 2,
    "capacity_bytes": 1e12,
    "held_bytes": 1e11,
    "loaded_tokens": 0,
    "stored_chunks": 0,
    "evicted_chunks": 0,
    "refused_chunks": 0,
    "dropped_chunks": 0,
    "read_bytes": 0.0,
    "written_bytes": 0.0,
    "busiest_share": 0.0,
    "mean_wait_s": 0.0,
}


def summary(**changed: Any) -> SystemSummary:
    """``SUMMARY`` with other values; those of a section replace some of its keys."""
    tree = SUMMARY | changed
    for name, section in SUMMARY.items():
        if isinstance(section, dict):
            tree[name] = section | tree[name]
    return TypeAdapter(SystemSummary).validate_python(tree)


def report_of(
    *results: SystemSummary,
    mode: ModeName = "pd",
    workload: Mapping[str, Any] | None = None,
    cluster: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Report:
    """``workload`` and ``cluster`` replace fields of these sections, ``fields`` whole ones."""
    sections = {
        "run": RunClock().section(mode=mode, preset="smoke", seed=42, results=()),
        "config": load_config().config,
        "calibration": CALIBRATION,
        "workload": replace(WORKLOAD, **(workload or {})),
        "cluster": replace(PD_CLUSTER if mode == "pd" else TIERED_CLUSTER, **(cluster or {})),
    }
    return Report(**sections | fields, results=results)


def read_back(tree: Mapping[str, Any]) -> Report:
    """A report from its JSON, less its studies."""
    results = [result | {"transfer": _measured(result["transfer"])} for result in tree["results"]]
    given = {name: section for name, section in tree.items() if name != "studies"}
    return TypeAdapter(Report).validate_python(given | {"results": results})


def _measured(transfer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Counters of a run are numbers where its report has none."""
    if transfer is None:
        return None
    return {name: math.nan if value is None else value for name, value in transfer.items()}
