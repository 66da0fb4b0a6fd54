"""Results of ``vllm bench serve --save-result``."""

from __future__ import annotations

import math

from kvsim.fields import Fields
from kvsim.units import MILLI
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import Traffic

NAME = "vllm bench serve"


def is_bench_serve(values: dict[str, object]) -> bool:
    return "completed" in values and "request_throughput" in values


def read_bench_serve(fields: Fields) -> ClientResult:
    """Gaps are gamma distributed and, since 2025, scaled to the duration. Newer versions write ``request_goodput``,
    older ones ``request_goodput:``.
    """
    completed = fields.count("completed")
    if fields.get("ramp_up_strategy") is not None:
        raise fields.error("ramp_up_strategy", "a load whose rate changes is not read")
    sent, failures = _sent(fields, completed)

    def times(name: str) -> dict[str, float]:
        keys = {"mean": f"mean_{name}_ms", "p50": f"median_{name}_ms"}
        return fields.times(keys | {percent: f"{percent}_{name}_ms" for percent in PERCENTS[1:]}, MILLI)

    goodput = next((key for key in ("request_goodput", "request_goodput:") if fields.get(key) is not None), None)
    tpot_ms = fields.maybe("mean_tpot_ms")
    outputs = fields.number("total_output_tokens") / max(completed, 1)
    limit = fields.maybe_count("max_concurrency")
    burstiness = fields.get("burstiness")
    return ClientResult(
        name=fields.file,
        client=NAME,
        traffic=Traffic(
            requests=sent,
            rate_per_s=_rate(fields),
            burstiness=1.0 if burstiness is None else fields.number("burstiness", math.inf, 1e-3),
            scaled=True,
            prompt_tokens=fields.number("total_input_tokens") / max(completed, 1),
            output_tokens=outputs,
            max_in_flight=limit or None,
        ),
        completed=completed,
        failures=failures,
        requests_per_s=fields.number("request_throughput"),
        output_tokens_per_s=fields.number("output_throughput"),
        ttft_s=times("ttft"),
        e2e_s=times("e2el"),
        tpot_mean_s=None if tpot_ms is None or outputs <= 1 else tpot_ms * MILLI,
        tpot_weighs_tokens=False,
        model=fields.text("model_id"),
        goodput_requests_per_s=None if goodput is None else fields.number(goodput),
        assumed=("prompts share nothing",),
    )


def _sent(fields: Fields, completed: int) -> tuple[int, int]:
    """Requests sent, and those of them that failed."""
    failed, asked = fields.maybe_count("failed"), fields.maybe_count("num_prompts")
    if failed is None:
        failed = max(0, (asked or completed) - completed)
    return completed + failed, failed


def _rate(fields: Fields) -> float:
    rate = fields.get("request_rate")
    if rate in (None, "inf") or rate == math.inf:
        return math.inf
    return fields.number("request_rate", least=1e-6)
