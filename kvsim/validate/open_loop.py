"""What kvsim predicts for a load as its client describes it: rate, prompts, lengths, requests in flight, patience."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.config import LoadedConfig, load_config
from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan, make_plan
from kvsim.record.result import Table
from kvsim.sim.run import Case, Patience, run
from kvsim.steptime import AffineStepTime
from kvsim.validate.clients.figures import PERCENTS
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import Traffic
from kvsim.validate.doubts import profile_doubts
from kvsim.validate.errors import Floats, percent
from kvsim.validate.run import tpot_of
from kvsim.validate.vllm import checked_version, engine_sets, is_async, synchronous

FRONT_END_S = 0.02
"""Of a request, outside the engine: HTTP, tokens to text and back, the client's event loop. Chosen on one measured load
at one request a second (docs/validation.md)."""


@dataclass(frozen=True)
class Server:
    """One instance as it was served, and what is doubtful about it."""

    plan: Plan
    loaded: LoadedConfig
    doubts: tuple[str, ...]


@dataclass(frozen=True)
class LoadPrediction:
    """As a ``ClientResult`` has it, of the requests that were answered; ``None`` and absent where none was."""

    completed: int
    gave_up: int
    """Requests whose client hung up."""
    unfit: int
    """Requests that could never be served: longer than the model or the KV cache."""
    ttft_s: dict[str, float]
    e2e_s: dict[str, float]
    tpot_mean_s: float | None
    requests_per_s: float
    output_tokens_per_s: float


def server(profile: Path, model: str, degree: int, vllm_version: str, sets: list[str]) -> Server:
    """One instance; vLLM's defaults where ``sets`` does not say otherwise. Older engines get their host time.

    ``vllm_version`` may be empty: a present one. Raises ``ConfigError`` on what cannot be used.
    """
    own: dict[str, Any] = {"model.name": model, "load.warm_caches": False}
    own |= engine_sets({"tensor_parallel_size": degree}, checked_version(vllm_version), None)
    for key in ("total_gpus", "gpus_per_rack", "simulate_gpus_per_rack", "network.gpus_per_host"):
        own[f"cluster.{key}"] = 2 * degree
    own |= {"cluster.simulate_racks": 1, "pd_separation.pd_ratio": [1, 1]}
    assignments = [f"{key}={json.dumps(value)}" for key, value in own.items()]
    loaded = load_config(overlay=profile, sets=[*assignments, *sets], mode="instance")
    plan, doubts = replace(make_plan(loaded.config), num_instances=1), profile_doubts(loaded)
    if is_async(vllm_version):
        return Server(plan, loaded, tuple(doubts))
    if not isinstance(plan.step_time, AffineStepTime):
        doubts.append(f"vLLM {vllm_version} schedules between steps; a profile of tables has no host time for that")
        return Server(plan, loaded, tuple(doubts))
    older = synchronous(plan.step_time.coefficients)
    steps = AffineStepTime(older, tuple(loaded.config.engine.cudagraph_capture_sizes))
    return Server(plan.with_instances(step_time=steps), loaded, tuple(doubts))


def predict_load(load: ClientResult, plan: Plan) -> LoadPrediction:
    """Raises ``CapacityError`` where no request fits."""
    return predict_traffic(load.traffic, plan, load.name, weighs_tokens=load.tpot_weighs_tokens)


def predict_traffic(traffic: Traffic, plan: Plan, source: str, *, weighs_tokens: bool) -> LoadPrediction:
    """Statistics of the requests that are answered before their client gives them up, from sending on.

    ``weighs_tokens``: TPOT as ``ClientResult.tpot_weighs_tokens`` has it. Raises ``CapacityError``.
    """
    workload, seed = traffic.workload(source, plan.config.seed), plan.config.seed
    patience = None
    if traffic.timeout_s is not None:
        patience = Patience(max(traffic.timeout_s - FRONT_END_S, 0.0), traffic.preamble)
    found = run(Case("unified", "unified", plan, workload, seed, patience=patience))
    gave_up, unfit = found.gave_up, found.system.failed - found.gave_up
    if unfit >= traffic.requests:
        raise CapacityError(f"{source}: a request of {traffic.prompt_tokens:.0f} tokens does not fit the engine")
    whole = found.system.table
    table = {name: column[whole["request_id"] >= traffic.preamble] for name, column in whole.items()}
    return _prediction(table, gave_up, unfit, weighs_tokens)


def _prediction(table: Table, gave_up: int, unfit: int, weighs_tokens: bool) -> LoadPrediction:
    completed = len(table["arrival_s"])
    if not completed:
        return LoadPrediction(0, gave_up, unfit, {}, {}, None, 0.0, 0.0)
    sent_s = table["arrival_s"] - FRONT_END_S
    ttft_s, e2e_s = table["first_token_s"] - sent_s, table["finish_s"] - sent_s
    span_s = float(table["finish_s"].max() - sent_s.min())
    return LoadPrediction(
        completed=completed,
        gave_up=gave_up,
        unfit=unfit,
        ttft_s=_statistics(ttft_s),
        e2e_s=_statistics(e2e_s),
        tpot_mean_s=_tpot_s(table, weighs_tokens),
        requests_per_s=completed / span_s,
        output_tokens_per_s=float(table["output_tokens"].sum()) / span_s,
    )


def load_errors(load: ClientResult, found: LoadPrediction) -> dict[str, float]:
    """Signed, in percent, of what was recorded; none where too many requests have no times."""
    if not load.comparable:
        return {}
    errors: dict[str, float] = {}
    for metric, ours, theirs in (("ttft", found.ttft_s, load.ttft_s), ("e2e", found.e2e_s, load.e2e_s)):
        shared = {name: value for name, value in theirs.items() if value > 0 and name in ours}
        errors |= {f"{metric}_{name}": percent(ours[name], value) for name, value in shared.items()}
    if load.tpot_mean_s and found.tpot_mean_s is not None:
        errors["tpot_mean"] = percent(found.tpot_mean_s, load.tpot_mean_s)
    if load.requests_per_s > 0:
        errors["requests_per_s"] = percent(found.requests_per_s, load.requests_per_s)
    return errors


def _tpot_s(table: Table, weighs_tokens: bool) -> float | None:
    """(E2E - TTFT) / (tokens - 1); answers of one token have none."""
    tokens = table["output_tokens"]
    if not (tokens > 1).any():
        return None
    if weighs_tokens:
        return float((table["finish_s"] - table["first_token_s"]).sum() / (tokens - 1).sum())
    return float(np.nanmean(tpot_of(table["first_token_s"], table["finish_s"], tokens)))


def _statistics(values_s: Floats) -> dict[str, float]:
    found = {name: float(np.percentile(values_s, int(name[1:]))) for name in PERCENTS}
    return {"mean": float(values_s.mean())} | found
