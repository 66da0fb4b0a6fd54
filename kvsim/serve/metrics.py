"""``GET /metrics``: Prometheus text with the names, labels, buckets and meanings of vLLM 0.32, and kvsim's own.

Times are simulated seconds, whatever the speed. Counters and gauges of the engines are read off the simulation when
somebody asks; what becomes of requests is counted as it happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kvsim.export.prometheus import ITL_S, LATENCY_S, TTFT_S
from kvsim.serve.answers import Asked

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from kvsim.serve.pump import Pump
    from kvsim.serve.reply import Stream
    from kvsim.sim.online import OnlineState, RequestFacts

REASONS = ("stop", "length", "abort", "error", "repetition")
"""vLLM's reasons for which a request ends; nothing here ends by repetition."""
LIMITS = ("max_num_queued_reqs", "max_num_queued_tokens")
COUNTS = (1, 2, 5, 10, 20)
"""Upper edges of the buckets of ``n``; those of preemptions follow."""
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
LABELS = ("model_name", "engine")
ALL = "all"
"""The engine of what is counted over several instances."""


class Metrics:
    """Counts what becomes of requests, of all instances together: whoever gave a token, its client sees one server."""

    def __init__(self, model_name: str, engines: int, max_model_len: int) -> None:
        self._pages: list[CollectorRegistry] = []
        """Parts of the text, each written at a stretch: all at once would keep answers waiting for milliseconds."""
        self._model_name, self._engine = model_name, "0" if engines == 1 else ALL
        sizes = _one_two_five(max_model_len)
        success = Counter("vllm:request_success", "Requests that ended.", (*LABELS, "finished_reason"), registry=None)
        turned_away = Counter("vllm:admission_rejections", "Requests refused.", ("model_name", "reason"), registry=None)
        for counter in (success, turned_away):
            self._new_page().register(counter)
        self._success = {reason: success.labels(model_name, self._engine, reason) for reason in REASONS}
        self._turned_away = {limit: turned_away.labels(model_name, limit) for limit in LIMITS}

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            whole = Histogram(f"vllm:{name}", text, LABELS, buckets=buckets, registry=self._new_page())
            return whole.labels(model_name, self._engine)

        self._ttft = histogram("time_to_first_token_seconds", "Time to first token.", TTFT_S)
        self._itl = histogram("inter_token_latency_seconds", "Time between outputs of a request.", ITL_S)
        self._tpot = histogram("request_time_per_output_token_seconds", "Mean time per output token.", ITL_S)
        self._e2e = histogram("e2e_request_latency_seconds", "Time to the last token.", LATENCY_S)
        self._queue = histogram("request_queue_time_seconds", "Time until the first step.", LATENCY_S)
        self._inference = histogram("request_inference_time_seconds", "First step to last token.", LATENCY_S)
        self._prefill = histogram("request_prefill_time_seconds", "First step to first token.", LATENCY_S)
        self._decode = histogram("request_decode_time_seconds", "First to last token.", LATENCY_S)
        self._preemptions = histogram("request_num_preemptions", "Preemptions of a request.", PREEMPTIONS)
        self._prompt = histogram("request_prompt_tokens", "Prompt tokens of a request.", sizes)
        self._generated = histogram("request_generation_tokens", "Tokens generated for a request.", sizes)
        self._computed = histogram("request_prefill_kv_computed_tokens", "Prompt tokens that were not cached.", sizes)
        self._max_tokens = histogram("request_params_max_tokens", "The max_tokens of a request.", sizes)
        self._n = histogram("request_params_n", "The n of a request.", COUNTS)

    def sent(self, asked: Asked, choices: int) -> None:
        """A request has been sent."""
        self._n.observe(choices)
        self._max_tokens.observe(asked.max_tokens)

    def first_token_came(self, after_s: float) -> None:
        """So long after its request."""
        self._ttft.observe(after_s)

    def token_came(self, interval_s: float) -> None:
        """So long after the one before it."""
        self._itl.observe(interval_s)

    def finished(self, stream: Stream, facts: RequestFacts) -> None:
        """An answer is complete. What a prompt waits for its KV from tiers is queueing, as in vLLM."""
        tokens, prompt_tokens = len(stream.answer.tokens), facts.prompt_tokens
        self._success[stream.answer.finish_reason].inc()
        queue_s = facts.queue_s + facts.tier_load_s
        decode_s = facts.finish_s - facts.first_token_s
        inference_s = facts.e2e_s - facts.retry_s - facts.proxy_s - queue_s
        self._e2e.observe(facts.e2e_s)
        self._queue.observe(queue_s)
        self._inference.observe(inference_s)
        self._prefill.observe(inference_s - decode_s)
        self._decode.observe(decode_s)
        self._tpot.observe(decode_s / (tokens - 1) if tokens > 1 else 0.0)
        self._preemptions.observe(facts.preemptions)
        self._prompt.observe(prompt_tokens)
        self._generated.observe(tokens)
        self._computed.observe(prompt_tokens - facts.cached_tokens)

    def failed(self, reason: str) -> None:
        """There is no answer: ``abort``, the client has gone, or ``error``."""
        self._success[reason].inc()

    def turned_away(self, limit: str) -> None:
        """A request was refused for the sake of ``limit``."""
        self._turned_away[limit].inc()

    def watch(self, state: Callable[[], OnlineState], pump: Pump, cache: Mapping[str, str]) -> None:
        """Read the engines off ``state`` from now on. ``cache``: labels of ``vllm:cache_config_info``."""
        engines = CollectorRegistry()
        engines.register(_Engines(self._model_name, state, pump, cache))
        self._pages.insert(0, engines)

    async def text(self) -> bytes:
        """Everything; the engines as they were when it was asked for, and each histogram as it was written."""
        parts: list[bytes] = []
        for page in self._pages:
            parts.append(generate_latest(page))
            await asyncio.sleep(0)
        return b"".join(parts)

    def _new_page(self) -> CollectorRegistry:
        page = CollectorRegistry()
        self._pages.append(page)
        return page


class _Engines(Collector):
    """What the simulation counts itself."""

    def __init__(self, model_name: str, state: Callable[[], OnlineState], pump: Pump, cache: Mapping[str, str]) -> None:
        self._model_name, self._state, self._pump, self._cache = model_name, state, pump, cache

    def describe(self) -> list[Metric]:
        """Names are not looked up before there is something to show."""
        return []

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        labels = [(self._model_name, str(place)) for place in range(len(state.instances))]
        for name, text, field in (
            ("num_requests_running", "Requests in execution.", "running"),
            ("num_requests_waiting", "Requests that wait.", "waiting"),
            ("kv_cache_usage_perc", "Share of KV blocks in use; 1 is all.", "kv_usage"),
        ):
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=LABELS)
            for own, instance in zip(labels, state.instances, strict=True):
                gauge.add_metric(own, float(getattr(instance, field)))
            yield gauge
        for name, text, field in (
            ("prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", "prefix_query_tokens"),
            ("prefix_cache_hits", "Prompt tokens that the instance's own cache had.", "prefix_hit_tokens"),
            ("external_prefix_cache_queries", "Prompt tokens looked up outside the instance.", "external_query_tokens"),
            ("external_prefix_cache_hits", "Prompt tokens loaded from outside the instance.", "external_hit_tokens"),
            ("num_preemptions", "Preemptions.", "preemptions"),
        ):
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
            for own, instance in zip(labels, state.instances, strict=True):
                counter.add_metric(own, float(getattr(instance, field)))
            yield counter
        whole = (self._model_name, "0" if len(labels) == 1 else ALL)
        for name, text, count in (
            ("prompt_tokens", "Prompt tokens of requests whose first token is out.", state.prompt_tokens),
            ("generation_tokens", "Tokens generated.", state.generation_tokens),
        ):
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
            counter.add_metric(whole, float(count))
            yield counter
        roles = GaugeMetricFamily("kvsim:instance_info", "Who each engine is.", labels=("engine", "role", "number"))
        for place, instance in enumerate(state.instances):
            roles.add_metric((str(place), instance.role, str(instance.number)), 1.0)
        yield roles
        info = GaugeMetricFamily("vllm:cache_config_info", "The KV cache.", labels=(*self._cache, "engine"))
        for place in range(len(state.instances)):
            info.add_metric((*self._cache.values(), str(place)), 1.0)
        yield info
        pump = self._pump
        yield GaugeMetricFamily("kvsim:simulated_seconds", "Simulated time.", value=pump.serving.now_s)
        yield GaugeMetricFamily("kvsim:lag_seconds", "Wall time by which the last event came late.", value=pump.lag_s)
        yield GaugeMetricFamily(
            "kvsim:worst_lag_seconds", "Wall time by which the latest event came late.", value=pump.worst_lag_s
        )


def _one_two_five(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, ... up to ``most``."""
    found: list[float] = []
    power = 1
    while power <= most:
        found += [step * power for step in (1, 2, 5) if step * power <= most]
        power *= 10
    return tuple(found)
