"""What a mode runs: the same requests served by several systems, policies or memories, and the questions asked then."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from kvsim.capacity.balance import Balanced, balance_note, balanced
from kvsim.capacity.demand import Demand, asked_per_s, demand_of
from kvsim.capacity.gathered import facts_of
from kvsim.capacity.load_search import Load, LoadSearch, LoadTarget, Offered
from kvsim.capacity.maximum_rates import role_maxima
from kvsim.capacity.pilot import Measured, Trial, measured_rows
from kvsim.capacity.sources import Source, WordSource, check_rate, source_of
from kvsim.config import Config
from kvsim.config.comparison import Comparison
from kvsim.config.effect import without_effect
from kvsim.errors import AbsentError, ConfigError, EventError
from kvsim.failures import Failure, Failures
from kvsim.modes.cluster import DeployedCluster, PdCluster, TieredCluster, cluster_section
from kvsim.modes.training import Train, is_learned, trained, with_model, without_first
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.plan.unmodelled import left_out
from kvsim.record.result import SystemResult
from kvsim.record.windows import measured_alike
from kvsim.sim.executor import Executor
from kvsim.sim.routing import check_policies
from kvsim.sim.run import SYSTEMS, Case, RunResult, SystemName
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import run_studies, why_none
from kvsim.study.context import RunVariant, StudyContext
from kvsim.study.questions.compare import check_comparisons
from kvsim.workload.traffic import TraceSource
from kvsim.workload.workload import Workload


@dataclass(frozen=True)
class Variant:
    """One of the compared."""

    name: str
    system: SystemName
    config: Config


@dataclass(frozen=True)
class ExperimentSpec:
    """What is asked of a run."""

    mode: Mode
    variants: Sequence[Variant]
    """One at least; the first decides rate and requests."""
    trace: TraceSource | WordSource | None = None
    """A recorded trace, or what a word stands for; ``None``: the mode's synthetic traffic."""
    rate_per_s: float | None = None
    """Arrivals are brought to this rate; takes the place of ``load``."""
    load: float | None = None
    """A share of the maximum rate; without, a trace runs at its own rate, synthetic traffic at its ``qps`` where that
    is set, else at ``load.rho``."""
    load_of: str | None = None
    """Whose maximum: in place of ``load.of`` or, where that system is not run, of the one that is."""
    replicas: int | None = None
    """Copies of the trace that are run."""
    stepwise: bool = False
    """An event a step: slow, the same results."""
    studies: Sequence[str] = ()
    comparisons: Sequence[Comparison] = ()
    repeats: int = 0
    """How often the variants are run again on other requests, at the most, to tell what is certain of them."""
    balances: bool = False
    """Whether prefill and decode instances stand at the ratio that loads both sides alike, whatever is configured."""
    keeps_detail: bool = False
    """Whether the results have steps, levels and movements of KV: ``SystemResult.detail``."""
    train: Train | None = None
    """How learned policies are trained that name no model; ``None``: not at all."""


def pd_variants(config: Config, systems: Sequence[str] = SYSTEMS) -> list[Variant]:
    """The systems that ``--pd`` compares, on the same GPUs."""
    return [Variant(name, name, config) for name in SYSTEMS if name in systems]


@dataclass(frozen=True)
class Experiment:
    """What a run gives to the reports."""

    plan: Plan
    """The first variant's, with the token budget that its baseline was tuned to."""
    workload: Workload
    results: tuple[SystemResult, ...]
    """One for each variant that was run, in their order."""
    plans: tuple[Plan, ...]
    """What each of ``results`` is of."""
    cluster: PdCluster | TieredCluster | DeployedCluster
    load: Load | None
    """``None``: the workload runs at its own rate."""
    demand: Demand
    """What the requests ask of the PD system, else of the first, after its cache hits."""
    source: Source
    """Where the requests come from, at any rate."""
    asked_requests_per_s: float | None
    """The rate that was asked for; ``None``: a load was, or the workload runs as it was recorded."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    incomplete: bool
    spec: ExperimentSpec
    """What was asked."""
    studies: dict[str, StudyAnswer] | None = None
    """By their section of the report; ``None`` where none were asked."""
    failures: tuple[Failure, ...] = ()
    """What could not be made, and cost itself only."""


@dataclass(frozen=True)
class Prepared:
    """What a run is to be, before anything of it is simulated but pilots and the tuning of a budget."""

    plans: list[Plan]
    """One for each variant."""
    offered: Offered
    source: Source
    seeds: Sequence[int]
    """Spawned from the first variant's: of copies, of pilots, of the tuning, of the systems, of studies."""


def run_experiment(spec: ExperimentSpec, executor: Executor) -> Experiment:
    """Build, load and run the variants, then the studies.

    Raises a ``KvsimError`` for what cannot be built or read, and ``KeyboardInterrupt`` if interrupted before there is
    anything to report.
    """
    failures = Failures()
    found = prepared(spec, failures, executor)
    first, offered, plans, seeds = spec.variants[0], found.offered, found.plans, found.seeds
    with tempfile.TemporaryDirectory() as scratch:
        offered, plans, trained_on = _trained(spec, offered, plans, Path(scratch) / "model.txt")
        warmup = max(trained_on, spec.mode.warmup(first.config, len(offered.workload)))
        cases = [
            Case(variant.name, variant.system, plan, offered.workload, seeds[3], warmup, keeps_detail=spec.keeps_detail)
            for variant, plan in zip(spec.variants, plans, strict=True)
        ]
        results, unstarted = _ran(cases, failures, executor)
    served = [_Served.of(case, results[case.name]) for case in cases if case.name in results]
    experiment = _experiment(spec, offered, served, unstarted, found.source)
    if (spec.studies or spec.comparisons or spec.repeats) and not experiment.incomplete:
        experiment = _studied(spec, experiment, seeds[4], failures, executor)
    return replace(experiment, failures=tuple(failures.found))


def prepared(spec: ExperimentSpec, failures: Failures, executor: Executor) -> Prepared:
    """Build the plans, and bring the first one's requests to their rate; raises as :func:`run_experiment` does."""
    first = spec.variants[0]
    plans = [spec.mode.plan(variant.config, stepwise=spec.stepwise) for variant in spec.variants]
    for variant in spec.variants:
        check_policies(variant.config)
    check_comparisons(plans[0], spec.comparisons)
    seeds = [int(child.generate_state(1)[0]) for child in np.random.SeedSequence(first.config.seed).spawn(5)]
    source = source_of(spec.mode, plans[0], spec.trace, spec.replicas, seeds[0])
    at = _balanced(spec, plans[0], seeds, failures, executor)
    if at is not None:
        plans[0], source = at.plan, source_of(spec.mode, at.plan, spec.trace, spec.replicas, seeds[0])
    offered = _offered(spec, plans[0], source, seeds, failures, executor, None if at is None else at.maximum)
    if at is not None:
        offered = replace(offered, notes=(balance_note(at.plan), *offered.notes))
    plans = [
        offered.plan if variant.config is first.config else own
        for variant, own in zip(spec.variants, plans, strict=True)
    ]
    return Prepared(plans, offered, source, seeds)


def _balanced(
    spec: ExperimentSpec, plan: Plan, seeds: Sequence[int], failures: Failures, executor: Executor
) -> Balanced | None:
    """The plan at the balanced ratio; ``None`` where the configured one stays, asked for or for want of another."""

    def trial_on(plan: Plan) -> Trial:
        source = source_of(spec.mode, plan, spec.trace, spec.replicas, seeds[0])
        return Trial(plan, source.traffic, seeds[1], executor, source.requests_at)

    return failures.attempt("the balanced P:D ratio", partial(balanced, plan, trial_on)) if spec.balances else None


def _offered(
    spec: ExperimentSpec,
    plan: Plan,
    source: Source,
    seeds: Sequence[int],
    failures: Failures,
    executor: Executor,
    pd_maximum: Measured | None,
) -> Offered:
    systems = [variant.system for variant in spec.variants]
    search = LoadSearch(plan, source, (seeds[1], seeds[2]), failures, executor, "unified" in systems, pd_maximum)
    if spec.rate_per_s is not None:
        check_rate(spec.rate_per_s, "--rate")
        return search.at_own_rate(source.at_rate(spec.rate_per_s, demand_of(source.traffic.population(), plan)))
    if spec.load is None and (isinstance(spec.trace, TraceSource) or spec.load_of is None):
        own = source.own()
        if own is not None:
            return search.at_own_rate(own)
    configured = plan.config.load
    usual = configured.of if spec.mode.is_pd and configured.of in systems else systems[0]
    of = _system_name(spec.load_of or usual)
    return search.at_load(LoadTarget(configured.rho, of) if spec.load is None else LoadTarget(spec.load, of, "--load"))


def _asked_per_s(spec: ExperimentSpec, offered: Offered, source: Source) -> float | None:
    if offered.load is not None:
        return None
    return source.own_per_s if spec.rate_per_s is None else spec.rate_per_s


def _system_name(name: str) -> SystemName:
    for known in SYSTEMS:
        if name == known:
            return known
    raise ConfigError(f"load is of system '{name}'; known: {', '.join(sorted(SYSTEMS))}")


def _trained(spec: ExperimentSpec, offered: Offered, plans: list[Plan], path: Path) -> tuple[Offered, list[Plan], int]:
    """A model from the run's first requests, plans with it, and how many requests do not count for that."""
    if spec.train is None or not any(is_learned(plan.config) for plan in plans):
        return offered, plans, 0
    count = spec.train.num_requests(offered.workload)
    trained(offered.workload, offered.plan, spec.train, path)
    own = [replace(plan, config=with_model(plan.config, path)) if is_learned(plan.config) else plan for plan in plans]
    if spec.train.mode == "split" and not offered.workload.is_closed:
        return replace(offered, workload=without_first(offered.workload, count)), own, 0
    note = f"the learned policy was trained on the first {count:,} requests, which do not count"
    return replace(offered, notes=(*offered.notes, note)), own, count


def _ran(
    cases: Sequence[Case], failures: Failures, executor: Executor
) -> tuple[dict[str, SystemResult], tuple[str, ...]]:
    """What came of each, and which an interrupt left out; one that fails leaves the others. What ``fleet.events`` do to
    parts that a system lacks is left out of its run, unless all lack them.
    """
    results: dict[str, SystemResult] = {}
    unstarted = []
    futures = executor.run(cases)
    absent = _absent_events(cases, futures)
    if any(map(_is_interrupted, futures)):
        unstarted = list(absent)
    elif absent:
        again = [replace(case, plan=case.plan.without_events(absent.get(case.name, ()))) for case in cases]
        told = dict(zip(absent, executor.run([case for case in again if case.name in absent]), strict=True))
        futures = [told.get(case.name, future) for case, future in zip(cases, futures, strict=True)]
    for case, future in zip(cases, futures, strict=True):
        if future.cancelled():
            unstarted.append(case.name)
        elif case.name not in unstarted:
            found = failures.attempt(case.name, future.result)
            if found is not None:
                left_out = tuple(absent.get(case.name, ()))
                results[case.name] = replace(found.system, events_left_out=left_out)
    if not results and unstarted:
        raise KeyboardInterrupt
    if not results:
        failures.reraise()
    return results, tuple(unstarted)


def _absent_events(cases: Sequence[Case], futures: Sequence[Future[RunResult]]) -> dict[str, list[int]]:
    """By case, the numbers of the ``fleet.events`` that concern no part of its system; raises ``ConfigError`` for one
    that concerns no part of any, or that some system cannot have.
    """
    found: dict[str, dict[int, tuple[str, str]]] = {}
    for case, future in zip(cases, futures, strict=True):
        error = None if future.cancelled() else future.exception()
        if isinstance(error, AbsentError):
            found[case.name] = error.absent
        elif isinstance(error, EventError):
            raise error
    for number, (said, _) in next(iter(found.values()), {}).items():
        if len(cases) > 1 and all(number in found.get(case.name, {}) for case in cases):
            whys = dict.fromkeys(f"{name}: {absent[number][1]}" for name, absent in found.items())
            raise ConfigError(f"fleet.events: {said}: {'; '.join(whys)}")
    return {name: sorted(absent) for name, absent in found.items()} if len(cases) > 1 else {}


def _is_interrupted(future: Future[RunResult]) -> bool:
    return future.cancelled() or (future.exception() is None and future.result().system.incomplete)


@dataclass(frozen=True)
class _Served:
    """A variant that was run, and what its requests asked of it after its cache hits."""

    plan: Plan
    workload: Workload
    result: SystemResult
    system: str
    demand: Demand

    @classmethod
    def of(cls, case: Case, result: SystemResult) -> _Served:
        facts = facts_of(case.workload, result, measured_rows(result), case.plan)
        demand = demand_of(case.workload, case.plan, facts)
        return cls(case.plan, case.workload, result, case.system, demand)


def _demand_of(served: Sequence[_Served]) -> Demand:
    """What requests ask of the PD system, else of the first."""
    return next((one.demand for one in served if one.system == "pd"), served[0].demand)


def _experiment(
    spec: ExperimentSpec, offered: Offered, served: Sequence[_Served], unstarted: tuple[str, ...], source: Source
) -> Experiment:
    maxima = {one.result.name: role_maxima(one.plan, one.demand, one.system) for one in served}
    results = [one.result for one in served]
    alike = compared(offered.workload, results, maxima, offered.plan.config.load.unsteady_factor)
    unused = without_effect(spec.variants[0].config, spec.mode.name)
    has_pd, has_unified = (any(variant.system == system for variant in spec.variants) for system in ("pd", "unified"))
    return Experiment(
        plan=offered.plan,
        workload=offered.workload,
        results=alike,
        plans=tuple(one.plan for one in served),
        cluster=cluster_section(spec.mode, offered, alike, maxima, _demand_of(served), has_pd=has_pd),
        load=offered.load,
        demand=_demand_of(served),
        source=source,
        asked_requests_per_s=_asked_per_s(spec, offered, source),
        warnings=(
            *(f"{name} has no result: the run was interrupted before" for name in unstarted),
            *left_out(offered.plan, is_pd=has_pd, is_unified=has_unified),
            *([f"set, but without effect on this run: {', '.join(unused)}"] if unused else []),
        ),
        notes=offered.notes,
        incomplete=bool(unstarted) or any(result.incomplete for result in results),
        spec=spec,
    )


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


def _studied(
    spec: ExperimentSpec,
    experiment: Experiment,
    seed: int,
    failures: Failures,
    executor: Executor,
) -> Experiment:
    why = why_none(experiment.workload, experiment.source.traffic, experiment.plan.config.studies)
    if why is not None:
        return replace(experiment, warnings=(*experiment.warnings, f"studies left out: {why}"))
    systems = {variant.name: variant.system for variant in spec.variants}
    context = StudyContext(
        mode=spec.mode,
        plan=experiment.plan,
        served=experiment.workload,
        traffic=experiment.source.traffic,
        demand=experiment.demand,
        seed=seed,
        executor=executor,
        comparisons=tuple(spec.comparisons),
        variants=tuple(
            RunVariant(result.name, systems[result.name], plan)
            for result, plan in zip(experiment.results, experiment.plans, strict=True)
        ),
        repeats=spec.repeats,
    )
    studied = run_studies(context, spec.studies, failures)
    return replace(experiment, studies=studied.found, incomplete=studied.cut_short)
