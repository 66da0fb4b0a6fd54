"""What kvsim predicts for a load as its client describes it: rate, lengths, requests in flight."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.config import load_config
from kvsim.errors import CapacityError
from kvsim.measured.client import PERCENTS, ClientResult
from kvsim.measured.errors import Floats, percent
from kvsim.measured.vllm import engine_sets, is_async, synchronous
from kvsim.steptime import AffineStepTime
from kvsim.system.plan import Plan, make_plan
from kvsim.system.unified import UnifiedSystem
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

FRONT_END_S = 0.02
"""Of a request, outside the engine: HTTP, tokens to text and back, the client's event loop. Chosen on one measured load
at one request a second (docs/validation.md)."""


@dataclass(frozen=True)
class LoadPrediction:
    """As a ``ClientResult`` has it."""

    ttft_s: dict[str, float]
    e2e_s: dict[str, float]
    tpot_mean_s: float
    requests_per_s: float
    output_tokens_per_s: float


def server(profile: Path, model: str, degree: int, vllm_version: str, sets: list[str]) -> Plan:
    """One instance; vLLM's defaults where ``sets`` does not say otherwise. Older engines get their host time."""
    own: dict[str, Any] = {"model.name": model, "load.warm_caches": False}
    own |= engine_sets({"tensor_parallel_size": degree}, vllm_version, None)
    for key in ("total_gpus", "gpus_per_rack", "simulate_gpus_per_rack", "network.gpus_per_host"):
        own[f"cluster.{key}"] = 2 * degree
    own |= {"cluster.simulate_racks": 1, "pd_separation.pd_ratio": [1, 1]}
    assignments = [f"{key}={json.dumps(value)}" for key, value in own.items()]
    config = load_config(overlay=profile, sets=[*assignments, *sets]).config
    plan = replace(make_plan(config), num_instances=1)
    if is_async(vllm_version) or not isinstance(plan.step_time, AffineStepTime):
        return plan
    older = synchronous(plan.step_time.coefficients)
    return replace(plan, step_time=AffineStepTime(older, tuple(config.engine.cudagraph_capture_sizes)))


def predict_load(load: ClientResult, plan: Plan) -> LoadPrediction:
    """Raises ``CapacityError`` where no request fits."""
    system = UnifiedSystem(plan, _workload(load, plan.config.seed), plan.config.seed)
    system.run()
    table = system.requests.table()
    if not len(table["arrival_s"]):
        raise CapacityError(f"{load.name}: a request of {load.prompt_tokens_mean:.0f} tokens does not fit the engine")
    sent_s = table["arrival_s"] - FRONT_END_S
    ttft_s, e2e_s = table["first_token_s"] - sent_s, table["finish_s"] - sent_s
    span_s = float(table["finish_s"].max())
    return LoadPrediction(
        ttft_s=_statistics(ttft_s),
        e2e_s=_statistics(e2e_s),
        tpot_mean_s=float((e2e_s.mean() - ttft_s.mean()) / max(table["output_tokens"].mean() - 1, 1)),
        requests_per_s=len(ttft_s) / span_s,
        output_tokens_per_s=float(table["output_tokens"].sum()) / span_s,
    )


def load_errors(load: ClientResult, found: LoadPrediction) -> dict[str, float]:
    """Signed, in percent, of what was recorded."""
    errors: dict[str, float] = {}
    for metric, ours, theirs in (("ttft", found.ttft_s, load.ttft_s), ("e2e", found.e2e_s, load.e2e_s)):
        errors |= {f"{metric}_{name}": percent(ours[name], value) for name, value in theirs.items() if value > 0}
    if load.tpot_mean_s:
        errors["tpot_mean"] = percent(found.tpot_mean_s, load.tpot_mean_s)
    return errors | {"requests_per_s": percent(found.requests_per_s, load.requests_per_s)}


def _statistics(values_s: Floats) -> dict[str, float]:
    found = {name: float(np.percentile(values_s, int(name[1:]))) for name in PERCENTS}
    return {"mean": float(values_s.mean())} | found


def _workload(load: ClientResult, seed: int) -> Workload:
    """Prompts that share nothing, of the mean lengths."""
    count, rate = load.requests, load.requested_rate_per_s
    if not np.isfinite(rate) or rate == 0:
        arrival_s = np.zeros(count)
    elif load.is_constant:
        arrival_s = np.arange(count) / rate
    else:
        arrival_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    prompts = np.full(count, max(1, round(load.prompt_tokens_mean)), dtype=np.int32)
    whole, share = divmod(load.output_tokens_mean, 1)
    # Whole tokens whose mean is the mean: 62.4 becomes 62 or 63.
    outputs = (whole + (np.arange(count) * 0.618 % 1 < share)).clip(min=1).astype(np.int32)
    info = WorkloadInfo(source=load.name, format="synthetic", infinite_cache_hit_rate_tokens=0.0)
    found = Workload.private(arrival_s.astype(np.float64), prompts, outputs, info)
    return replace(found, max_concurrency=load.max_in_flight)
