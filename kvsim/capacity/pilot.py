"""Short runs on a small cluster: what caches save, and which token budget suits the unified baseline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.capacity.demand import CacheFacts, Demand, demand_of
from kvsim.capacity.gathered import facts_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.record.windows import measured_alike
from kvsim.sim.executor import Executor, whole
from kvsim.sim.run import Case, SystemName
from kvsim.units import MILLI
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

TUNING_REQUESTS = 3_000
FEWEST_REQUESTS = 200
"""Requests of a short run, where there are as many: of slow traffic a sample of the cluster may get none."""
_ROUNDS = 4
_CLOSE = 0.02
"""Pilots stop when the maximum rate they give is this near, relatively, to the one they ran at."""

_EQUAL_GOODPUT = 0.01
"""Goodputs of token budgets that are this near, relatively, are equal."""


@dataclass(frozen=True)
class Trial:
    """Where and with what short runs are done: seeds of their own, a cluster that may be scaled down."""

    plan: Plan
    traffic: Traffic
    seed: int
    executor: Executor
    run_requests: Callable[[float], int]
    """Requests of a run on the whole cluster at a rate in requests/s: a trial lasts as long, or shorter."""

    def small_plan(self, requests_per_s: float) -> Plan:
        """At most about ``load.pilot_gpus`` GPUs at the same ratio of roles.

        What hits a cache is decided by load per instance and by the time between a prefix and its reuse, and both stay:
        a trace takes proportionally fewer copies, at the same stretch, which is why the cluster may be somewhat larger.
        A trace whose single copy already is spread over more GPUs is stretched instead, so that reuse comes later than
        in the run: the maximum rate errs on the low side there.
        """
        total, most = self.plan.num_instances, self._most_instances
        copies = self.traffic.copies_at(requests_per_s)
        if total <= most or copies is None:
            return self.plan.scaled_to(min(total, most))
        fair = round(total * max(1, copies * most // total) / copies)
        return self.plan.scaled_to(fair if fair <= 2 * most else most)

    def long_plan(self, requests_per_s: float, num_requests: int, fewest_instances: int) -> Plan:
        """A plan as ``small_plan``, so small that ``num_requests`` of drawn traffic last as long as the run does.

        Else no session would get as far as its later turns, which hit what the earlier ones left. Not below
        ``fewest_instances``, since a router without a choice hits more than others do.
        """
        small = self.small_plan(requests_per_s)
        if self.traffic.copies_at(requests_per_s) is not None:
            return small
        lasting = self.plan.num_instances * num_requests // self.run_requests(requests_per_s)
        return self.plan.scaled_to(min(small.num_instances, max(lasting, fewest_instances)))

    @property
    def _most_instances(self) -> int:
        return max(2, self.plan.config.load.pilot_gpus // self.plan.spec.num_gpus)

    def workload(self, plan: Plan, requests_per_s: float, most: int) -> Workload:
        """The share that ``plan`` gets of traffic which brings ``requests_per_s`` to the whole cluster."""
        share = plan.num_instances / self.plan.num_instances
        num_requests = min(most, max(FEWEST_REQUESTS, round(self.run_requests(requests_per_s) * share)))
        return self.traffic.sample(requests_per_s * share, num_requests, self.copies(plan, requests_per_s), self.seed)

    def copies(self, plan: Plan, requests_per_s: float) -> int | None:
        """Copies of a trace that ``plan`` gets; ``None`` where its size does not decide that."""
        share = plan.num_instances / self.plan.num_instances
        copies = self.traffic.copies_at(requests_per_s)
        return None if copies is None or share == 1 else max(1, round(copies * share))

    def case(self, label: str, system: str, plan: Plan, workload: Workload, warmup: int) -> Case:
        """To serve ``workload``, the first ``warmup`` requests of which do not count."""
        return Case(system, system, plan.undisturbed(), workload, self.seed, warmup, label)

    def run(self, *cases: Case) -> list[SystemResult]:
        """What comes of them. An interrupt goes on as ``KeyboardInterrupt``."""
        return whole(self.executor.run(cases))


def measured_rows(result: SystemResult) -> npt.NDArray[np.bool_]:
    """The rows that count, or all where none does."""
    return result.measured if result.measured.any() else np.ones_like(result.measured)


@dataclass(frozen=True)
class Measured:
    """A maximum rate, and the demand it was computed from."""

    requests_per_s: float
    demand: Demand


def measured_maximum(trial: Trial, system: SystemName, pilot_requests: int) -> Measured:
    """The maximum rate of ``system`` on ``trial.plan``, with what its caches save at that very rate.

    Found by pilots: the first at the maximum that caches without hits would give, which is too low, each next one at
    what the one before makes of it, until two agree; the first half of each only warms caches. Near saturation is where
    the maximum is, and hits depend on load: the faster prompts come, the sooner a cached prefix is evicted.
    """
    population = trial.traffic.population()
    measured = _with(trial.plan, population, None, system)
    for _ in range(_ROUNDS):
        rate = measured.requests_per_s
        plan = trial.long_plan(rate, pilot_requests, _fewest_instances(trial.plan, system))
        workload = trial.workload(plan, rate, pilot_requests)
        (result,) = trial.run(trial.case(f"pilot {system}", system, plan, workload, len(workload) // 2))
        facts = facts_of(workload, result, measured_rows(result), plan)
        measured = _with(trial.plan, population, facts, system)
        if abs(measured.requests_per_s - rate) <= _CLOSE * rate:
            break
    return measured


def _fewest_instances(plan: Plan, system: SystemName) -> int:
    """Four of each role that a router chooses from."""
    return 4 if system == "unified" else -(-4 * plan.num_instances // min(plan.num_prefill, plan.num_decode))


def _with(plan: Plan, population: Workload, facts: CacheFacts | None, system: SystemName) -> Measured:
    demand = demand_of(population, plan, facts)
    return Measured(maximum_rate(plan, demand, system), demand)


@dataclass(frozen=True)
class Tuned:
    """The unified baseline's token budget and the goodput each budget had, requests/s of the sample."""

    plan: Plan
    budget_tokens: int
    sample_gpus: int
    goodput: dict[int, float]
    mean_ttft_s: dict[int, float]
    """Infinite where nothing was served."""
    tied: tuple[int, ...]
    """The budgets with as much as the best, that one included."""


def tuned_budget(trial: Trial, requests_per_s: float) -> Tuned:
    """The budget of ``engine.colocated_budgets`` with the highest goodput under the SLO, on the sample cluster.

    All of them serve the same requests at the load per GPU of the run. Of those within 1% of the best, which is what a
    sample tells apart, the one with the lowest mean TTFT.
    """
    config = trial.plan.config
    small = trial.small_plan(requests_per_s)
    workload = trial.workload(small, requests_per_s, TUNING_REQUESTS)
    goodput: dict[int, float] = {}
    mean_ttft_s: dict[int, float] = {}
    warmup, budgets = (
        int(len(workload) * config.pd_experiments.warmup_share),
        list(dict.fromkeys(config.engine.colocated_budgets)),
    )
    plans = [small.with_colocated_budget(budget) for budget in budgets]
    results = trial.run(
        *(
            trial.case(f"tuning {budget}", "unified", plan, workload, warmup)
            for budget, plan in zip(budgets, plans, strict=True)
        )
    )
    limits = {"slo_ttft_s": config.slo.ttft_ms * MILLI, "slo_tpot_s": config.slo.tpot_ms * MILLI}
    for budget, result in zip(budgets, measured_alike(results, 0.0, {}), strict=True):
        told = summarise(result, **limits, gpus=small.num_gpus)
        goodput[budget] = told.goodput.requests_per_s or 0.0
        mean_ttft_s[budget] = math.inf if told.ttft_ms.mean is None else told.ttft_ms.mean * MILLI
    enough = max(goodput.values()) * (1 - _EQUAL_GOODPUT)
    tied = tuple(budget for budget in goodput if goodput[budget] >= enough)
    best = min(tied, key=mean_ttft_s.__getitem__)
    return Tuned(trial.plan.with_colocated_budget(best), best, small.num_gpus, goodput, mean_ttft_s, tied)
