"""Results as ``vllm bench serve --save-result --save-detailed`` of vLLM 0.32 writes them: its ``serve.py``."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import IO

import numpy as np

from kvsim.export.base import FileEach, Finished
from kvsim.export.bench_result import write_result
from kvsim.export.token_times import token_times_s
from kvsim.record.binned import Floats, Ints
from kvsim.record.frames import detail_of
from kvsim.record.result import SystemResult


class VllmBench(FileEach):
    """One JSON object a system, with a value of each measured request in its lists, in the order of arrival.

    Figures are those that the tool itself would make of these requests: its throughput is over the time from the first
    of them sent to the last of them done. ``burstiness`` is null: a trace has none.
    """

    name = "vllm-bench"
    what = "results of vllm bench serve, with every request"
    beginning = rb'\{"date": "'
    needs_detail = True

    def write_one(self, file: IO[bytes], run: Finished, result: SystemResult) -> list[str]:
        rows = np.flatnonzero(result.measured)
        rows = rows[np.argsort(result.table["request_id"][rows], kind="stable")]
        table = {name: column[rows] for name, column in result.table.items()}
        itls_s, spread = _itls_s(result, rows)
        failed_s = result.failed_arrival_s[result.failed_arrival_s >= result.first_measured_s]
        head = _head(run, result, len(rows) + len(failed_s))
        write_result(file, head, table, itls_s, failed_s, _errors(result, failed_s))
        if not spread:
            return []
        return [f"{result.name}: of {spread:,} requests that were preempted or left out of steps, itls are their means"]


def _errors(result: SystemResult, failed_s: Floats) -> list[str]:
    """What became of each request that failed, by its arrival: those that a fleet lost are known by theirs."""
    left = Counter([] if result.fleet is None else result.fleet.failed_arrival_s.tolist())
    errors = []
    for arrival_s in failed_s.tolist():
        errors.append("given up, or no instance left" if left[arrival_s] else "does not fit an instance")
        left[arrival_s] -= left[arrival_s] > 0
    return errors


def _head(run: Finished, result: SystemResult, num_requests: int) -> dict[str, object]:
    model, load = run.plan.config.model.name, run.report.workload.load
    rate = run.workload.mean_rate_per_s if load is None else load.requests_per_s
    is_paced = math.isfinite(rate) and not run.workload.is_closed
    started = datetime.fromisoformat(run.report.run.started_at)
    return {
        "date": started.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai",
        "backend": "openai",
        "label": f"kvsim {run.report.run.version}, {result.name}",
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": num_requests,
        "request_rate": rate if is_paced else "inf",
        "burstiness": None,
        "max_concurrency": run.workload.max_concurrency,
    }


def _itls_s(result: SystemResult, rows: Ints) -> tuple[list[Floats], int]:
    """Inter-token latencies of each of ``rows``, and of how many requests they are means."""
    found, spread = {}, 0
    for row, times_s, exact in token_times_s(result, detail_of(result), rows):
        found[row] = np.diff(times_s)
        spread += not exact
    return [found[int(row)] for row in rows], spread
