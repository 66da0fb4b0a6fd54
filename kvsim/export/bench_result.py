"""A result of ``vllm bench serve --save-result --save-detailed``, as 0.32 writes it, made of requests one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np

from kvsim.record.binned import Floats
from kvsim.record.result import Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s

_MS = 1e3


def write_result(
    file: IO[bytes],
    head: Mapping[str, object],
    table: Table,
    itls_s: list[Floats],
    failed_s: Floats,
    errors: Sequence[str],
) -> None:
    """Write the object: ``head``, the figures that the tool itself would make of these requests, and its lists.

    ``table``: arrival, first token, finish and tokens of the requests that were answered; ``itls_s``: the gaps between
    the tokens of each. ``failed_s``: when the others were sent, and ``errors`` what became of them.
    """
    whole = {**head, **_figures(table, itls_s, len(failed_s))}
    # A list at a time: the text of all of them together takes several times their room.
    file.write(json.dumps(whole).encode()[:-1])
    for name, values in _details(table, itls_s, failed_s, errors).items():
        file.write(f', "{name}": {json.dumps(values)}'.encode())
    file.write(b"}\n")


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


def _details(
    table: Table, itls_s: list[Floats], failed_s: Floats, errors: Sequence[str]
) -> dict[str, Sequence[object]]:
    """The tool's lists; requests that failed stand at the end, as it has them."""
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
        "errors": [*([""] * count), *errors],
    }
