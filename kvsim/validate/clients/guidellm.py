"""GuideLLM's report (JSON or YAML): one benchmark, so one load, after the other.

Latency is in seconds, all else in milliseconds. Unless a sample of them was asked for, all requests are in it.
"""

from __future__ import annotations

import math
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.units import MILLI
from kvsim.validate.clients.definitions import NO_TPOT, NO_TTFT, TPOT_ALIKE
from kvsim.validate.clients.requests import Requests, Row, result_of
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import EQUAL, POISSON, Traffic

NAME = "GuideLLM"
STRATEGIES = ("constant", "poisson", "concurrent", "synchronous", "throughput")
_STATES = ("successful", "errored", "incomplete")
_TOKENS = "its ITL is (last token - first) / (n - 1) weighed by tokens: mean ITL as here"


def request_row(request: Any) -> object:
    """(sent, tokens in, tokens out, ms to the first token, seconds to the last); ``None``: no request."""
    if not isinstance(request, dict):
        return None
    names = ("request_start_time", "prompt_tokens", "output_tokens", "time_to_first_token_ms", "request_latency")
    return tuple(request.get(name) for name in names)


REDUCTIONS = dict.fromkeys(_STATES, request_row)


def is_guidellm(values: dict[str, object]) -> bool:
    return isinstance(values.get("benchmarks"), list) and "metadata" in values


def read_guidellm(fields: Fields) -> tuple[ClientResult, ...]:
    """Raises ``ConfigError`` for what is no benchmark of a language model."""
    benchmarks = fields.get("benchmarks")
    if not benchmarks:
        raise ConfigError(f"{fields.file}: benchmarks: holds none")
    model = fields.text("args.model") or fields.text("config.spec.backend.model")
    return tuple(read_benchmark(fields.file, place, values, model) for place, values in enumerate(benchmarks, 1))


def read_benchmark(file: str, place: int, values: object, model: str | None) -> ClientResult:
    """The ``place``-th of a report. Requests that were under way at the end have no times."""
    fields = Fields(file, values, f"benchmarks.{place - 1}.")
    model = fields.text("config.backend.model") or model
    metrics = fields.within("metrics")
    totals = metrics.within("request_totals")
    completed, sent = totals.count("successful"), totals.count("total")
    prompts = metrics.mean_over(completed, "prompt_token_count.successful.mean")
    outputs = metrics.mean_over(completed, "output_token_count.successful.mean")
    traffic, name = _traffic(fields, sent, prompts, outputs), f"{file} {place}"
    requests = _requests(fields, totals) if completed else None
    if requests is not None:
        return result_of(requests, traffic, name=name, client=NAME, span_s=fields.maybe("duration"), model=model)
    ttft_s = _times(metrics, "time_to_first_token_ms", MILLI)
    itl_mean_s = _times(metrics, "inter_token_latency_ms", MILLI).get("mean") if outputs > 1 else None
    alike = metrics.within("output_token_count.successful")
    is_alike = alike.get("std_dev") == 0 or (alike.get("min") is not None and alike.get("min") == alike.get("max"))
    return ClientResult(
        name=name,
        client=NAME,
        traffic=traffic,
        completed=completed,
        failures=sent - completed,
        requests_per_s=metrics.mean_over(completed, "requests_per_second.successful.mean"),
        output_tokens_per_s=metrics.maybe("output_tokens_per_second.successful.mean"),
        ttft_s=ttft_s,
        e2e_s=_times(metrics, "request_latency", 1.0),
        tpot_mean_s=itl_mean_s if is_alike else None,
        itl_s={} if not itl_mean_s else {"mean": itl_mean_s},
        definitions=(_TOKENS, TPOT_ALIKE if is_alike else NO_TPOT) if ttft_s else (NO_TTFT,),
        model=model,
        assumed=("prompts share nothing",),
    )


def _times(metrics: Fields, metric: str, unit_s: float) -> dict[str, float]:
    """Nothing where there was nothing to measure: GuideLLM then writes zeros."""
    keys = {"mean": "mean"} | {percent: f"percentiles.{percent}" for percent in PERCENTS}
    found = metrics.within(f"{metric}.successful").times(keys, unit_s)
    return found if found.get("mean") else {}


def _requests(fields: Fields, totals: Fields) -> Requests | None:
    """All of them; ``None`` where some are missing."""
    rows = {state: fields.get(f"requests.{state}") or [] for state in _STATES}
    if any(not isinstance(rows[state], list) or len(rows[state]) != (totals.get(state) or 0) for state in _STATES):
        return None
    if any(row is None for found in rows.values() for row in found):
        return None
    if any(row[0] is None for row in rows["successful"]):
        return None
    answered = [Row(sent, prompt, output, _ms(ttft), e2e) for sent, prompt, output, ttft, e2e in rows["successful"]]
    others = [Row(row[0], row[1], None, None, None, answered=False) for row in rows["errored"] + rows["incomplete"]]
    return Requests.of(fields.file, answered + others)


def _ms(value: Any) -> Any:
    return value * MILLI if isinstance(value, int | float) and not isinstance(value, bool) else value


def _traffic(fields: Fields, sent: int, prompts: float, outputs: float) -> Traffic:
    """Strategies with a rate are open loops; ``streams`` are users with one request in flight each."""
    strategy = fields.within("config.strategy" if fields.get("config.strategy") is not None else "args.strategy")
    kind = strategy.get("type_")
    if kind not in STRATEGIES:
        raise strategy.error("type_", f"must be one of {', '.join(STRATEGIES)}")
    if strategy.maybe("rampup_duration"):
        raise strategy.error("rampup_duration", "a load whose rate changes is not read")
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
