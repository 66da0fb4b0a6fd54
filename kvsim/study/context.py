"""Where studies run: a sample of the cluster, traffic at any rate, replications that all variants share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from kvsim.capacity.demand import Demand
from kvsim.capacity.pilot import FEWEST_REQUESTS
from kvsim.capacity.steady import steady_requests
from kvsim.config.comparison import Comparison
from kvsim.config.load import changed
from kvsim.config.schema import Studies
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan, make_plan
from kvsim.record.plain import OMITTED
from kvsim.record.result import SystemResult
from kvsim.record.windows import measured_alike
from kvsim.sim.executor import Executor, whole
from kvsim.sim.gc_pause import gc_paused
from kvsim.sim.run import Case
from kvsim.study.measures import check_measured
from kvsim.study.replication import Arm, Budget, Figures, Goal, Replicated, Runs, replicate
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

FEWEST_OF_A_ROLE = 4
"""A router that chooses among fewer queues longer than one of a whole cluster."""
MOST_TIMES = 4
_ROUNDING = 1e-6
"""What a number of copies may be off by."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """On what a study ran."""

    instances: int
    of_instances: int
    """How many the whole cluster has."""
    prefill_instances: int | None = field(default=None, metadata=OMITTED)
    """In ``--pd`` alone, as ``decode_instances``."""
    decode_instances: int | None = field(default=None, metadata=OMITTED)
    trace_requests: int | None
    """Requests of the trace that runs take parts of; ``None`` where requests are drawn."""


@dataclass(frozen=True)
class RunVariant:
    """One of those that a run compares."""

    name: str
    system: str
    plan: Plan


@dataclass(frozen=True)
class StudyContext:
    """What every study of a run starts from."""

    mode: Mode
    plan: Plan
    """The whole cluster's."""
    served: Workload
    """What the run served."""
    traffic: Traffic
    demand: Demand
    """What requests asked of the run's PD system, or of its first, after the cache hits that were measured: it says how
    long runs are, and nothing else."""
    seed: int
    executor: Executor
    comparisons: tuple[Comparison, ...] = ()
    variants: tuple[RunVariant, ...] = ()
    """What the run compares."""
    repeats: int = 0
    """How often that is to be repeated at the most."""

    @property
    def settings(self) -> Studies:
        return self.plan.config.studies

    @property
    def requests_per_s(self) -> float:
        """At which the run was driven."""
        return self.served.mean_rate_per_s

    @cached_property
    def small(self) -> Plan:
        """At most ``studies.instances`` instances, at the same ratio of roles; a single node is whole."""
        if self.mode.name == "single":
            return self.plan
        return self.plan.scaled_to(min(self.plan.num_instances, self.settings.instances))

    @cached_property
    def sample(self) -> Plan:
        """As ``small``, but up to ``MOST_TIMES`` times as large where a role has fewer than ``FEWEST_OF_A_ROLE``."""
        if not self.mode.is_pd:
            return self.small
        plan, most = self.plan, self.small.num_instances * MOST_TIMES
        fewest = math.ceil(FEWEST_OF_A_ROLE * plan.num_instances / min(plan.num_prefill, plan.num_decode))
        return plan.scaled_to(min(plan.num_instances, max(self.small.num_instances, min(fewest, most))))

    @property
    def sample_requests_per_s(self) -> float:
        """The run's rate, on as many instances as the sample has; ``own_load`` says what load that is there."""
        return self.requests_per_s * self.sample.num_instances / self.plan.num_instances

    @cached_property
    def seeds(self) -> list[int]:
        """One a replication."""
        children = np.random.SeedSequence(self.seed).spawn(max(self.settings.most_replications, self.repeats))
        return [int(child.generate_state(1)[0]) for child in children]

    def goal(self, *metrics: str, precision: float | None = None, has_level: bool = False) -> Goal:
        """``precision``: instead of the configured one, which is then that of the figure compared with, if asked."""
        settings = self.settings
        wanted = settings.precision if precision is None else precision
        level = settings.precision if has_level else None
        return Goal(metrics, wanted, settings.tie_share, settings.confidence, level)

    def budget(self, share: float = 1.0) -> Budget:
        """A share of the mode's: how often a study may run."""
        settings = self.settings
        requests = settings.budget_requests if self.mode.is_pd else settings.tier_budget_requests
        most, spent = round(share * requests), self._spent_by(share)
        return Budget(settings.replications, settings.most_replications, most, spent)

    def repeated_budget(self, most: int, requests: int) -> Budget:
        """As often as the run itself is to be repeated, of so many requests in all."""
        return Budget(min(self.settings.replications, most), most, requests, self._spent_by(1.0))

    def _spent_by(self, share: float) -> Callable[[], bool]:
        """Whether a share of ``studies.cpu_budget_s`` has been used since now, here and by the executor."""
        limit_s, executor = self.settings.cpu_budget_s, self.executor
        if limit_s is None:
            return lambda: False
        end_s = time.process_time() + executor.cpu_s + share * limit_s
        return lambda: time.process_time() + executor.cpu_s >= end_s

    def case(self, label: str, system: str, plan: Plan, workload: Workload, seed: int, *, drains: bool = True) -> Case:
        """To serve ``workload``, the mode's share of it as warm-up; without ``drains`` only to the last arrival."""
        warmup = int(len(workload) * self.mode.experiment(self.plan.config)[1].warmup_share)
        return Case(system, system, plan.undisturbed(), workload, seed, warmup, label, drains=drains)

    def run(self, *cases: Case) -> list[SystemResult]:
        """What comes of them. An interrupt goes on as ``KeyboardInterrupt``.

        Raises ``CapacityError`` where no request of a case counts that is served to its end.
        """
        results = whole(self.executor.run(cases))
        for case, result in zip(cases, results, strict=True):
            if case.drains:
                check_measured(result, f"{case.label}: {case.system}" if self.mode.is_pd else case.label)
        return results

    def replicate(
        self,
        arms: Sequence[Arm],
        base_of: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], Arm],
        requests: Callable[[int], Workload],
        case_of: Callable[[Arm, Workload, int], Case],
        figures: Callable[[Arm, Workload, SystemResult], Figures],
        goal: Goal,
        share: float = 1.0,
        is_out: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], bool] | None = None,
        *,
        own_windows: bool = False,
        budget: Budget | None = None,
    ) -> Replicated[Arm]:
        """Serve ``requests(seed)`` with every arm, with seed after seed; ``share`` of the study's budget is for
        that, or ``budget``.

        ``figures(arm, workload, result)`` is what is kept of a run. The arms of a replication are measured over one
        window, unless each has its own: at saturation one fills up long after another, and each counts from there on.
        """

        def measure(replications: Sequence[int], running: Sequence[Arm]) -> list[tuple[dict[Arm, Figures], int]]:
            with gc_paused():
                workloads = [requests(self.seeds[replication]) for replication in replications]
                results = iter(
                    self.run(
                        *(
                            case_of(arm, workload, self.seeds[replication])
                            for replication, workload in zip(replications, workloads, strict=True)
                            for arm in running
                        )
                    )
                )
            found = []
            for workload in workloads:
                alike = [next(results) for _ in running]
                if not own_windows:
                    alike = measured_alike(alike, 0.0, {})
                kept = {arm: figures(arm, workload, result) for arm, result in zip(running, alike, strict=True)}
                found.append((kept, len(workload) * len(running)))
            return found

        return replicate(arms, base_of, measure, goal, budget or self.budget(share), is_out)

    def size(self, plan: Plan) -> Size:
        """What every study says of where it ran."""
        return Size(
            instances=plan.num_instances,
            of_instances=self.plan.num_instances,
            prefill_instances=plan.num_prefill if self.mode.is_pd else None,
            decode_instances=plan.num_decode if self.mode.is_pd else None,
            trace_requests=self.trace_requests,
        )

    def single_runs(self, simulated_requests: int) -> Runs:
        """What is said of variants that run once, of so many requests together."""
        return self._runs([1], simulated_requests, within_budget=True)

    def runs_of(self, parts: Sequence[Runs]) -> Runs:
        """What is said of several replicated runs together, of none too."""
        return self._runs(
            [often for part in parts for often in (part.fewest_replications, part.replications)],
            sum(part.simulated_requests for part in parts),
            within_budget=all(part.within_budget for part in parts),
        )

    def _runs(self, replications: Sequence[int], simulated_requests: int, *, within_budget: bool) -> Runs:
        return Runs(
            replications=max(replications, default=0),
            fewest_replications=min(replications, default=0),
            confidence=self.settings.confidence,
            tie_share=self.settings.tie_share,
            precision=self.settings.precision,
            simulated_requests=simulated_requests,
            within_budget=within_budget,
        )

    @cached_property
    def trace_requests(self) -> int | None:
        """Requests of the trace that runs take parts of; ``None`` where requests are drawn."""
        drawn = self.traffic.copies_at(self.requests_per_s) is None
        return None if drawn else len(self.traffic.population())

    def requests_at(self, plan: Plan, requests_per_s: float, factor: float) -> int:
        """Requests that a steady state takes, at most ``studies.max_requests``."""
        needed = steady_requests(plan, self.demand, requests_per_s, factor, None)
        return min(max(needed, FEWEST_REQUESTS), self.settings.max_requests)

    def workload(self, requests_per_s: float, num_requests: int, seed: int) -> Workload:
        """Another part for every seed; of a trace so many copies that they are stretched as those of the run are."""
        copies = self.traffic.copies_at(self.requests_per_s)
        if copies is not None:
            copies = max(1, math.ceil(copies * requests_per_s / self.requests_per_s - _ROUNDING))
        return self.traffic.part(requests_per_s, num_requests, copies, seed)

    @property
    def most_requests(self) -> int:
        """Requests of one run of a study of memory."""
        return min(self.settings.max_requests, self.settings.tier_max_requests)

    @property
    def _kept_copies(self) -> int | None:
        """The sample's share of the run's copies of a trace."""
        copies = self.traffic.copies_at(self.requests_per_s)
        share = self.sample.num_instances / self.plan.num_instances
        return None if copies is None else max(1, round(copies * share))

    @cached_property
    def first_part(self) -> Workload:
        """The requests of single runs in studies of memory: the run's first ones, or the sample's share of such."""
        if self.sample.num_instances == self.plan.num_instances:
            return self.served.limited(self.most_requests)
        return self.traffic.sample(self.sample_requests_per_s, self.most_requests, self._kept_copies, self.seed)

    def part(self, seed: int) -> Workload:
        """As ``first_part``, but others with each seed."""
        return self.traffic.part(self.sample_requests_per_s, self.most_requests, self._kept_copies, seed)


def changed_plan(plan: Plan, values: Mapping[str, object], where: str) -> Plan:
    """``plan`` built from a configuration with other values, at the same size and ratio."""
    if not values:
        return plan
    made = make_plan(changed(plan.config, values, where), stepwise=plan.prefill_settings.stepwise)
    budget = plan.unified_budget
    return made.with_colocated_budget(budget).sized(plan.num_instances, plan.num_prefill)
