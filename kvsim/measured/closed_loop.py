"""What kvsim predicts for an operating point: so many users, each with one request in flight."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.calibrate.choose import Chosen, choose
from kvsim.config import Config, load_config
from kvsim.errors import CapacityError
from kvsim.measured.points import SATURATED_TTFT_S, OperatingPoint
from kvsim.measured.vllm import SERVER_BATCHED_TOKENS, SERVER_SEQS, engine_sets, is_async, synchronous
from kvsim.spec import find_gpu, find_model
from kvsim.steptime import AffineStepTime
from kvsim.system.plan import make_plan
from kvsim.system.unified import UnifiedSystem
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

ROUNDS = 10
"""Requests of a user."""
LENGTH_JITTER = 0.05
"""Answers of random text are not all as long as asked for; without that users would stay in step for ever."""
TURNAROUND_S = 0.01
"""From an answer's end to the user's next request, the mean."""
SENDING_S = 0.001
"""Between the first requests of two users."""
ASSUMPTIONS = (
    f"max_num_batched_tokens {SERVER_BATCHED_TOKENS}, max_num_seqs {SERVER_SEQS}, gpu_memory_utilization 0.9, random "
    f"prompts; all users start at once and send {ROUNDS} requests each, answers of the length +-{LENGTH_JITTER:.0%}"
)


@dataclass(frozen=True)
class PointPrediction:
    """Means in seconds, and how the step times are known. ``saturated``: requests queue for seconds."""

    ttft_s: float
    tpot_s: float
    saturated: bool
    requests_per_s: float
    chosen: Chosen
    kv_blocks: int


def predict_point(point: OperatingPoint, sets: tuple[str, ...] = ()) -> PointPrediction:
    """Raises ``ConfigError`` on an unknown model or GPU, ``CapacityError`` where the model does not fit."""
    config = _config(point, sets)
    plan = replace(make_plan(config), num_instances=1)
    chosen = choose(config, plan.spec)
    coefficients = chosen.coefficients
    if not is_async(point.engine_version):
        coefficients = synchronous(coefficients)
    plan = replace(plan, step_time=AffineStepTime(coefficients, tuple(config.engine.cudagraph_capture_sizes)))
    system = UnifiedSystem(plan, users(point, config.seed), config.seed)
    system.run()
    table = system.requests.table()
    if not len(table["arrival_s"]):
        raise CapacityError(f"line {point.line}: a request of {point.prompt_tokens} tokens does not fit the KV cache")
    ttft_s = float((table["first_token_s"] - table["arrival_s"]).mean())
    later = np.maximum(table["output_tokens"] - 1, 1)
    tpot_s = float(((table["finish_s"] - table["first_token_s"]) / later).mean())
    return PointPrediction(
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        saturated=ttft_s > SATURATED_TTFT_S,
        requests_per_s=len(table["arrival_s"]) / float(table["finish_s"].max()),
        chosen=chosen,
        kv_blocks=plan.spec.num_blocks,
    )


def users(point: OperatingPoint, seed: int) -> Workload:
    """Each user's next request follows its last answer."""
    generator = np.random.default_rng(seed)
    num_users, total = point.concurrency, ROUNDS * point.concurrency
    spread = 1 + generator.uniform(-LENGTH_JITTER, LENGTH_JITTER, total)
    outputs = np.maximum(1, np.round(point.output_tokens * spread)).astype(np.int32)
    after = np.arange(total) - num_users
    after[:num_users] = -1
    info = WorkloadInfo(source=f"{num_users} users", format="synthetic", infinite_cache_hit_rate_tokens=0.0)
    prompts = np.full(total, point.prompt_tokens, dtype=np.int32)
    sent_s = np.arange(total, dtype=np.float64) * SENDING_S
    alone = Workload.private(sent_s, prompts, outputs, info)
    return replace(alone, after=after, think_s=generator.exponential(TURNAROUND_S, total))


def _config(point: OperatingPoint, sets: tuple[str, ...]) -> Config:
    degree, gpu = point.tensor_parallel, find_gpu(point.gpu)
    longest = point.prompt_tokens + int(point.output_tokens * (1 + LENGTH_JITTER)) + 1
    own: dict[str, Any] = {
        "model.name": find_model(point.model).name,
        "model.weight_dtype": point.weight_dtype,
        "hardware.gpu": gpu.name,
        "load.warm_caches": False,
    }
    own |= engine_sets({"tensor_parallel_size": degree}, point.engine_version, max(longest, 32_768))
    for key in ("total_gpus", "gpus_per_rack", "simulate_gpus_per_rack", "network.gpus_per_host"):
        own[f"cluster.{key}"] = 2 * degree
    own |= {"cluster.simulate_racks": 1, "pd_separation.pd_ratio": [1, 1]}
    return load_config(sets=[*(f"{key}={json.dumps(value)}" for key, value in own.items()), *sets]).config

