"""What kvsim predicts for a run that was measured: the same requests, at the same times, on the same engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.config import LoadedConfig, load_config
from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan, make_plan
from kvsim.plan.plausible import implausible
from kvsim.sim.run import Case, RunResult
from kvsim.sim.run import run as simulate
from kvsim.units import MILLI
from kvsim.validate.errors import Floats, error_summary
from kvsim.validate.run import MeasuredRun, check_against, tpot_of
from kvsim.validate.vllm import engine_sets
from kvsim.workload.workload import Workload

METRICS = ("ttft", "ttft_from_queued", "tpot", "e2e")


@dataclass(frozen=True)
class Prediction:
    """One entry a request, in the run's order; seconds from the first arrival on. NaN for requests that failed."""

    arrival_s: Floats
    queued_s: Floats
    """When the engine takes it in: between two steps."""
    scheduled_s: Floats
    """When its first step begins."""
    first_token_s: Floats
    last_token_s: Floats
    output_tokens: Floats
    preemptions: int
    kv_blocks: int
    hit_tokens: int
    steps: int
    implausible: str | None
    """What cannot be right about the step times."""
    sim_cpu_s: float

    def metrics(self) -> dict[str, Floats]:
        """Seconds by name, ``METRICS``."""
        return {
            "ttft": self.first_token_s - self.arrival_s,
            "ttft_from_queued": self.first_token_s - self.queued_s,
            "tpot": tpot_of(self.first_token_s, self.last_token_s, self.output_tokens),
            "e2e": self.last_token_s - self.arrival_s,
        }


def next_boundaries_s(spans: Floats, times_s: Floats) -> Floats:
    """For each time the end of the step that has begun before and still runs; else the time itself.

    ``stretches`` as ``StepLog.stretches`` gives them, of one engine.
    """
    if not len(spans):
        return times_s
    place = np.searchsorted(spans[:, 0], times_s, side="left") - 1
    found = times_s.copy()
    for at, (row, now) in enumerate(zip(place, times_s, strict=True)):
        if row < 0 or now >= spans[row, 1]:
            continue
        start_s, end_s, first_s, slope_s, steps = spans[row]
        count = np.arange(1, int(steps) + 1)
        ends_s = start_s + count * first_s + slope_s * (count * (count - 1) / 2)
        ends_s[-1] = end_s
        found[at] = ends_s[np.searchsorted(ends_s, now)]
    return found


def configured(run: MeasuredRun, profile: Path, model_config: Path | None, sets: list[str]) -> LoadedConfig:
    """The run's engine on a cluster of as many GPUs, with the profile's step times; ``sets`` come last."""
    longest = _max_positions(model_config)
    own: dict[str, Any] = {"model.name": str(model_config) if model_config is not None else run.model}
    own |= engine_sets(run.engine, run.vllm_version, longest)
    cache = run.kv_cache
    if cache.get("num_gpu_blocks") is not None:
        own["engine.num_gpu_blocks_override"] = cache["num_gpu_blocks"]
    if cache.get("block_size") is not None:
        own["engine.block_size"] = cache["block_size"]
    if cache.get("enable_prefix_caching") is not None:
        own["engine.enable_prefix_caching"] = bool(cache["enable_prefix_caching"])
    degree = own["engine.tensor_parallel_size"]
    gpus = degree * max(2, own["engine.data_parallel_size"])
    for key in ("total_gpus", "gpus_per_rack", "simulate_gpus_per_rack", "network.gpus_per_host"):
        own[f"cluster.{key}"] = gpus
    own["cluster.simulate_racks"] = 1
    own["pd_separation.pd_ratio"] = [1, max(1, gpus // degree - 1)]
    assignments = [f"{key}={json.dumps(value)}" for key, value in own.items()]
    return load_config(overlay=profile, sets=[*assignments, *sets], mode="instance")


def _max_positions(model_config: Path | None) -> int | None:
    if model_config is None:
        return None
    try:
        found = json.loads(model_config.read_text(encoding="utf-8")).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return None  # what is wrong with the file is said where the model is read from it
    return found if isinstance(found, int) and found > 0 else None


def predict(
    run: MeasuredRun, workload: Workload, loaded: LoadedConfig, change: Callable[[Plan], Plan] | None = None
) -> Prediction:
    """Serve ``workload`` at the times at which the run's requests arrived; ``change`` has the last word."""
    check_against(run, workload.prompt_tokens, workload.output_tokens)
    config = loaded.config
    plan = replace(make_plan(config), num_instances=config.engine.data_parallel_size)
    if change is not None:
        plan = change(plan)
    arrival_s = np.maximum.accumulate(run.requests.arrival_s)
    case = Case("unified", "unified", plan, replace(workload, arrival_s=arrival_s), config.seed, keeps_steps=True)
    simulated = simulate(case)
    if not simulated.system.completed:
        raise CapacityError(f"{run.name}: none of {len(arrival_s)} requests fits the model and the KV cache")
    return _prediction(simulated)


def _prediction(simulated: RunResult) -> Prediction:
    table, plan = simulated.system.table, simulated.case.plan
    arrival_s = np.asarray(simulated.case.workload.arrival_s, dtype=np.float64)
    rows = table["request_id"].astype(np.int64)

    def column(name: str) -> Floats:
        found = np.full(len(arrival_s), np.nan)
        found[rows] = table[name]
        return found

    return Prediction(
        arrival_s=arrival_s,
        queued_s=next_boundaries_s(simulated.steps, arrival_s) if plan.num_instances == 1 else arrival_s,
        scheduled_s=arrival_s + column("queue_s"),
        first_token_s=column("first_token_s"),
        last_token_s=column("finish_s"),
        output_tokens=column("output_tokens"),
        preemptions=int(table["preemptions"].sum()),
        kv_blocks=plan.spec.num_blocks,
        hit_tokens=int(table["hit_tokens"].sum()),
        steps=int(simulated.steps[:, 4].sum()),
        implausible=implausible(plan.step_time, plan.spec),
        sim_cpu_s=simulated.system.sim_cpu_s,
    )


def compared(run: MeasuredRun, prediction: Prediction) -> dict[str, dict[str, float | None]]:
    """Errors by metric, in percent; see ``error_summary``."""
    theirs, ours = measured_metrics(run), prediction.metrics()
    return {name: error_summary(ours[name], theirs[name]) for name in METRICS}


def means(run: MeasuredRun, prediction: Prediction) -> dict[str, dict[str, float | None]]:
    """Mean milliseconds by metric, measured and predicted; ``None`` where no request has the metric."""
    theirs, ours = measured_metrics(run), prediction.metrics()
    return {name: {"measured_ms": _mean_ms(theirs[name]), "predicted_ms": _mean_ms(ours[name])} for name in METRICS}


def _mean_ms(values_s: Floats) -> float | None:
    known = values_s[np.isfinite(values_s)]
    return float(known.mean()) / MILLI if len(known) else None


def measured_metrics(run: MeasuredRun) -> dict[str, Floats]:
    """Seconds by name, ``METRICS``."""
    requests = run.requests
    return {
        "ttft": requests.ttft_s,
        "ttft_from_queued": requests.ttft_from_queued_s,
        "tpot": requests.tpot_s,
        "e2e": requests.e2e_s,
    }
