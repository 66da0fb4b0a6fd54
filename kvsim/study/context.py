"""Where studies run: a sample of the cluster, traffic at any rate, replications that all variants share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kvsim.capacity.demand import Demand, asked_per_s, demand_of
from kvsim.capacity.gathered import facts_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.pilot import FEWEST_REQUESTS, WARMUP_SHARE, measured_rows
from kvsim.capacity.steady import steady_requests
from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan
from kvsim.record.percentiles import percentiles
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, tpot_s
from kvsim.record.windows import measured_alike
from kvsim.sim.gc_pause import gc_paused
from kvsim.sim.run import Case, ProgressMaker, run_whole
from kvsim.study.sequential import Arm, Budget, Figures, Goal, Replicated, replicate
from kvsim.units import MILLI
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

FEWEST_OF_A_ROLE = 4
"""A router that chooses among fewer queues longer than one of a whole cluster."""
MOST_TIMES = 4
LOAD = "load"
_ROUNDING = 1e-6
"""Of a number of copies."""


@dataclass(frozen=True)
class Bed:
    """What every study of a run starts from."""

    plan: Plan
    """The whole cluster's."""
    traffic: Traffic
    demand: Demand
    """Of the PD system, with the cache hits that the run measured: it says how long runs are, and nothing else."""
    requests_per_s: float
    """At which the run was driven."""
    seed: int
    progress: ProgressMaker

    @property
    def confidence(self) -> float:
        return self.plan.config.studies.confidence

    @cached_property
    def small(self) -> Plan:
        """At most ``studies.instances`` instances, at the same ratio of roles."""
        return self.plan.scaled_to(min(self.plan.num_instances, self.plan.config.studies.instances))

    @cached_property
    def sample(self) -> Plan:
        """As ``small``, but up to ``MOST_TIMES`` times as large where a role has fewer than ``FEWEST_OF_A_ROLE``."""
        plan, most = self.plan, self.small.num_instances * MOST_TIMES
        fewest = math.ceil(FEWEST_OF_A_ROLE * plan.num_instances / min(plan.num_prefill, plan.num_decode))
        return plan.scaled_to(min(plan.num_instances, max(self.small.num_instances, min(fewest, most))))

    @cached_property
    def seeds(self) -> list[int]:
        """One a replication."""
        children = np.random.SeedSequence(self.seed).spawn(self.plan.config.studies.most_replications)
        return [int(child.generate_state(1)[0]) for child in children]

    def goal(self, *metrics: str, precision: float | None = None, has_level: bool = False) -> Goal:
        """``precision``: instead of the configured one, which is then that of the figure compared with, if asked."""
        settings = self.plan.config.studies
        wanted = settings.precision if precision is None else precision
        level = settings.precision if has_level else None
        return Goal(metrics, wanted, settings.tie_share, settings.confidence, level)

    def replicate(
        self,
        arms: Sequence[Arm],
        base_of: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], Arm],
        requests: Callable[[int], Workload],
        serve: Callable[[Arm, Workload, int], SystemResult],
        figures: Callable[[Arm, Workload, SystemResult], Figures],
        goal: Goal,
        share: float = 1.0,
        is_out: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], bool] | None = None,
        *,
        at_saturation: bool = False,
    ) -> Replicated[Arm]:
        """Serve ``requests(seed)`` with every arm, with seed after seed; ``share`` of the study's budget is for that.

        ``figures(arm, workload, result)`` is what is kept of a run. The arms of a replication are measured over one
        window; at saturation, where one fills up long after another, each over its own from there on. What their runs
        leave behind is collected at its end, as systems refer to themselves.
        """

        def once(replication: int, running: Sequence[Arm]) -> tuple[dict[Arm, Figures], int]:
            seed = self.seeds[replication]
            with gc_paused():
                workload = requests(seed)
                results = [serve(arm, workload, seed) for arm in running]
            alike = results if at_saturation else measured_alike(results, 0.0, {})
            found = {arm: figures(arm, workload, result) for arm, result in zip(running, alike, strict=True)}
            return found, len(workload) * len(running)

        return replicate(arms, base_of, once, goal, Budget.of(self.plan.config.studies, share), is_out)

    def sizes(self, plan: Plan) -> dict[str, Any]:
        """What every study says of where it ran."""
        return {
            "instances": plan.num_instances,
            "of_instances": self.plan.num_instances,
            "prefill_instances": plan.num_prefill,
            "decode_instances": plan.num_decode,
            "trace_requests": self.trace_requests,
        }

    @cached_property
    def trace_requests(self) -> int | None:
        """Of the trace that runs take parts of; ``None`` where requests are drawn."""
        drawn = self.traffic.copies_at(self.requests_per_s) is None
        return None if drawn else len(self.traffic.population())

    @property
    def sample_requests_per_s(self) -> float:
        """The run's rate, on as many instances as the sample has; ``own_load`` says what load that is there."""
        return self.requests_per_s * self.sample.num_instances / self.plan.num_instances

    def requests_at(self, plan: Plan, requests_per_s: float, factor: float) -> int:
        """As many as a steady state takes, at most ``studies.max_requests``."""
        needed = steady_requests(plan, self.demand, requests_per_s, factor, None)
        return min(max(needed, FEWEST_REQUESTS), self.plan.config.studies.max_requests)

    def workload(self, requests_per_s: float, num_requests: int, seed: int) -> Workload:
        """Another part for every seed; of a trace so many copies that they are stretched as those of the run are."""
        copies = self.traffic.copies_at(self.requests_per_s)
        if copies is not None:
            copies = max(1, math.ceil(copies * requests_per_s / self.requests_per_s - _ROUNDING))
        return self.traffic.part(requests_per_s, num_requests, copies, seed)

    def run(
        self, label: str, system: str, plan: Plan, workload: Workload, seed: int, *, drains: bool = True
    ) -> SystemResult:
        """Serve ``workload``, the first tenth of it as warm-up; without ``drains`` only until the last arrival.

        An interrupt goes on as ``KeyboardInterrupt``.
        """
        warmup = int(len(workload) * WARMUP_SHARE)
        case = Case(system, system, plan, workload, seed, warmup, label, drains=drains)
        result = run_whole(case, self.progress)
        if drains:
            check_measured(result, f"{label}: {system}")
        return result


def check_measured(result: SystemResult, what: str) -> None:
    """Raises ``CapacityError`` where no request counts, so that there is nothing to take a percentile of."""
    if not result.measured.any():
        failed = f"{result.failed:,} of {result.arrived:,} do not fit"
        raise CapacityError(f"{what} completes no request that counts; {failed}")


def own_load(plan: Plan, workload: Workload, result: SystemResult) -> Figures:
    """``LOAD``: what arrived over the maximum rate of this system, with the hits of this very run.

    A study's runs are offered the rate of the run that it belongs to. What share of their maximum that is depends on
    their instances and, on a trace, their part of it.
    """
    demand = demand_of(workload, plan, facts_of(workload, result, measured_rows(result), plan))
    return {LOAD: asked_per_s(workload, result) / maximum_rate(plan, demand, result.name)}


def throughput_per_s(result: SystemResult) -> float:
    """Completions inside the measured window, requests/s."""
    (start_s, end_s), finish_s = result.window_s, result.table["finish_s"]
    return float(((finish_s > start_s) & (finish_s <= end_s)).sum()) / (end_s - start_s)


def latencies(result: SystemResult) -> dict[str, float]:
    """Mean and p99 of TTFT and of the requests' mean TPOT, of the requests that count, in ms.

    TPOT is that of ``kvsim.record.summary``: an answer of one token has none, and nan stands where all are such.
    """
    check_measured(result, result.name)
    ttft, tpot = ttft_ms(result), tpot_ms(result)
    return {
        "ttft_mean_ms": float(ttft.mean()),
        "ttft_p99_ms": float(np.percentile(ttft, 99)),
        "tpot_mean_ms": float(tpot.mean()) if tpot.size else math.nan,
        "tpot_p99_ms": float(percentiles(tpot, 99)),
    }


def tpot_ms(result: SystemResult) -> np.ndarray:
    """Of the requests that count and have more than one token."""
    values = tpot_s(rows_of(result, result.measured))
    found: np.ndarray = values[~np.isnan(values)] / MILLI
    return found


def ttft_ms(result: SystemResult) -> np.ndarray:
    """Of the requests that count."""
    rows = result.measured
    values: np.ndarray = (result.table["first_token_s"] - result.table["arrival_s"])[rows] * 1000
    return values
