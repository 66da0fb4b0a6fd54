"""Prefill/decode separation next to unified serving: same GPUs, same requests, same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from kvsim.capacity.demand import Demand, asked_per_s, demand_of
from kvsim.capacity.gathered import facts_of, served_demand
from kvsim.capacity.load_search import ChatRun, LoadSearch, LoadTarget, Offered, Source, TraceRun
from kvsim.capacity.maximum_rates import MaximumRates, balanced_pd_ratio, maximum_rate, maximum_rates
from kvsim.capacity.pilot import WARMUP_SHARE, measured_rows
from kvsim.config import Config
from kvsim.config.comparison import Comparison
from kvsim.config.effect import without_effect
from kvsim.errors import ConfigError
from kvsim.failures import Failure, Failures
from kvsim.plan.plan import Plan, make_plan
from kvsim.plan.unmodelled import left_out
from kvsim.record.result import SystemResult
from kvsim.record.windows import measured_alike
from kvsim.sim.run import SYSTEMS, Case, ProgressMaker, run
from kvsim.study.all import run_studies, why_none
from kvsim.study.context import Bed
from kvsim.study.questions.compare import check_comparisons
from kvsim.workload.traffic import TraceSource, TraceTraffic
from kvsim.workload.workload import Workload


@dataclass(frozen=True)
class Experiment:
    """What a ``--pd`` run gives to the reports."""

    plan: Plan
    workload: Workload
    results: tuple[SystemResult, ...]
    """``unified``, then ``pd``, as far as they were asked for; a run interrupted before PD started has only the first.
    """
    cluster: dict[str, Any]
    """The report's ``cluster`` section."""
    load: dict[str, Any] | None
    """``{rho, of, requests_per_s, max_requests_per_s}`` where a load was asked for."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    incomplete: bool
    studies: dict[str, Any] | None = None
    """The report's ``studies``."""
    failures: tuple[Failure, ...] = ()
    """What could not be made, and cost itself only."""


def run_pd(
    config: Config,
    *,
    trace: TraceSource | None,
    load: float | None,
    load_of: str | None,
    replicas: int | None,
    stepwise: bool,
    progress: ProgressMaker,
    systems: Sequence[str] = SYSTEMS,
    studies: Sequence[str] = (),
    comparisons: Sequence[Comparison] = (),
) -> Experiment:
    """Build, load and run ``systems``, unified first; one of them is in memory at a time.

    ``load`` and ``load_of`` stand in for the configuration's ``load.rho`` and ``load.of``; where the latter is not run,
    it is the one that is. A trace without ``load`` runs at its own rate, times ``replicas``; synthetic traffic without
    either at ``pd_trace.qps`` where that is set.
    Raises a ``KvsimError`` for what cannot be built or read, and ``KeyboardInterrupt`` if interrupted before the first
    system starts.
    """
    plan = make_plan(config, stepwise=stepwise)
    check_comparisons(plan, comparisons)
    seeds = [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(config.seed).spawn(5)]
    source = _source(plan, trace, replicas, seeds[0])
    failures = Failures()
    offering = LoadSearch(plan, source, (seeds[1], seeds[2]), failures, progress, tunes="unified" in systems)
    own = source.own() if load is None and (trace is not None or load_of is None) else None
    usual = config.load.of if config.load.of in systems else systems[0]
    of = _system_name(load_of or usual)
    asked = LoadTarget(config.load.rho, of) if load is None else LoadTarget(load, of, "--load")
    offered = offering.at_load(asked) if own is None else offering.at_own_rate(own)
    experiment, demand = _compared(offered, systems, seeds[3], failures, progress)
    warnings, unused = (*experiment.warnings, *left_out(plan, is_pd="pd" in systems)), without_effect(config)
    if unused:
        warnings = (*warnings, f"set, but without effect on this run: {', '.join(unused)}")
    experiment = replace(experiment, warnings=warnings)
    if (studies or comparisons) and not experiment.incomplete:
        why = why_none(offered.workload, source.traffic, config.studies)
        if why is None:
            rate_per_s = offered.workload.mean_rate_per_s
            bed = Bed(offered.plan, source.traffic, demand, rate_per_s, seeds[4], progress)
            studied = run_studies(bed, studies, failures, comparisons)
            experiment = replace(experiment, studies=studied.found, incomplete=studied.cut_short)
        else:
            experiment = replace(experiment, warnings=(*experiment.warnings, f"studies left out: {why}"))
    return replace(experiment, failures=tuple(failures.found))


def _source(plan: Plan, trace: TraceSource | None, replicas: int | None, seed: int) -> Source:
    return ChatRun(plan) if trace is None else TraceRun(TraceTraffic(trace, replicas, seed))


def _system_name(name: str) -> Any:
    if name not in SYSTEMS:
        raise ConfigError(f"load is of system '{name}'; known: {', '.join(sorted(SYSTEMS))}")
    return name


def _compared(
    offered: Offered, systems: Sequence[str], seed: int, failures: Failures, progress: ProgressMaker
) -> tuple[Experiment, Demand]:
    """The comparison, and what requests ask of the PD system, or of the only one, after its cache hits."""
    workload = offered.workload
    warmup = _warmup(offered.plan.config, len(workload))
    results: dict[str, SystemResult] = {}
    demands: dict[str, Demand] = {}
    unstarted = list(systems)
    try:
        for name in systems:
            case = Case(name, name, offered.plan, workload, seed, warmup)
            found = failures.attempt(name, partial(run, case, progress))
            unstarted.remove(name)
            if found is None:
                continue
            result = found.system
            facts = facts_of(workload, result, measured_rows(result), offered.plan)
            demands[name] = demand_of(workload, offered.plan, facts)
            results[name] = result
            if result.incomplete:
                break
    except KeyboardInterrupt:
        if not results:
            raise
    if not results:
        failures.reraise()
    demand = demands.get("pd", next(iter(demands.values())))
    rates = maximum_rates(offered.plan, demand, demands.get("unified", demand))
    maxima = {"pd": {"prefill": rates.prefill, "decode": rates.decode}, "unified": {"colocated": rates.unified}}
    alike = compared(workload, list(results.values()), maxima, offered.plan.config.load.unsteady_factor)
    served = {result.name: _served_maximum(offered, result) for result in alike}
    experiment = Experiment(
        plan=offered.plan,
        workload=workload,
        results=alike,
        cluster=_cluster(offered, demand, rates, "pd" in systems, list(results))
        | {"served_max_requests_per_s": served},
        load=offered.load,
        warnings=tuple(f"{name} was not started: the run was interrupted before" for name in unstarted),
        notes=offered.notes,
        incomplete=bool(unstarted) or any(result.incomplete for result in results.values()),
    )
    return experiment, demand


def compared(
    workload: Workload, results: Sequence[SystemResult], maxima: Mapping[str, Mapping[str, float]], factor: float
) -> tuple[SystemResult, ...]:
    """``results`` over one window, with the loads of their roles and whether they keep up.

    ``maxima``: requests/s that each role of each system can serve, with the cache hits of these very runs. Requests
    that fit no instance cost nothing, and are no load.
    """
    rates: dict[str, tuple[float, float]] = {}
    loaded = []
    for result in results:
        rate_per_s = asked_per_s(workload, result)
        own = maxima[result.name]
        possible_per_s = min(own[role.role] for role in result.roles)
        if math.isfinite(rate_per_s):
            rates[result.name] = rate_per_s, possible_per_s
            roles = (replace(role, load=rate_per_s / own[role.role]) for role in result.roles)
            result = replace(result, roles=tuple(roles))
        loaded.append(result)
    return tuple(measured_alike(loaded, factor, rates))


def _served_maximum(offered: Offered, result: SystemResult) -> float | None:
    """The system's maximum rate for the requests that completed inside the measured window; ``None``: none did."""
    demand = served_demand(offered.workload, offered.plan, result)
    return None if demand is None else maximum_rate(offered.plan, demand, result.name)


def _warmup(config: Config, num_requests: int) -> int:
    given = config.pd_experiments.warmup_requests
    if given is None:
        return int(num_requests * WARMUP_SHARE)
    if given >= num_requests:
        raise ConfigError(
            f"pd_experiments.warmup_requests is {given}; allowed: below the {num_requests} requests of the run"
        )
    return given


def _cluster(offered: Offered, demand: Demand, rates: MaximumRates, has_pd: bool, ran: Sequence[str]) -> dict[str, Any]:
    """``None`` stands for what is of a system that did not run: it would be by the hits of the other one."""
    plan, described = offered.plan, offered.plan.config.cluster
    measured_pd = "pd" in ran
    return {
        "gpus": plan.num_gpus,
        "instances": plan.num_instances,
        "racks": plan.num_racks,
        "prefill_instances": plan.num_prefill if has_pd else 0,
        "decode_instances": plan.num_decode if has_pd else 0,
        "prefill_gpus_per_instance": plan.degrees[0],
        "decode_gpus_per_instance": plan.degrees[1],
        "balanced_pd_ratio": list(balanced_pd_ratio(plan, demand)) if measured_pd else None,
        "described_gpus": described.total_gpus,
        "kv_blocks_per_instance": plan.spec.num_blocks,
        "kv_cache_tokens_per_instance": plan.spec.num_blocks * plan.spec.block_size_tokens,
        "kv_blocks_per_prefill_instance": plan.prefill.spec.num_blocks,
        "kv_blocks_per_decode_instance": plan.decode.spec.num_blocks,
        "unified_token_budget": plan.colocated_settings.max_num_batched_tokens,
        "unified_tuning": offered.tuning,
        "max_requests_per_s": {
            "prefill": rates.prefill if measured_pd else None,
            "decode": rates.decode if measured_pd else None,
            "unified": rates.unified if "unified" in ran else None,
        },
    }
