"""The single node, and the cluster with memory pools: the same requests under several policies or memories."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.capacity.demand import demand_of
from kvsim.capacity.gathered import facts_of
from kvsim.capacity.load_search import LoadSearch, LoadTarget, Offered, Source, TraceRun
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.pilot import measured_rows
from kvsim.capacity.session_traffic import WARMUP_SHARE, SessionsRun
from kvsim.config import Config
from kvsim.config.effect import without_effect_on_tiers
from kvsim.errors import ConfigError
from kvsim.failures import Failures
from kvsim.modes.pd import Experiment, compared
from kvsim.modes.training import Train, is_learned, trained, with_model, without_first
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.plan.unmodelled import left_out
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case, ProgressMaker, run
from kvsim.study.all import why_none
from kvsim.study.questions.tiered import Ground, run_studies
from kvsim.workload.traffic import TraceSource, TraceTraffic
from kvsim.workload.workload import Workload


@dataclass(frozen=True)
class Variant:
    """One of the compared: a name and the whole configuration."""

    name: str
    config: Config


def run_tiered(
    mode: Mode,
    variants: Sequence[Variant],
    *,
    trace: TraceSource | None,
    load: float | None,
    replicas: int | None,
    stepwise: bool,
    progress: ProgressMaker,
    studies: Sequence[str] = (),
    train: Train | None = None,
) -> Experiment:
    """Serve the same requests with each variant, the first of which decides rate and requests.

    ``load``: a share of the maximum rate with what that variant's caches and tiers save; without, a trace runs at its
    own rate and synthetic traffic at ``qps``, else at ``load.rho``. Raises a ``KvsimError`` for what cannot be built or
    read, and ``KeyboardInterrupt`` if interrupted before the first variant starts.
    """
    plans = [mode.plan(variant.config, stepwise=stepwise) for variant in variants]
    config, plan = variants[0].config, plans[0]
    seeds = [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(config.seed).spawn(5)]
    source: Source = SessionsRun(plan, mode) if trace is None else TraceRun(TraceTraffic(trace, replicas, seeds[0]))
    failures = Failures()
    offered = _offered(plan, source, load, seeds, failures, progress)
    with tempfile.TemporaryDirectory() as scratch:
        runs = [(variant.name, own) for variant, own in zip(variants, plans, strict=True)]
        least_warmup = 0
        if train is not None and any(is_learned(own.config) for _, own in runs):
            offered, runs, least_warmup = _trained(offered, runs, train, Path(scratch) / "model.txt")
        warmup = max(least_warmup, _warmup(mode, config, len(offered.workload)))
        results = _simulated_all(runs, offered.workload, warmup, seeds[3], failures, progress)
    failed = {failure.part for failure in failures.found}
    wanted = sum(variant.name not in failed for variant in variants)
    experiment = _experiment(offered, results, wanted)
    unused = without_effect_on_tiers(config, is_cluster=mode.name == "cluster")
    warnings = (*experiment.warnings, *left_out(plan))
    if unused:
        warnings = (*warnings, f"set, but without effect on this run: {', '.join(unused)}")
    experiment = replace(experiment, warnings=warnings)
    if studies and not experiment.incomplete:
        why = why_none(offered.workload, source.traffic, config.studies)
        if why is None:
            ground = Ground(mode, config, source.traffic, offered, seeds[4], progress)
            studied = run_studies(ground, studies, failures)
            experiment = replace(experiment, studies=studied.found, incomplete=studied.cut_short)
        else:
            experiment = replace(experiment, warnings=(*experiment.warnings, f"studies left out: {why}"))
    return replace(experiment, failures=tuple(failures.found))


def _offered(
    plan: Plan,
    source: Source,
    load: float | None,
    seeds: Sequence[int],
    failures: Failures,
    progress: ProgressMaker,
) -> Offered:
    offering = LoadSearch(plan, source, (seeds[1], seeds[2]), failures, progress)
    own = source.own() if load is None else None
    if own is not None:
        return offering.at_own_rate(own)
    own_load = LoadTarget(plan.config.load.rho, "unified")
    return offering.at_load(own_load if load is None else LoadTarget(load, "unified", "--load"))


def _trained(
    offered: Offered, runs: list[tuple[str, Plan]], train: Train, path: Path
) -> tuple[Offered, list[tuple[str, Plan]], int]:
    """A model from the run's first requests, the runs with it, and how many requests do not count for that."""
    count = train.num_requests(offered.workload)
    trained(offered.workload, offered.plan, train, path)
    own = [
        (name, replace(plan, config=with_model(plan.config, path)) if is_learned(plan.config) else plan)
        for name, plan in runs
    ]
    if train.mode == "split" and not offered.workload.is_closed:
        return replace(offered, workload=without_first(offered.workload, count)), own, 0
    note = f"the learned policy was trained on the first {count:,} requests, which do not count"
    return replace(offered, notes=(*offered.notes, note)), own, count


def _simulated_all(
    runs: Sequence[tuple[str, Plan]],
    workload: Workload,
    warmup: int,
    seed: int,
    failures: Failures,
    progress: ProgressMaker,
) -> list[SystemResult]:
    """One after the other; an interrupt leaves what was done until then, and one that fails leaves the others."""
    results: list[SystemResult] = []
    try:
        for name, plan in runs:
            case = Case(name, "unified", plan, workload, seed, warmup)
            found = failures.attempt(name, partial(run, case, progress))
            if found is not None:
                results.append(found.system)
                if found.system.incomplete:
                    break
    except KeyboardInterrupt:
        if not results:
            raise
    if not results:
        failures.reraise()
    return results


def _warmup(mode: Mode, config: Config, num_requests: int) -> int:
    given = mode.experiment(config).warmup_requests
    if given is None:
        return int(num_requests * WARMUP_SHARE)
    if given >= num_requests:
        section = "experiments" if mode.name == "single" else "cluster_experiments"
        raise ConfigError(f"{section}.warmup_requests is {given}; allowed: below the run's {num_requests} requests")
    return given


def _experiment(offered: Offered, results: list[SystemResult], wanted: int) -> Experiment:
    plan, workload = offered.plan, offered.workload
    maxima = {}
    for result in results:
        facts = facts_of(workload, result, measured_rows(result), plan)
        maxima[result.name] = maximum_rate(plan, demand_of(workload, plan, facts), "unified")
    return Experiment(
        plan=plan,
        workload=workload,
        results=compared(
            workload,
            results,
            {name: {"colocated": maximum} for name, maximum in maxima.items()},
            plan.config.load.unsteady_factor,
        ),
        cluster=_cluster(plan, maxima),
        load=offered.load,
        warnings=(),
        notes=offered.notes,
        incomplete=len(results) < wanted or any(result.incomplete for result in results),
    )


def _cluster(plan: Plan, maxima: dict[str, float]) -> dict[str, Any]:
    kv_tokens = plan.spec.num_blocks * plan.spec.block_size_tokens
    return {
        "gpus": plan.num_gpus,
        "instances": plan.num_instances,
        "racks": plan.num_racks,
        "prefill_instances": 0,
        "decode_instances": 0,
        "balanced_pd_ratio": None,
        "described_gpus": plan.config.cluster.total_gpus,
        "kv_blocks_per_instance": plan.spec.num_blocks,
        "kv_cache_tokens_per_instance": kv_tokens,
        "kv_cache_bytes_per_instance": kv_tokens * plan.spec.kv_bytes_per_token,
        "tiers": list(plan.tiers),
        "served_max_requests_per_s": maxima,
    }
