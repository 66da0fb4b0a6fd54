"""GuideLLM's report: one benchmark, so one load, after the other. Latency is in seconds, all else in milliseconds."""

from __future__ import annotations

import math

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.units import MILLI
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import EQUAL, POISSON, Traffic

NAME = "GuideLLM"
STRATEGIES = ("constant", "poisson", "concurrent", "synchronous", "throughput")


def is_guidellm(values: dict[str, object]) -> bool:
    return isinstance(values.get("benchmarks"), list) and "metadata" in values


def read_guidellm(fields: Fields) -> list[ClientResult]:
    """Raises ``ConfigError`` for what is no benchmark of a language model."""
    benchmarks = fields.get("benchmarks")
    if not benchmarks:
        raise ConfigError(f"{fields.file}: benchmarks: holds none")
    return [_read(fields.file, place, values) for place, values in enumerate(benchmarks, 1)]


def _read(file: str, place: int, values: object) -> ClientResult:
    """GuideLLM's ``time_per_output_token_ms`` has the wait for the first token in it; ``inter_token_latency_ms`` is
    TPOT, over requests weighed by their tokens. Requests that were under way at the end have no times.
    """
    fields = Fields(file, values, f"benchmarks.{place - 1}.")
    metrics = fields.within("metrics")
    totals = metrics.within("request_totals")
    completed, sent = totals.count("successful"), totals.count("total")
    outputs = metrics.mean_over(completed, "output_token_count.successful.mean")
    tpot_s = _times(metrics, "inter_token_latency_ms", MILLI).get("mean") if outputs > 1 else None
    return ClientResult(
        name=f"{file} {place}",
        client=NAME,
        traffic=_traffic(fields, sent, metrics.mean_over(completed, "prompt_token_count.successful.mean"), outputs),
        completed=completed,
        failures=sent - completed,
        requests_per_s=metrics.mean_over(completed, "requests_per_second.successful.mean"),
        output_tokens_per_s=metrics.maybe("output_tokens_per_second.successful.mean"),
        ttft_s=_times(metrics, "time_to_first_token_ms", MILLI),
        e2e_s=_times(metrics, "request_latency", 1.0),
        tpot_mean_s=tpot_s,
        tpot_weighs_tokens=True,
        assumed=("prompts share nothing",),
    )


def _times(metrics: Fields, metric: str, unit_s: float) -> dict[str, float]:
    keys = {"mean": "mean"} | {percent: f"percentiles.{percent}" for percent in PERCENTS}
    return metrics.within(f"{metric}.successful").times(keys, unit_s)


def _traffic(fields: Fields, sent: int, prompts: float, outputs: float) -> Traffic:
    """Strategies with a rate are open loops; ``streams`` are users with one request in flight each."""
    strategy = fields.within("config.strategy" if fields.get("config.strategy") is not None else "args.strategy")
    kind = strategy.get("type_")
    if kind not in STRATEGIES:
        raise strategy.error("type_", f"must be one of {', '.join(STRATEGIES)}")
    is_open = kind in ("constant", "poisson")
    limit = 1 if kind == "synchronous" else strategy.maybe_count("streams") or strategy.maybe_count("max_concurrency")
    if kind == "concurrent" and not limit:
        raise strategy.error("streams", "must be a whole number from 1")
    return Traffic(
        requests=sent,
        rate_per_s=strategy.number("rate", least=1e-6) if is_open else math.inf,
        burstiness=EQUAL if kind == "constant" else POISSON,
        prompt_tokens=prompts,
        output_tokens=outputs,
        max_in_flight=limit or None,
    )
