"""Benchmark Report v0.2 of llm-d-benchmark, as YAML: its ``benchmark_report/schema_v0_2.py``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import IO

import numpy as np
import yaml

from kvsim.config.kinds import gpu_of_role
from kvsim.export.base import FileEach, Finished
from kvsim.record.binned import Floats
from kvsim.record.figures import SystemSummary
from kvsim.record.result import RoleUse, SystemResult
from kvsim.record.summary import e2e_s, in_window, tpot_s, ttft_s

_PERCENTS = {"p0p1": 0.1, "p1": 1, "p5": 5, "p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}
_ROLES = {"prefill": "prefill", "decode": "decode", "colocated": "replica"}


class LlmdReport(FileEach):
    """One report a system: an ``inference_engine`` of the stack for each role, the aggregate of the measured requests.

    Latencies are those of the report of kvsim, in seconds; rates are over its measured window. Times of day are left
    out: simulated time has none.
    """

    name = "llmd"
    what = "Benchmark Report v0.2 of llm-d"
    suffixes = (".yaml", ".yml")
    beginning = rb"version: '0\.2'\n"

    def write_one(self, file: IO[bytes], run: Finished, result: SystemResult) -> list[str]:
        summary = next(found for found in run.report.results if found.name == result.name)
        performance = {"aggregate": _aggregate(result, summary)}
        tree = {
            "version": "0.2",
            "run": _run(run, result),
            "scenario": {"stack": [_engine(run, role) for role in result.roles], "load": _load(run, result)},
            "results": {"request_performance": performance},
        }
        file.write(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True).encode())
        return []


def _run(run: Finished, result: SystemResult) -> dict[str, object]:
    version, source = run.report.run.version, run.report.workload.source
    seed = run.report.run.seed
    return {"uid": _digest(version, source, seed, result.name), "eid": _digest(version, source), "time": _time(result)}


def _time(result: SystemResult) -> dict[str, object]:
    return {"duration": f"PT{result.end_s:.6f}S"}


def _engine(run: Finished, role: RoleUse) -> dict[str, object]:
    version, config = run.report.run.version, run.plan.config
    standardized = {
        "kind": "inference_engine",
        "tool": "kvsim",
        "tool_version": version,
        "role": _ROLES[role.role],
        "replicas": role.instances,
        "model": {"name": config.model.name},
        "accelerator": {
            "model": gpu_of_role(config, role.role),
            "count": role.gpus,
            "parallelism": {"dp": 1, "ep": 1, "pp": 1, "tp": role.gpus // role.instances},
        },
    }
    return {
        "metadata": {
            "schema_version": "0.0.1",
            "label": f"{role.role}-0",
            "cfg_id": _digest(standardized),
            "description": f"{role.instances} simulated {role.role} instances",
        },
        "standardized": standardized,
        "native": {"config": config.engine.model_dump(mode="json")},
    }


def _load(run: Finished, result: SystemResult) -> dict[str, object]:
    workload, facts = run.workload, run.report.workload
    table, rate = result.table, workload.mean_rate_per_s
    standardized: dict[str, object] = {
        "tool": "kvsim",
        "tool_version": run.report.run.version,
        "source": "sampled",
        "input_seq_len": _length(table["prompt_tokens"][result.measured]),
        "output_seq_len": _length(table["output_tokens"][result.measured]),
    }
    if math.isfinite(rate) and not workload.is_closed:
        standardized["rate_qps"] = float(rate)
    if workload.max_concurrency is not None:
        standardized["concurrency"] = workload.max_concurrency
    description = f"{facts.requests} requests of {facts.source}"
    return {
        "metadata": {"schema_version": "0.0.1", "cfg_id": _digest(description, rate), "description": description},
        "standardized": standardized,
        "native": {"config": {"format": facts.format, "sha256": facts.sha256}},
    }


def _length(tokens: Floats) -> dict[str, object]:
    if not len(tokens):
        return {"distribution": "other", "value": 1}
    low, high = int(tokens.min()), int(tokens.max())
    if low == high:
        return {"distribution": "fixed", "value": low}
    return {"distribution": "other", "value": float(tokens.mean()), "min": low, "max": high}


def _aggregate(result: SystemResult, summary: SystemSummary) -> dict[str, object]:
    table = {name: column[result.measured] for name, column in result.table.items()}
    tpots_s, e2es_s = tpot_s(table), e2e_s(table)
    latencies = {
        "time_to_first_token": _statistics(ttft_s(table), "s"),
        "normalized_time_per_output_token": _statistics(e2es_s / table["output_tokens"], "s/token"),
        "time_per_output_token": _statistics(tpots_s[~np.isnan(tpots_s)], "s/token"),
        "inter_token_latency": _known_of(result),
        "request_latency": _statistics(e2es_s, "s"),
    }
    throughput, window_s = summary.throughput, result.window_s[1] - result.window_s[0]
    prompts = float(result.table["prompt_tokens"][in_window(result, result.window_s)].sum())
    outputs = throughput.output_tokens_per_s
    inputs = prompts / window_s if window_s > 0 else None
    total = None if inputs is None or outputs is None else inputs + outputs
    rates = {
        "input_token_rate": _rate(inputs, "tokens/s"),
        "output_token_rate": _rate(outputs, "tokens/s"),
        "total_token_rate": _rate(total, "tokens/s"),
        "request_rate": _rate(throughput.requests_per_s, "queries/s"),
    }
    return {
        "requests": _without_none(
            {
                "total": result.arrived,
                "failures": result.failed,
                "incomplete": result.in_flight,
                "input_length": _statistics(table["prompt_tokens"], "count"),
                "output_length": _statistics(table["output_tokens"], "count"),
            }
        ),
        "latency": _without_none(latencies),
        "throughput": _without_none(rates),
    }


def _statistics(values: Floats, units: str) -> dict[str, object] | None:
    if not len(values):
        return None
    found: dict[str, object] = {
        "units": units,
        "mean": float(values.mean()),
        "stddev": float(values.std()),
        "min": float(values.min()),
    }
    found |= {name: float(np.percentile(values, percent)) for name, percent in _PERCENTS.items()}
    return found | {"p99p9": float(np.percentile(values, 99.9)), "max": float(values.max())}


def _known_of(result: SystemResult) -> dict[str, object] | None:
    """Inter-token latencies: of these the run keeps a histogram, not each."""
    itl = result.itl
    if not itl.count:
        return None
    named = {"mean": itl.mean, "p50": itl.p50, "p90": itl.p90, "p95": itl.p95, "p99": itl.p99, "max": itl.max}
    return {"units": "s/token"} | {name: float(value) for name, value in named.items()}


def _rate(value: float | None, units: str) -> dict[str, object] | None:
    return None if value is None else {"units": units, "mean": float(value)}


def _without_none(tree: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in tree.items() if value is not None}


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:32]
