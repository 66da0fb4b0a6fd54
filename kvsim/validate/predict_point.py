"""What kvsim predicts for an operating point: so many users, each with one request in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvsim.config import Config
from kvsim.errors import CapacityError, ConfigError
from kvsim.fields import Fields
from kvsim.plan.instance import load_instance
from kvsim.plan.nearest_profile import NearestProfile, nearest_profile
from kvsim.plan.plan import unified_plan
from kvsim.plan.vllm import step_time_of_version
from kvsim.plan.vllm_defaults import SERVER_BATCHED_TOKENS, SERVER_SEQS
from kvsim.record.summary import mean_tpot_s, ttft_s
from kvsim.sim.run import Case, run
from kvsim.spec import find_gpu, find_model
from kvsim.validate.clients.users import CLIENTS, ROUNDS, users
from kvsim.validate.operating_points import SATURATED_TTFT_S, OperatingPoint

LEAST_MODEL_LEN = 32_768
GENERATED, ROOM_TOKENS = "exact_lengths", 1500
"""The client whose engines AIConfigurator's generator set up: token budget and longest sequence with so many tokens of
room, and CUDA graphs of every size up to the users'."""
ASSUMPTIONS = (
    f"max_num_batched_tokens {SERVER_BATCHED_TOKENS}, max_num_seqs {SERVER_SEQS}, gpu_memory_utilization 0.9, random "
    f"prompts; {ROUNDS} requests a user; rows that state their precision: {CLIENTS['random_lengths'].words}; others: "
    f"{CLIENTS['exact_lengths'].words}; a column 'client' ({' or '.join(CLIENTS)}) decides otherwise"
)


@dataclass(frozen=True)
class PointPrediction:
    """Means in seconds, and how the step times are known."""

    ttft_s: float
    tpot_s: float | None
    """``None``: all answers are of one token."""
    saturated: bool
    """Requests queue for seconds."""
    requests_per_s: float
    profile: NearestProfile
    kv_blocks: int


def predict_point(point: OperatingPoint, sets: tuple[str, ...] = ()) -> PointPrediction:
    """Raises ``ConfigError`` on an unknown model or GPU, ``CapacityError`` where the model does not fit."""
    try:
        config = _config(point, sets)
        plan = unified_plan(config, 1)
    except (ConfigError, CapacityError) as error:
        raise type(error)(f"line {point.line}: {error}") from None
    nearest = nearest_profile(config, plan.spec)
    sizes = config.engine.cudagraph_capture_sizes
    plan = plan.with_instances(step_time=step_time_of_version(nearest.coefficients, point.engine_version, sizes))
    client = CLIENTS[point.client]
    workload = users(client, point.concurrency, point.prompt_tokens, point.output_tokens, config.seed)
    table = run(Case("unified", "unified", plan, workload, config.seed)).system.table
    if not len(table["arrival_s"]):
        tokens = f"{point.prompt_tokens} + {point.output_tokens} tokens"
        raise CapacityError(f"line {point.line}: a request of {tokens} does not fit the KV cache")
    mean_ttft_s = float(ttft_s(table).mean())
    return PointPrediction(
        ttft_s=mean_ttft_s,
        tpot_s=mean_tpot_s(table),
        saturated=mean_ttft_s > SATURATED_TTFT_S,
        requests_per_s=len(table["arrival_s"]) / float(table["finish_s"].max()),
        profile=nearest,
        kv_blocks=plan.colocated_settings.num_blocks + 1,
    )


def _config(point: OperatingPoint, sets: tuple[str, ...]) -> Config:
    keys: dict[str, Any] = {
        "model.weight_dtype": point.weight_dtype,
        "hardware.gpu": find_gpu(point.gpu).name,
        "load.warm_caches": False,
    }
    arguments: dict[str, Any] = {"tensor_parallel_size": point.tensor_parallel}
    longest_tokens = max(point.prompt_tokens + point.output_tokens + 1, LEAST_MODEL_LEN)
    if point.client == GENERATED:
        longest_tokens = point.prompt_tokens + point.output_tokens + ROOM_TOKENS
        arguments["max_num_batched_tokens"] = point.concurrency + point.prompt_tokens + ROOM_TOKENS
        keys["engine.cudagraph_capture_sizes"] = list(range(1, point.concurrency + 1))
    loaded = load_instance(
        find_model(point.model).name,
        Fields("", arguments),
        vllm_version=point.engine_version,
        longest_tokens=longest_tokens,
        keys=keys,
        sets=sets,
    )
    return loaded.config
