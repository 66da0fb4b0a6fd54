"""What kvsim predicts for a run that was measured: the same requests, at the same times, on the same engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kvsim.config import LoadedConfig
from kvsim.errors import CapacityError, ConfigError
from kvsim.fields import Fields
from kvsim.plan.instance import load_instance
from kvsim.plan.plan import Plan, unified_plan
from kvsim.plan.plausible import implausible
from kvsim.plan.vllm_defaults import is_version
from kvsim.record.result import Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.sim.run import Case, RunResult, run
from kvsim.steptime import StepTime
from kvsim.validate.accuracy import Floats
from kvsim.validate.files import read_json
from kvsim.validate.measured_run import MeasuredRun, check_against
from kvsim.workload.workload import Workload

METRICS = ("ttft", "ttft_from_queued", "tpot", "e2e")


@dataclass(frozen=True)
class RunPrediction:
    """What came of a run's requests, and of their engine."""

    requests: Table
    """One entry a request, in the run's order, as ``MeasuredRun.requests`` has them; NaN for requests that failed.
    ``queued_s`` is when the engine takes it in, between two steps; ``scheduled_s`` when its first step begins;
    ``hit_tokens`` are those of its prompt that were not computed.
    """
    step_time: StepTime
    preemptions: int
    kv_blocks: int
    hit_tokens: int
    steps: int
    implausible: str | None
    """What cannot be right about the step times."""
    sim_cpu_s: float


def metrics_of(requests: Table) -> dict[str, Floats]:
    """Seconds by name, ``METRICS``; measured or predicted. NaN: an answer of one token has no TPOT."""
    return {
        "ttft": ttft_s(requests),
        "ttft_from_queued": requests["first_token_s"] - requests["queued_s"],
        "tpot": tpot_s(requests),
        "e2e": e2e_s(requests),
    }


def load_run(measured: MeasuredRun, profile: Path, model_config: Path | None, sets: list[str]) -> LoadedConfig:
    """The run's engine with the profile's step times; ``sets`` come last."""
    return load_instance(
        str(model_config) if model_config is not None else measured.model,
        measured.arguments,
        vllm_version=measured.vllm_version if is_version(measured.vllm_version) else "",
        longest_tokens=_longest_tokens(model_config),
        profile=profile,
        sets=sets,
    )


def _longest_tokens(model_config: Path | None) -> int | None:
    """What a ``config.json`` says the model takes; what is wrong with it is said where the model is read from it."""
    try:
        found = None if model_config is None else Fields("", read_json(model_config))
        return None if found is None else found.whole("max_position_embeddings")
    except ConfigError:
        return None


def predict_run(
    measured: MeasuredRun, workload: Workload, loaded: LoadedConfig, change: Callable[[Plan], Plan] | None = None
) -> RunPrediction:
    """Serve ``workload`` at the times at which the run's requests arrived; ``change`` has the last word."""
    check_against(measured, workload.prompt_tokens, workload.output_tokens)
    config = loaded.config
    plan = unified_plan(config, config.engine.data_parallel_size, config.pd_separation.tiers)
    if change is not None:
        plan = change(plan)
    workload = replace(workload, arrival_s=np.maximum.accumulate(measured.requests["arrival_s"]))
    found = run(Case("unified", "unified", plan, workload, config.seed, keeps_detail=True))
    if not found.system.completed:
        raise CapacityError(f"{measured.name}: none of {len(workload)} requests fits the model and the KV cache")
    return _prediction(found)


def _prediction(found: RunResult) -> RunPrediction:
    table, plan, detail = found.system.table, found.case.plan, found.system.detail
    assert detail is not None  # it was asked for
    steps = detail.steps
    arrival_s = np.asarray(found.case.workload.arrival_s, dtype=np.float64)
    rows = table["request_id"].astype(np.int64)

    def column(name: str) -> Floats:
        values = np.full(len(arrival_s), np.nan)
        values[rows] = table[name]
        return values

    requests = {
        "arrival_s": arrival_s,
        "queued_s": next_boundaries_s(steps, arrival_s) if plan.num_instances == 1 else arrival_s,
        "scheduled_s": arrival_s + column("queue_s"),
    }
    return RunPrediction(
        requests=requests
        | {name: column(name) for name in ("first_token_s", "finish_s", "output_tokens", "hit_tokens")},
        step_time=plan.step_time,
        preemptions=int(table["preemptions"].sum()),
        kv_blocks=plan.colocated_settings.num_blocks + 1,
        hit_tokens=int(table["hit_tokens"].sum()),
        steps=int(steps["num_steps"].sum()),
        implausible=implausible(plan.step_time, plan.spec),
        sim_cpu_s=found.system.sim_cpu_s,
    )


def next_boundaries_s(steps: Table, times_s: Floats) -> Floats:
    """For each time the end of the step that has begun before and still runs; else the time itself.

    ``steps``: rows of ``kvsim.record.detail.STEP_COLUMNS``, of one engine.
    """
    start_s = steps["start_s"]
    if not len(start_s):
        return times_s
    spans = np.column_stack([steps[name] for name in ("start_s", "end_s", "first_step_s", "slope_s", "num_steps")])
    place = np.searchsorted(start_s, times_s, side="left") - 1
    found = times_s.copy()
    for at, (row, now) in enumerate(zip(place, times_s, strict=True)):
        if row < 0 or now >= spans[row, 1]:
            continue
        begin_s, end_s, first_s, slope_s, number = spans[row]
        count = np.arange(1, int(number) + 1)
        ends_s = begin_s + count * first_s + slope_s * (count * (count - 1) / 2)
        ends_s[-1] = end_s
        found[at] = ends_s[np.searchsorted(ends_s, now)]
    return found
