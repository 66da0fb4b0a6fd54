"""What kvsim predicts for an operating point: so many users, each with one request in flight."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.config import Config, load_config
from kvsim.errors import CapacityError, ConfigError
from kvsim.plan.plan import make_plan
from kvsim.sim.run import Case, run
from kvsim.spec import find_gpu, find_model
from kvsim.steptime import AffineStepTime
from kvsim.validate.calibrate.choose import Chosen, choose
from kvsim.validate.points import SATURATED_TTFT_S, OperatingPoint
from kvsim.validate.run import tpot_of
from kvsim.validate.users import CLIENTS, ROUNDS, users
from kvsim.validate.vllm import SERVER_BATCHED_TOKENS, SERVER_SEQS, engine_sets, is_async, synchronous
from kvsim.workload.workload import Workload

ASSUMPTIONS = (
    f"max_num_batched_tokens {SERVER_BATCHED_TOKENS}, max_num_seqs {SERVER_SEQS}, gpu_memory_utilization 0.9, random "
    f"prompts; {ROUNDS} requests a user; rows that state their precision: {CLIENTS['random_lengths'].words}; others: "
    f"{CLIENTS['exact_lengths'].words}; a column 'client' ({' or '.join(CLIENTS)}) decides otherwise"
)


@dataclass(frozen=True)
class PointPrediction:
    """Means in seconds, and how the step times are known. ``saturated``: requests queue for seconds.

    ``tpot_s``: ``None`` where all answers are of one token.
    """

    ttft_s: float
    tpot_s: float | None
    """``None``: all answers are of one token."""
    saturated: bool
    requests_per_s: float
    chosen: Chosen
    kv_blocks: int


def predict_point(point: OperatingPoint, sets: tuple[str, ...] = ()) -> PointPrediction:
    """Raises ``ConfigError`` on an unknown model or GPU, ``CapacityError`` where the model does not fit."""
    try:
        config = _config(point, sets)
        plan = replace(make_plan(config), num_instances=1)
    except (ConfigError, CapacityError) as error:
        raise type(error)(f"line {point.line}: {error}") from None
    chosen = choose(config, plan.spec)
    coefficients = chosen.coefficients
    if not is_async(point.engine_version):
        coefficients = synchronous(coefficients)
    plan = plan.with_instances(step_time=AffineStepTime(coefficients, tuple(config.engine.cudagraph_capture_sizes)))
    table = run(Case("unified", "unified", plan, _users(point, config.seed), config.seed)).system.table
    if not len(table["arrival_s"]):
        tokens = f"{point.prompt_tokens} + {point.output_tokens} tokens"
        raise CapacityError(f"line {point.line}: a request of {tokens} does not fit the KV cache")
    ttft_s = float((table["first_token_s"] - table["arrival_s"]).mean())
    tpot_s = tpot_of(table["first_token_s"], table["finish_s"], table["output_tokens"])
    has_tpot = np.isfinite(tpot_s)
    return PointPrediction(
        ttft_s=ttft_s,
        tpot_s=float(tpot_s[has_tpot].mean()) if has_tpot.any() else None,
        saturated=ttft_s > SATURATED_TTFT_S,
        requests_per_s=len(table["arrival_s"]) / float(table["finish_s"].max()),
        chosen=chosen,
        kv_blocks=plan.spec.num_blocks,
    )


def _users(point: OperatingPoint, seed: int) -> Workload:
    client = CLIENTS[point.client]
    return users(client, point.concurrency, point.prompt_tokens, point.output_tokens, seed)


def _config(point: OperatingPoint, sets: tuple[str, ...]) -> Config:
    degree, gpu = point.tensor_parallel, find_gpu(point.gpu)
    longest = point.prompt_tokens + point.output_tokens + 1
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
    assignments = [f"{key}={json.dumps(value)}" for key, value in own.items()]
    return load_config(sets=[*assignments, *sets], mode="instance").config
