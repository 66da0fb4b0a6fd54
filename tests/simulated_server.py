"""Measurements of a server that is kvsim itself, with known step times: what a client would have seen, and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kvsim.fields import Fields
from kvsim.live.forms import coefficients_of
from kvsim.measure.result import MeasuredRun, MetricsReading, RequestRow, ServerMetrics
from kvsim.plan.instance import load_instance
from kvsim.plan.plan import Plan, unified_plan
from kvsim.sim.run import Case, run
from kvsim.steptime import AffineStepTime
from kvsim.workload.synthetic.prefixes import Prefixes, prefixed
from kvsim.workload.workload import Workload

MODEL = "llama-3.2-1b"
ARGUMENTS = {
    "max_num_seqs": 32,
    "max_num_batched_tokens": 1024,
    "num_gpu_blocks_override": 1500,
    "block_size": 16,
    "max_model_len": 4096,
    "enforce_eager": True,
    "async_scheduling": False,
}
LINE = (
    f"vllm serve {MODEL} --max-num-seqs 32 --max-num-batched-tokens 1024 --num-gpu-blocks-override 1500 "
    "--block-size 16 --max-model-len 4096 --enforce-eager --no-async-scheduling"
)
TRUE = np.array([6e-3, 6e-5, 4e-4, 1.5e-7, 2e-8])
"""By ``kvsim.live.forms.WHOLE``."""
FRONT_END_S = 0.004


@dataclass(frozen=True)
class Noise:
    """What a busy host adds."""

    relative: float = 0.0
    """Standard deviation of an answer's time after its first token."""
    late_s: float = 0.0
    """Mean of what first tokens are late by."""


def plan_of(values: np.ndarray = TRUE) -> Plan:
    """The deployment with these step times."""
    loaded = load_instance(MODEL, Fields("", dict(ARGUMENTS)), keys={"load.warm_caches": False})
    return unified_plan(loaded.config, 1).with_instances(step_time=AffineStepTime(coefficients_of(values)))


def traffic(requests: int, rate_per_s: float, seed: int) -> Workload:
    """Prompts behind one of three heads."""
    random = np.random.default_rng(seed)
    arrival_s = np.cumsum(random.exponential(1 / rate_per_s, requests))
    prompts, answers = random.integers(50, 1200, requests), random.integers(1, 60, requests)
    return prefixed(arrival_s - arrival_s[0], prompts, answers, Prefixes(count=3, tokens=64), random, "drawn")


def measured(
    workload: Workload, *, values: np.ndarray = TRUE, noise: Noise | None = None, seed: int = 0, slower: Slower = None
) -> MeasuredRun:
    """``slower``: from which request on answers take so many times as long."""
    noise = noise or Noise()
    found = run(Case("unified", "unified", plan_of(values), workload, 0)).system
    random = np.random.default_rng(seed)
    rows = []
    for place, row in enumerate(found.table["request_id"].astype(int).tolist()):
        request = workload.request(row)
        count = request.output_tokens
        first_s = float(found.table["first_token_s"][place]) + FRONT_END_S + noise.late_s * random.exponential()
        decoding_s = float(found.table["finish_s"][place] - found.table["first_token_s"][place])
        decoding_s *= float(np.exp(noise.relative * random.normal()))
        if slower is not None and row >= slower[0]:
            decoding_s *= slower[1]
        token_s = np.linspace(first_s, first_s + decoding_s, count)
        rows.append(
            RequestRow(
                request_id=row,
                scheduled_s=request.arrival_s,
                sent_s=request.arrival_s,
                prompt_tokens=request.prompt_tokens,
                output_tokens=count,
                cached_tokens=int(found.table["hit_tokens"][place]),
                first_token_s=first_s,
                finish_s=float(token_s[-1]),
                chunk_s=token_s.tolist(),
                chunk_tokens=[1] * count,
                asked_tokens=count,
                pieces=request.pieces,
                output_chain=request.output_chain,
            )
        )
    counted = {"prefix_queries": found.cache.query_tokens, "prefix_hits": found.cache.hit_tokens}
    return MeasuredRun(
        rows=tuple(sorted(rows, key=lambda row: (row.sent_s, row.request_id))),
        duration_s=found.end_s,
        metrics=_counted(counted | {"preemptions": found.cache.preemptions}),
        workload="drawn",
        seed=seed,
        model=MODEL,
        asked=len(workload),
        started_at="2026-01-01T00:00:00+00:00",
    )


Slower = tuple[int, float] | None


def _counted(values: Mapping[str, float]) -> ServerMetrics:
    before = MetricsReading(0.0, **dict.fromkeys(values, 100.0))
    return ServerMetrics(before, MetricsReading(1.0, **{name: 100.0 + value for name, value in values.items()}))
