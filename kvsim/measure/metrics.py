"""``/metrics`` of a server: the few figures that say what its engines did, by the names of vLLM and SGLang."""

from __future__ import annotations

import math
import re
from collections import defaultdict

from kvsim.measure.result import MetricsReading

NAMES: dict[str, tuple[str, ...]] = {
    "kv_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    "prefix_queries": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
        "sglang:prompt_tokens_total",
    ),
    "prefix_hits": ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total", "sglang:cached_tokens_total"),
    "external_queries": ("vllm:external_prefix_cache_queries_total",),
    "external_hits": ("vllm:external_prefix_cache_hits_total",),
    "preemptions": ("vllm:num_preemptions_total", "sglang:num_retracted_requests_total"),
    "prompt_tokens": ("vllm:prompt_tokens_total", "sglang:prompt_tokens_total"),
    "generation_tokens": ("vllm:generation_tokens_total", "sglang:generation_tokens_total"),
    "finished": ("vllm:request_success_total", "sglang:num_requests_total"),
}
"""What a figure is called: by vLLM since 0.8 (V1), by vLLM before, by SGLang; the first one that is there counts."""
MEANS = ("kv_usage",)
"""Figures that several engines have one each of, and that do not add up."""
_KNOWN = sorted({name for names in NAMES.values() for name in names})
_SAMPLE = re.compile(rf"^({'|'.join(map(re.escape, _KNOWN))})(\{{.*\}})?[ \t]+(\S+)", re.MULTILINE)


def reading_of(text: str, time_s: float) -> MetricsReading:
    """What a page in Prometheus's text format says, over all its label sets."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, _, written in _SAMPLE.findall(text):
        try:
            value = float(written)
        except ValueError:
            continue
        if math.isfinite(value):
            found[name].append(value)
    figures: dict[str, float] = {}
    for figure, names in NAMES.items():
        values = next((found[name] for name in names if name in found), None)
        if values is not None:
            figures[figure] = math.fsum(values) / (len(values) if figure in MEANS else 1)
    return MetricsReading(time_s, **figures)


def is_empty(reading: MetricsReading) -> bool:
    """Whether none of the figures was there."""
    return all(getattr(reading, figure) is None for figure in NAMES)
