"""A measured run beside what is predicted for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.config import LoadedConfig, dump
from kvsim.plan.unmodelled import unmodelled
from kvsim.units import MILLI
from kvsim.validate.accuracy import Accuracy, Floats, accuracy_of, percent_off
from kvsim.validate.caveats import gpu_caveats, model_caveats, profile_caveats, size_caveats, version_caveats
from kvsim.validate.compare_steps import StepRow, compare_steps
from kvsim.validate.measured_run import MeasuredRun
from kvsim.validate.predict_run import METRICS, RunPrediction, metrics_of
from kvsim.validate.recorded_steps import StepsUnknownError


@dataclass(frozen=True)
class Means:
    """Means over requests; ``None`` where none has the metric."""

    measured_ms: float | None
    predicted_ms: float | None


@dataclass(frozen=True)
class Throughput:
    """Output tokens from the first arrival to the last token; ``None`` where all came at once."""

    measured_output_tokens_per_s: float | None
    predicted_output_tokens_per_s: float
    error_pct: float | None


@dataclass(frozen=True)
class RunComparison:
    """The report of ``validate run``: its JSON is a dump of this."""

    run: str
    vllm_version: str
    requests: int
    failed: int
    """Requests that do not fit the predicted engine."""
    errors: dict[str, Accuracy]
    """Accuracy by metric, ``METRICS``."""
    means: dict[str, Means]
    throughput: Throughput
    steps: list[StepRow]
    """The run's own steps, where its times tell how long they took: those of one engine whose requests' times are ends
    of steps."""
    steps_unknown: str | None
    """Why there are none."""
    kv_blocks: int
    preemptions: int
    prefix_hit_tokens: int
    engine_steps: int
    cpu_s: float
    profile: str | None
    gpu: str | None
    warnings: list[str]
    config: dict[str, Any]


def compare_run(run: MeasuredRun, loaded: LoadedConfig, prediction: RunPrediction) -> RunComparison:
    """``prediction``: of the run, on ``loaded``."""
    errors = run_accuracy(run, prediction)
    ours, theirs = metrics_of(prediction.requests), metrics_of(run.requests)
    steps, unknown = _steps(run, loaded, prediction)
    return RunComparison(
        run=run.name,
        vllm_version=run.vllm_version,
        requests=run.num_requests,
        failed=int(np.isnan(prediction.requests["finish_s"]).sum()),
        errors=errors,
        means={name: Means(_mean_ms(theirs[name]), _mean_ms(ours[name])) for name in METRICS},
        throughput=_throughput(run, prediction),
        steps=steps,
        steps_unknown=unknown,
        kv_blocks=prediction.kv_blocks,
        preemptions=prediction.preemptions,
        prefix_hit_tokens=prediction.hit_tokens,
        engine_steps=prediction.steps,
        cpu_s=prediction.sim_cpu_s,
        profile=loaded.provenance.name,
        gpu=run.gpu,
        warnings=_warnings(run, loaded, prediction, errors["tpot"].mean_pct),
        config=dump(loaded.config),
    )


def run_accuracy(run: MeasuredRun, prediction: RunPrediction) -> dict[str, Accuracy]:
    """Accuracy by metric, ``METRICS``."""
    ours, theirs = metrics_of(prediction.requests), metrics_of(run.requests)
    return {name: accuracy_of(ours[name], theirs[name]) for name in METRICS}


def _mean_ms(values_s: Floats) -> float | None:
    known = values_s[np.isfinite(values_s)]
    return float(known.mean()) / MILLI if len(known) else None


def _throughput(run: MeasuredRun, prediction: RunPrediction) -> Throughput:
    tokens = float(run.requests["output_tokens"].sum())
    ours_s, theirs_s = float(np.nanmax(prediction.requests["finish_s"])), float(run.requests["finish_s"].max())
    if theirs_s <= 0:
        return Throughput(None, tokens / ours_s, None)
    return Throughput(tokens / theirs_s, tokens / ours_s, percent_off(1 / ours_s, 1 / theirs_s))


def _steps(run: MeasuredRun, loaded: LoadedConfig, prediction: RunPrediction) -> tuple[list[StepRow], str | None]:
    """The rows, or why there are none."""
    engine = loaded.config.engine
    if engine.data_parallel_size > 1:
        return [], f"requests do not say which of the {engine.data_parallel_size} engines served them"
    if engine.pipeline_parallel_size > 1:
        return [], "several steps are under way at a time in a pipeline"
    if engine.speculative.method is not None:
        return [], "with drafts a step makes more than a token of a sequence"
    hit_tokens = np.nan_to_num(prediction.requests["hit_tokens"])
    try:
        return compare_steps(run.requests, hit_tokens, prediction.step_time, engine.max_num_batched_tokens), None
    except StepsUnknownError as unknown:
        return [], str(unknown)


def _warnings(run: MeasuredRun, loaded: LoadedConfig, prediction: RunPrediction, tpot_pct: float | None) -> list[str]:
    config = loaded.config
    found = [
        *profile_caveats(loaded),
        *model_caveats(run.name, run.model or None, config),
        *gpu_caveats(run.name, run.gpu, config),
        *version_caveats(run.name, run.vllm_version),
        *size_caveats(tpot_pct, config),
        *unmodelled(config),
    ]
    return found if prediction.implausible is None else [*found, prediction.implausible]
