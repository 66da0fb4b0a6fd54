"""Results of ``vllm bench serve --save-result``."""

from __future__ import annotations

import math

from kvsim.units import MILLI
from kvsim.validate.clients.figures import PERCENTS, Figures
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import Traffic

NAME = "vllm bench serve"


def is_bench_serve(values: dict[str, object]) -> bool:
    return "completed" in values and "request_throughput" in values


def read_bench_serve(figures: Figures) -> ClientResult:
    """Gaps are gamma distributed and, since 2025, scaled to the duration. Newer versions write ``request_goodput``,
    older ones ``request_goodput:``.
    """
    completed = figures.count("completed")
    if figures.get("ramp_up_strategy") is not None:
        raise figures.error("ramp_up_strategy", "a load whose rate changes is not read")
    sent, failures = _sent(figures, completed)

    def times(name: str) -> dict[str, float]:
        keys = {"mean": f"mean_{name}_ms", "p50": f"median_{name}_ms"}
        return figures.times(keys | {percent: f"{percent}_{name}_ms" for percent in PERCENTS[1:]}, MILLI)

    goodput = next((key for key in ("request_goodput", "request_goodput:") if figures.get(key) is not None), None)
    tpot_ms = figures.maybe("mean_tpot_ms")
    outputs = figures.number("total_output_tokens") / max(completed, 1)
    limit = figures.maybe_count("max_concurrency")
    burstiness = figures.get("burstiness")
    return ClientResult(
        name=figures.file,
        client=NAME,
        traffic=Traffic(
            requests=sent,
            rate_per_s=_rate(figures),
            burstiness=1.0 if burstiness is None else figures.number("burstiness", math.inf, 1e-3),
            scaled=True,
            prompt_tokens=figures.number("total_input_tokens") / max(completed, 1),
            output_tokens=outputs,
            max_in_flight=limit or None,
        ),
        completed=completed,
        failures=failures,
        requests_per_s=figures.number("request_throughput"),
        output_tokens_per_s=figures.number("output_throughput"),
        ttft_s=times("ttft"),
        e2e_s=times("e2el"),
        tpot_mean_s=None if tpot_ms is None or outputs <= 1 else tpot_ms * MILLI,
        tpot_weighs_tokens=False,
        model=figures.text("model_id"),
        goodput_requests_per_s=None if goodput is None else figures.number(goodput),
        assumed=("prompts share nothing",),
    )


def _sent(figures: Figures, completed: int) -> tuple[int, int]:
    """Requests sent, and those of them that failed."""
    failed, asked = figures.maybe_count("failed"), figures.maybe_count("num_prompts")
    if failed is None:
        failed = max(0, (asked or completed) - completed)
    return completed + failed, failed


def _rate(figures: Figures) -> float:
    rate = figures.get("request_rate")
    if rate in (None, "inf") or rate == math.inf:
        return math.inf
    return figures.number("request_rate", least=1e-6)
