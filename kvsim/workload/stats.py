"""A trace in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvsim.workload.read import read_workload
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.workload import Counts


def trace_stats(path: str | Path, reading: Reading = AS_IT_STANDS) -> dict[str, object]:
    """What a trace asks for, in plain values for JSON; ``None`` where the trace has no hash ids.

    ``prompt_tokens`` and ``output_tokens`` are totals over the requests that did not fail. Raises ``WorkloadError``.
    """
    workload = read_workload(path, reading)
    info = workload.info
    return {
        "source": info.source,
        "format": info.format,
        "sha256": info.sha256,
        "requests": len(workload),
        "failed_rows": info.failed_rows,
        "sessions": len(np.unique(workload.session_id[workload.session_id >= 0])),
        "span_s": workload.span_s,
        "rate_per_s": len(workload) / workload.span_s if workload.span_s > 0 else None,
        "prompt_tokens": int(workload.prompt_tokens.sum(dtype=np.int64)),
        "output_tokens": int(workload.output_tokens.sum(dtype=np.int64)),
        **_lengths("prompt_tokens", workload.prompt_tokens),
        **_lengths("output_tokens", workload.output_tokens),
        "hash_block_tokens": info.hash_block_tokens,
        "infinite_cache_hit_rate": info.infinite_cache_hit_rate,
        "infinite_cache_hit_rate_full_blocks": info.infinite_cache_hit_rate_full_blocks,
        "infinite_cache_hit_rate_tokens": info.infinite_cache_hit_rate_tokens,
        "notes": list(info.notes),
    }


def _lengths(name: str, tokens: Counts) -> dict[str, float]:
    p50, p99 = np.percentile(tokens, (50, 99)).tolist()
    mean, longest = float(tokens.mean()), int(tokens.max())
    return {f"{name}_mean": mean, f"{name}_p50": p50, f"{name}_p99": p99, f"{name}_max": longest}
