"""Small results of load clients, as each of them writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOAD_YAML = """
load: {type: constant, num_workers: 4, worker_max_concurrency: 10}
data: {type: shared_prefix, shared_prefix: {num_groups: 3, num_prompts_per_group: 2, system_prompt_len: 96,
  question_len: 100, output_len: 64}}
server: {model_name: meta-llama/Llama-3.1-8B-Instruct, ignore_eos: true}
"""


def spread(mean: float) -> dict[str, float]:
    return {"mean": mean, "median": mean, "p90": 1.2 * mean, "p95": 1.3 * mean, "p99": 1.5 * mean}


def stage(rate: float = 4.0, count: int = 40, failed: int = 1) -> dict[str, Any]:
    """Of inference-perf; ``count`` answered."""
    return {
        "load_summary": {"count": count + failed, "requested_rate": rate},
        "successes": {
            "count": count,
            "latency": {"request_latency": spread(0.5), "time_to_first_token": spread(0.03)},
            "throughput": {"requests_per_sec": rate, "output_tokens_per_sec": 62.5 * rate},
            "prompt_len": {"mean": 200.4},
            "output_len": {"mean": 62.5},
        },
        "failures": {"count": failed},
    }


def bench(**changed: object) -> dict[str, Any]:
    """Of ``vllm bench serve``."""
    return {
        "completed": 50, "total_input_tokens": 51_200, "total_output_tokens": 6_400, "request_rate": "inf",
        "max_concurrency": 8, "request_throughput": 9.0, "output_throughput": 1152.0, "request_goodput:": 7.5,
        "mean_ttft_ms": 80.0, "median_ttft_ms": 70.0, "p99_ttft_ms": 200.0, "mean_tpot_ms": 8.0,
    } | changed  # fmt: skip


def aiperf(**loadgen: object) -> dict[str, Any]:
    """AIPerf's export, latencies in seconds and the other times in milliseconds."""

    def metric(unit: str, mean: float) -> dict[str, object]:
        return {"unit": unit, "avg": mean, "p50": mean, "p90": 1.2 * mean, "p99": 1.5 * mean}

    return {
        "aiperf_version": "0.9.0",
        "request_throughput": {"unit": "requests/sec", "avg": 7.6},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 243.2},
        "request_count": {"unit": "requests", "avg": 40.0},
        "request_latency": metric("sec", 0.4),
        "time_to_first_token": metric("ms", 60.0),
        "inter_token_latency": metric("ms", 9.0),
        "output_sequence_length": metric("tokens", 32.0),
        "input_sequence_length": metric("tokens", 256.0),
        "input_config": {"loadgen": loadgen or {"request_rate": 8.0, "request_rate_mode": "poisson"}},
        "error_summary": [{"error_details": {}, "count": 1}],
    }


def guidellm(*strategies: dict[str, object]) -> dict[str, Any]:
    """GuideLLM's report, a benchmark for each of the strategies."""

    def metric(mean: float) -> dict[str, object]:
        return {"successful": {"mean": mean, "percentiles": {"p50": mean, "p90": 1.2 * mean, "p99": 1.5 * mean}}}

    metrics = {
        "request_totals": {"successful": 40, "errored": 1, "incomplete": 0, "total": 41},
        "requests_per_second": metric(3.9),
        "request_latency": metric(0.4),
        "time_to_first_token_ms": metric(60.0),
        "time_per_output_token_ms": metric(12.5),
        "inter_token_latency_ms": metric(9.0),
        "prompt_token_count": metric(256.0),
        "output_token_count": metric(32.0),
        "output_tokens_per_second": metric(124.8),
    }
    return {
        "metadata": {"version": 2},
        "benchmarks": [{"config": {"strategy": strategy}, "metrics": metrics} for strategy in strategies],
    }


def written(path: Path, values: object) -> Path:
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path
