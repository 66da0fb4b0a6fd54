"""The few figures of ``/metrics``, by each server's names."""

from __future__ import annotations

import pytest

from kvsim.measure.metrics import is_empty, reading_of

V1 = """# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="a{b} c"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a{b} c"} 0.75
vllm:num_requests_running{engine="0"} 3.0
vllm:num_requests_running{engine="1"} 4.0
vllm:num_requests_waiting{engine="0"} 0.0
vllm:prefix_cache_queries_total{engine="0"} 1.5e+06
vllm:prefix_cache_queries_created{engine="0"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0"} 500000.0
vllm:external_prefix_cache_queries_total{engine="0"} 10.0
vllm:external_prefix_cache_hits_total{engine="0"} 5.0
vllm:num_preemptions_total{engine="0"} 2.0
vllm:request_success_total{engine="0",finished_reason="length"} 7.0
vllm:request_success_total{engine="0",finished_reason="stop"} 1.0
"""
V0 = """vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:num_requests_running{model_name="m"} 1.0
vllm:gpu_prefix_cache_queries_total{model_name="m"} 100.0
vllm:gpu_prefix_cache_hits_total{model_name="m"} 40.0
"""
SGLANG = """sglang:num_running_reqs{model_name="m"} 2.0
sglang:num_queue_reqs{model_name="m"} 5.0
sglang:token_usage{model_name="m"} 0.28
sglang:prompt_tokens_total{model_name="m"} 800.0
sglang:cached_tokens_total{model_name="m"} 300.0
sglang:generation_tokens_total{model_name="m"} 70.0
"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (V1, {"kv_usage": 0.5, "running": 7, "waiting": 0, "prefix_queries": 1_500_000, "prefix_hits": 500_000,
              "external_queries": 10, "external_hits": 5, "preemptions": 2, "finished": 8, "prompt_tokens": None}),
        (V0, {"kv_usage": 0.5, "running": 1, "waiting": None, "prefix_queries": 100, "prefix_hits": 40}),
        (SGLANG, {"kv_usage": 0.28, "running": 2, "waiting": 5, "prefix_queries": 800, "prefix_hits": 300}),
    ],
)  # fmt: skip
def test_names_of_each_server(text: str, wanted: dict[str, float | None]) -> None:
    reading = reading_of(text, 3.0)
    assert {name: getattr(reading, name) for name in wanted} == wanted
    assert reading.time_s == 3.0 and not is_empty(reading)


def test_a_page_of_others_and_broken_values_say_nothing() -> None:
    assert is_empty(
        reading_of('python_info{version="3"} 1\nvllm:num_requests_running NaN\nvllm:num_requests_waiting x', 0)
    )
