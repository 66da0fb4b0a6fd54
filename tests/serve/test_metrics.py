"""``/metrics`` against what was asked and answered."""

from __future__ import annotations

from live_server import MODEL, SMALL, serving

VLLM_NAMES = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:external_prefix_cache_queries_total",
    "vllm:external_prefix_cache_hits_total",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total/stop",
    "vllm:request_success_total/length",
    "vllm:request_success_total/abort",
    "vllm:time_to_first_token_seconds_count",
    "vllm:inter_token_latency_seconds_count",
    "vllm:request_time_per_output_token_seconds_count",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:request_queue_time_seconds_count",
    "vllm:request_inference_time_seconds_count",
    "vllm:request_prefill_time_seconds_count",
    "vllm:request_decode_time_seconds_count",
    "vllm:request_num_preemptions_count",
    "vllm:cache_config_info",
}


def test_names_of_vllm_and_what_they_count() -> None:
    with serving(MODEL, *SMALL) as live:
        outputs = [5, 1, 12, 7]
        for number, output in enumerate(outputs):
            live.complete([number] * 33, max_tokens=output)
        found = live.metrics()
        assert found.keys() >= VLLM_NAMES
        total, number = sum(outputs), len(outputs)
        assert found["vllm:request_success_total/length"] == number
        assert found["vllm:prompt_tokens_total"] == found["vllm:prefix_cache_queries_total"] == 33 * number
        assert found["vllm:generation_tokens_total"] == total
        assert found["vllm:time_to_first_token_seconds_count"] == number
        assert found["vllm:inter_token_latency_seconds_count"] == total - number
        assert found["vllm:request_generation_tokens_sum"] == total
        assert found["vllm:request_params_max_tokens_sum"] == total
        assert found["vllm:request_prefill_kv_computed_tokens_sum"] == 33 * number
        assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
        # The parts of a request's time are its whole.
        whole = found["vllm:e2e_request_latency_seconds_sum"]
        parts = ("request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds")
        assert abs(whole - sum(found[f"vllm:{part}_sum"] for part in parts)) < 1e-6 + 0.05 * whole
        ttft, itl = found["vllm:time_to_first_token_seconds_sum"], found["vllm:inter_token_latency_seconds_sum"]
        assert abs(whole - ttft - itl) < 1e-9
        assert abs(itl - found["vllm:request_decode_time_seconds_sum"]) < 1e-9
        text = live.client.get("/metrics").text
        assert 'num_gpu_blocks="129"' in text and 'block_size="16"' in text
        assert live.client.get("/metrics").headers["content-type"].startswith("text/plain")


def test_what_runs_and_what_waits() -> None:
    """Eleven choices of one request on eight seats, at a standstill."""
    with serving(MODEL, *SMALL, speed=1e-4) as live:
        body = {"prompt": [1] * 20, "n": 11, "max_tokens": 5, "stream": True}
        with live.client.stream("POST", "/v1/completions", json=body) as response:
            assert response.status_code == 200
            found = live.metrics()
            assert (found["vllm:num_requests_running"], found["vllm:num_requests_waiting"]) == (8, 3)
            assert found["vllm:kv_cache_usage_perc"] > 0
            assert found["vllm:request_params_n_count"] == 11
        live.settle()
        assert live.metrics()["vllm:request_success_total/abort"] == 11


def test_preemptions_are_counted_where_they_are() -> None:
    """Eight answers that outgrow the cache together."""
    with serving(MODEL, *SMALL[:-1], "33") as live:
        live.complete([[number] * 40 for number in range(8)], max_tokens=100)
        found = live.metrics()
        assert found["vllm:num_preemptions_total"] > 0
        assert found["vllm:request_num_preemptions_sum"] == found["vllm:num_preemptions_total"]
        assert found["vllm:request_success_total/length"] == 8
