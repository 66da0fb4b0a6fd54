"""What kvsim says of a run of the leaderboard: each stage simulated, on an engine described as it was served."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.config import Config, LoadedConfig
from kvsim.fields import Fields
from kvsim.plan.instance import load_instance, spec_of
from kvsim.plan.plan import Plan, unified_plan
from kvsim.record.result import Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.spec import find_gpu, find_model
from kvsim.units import MILLI
from kvsim.validate.leaderboard.recorded import ALL, FIRST_300, RecordedRun, stage_name
from kvsim.validate.predict_load import answers, at_version, served

ARGUMENTS = (
    *("tensor_parallel_size", "data_parallel_size", "enable_expert_parallel", "enforce_eager", "async_scheduling"),
    *("max_num_batched_tokens", "max_num_seqs", "max_model_len", "gpu_memory_utilization", "block_size"),
    *("enable_prefix_caching", "enable_chunked_prefill", "long_prefill_token_threshold", "scheduling_policy"),
    *("kv_cache_dtype", "disable_hybrid_kv_cache_manager", "num_gpu_blocks_override", "kv_offloading_size"),
    *("all2all_backend", "dp_sync_interval", "enable_eplb", "eplb_config", "speculative_config"),
    *("quantization", "enable_lora", "max_loras", "max_lora_rank"),
)
"""vLLM's arguments that a recorded engine names by vLLM's names."""
READ = {*ARGUMENTS, "engine", "model", "gpu", "precision", "num_gpu_blocks", "kv_offloading_gib_per_gpu"}
TOLD = {"architecture", "inferred", "num_gpu_blocks_from", "name", "notes"}
"""What says where the others are from."""
ENGINE = re.compile(r"vLLM (\d+(?:\.\d+)+)\b")
FIRST = 300
PRECISIONS = {"fp16": "bf16", "bf16": "bf16", "fp8": "fp8"}


@dataclass(frozen=True)
class Forecast:
    """Milliseconds by window and metric, and how the step times are known."""

    windows: Mapping[str, Mapping[str, float]]
    cpu_s: float
    calibration: str
    level: str


def forecast(run: RecordedRun) -> Forecast:
    """Predict ``run``. Raises a ``KvsimError`` where its engine or workload is none that kvsim knows."""
    begun_s = time.process_time()
    plan = plan_of(run.engine)
    tables = [answers(stage, plan, served(stage, plan, run.name)) for stage in run.stages]
    windows = {stage_name(place): _figures(table) for place, table in enumerate(tables)}
    windows[ALL] = _figures({name: np.concatenate([table[name] for table in tables]) for name in tables[0]})
    windows[FIRST_300] = _figures({name: column[:FIRST] for name, column in _by_arrival(tables[0]).items()})
    nearest = plan.colocated.nearest
    calibration = "as configured" if nearest is None else nearest.warning or f"measured: {nearest.name}"
    level = "as configured" if nearest is None else nearest.level
    given = [key for key, value in run.engine.values.items() if value is not None]
    unread = [key for key in given if key not in READ | TOLD]
    calibration += f"; not read of its engine: {', '.join(unread)}" if unread else ""
    return Forecast(windows, time.process_time() - begun_s, calibration, level)


def plan_of(engine: Fields) -> Plan:
    """Engines as they were recorded, with the host memory that they offload to. Raises as ``server_of``."""
    config = server_of(engine).config
    plan = unified_plan(config, config.engine.data_parallel_size, config.pd_separation.tiers)
    return at_version(plan, config.engine.vllm_version)


def server_of(engine: Fields) -> LoadedConfig:
    """The engine as a configuration. Raises a ``KvsimError`` where it is none that kvsim knows."""
    model, gpu, version = engine.text("model"), engine.text("gpu"), ENGINE.search(engine.text("engine") or "")
    if model is None:
        raise engine.error("model", "must be the model's Hugging Face id")
    if version is None:
        raise engine.error("engine", "must name vLLM and its version, as vLLM 0.15.1")
    if gpu is None:
        raise engine.error("gpu", "must be a GPU's name")
    keys: dict[str, Any] = {"load.warm_caches": False, "hardware.gpu": find_gpu(gpu).name}
    if engine.get("precision") is not None:
        keys["model.weight_dtype"] = _weight_dtype(engine)

    def loaded(arguments: Mapping[str, Any]) -> LoadedConfig:
        given = Fields(engine.file, dict(arguments))
        return load_instance(find_model(model).name, given, vllm_version=version[1], keys=keys, where=engine.file)

    arguments = _arguments(engine)
    server = loaded(arguments)
    if "num_gpu_blocks_override" in arguments and not _are_of_groups(server.config):
        return loaded(arguments | {"disable_hybrid_kv_cache_manager": True})
    return server


def _arguments(engine: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {name: engine.get(name) for name in ARGUMENTS if engine.get(name) is not None}
    if engine.get("num_gpu_blocks") is not None:
        found["num_gpu_blocks_override"] = engine.whole("num_gpu_blocks")
    offloaded_gib = engine.maybe("kv_offloading_gib_per_gpu")
    if offloaded_gib:
        found["kv_offloading_size"] = offloaded_gib * engine.whole("tensor_parallel_size", 1)
    return found


def _are_of_groups(config: Config) -> bool:
    """Whether recorded blocks are of groups of layers, where the engine could have such: a block of all layers has as
    many times the bytes as there are groups, so that the GPUs' memory tells which of the two was recorded."""
    spec = replace(spec_of(config), num_blocks_override=None)
    if spec.kv_groups is None or config.engine.num_gpu_blocks_override is None:
        return True
    grouped, whole = spec.pool_blocks, replace(spec, is_hybrid=False).pool_blocks
    return config.engine.num_gpu_blocks_override**2 > grouped * whole


def _weight_dtype(engine: Fields) -> str:
    """16-bit weights take one time, whichever of the two they are."""
    given = engine.get("precision")
    found = PRECISIONS.get(given.lower()) if isinstance(given, str) else None
    if found is None:
        raise engine.error("precision", f"must be one of {', '.join(PRECISIONS)}")
    return found


def _by_arrival(table: Table) -> Table:
    order = np.argsort(table["arrival_s"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def _figures(table: Table) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric, values in (("ttft", ttft_s(table)), ("e2e", e2e_s(table)), ("itl", tpot_s(table))):
        found[f"{metric}_mean"] = float(values.mean()) / MILLI
        if metric != "itl":
            found |= {f"{metric}_p{n}": float(np.percentile(values, n)) / MILLI for n in (50, 90, 99)}
    return found
