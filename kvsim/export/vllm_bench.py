"""Results as ``vllm bench serve --save-result --save-detailed`` of vLLM 0.32 writes them: its ``serve.py``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import IO

import numpy as np

from kvsim.export.base import FileEach, Finished
from kvsim.export.token_times import token_times_s
from kvsim.record.binned import Floats, Ints
from kvsim.record.frames import detail_of
from kvsim.record.result import SystemResult, Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s

_MS = 1e3


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
        head = _head(run, result, len(rows) + len(failed_s)) | _figures(table, itls_s, len(failed_s))
        # A list at a time: the text of all of them together takes several times their room.
        file.write(json.dumps(head).encode()[:-1])
        for name, values in _details(table, itls_s, failed_s).items():
            file.write(f', "{name}": {json.dumps(values)}'.encode())
        file.write(b"}\n")
        if not spread:
            return []
        return [f"{result.name}: of {spread:,} requests that were preempted or left out of steps, itls are their means"]


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


def _figures(table: Table, itls_s: list[Floats], failed: int) -> dict[str, object]:
    arrival_s, finish_s = table["arrival_s"], table["finish_s"]
    duration_s = float(finish_s.max() - arrival_s.min()) if len(arrival_s) else 0.0
    completed, prompts, outputs = (
        len(arrival_s),
        int(table["prompt_tokens"].sum()),
        int(table["output_tokens"].sum()),
    )
    return {
        "duration": duration_s,
        "completed": completed,
        "failed": failed,
        "total_input_tokens": prompts,
        "total_output_tokens": outputs,
        "request_throughput": _over(completed, duration_s),
        "request_goodput": None,
        "output_throughput": _over(outputs, duration_s),
        "total_token_throughput": _over(prompts + outputs, duration_s),
        **_busiest(table, itls_s),
        "rtfx": 0.0,
        **_latency("ttft", ttft_s(table)),
        **_latency("tpot", tpot_s(table)[table["output_tokens"] > 1]),
        **_latency("itl", np.concatenate([np.zeros(0), *itls_s])),
        **_latency("e2el", e2e_s(table)),
    }


def _over(amount: float, duration_s: float) -> float:
    return amount / duration_s if duration_s > 0 else 0.0


def _latency(name: str, values_s: Floats) -> dict[str, float]:
    values_ms = (values_s if len(values_s) else np.zeros(1)) * _MS
    return {
        f"mean_{name}_ms": float(values_ms.mean()),
        f"median_{name}_ms": float(np.median(values_ms)),
        f"std_{name}_ms": float(values_ms.std()),
    } | {f"p{percent}_{name}_ms": float(np.percentile(values_ms, percent)) for percent in (50, 90, 95, 99)}


def _busiest(table: Table, itls_s: list[Floats]) -> dict[str, object]:
    """Most tokens in a second since the first was sent, and most requests that were under way in one."""
    if not len(table["arrival_s"]):
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    first_s = table["arrival_s"].min()
    later_s = [
        begin_s + np.cumsum(own_s) for begin_s, own_s in zip(table["first_token_s"], itls_s, strict=True) if len(own_s)
    ]
    tokens = np.bincount((np.concatenate([table["first_token_s"], *later_s]) - first_s).astype(np.int64))
    begin, end = ((table[name] - first_s).astype(np.int64) for name in ("arrival_s", "finish_s"))
    changes = np.bincount(begin, minlength=int(end.max()) + 2) - np.bincount(end + 1, minlength=int(end.max()) + 2)
    return {
        "max_output_tokens_per_s": float(tokens.max()),
        "max_concurrent_requests": int(np.cumsum(changes).max()),
    }


def _itls_s(result: SystemResult, rows: Ints) -> tuple[list[Floats], int]:
    """Inter-token latencies of each of ``rows``, and of how many requests they are means."""
    found, spread = {}, 0
    for row, times_s, exact in token_times_s(result, detail_of(result), rows):
        found[row] = np.diff(times_s)
        spread += not exact
    return [found[int(row)] for row in rows], spread


def _details(table: Table, itls_s: list[Floats], failed_s: Floats) -> dict[str, Sequence[object]]:
    """The tool's lists; requests that fit nowhere stand at the end, as it has those that failed."""
    failed = len(failed_s)

    def listed(values: Floats) -> list[float]:
        return [*values.tolist(), *([0.0] * failed)]

    def counts(name: str) -> list[int]:
        return [*map(int, table[name]), *([0] * failed)]

    count = len(table["request_id"])
    return {
        "input_lens": counts("prompt_tokens"),
        "output_lens": counts("output_tokens"),
        "ttfts": listed(ttft_s(table)),
        "itls": [*(own_s.tolist() for own_s in itls_s), *([[]] * failed)],
        "latencies": listed(e2e_s(table)),
        "start_times": [*table["arrival_s"].tolist(), *failed_s.tolist()],
        "queue_times": [0.0] * (count + failed),
        "generated_texts": [""] * (count + failed),
        "errors": [*([""] * count), *(["does not fit an instance"] * failed)],
    }
