"""From an experiment to the report of it."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np

from kvsim.capacity.cost import cost_of
from kvsim.config import LoadedConfig
from kvsim.failures import Failures
from kvsim.launch import LaunchLine
from kvsim.modes.experiment import Experiment, ExperimentSpec
from kvsim.plan.mode import ModeName
from kvsim.reasons import reasons_of
from kvsim.record.fleet_summary import fleet_figures
from kvsim.record.result import SystemResult
from kvsim.record.summary import in_window, summarise
from kvsim.report.calibration import calibration_of
from kvsim.report.conclusion import GOODPUT_TIE, OTHER_RATE
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock
from kvsim.report.sections import AskedRequests, Launch, WorkloadFacts
from kvsim.units import MILLI
from kvsim.workload.by_model import PartOfTrace
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.traffic import TraceSource
from kvsim.workload.workload import Floats, Workload


def build(
    clock: RunClock,
    loaded: LoadedConfig,
    experiment: Experiment,
    mode: ModeName,
    others_cpu_s: float = 0.0,
    launch: tuple[str, LaunchLine] | None = None,
) -> Report:
    """The report of a run; ``others_cpu_s`` is what other processes took for it, ``launch`` the server's
    line and what it says."""
    config = loaded.config
    if experiment.plan.config.pd_separation.pd_ratio != config.pd_separation.pd_ratio:
        config = config.model_copy(update={"pd_separation": experiment.plan.config.pd_separation})
    slo_ttft_s, slo_tpot_s = config.slo.ttft_ms * MILLI, config.slo.tpot_ms * MILLI
    gpus = experiment.plan.num_gpus
    results = tuple(
        summarise(result, slo_ttft_s=slo_ttft_s, slo_tpot_s=slo_tpot_s, gpus=gpus) for result in experiment.results
    )
    failures = Failures()
    results = tuple(
        replace(
            told,
            cost=failures.attempt(f"money and energy of {told.name}", partial(cost_of, result, plan)),
            fleet=fleet_figures(result, slo_ttft_s, config.slo.share),
        )
        for told, result, plan in zip(results, experiment.results, experiment.plans, strict=True)
    )
    why = failures.attempt("the reasons", partial(reasons_of, experiment, results)) or ()
    return Report(
        run=clock.section(
            mode=mode,
            preset=loaded.provenance.preset,
            seed=config.seed,
            results=experiment.results,
            status="incomplete" if experiment.incomplete else None,
            others_cpu_s=others_cpu_s,
            failures=(*experiment.failures, *failures.found),
        ),
        config=config,
        calibration=calibration_of(loaded, experiment.plan),
        workload=workload_facts(experiment),
        cluster=replace(experiment.cluster, warnings=experiment.warnings),
        results=results,
        why=why,
        studies=experiment.studies,
        launch=None if launch is None else _launch(*launch),
    )


def _launch(line: str, launch: LaunchLine) -> Launch:
    return Launch(
        line=line,
        engine=launch.engine,
        model=launch.model,
        arguments=launch.arguments,
        notes=launch.notes,
        warnings=launch.warnings,
    )


def workload_facts(experiment: Experiment) -> WorkloadFacts:
    """What was served, and at which load."""
    workload = experiment.workload
    info = workload.info
    return WorkloadFacts(
        source=info.source,
        format=info.format,
        sha256=info.sha256,
        requests=len(workload),
        span_s=workload.span_s,
        prompt_tokens=int(workload.prompt_tokens.sum(dtype=np.int64)),
        output_tokens=int(workload.output_tokens.sum(dtype=np.int64)),
        infinite_cache_hit_rate=info.infinite_cache_hit_rate,
        lint=tuple(f"line {found.line}: {found.message}" if found.line else found.message for found in info.lint),
        notes=(*info.notes, *experiment.notes),
        infinite_cache_hit_rate_full_blocks=info.infinite_cache_hit_rate_full_blocks,
        infinite_cache_hit_rate_tokens=info.infinite_cache_hit_rate_tokens,
        hash_block_tokens=info.hash_block_tokens,
        load=experiment.load,
        asked_requests_per_s=experiment.asked_requests_per_s,
        window_requests_per_s=_in_window_per_s(experiment),
        users=None if experiment.asked_requests_per_s is not None else _users(workload),
        asked=_asked(experiment.spec),
    )


def _in_window_per_s(experiment: Experiment) -> float | None:
    """The rate at which requests came in the measured window, where another one is told of the run: traffic that
    swells, or few arrivals. Also where more was completed in it than that one.
    """
    workload, results = experiment.workload, experiment.results
    if not results or not workload.span_s or any(result.window_is_whole for result in results):
        return None
    came = [_arrivals_s(workload, result) for result in results]
    start_s, end_s = results[0].window_s
    if any(len(arrival_s) < 2 or end_s > arrival_s[-1] for arrival_s in came):
        return None  # An overloaded system is also measured while it works off what has come.
    inside = [int(((arrival_s > start_s) & (arrival_s <= end_s)).sum()) / (end_s - start_s) for arrival_s in came]
    if max(inside) - min(inside) > GOODPUT_TIE * max(inside):
        return None  # Answers decide when requests come, and each system is asked for a rate of its own.
    told_per_s = [(len(came[0]) - 1) / float(np.ptp(came[0])), experiment.asked_requests_per_s]
    if experiment.load is not None:
        told_per_s.append(experiment.load.requests_per_s)
    known_per_s = [each for each in told_per_s if each is not None]
    done_per_s = max(int(in_window(result, result.window_s).sum()) for result in results) / (end_s - start_s)
    is_other = any(abs(inside[0] / each - 1) > OTHER_RATE for each in known_per_s)
    return inside[0] if is_other or done_per_s > max(known_per_s) * (1 + GOODPUT_TIE) else None


def _arrivals_s(workload: Workload, result: SystemResult) -> Floats:
    """When requests came to a system, in their order."""
    if not workload.is_closed:
        return workload.arrival_s
    return np.sort(np.concatenate([result.table["arrival_s"], result.failed_arrival_s]))


def _users(workload: Workload) -> int | None:
    if workload.max_concurrency is not None or workload.graph is None:
        return workload.max_concurrency
    return int(workload.graph.is_root.sum()) if workload.holds_back else None


def _asked(spec: ExperimentSpec) -> AskedRequests | None:
    given = spec.trace
    if given is None:
        return None
    if isinstance(given, TraceSource):
        return AskedRequests(
            workload=None,
            trace=str(given.path),
            reading=_chosen(given.reading),
            concurrency=None,
            requests=None,
            replicas=spec.replicas,
            model=given.model if isinstance(given, PartOfTrace) else None,
        )
    return AskedRequests(
        workload=given.word.text,
        trace=None,
        reading=_chosen(getattr(given.word, "reading", AS_IT_STANDS)),
        concurrency=given.concurrency,
        requests=given.num_requests,
        replicas=None,
    )


def _chosen(reading: Reading) -> dict[str, object]:
    """Fields that are not as they stand."""
    values = {each.name: getattr(reading, each.name) for each in fields(reading)}
    return {name: value for name, value in values.items() if value != getattr(AS_IT_STANDS, name)}
