"""Results of ``vllm bench serve --save-result``, and of ``benchmark_serving.py`` before it.

Requests stand one by one in it with ``--save-detailed``, as always before there was that flag; with
``--append-result`` runs follow each other in one file.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.units import MILLI
from kvsim.validate.clients.definitions import NO_TTFT, TPOT, itl_of_gaps, time_per_token_s
from kvsim.validate.clients.requests import Requests, Row, result_of
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import Traffic

NAME = "vllm bench serve"


def gaps_sum(gaps: Any) -> object:
    """The sum of one answer's gaps; ``None``: they are none."""
    try:
        return math.fsum(gaps)
    except (TypeError, ValueError, OverflowError):
        return None


REDUCTIONS = {"itls": gaps_sum, "generated_texts": lambda _: None, "errors": lambda error: bool(error)}
"""What is kept of lists with an entry a request."""


def is_bench_serve(values: dict[str, object]) -> bool:
    return "completed" in values and "request_throughput" in values


def read_bench_serve(fields: Fields) -> ClientResult:
    """Gaps are gamma distributed and, since 2025, scaled to the duration. Newer versions write ``request_goodput``,
    older ones ``request_goodput:``.
    """
    if fields.get("ramp_up_strategy") is not None:
        raise fields.error("ramp_up_strategy", "a load whose rate changes is not read")
    goodput = next((key for key in ("request_goodput", "request_goodput:") if fields.get(key) is not None), None)
    burstiness = fields.get("burstiness")
    traffic = Traffic(
        requests=0,
        rate_per_s=rate_of(fields),
        burstiness=1.0 if burstiness is None else fields.number("burstiness", math.inf, 1e-3),
        scaled=True,
        prompt_tokens=0,
        output_tokens=0,
        max_in_flight=fields.maybe_count("max_concurrency") or None,
    )
    goodput_per_s = None if goodput is None else fields.number(goodput)
    return run_of(fields, NAME, traffic, "e2el", fields.text("model_id"), goodput_per_s)


def run_of(
    fields: Fields,
    client: str,
    traffic: Traffic,
    e2e: str,
    model: str | None,
    goodput_requests_per_s: float | None = None,
    assumed: tuple[str, ...] = (),
) -> ClientResult:
    """A run as vLLM's client and those made from it write it. ``e2e``: what they call it."""
    completed = fields.count("completed")

    def times(metric: str) -> dict[str, float]:
        keys = {"mean": f"mean_{metric}_ms", "p50": f"median_{metric}_ms"}
        return fields.times(keys | {percent: f"{percent}_{metric}_ms" for percent in PERCENTS[1:]}, MILLI)

    gaps_s = times("itl")
    requests = _requests(fields)
    if requests is not None and requests.completed:
        return result_of(
            requests,
            traffic,
            name=fields.file,
            client=client,
            span_s=fields.maybe("duration"),
            gaps_s=gaps_s,
            model=model,
            goodput_requests_per_s=goodput_requests_per_s,
            assumed=assumed,
        )
    sent, failures = _sent(fields, completed)
    prompts, outputs = (fields.number(f"total_{side}_tokens") / max(completed, 1) for side in ("input", "output"))
    ttft_s, e2e_s, tpot_ms = times("ttft"), times(e2e), fields.maybe("mean_tpot_ms")
    itl_s, itl_words = itl_of_gaps(time_per_token_s(ttft_s, e2e_s, outputs), gaps_s)
    return ClientResult(
        name=fields.file,
        client=client,
        traffic=replace(traffic, requests=sent, prompt_tokens=prompts, output_tokens=outputs),
        completed=completed,
        failures=failures,
        requests_per_s=_requests_per_s(fields, completed),
        output_tokens_per_s=fields.number("output_throughput"),
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_mean_s=None if not tpot_ms or outputs <= 1 else tpot_ms * MILLI,
        itl_s=itl_s,
        definitions=(TPOT, itl_words) if ttft_s else (NO_TTFT,),
        model=model,
        goodput_requests_per_s=goodput_requests_per_s,
        assumed=("prompts share nothing", *assumed),
    )


def rate_of(fields: Fields) -> float:
    """Requests/s, ``inf``: all at once."""
    rate = fields.get("request_rate")
    if rate in (None, "inf") or rate == math.inf:
        return math.inf
    return fields.number("request_rate", least=1e-6)


def _requests_per_s(fields: Fields, completed: int) -> float:
    if fields.get("request_throughput") is None and fields.get("duration") is not None:
        return completed / fields.number("duration", least=1e-6)
    return fields.number("request_throughput")


def _sent(fields: Fields, completed: int) -> tuple[int, int]:
    """Requests sent, and those of them that failed."""
    failed, asked = fields.maybe_count("failed"), fields.maybe_count("num_prompts")
    if failed is None:
        failed = max(0, (asked or completed) - completed)
    return completed + failed, failed


def _requests(fields: Fields) -> Requests | None:
    """One by one; ``None`` where the file has only sums. A failed request has an error, or no tokens."""
    names = ("input_lens", "output_lens", "ttfts", "itls")
    columns = [fields.get(name) for name in names]
    if any(column is None for column in columns):
        return None
    more = ("latencies", "start_times", "errors")
    columns += [fields.get(name) for name in more]
    count = len(columns[0]) if isinstance(columns[0], list) else -1
    for name, column in zip((*names, *more), columns, strict=True):
        if column is not None and (not isinstance(column, list) or len(column) != count):
            raise ConfigError(f"{fields.file}: {name}: must be a list as long as input_lens")
    inputs, outputs, ttfts, itls, latencies, starts, errors = columns

    def row(place: int) -> Row:
        ttft, later = ttfts[place], itls[place]
        e2e = None if latencies is None else latencies[place]
        if e2e is None and isinstance(ttft, int | float) and isinstance(later, int | float):
            e2e = ttft + later
        answered = outputs[place] != 0 and not (errors is not None and errors[place])
        return Row(None if starts is None else starts[place], inputs[place], outputs[place], ttft, e2e, answered)

    return Requests.of(fields.file, map(row, range(count)))
