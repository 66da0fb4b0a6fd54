"""What kvsim says of a run of the leaderboard: each stage simulated, on an engine described as it was served."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.config import LoadedConfig
from kvsim.fields import Fields
from kvsim.plan.instance import load_instance
from kvsim.plan.plan import unified_plan
from kvsim.record.result import Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.spec import find_gpu, find_model
from kvsim.units import MILLI
from kvsim.validate.leaderboard.recorded import ALL, FIRST_300, RecordedRun, stage_name
from kvsim.validate.predict_load import answers, served

ARGUMENTS = (
    "tensor_parallel_size",
    "data_parallel_size",
    "max_num_batched_tokens",
    "max_num_seqs",
    "max_model_len",
    "gpu_memory_utilization",
    "block_size",
    "enable_prefix_caching",
)
"""vLLM's arguments that a recorded engine names by vLLM's names."""
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
    plan = unified_plan(_server(run.engine).config, 1)
    tables = [answers(stage, plan, served(stage, plan, run.name)) for stage in run.stages]
    windows = {stage_name(place): _figures(table) for place, table in enumerate(tables)}
    windows[ALL] = _figures({name: np.concatenate([table[name] for table in tables]) for name in tables[0]})
    windows[FIRST_300] = _figures({name: column[:FIRST] for name, column in _by_arrival(tables[0]).items()})
    nearest = plan.colocated.nearest
    calibration = "as configured" if nearest is None else nearest.warning or f"measured: {nearest.name}"
    level = "as configured" if nearest is None else nearest.level
    return Forecast(windows, time.process_time() - begun_s, calibration, level)


def _server(engine: Fields) -> LoadedConfig:
    model = engine.text("model")
    if model is None:
        raise engine.error("model", "must be the model's Hugging Face id")
    arguments: dict[str, Any] = {name: engine.get(name) for name in ARGUMENTS if engine.get(name) is not None}
    if engine.get("num_gpu_blocks") is not None:
        arguments["num_gpu_blocks_override"] = engine.whole("num_gpu_blocks")
    if engine.get("kv_offloading_gib_per_gpu") is not None:
        # vLLM's offloading connector has no groups of layers.
        arguments["disable_hybrid_kv_cache_manager"] = True
    version = (engine.text("engine") or "").partition("vLLM ")[2].partition(" ")[0]
    keys: dict[str, Any] = {"load.warm_caches": False, "hardware.gpu": find_gpu(engine.text("gpu") or "").name}
    if engine.get("precision") is not None:
        keys["model.weight_dtype"] = _weight_dtype(engine)
    return load_instance(
        find_model(model).name, Fields(engine.file, arguments), vllm_version=version, keys=keys, where=engine.file
    )


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
