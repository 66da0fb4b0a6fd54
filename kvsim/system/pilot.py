"""Short runs on a small cluster: what caches save, and which token budget suits the unified baseline."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from kvsim.record.result import SystemResult
from kvsim.record.summary import summarise
from kvsim.system.capacity import MaximumRates, maximum_rates
from kvsim.system.demand import CacheFacts, Demand, cache_facts, demand_of
from kvsim.system.outcome import outcome
from kvsim.system.pd import PdSystem
from kvsim.system.plan import Plan
from kvsim.system.traffic import Traffic
from kvsim.system.unified import UnifiedSystem
from kvsim.units import MILLI
from kvsim.workload.workload import Workload

SAMPLE_GPUS = 64
TUNING_REQUESTS = 3_000
WARMUP_SHARE = 0.1
_ROUNDS = 4
_CLOSE = 0.02
"""Pilots stop when the maximum rate they give is this near, relatively, to the one they ran at."""

SystemName = Literal["pd", "unified"]
SYSTEMS: dict[str, type[UnifiedSystem] | type[PdSystem]] = {"unified": UnifiedSystem, "pd": PdSystem}


class ProgressLike(Protocol):
    """Takes reports of progress."""

    def update(self, completed: int, now_s: float) -> None:
        """``completed`` requests are done at simulated time ``now_s``."""


ProgressMaker = Callable[[str, int], AbstractContextManager[ProgressLike]]
"""``progress(label, total)``: for one simulation of ``total`` requests."""


@dataclass(frozen=True)
class Trial:
    """Where and with what short runs are done: seeds of their own, a cluster that may be scaled down."""

    plan: Plan
    traffic: Traffic
    seed: int
    progress: ProgressMaker
    run_requests: Callable[[float], int]
    """Requests of a run on the whole cluster at a rate in requests/s: a trial lasts as long, or shorter."""

    def small_plan(self, requests_per_s: float) -> Plan:
        """At most about ``SAMPLE_GPUS`` GPUs at the same ratio of roles.

        What hits a cache is decided by load per instance and by the time between a prefix and its reuse, and both stay:
        a trace takes proportionally fewer copies, at the same stretch, which is why the cluster may be somewhat larger.
        A trace whose single copy already is spread over more GPUs is stretched instead, so that reuse comes later than
        in the run: the maximum rate errs on the low side there. Chat's system prompts get as many requests an instance.
        """
        total = self.plan.num_instances
        most = max(2, SAMPLE_GPUS // self.plan.spec.tensor_parallel)
        if total <= most:
            return self.plan
        copies = self.traffic.copies_at(requests_per_s)
        num = most
        if copies is not None:
            fair = round(total * self._kept(copies, most) / copies)
            num = fair if fair <= 2 * most else most
        return self.plan.scaled_to(num)

    def _kept(self, copies: int, num_instances: int) -> int:
        return max(1, copies * num_instances // self.plan.num_instances)

    def workload(self, plan: Plan, requests_per_s: float, most: int) -> Workload:
        """The share that ``plan`` gets of traffic which brings ``requests_per_s`` to the whole cluster."""
        share = plan.num_instances / self.plan.num_instances
        copies = self.traffic.copies_at(requests_per_s)
        kept = None if copies is None or share == 1 else max(1, round(copies * share))
        num_requests = max(1, min(most, round(self.run_requests(requests_per_s) * share)))
        return self.traffic.sample(requests_per_s * share, num_requests, kept, self.seed)

    def run(self, label: str, system: str, plan: Plan, workload: Workload) -> tuple[SystemResult, CacheFacts]:
        """Serve ``workload``; a warm-up is left out. An interrupt goes on as ``KeyboardInterrupt``."""
        with self.progress(label, len(workload)) as bar:
            built = SYSTEMS[system](plan, workload, self.seed, bar.update)
            built.run()
        if built.incomplete:
            raise KeyboardInterrupt
        warmup = int(len(workload) * WARMUP_SHARE)
        result = outcome(built, warmup_requests=warmup, unsteady_factor=0.0, loads={})
        del built
        gc.collect()
        return result, cache_facts(result.table, measured_rows(result), plan)


def measured_rows(result: SystemResult) -> npt.NDArray[np.bool_]:
    """The rows that count, or all where none does."""
    return result.measured if result.measured.any() else np.ones_like(result.measured)


@dataclass(frozen=True)
class Measured:
    """A maximum rate, and the demand it was computed from."""

    rates: MaximumRates
    demand: Demand


def measured_maximum(trial: Trial, system: SystemName, pilot_requests: int) -> Measured:
    """The maximum rates of ``trial.plan``, with what ``system``'s caches save at its own maximum.

    Found by pilots: the first at the maximum that caches without hits would give, which is too low, each next one at
    what the one before makes of it, until two agree. Near saturation is where the maximum is, and hits depend on load:
    the faster prompts come, the sooner a cached prefix is evicted.
    """
    population = trial.traffic.population()
    measured = _with(trial.plan, population, None)
    for _ in range(_ROUNDS):
        rate = measured.rates.of(system)
        plan = trial.small_plan(rate)
        _, facts = trial.run(f"pilot {system}", system, plan, trial.workload(plan, rate, pilot_requests))
        measured = _with(trial.plan, population, facts)
        if abs(measured.rates.of(system) - rate) <= _CLOSE * rate:
            break
    return measured


def _with(plan: Plan, population: Workload, facts: CacheFacts | None) -> Measured:
    demand = demand_of(population, plan, facts)
    return Measured(maximum_rates(plan, demand), demand)


@dataclass(frozen=True)
class Tuned:
    """The unified baseline's token budget and the goodput each budget had, requests/s of the sample."""

    plan: Plan
    budget_tokens: int
    sample_gpus: int
    goodput: dict[int, float]


def tuned_budget(trial: Trial, requests_per_s: float) -> Tuned:
    """The budget of ``engine.colocated_budgets`` with the highest goodput under the SLO, on the sample cluster.

    All of them serve the same requests at the load per GPU of the run. Of equals, the one with the lower mean TTFT.
    """
    config = trial.plan.config
    small = trial.small_plan(requests_per_s)
    workload = trial.workload(small, requests_per_s, TUNING_REQUESTS)
    scores: dict[int, tuple[float, float]] = {}
    for budget in dict.fromkeys(config.engine.colocated_budgets):
        plan = small.with_colocated_budget(budget)
        result, _ = trial.run(f"tuning {budget}", "unified", plan, workload)
        report = summarise(
            result, slo_ttft_s=config.slo.ttft_ms * MILLI, slo_tpot_s=config.slo.tpot_ms * MILLI, gpus=plan.num_gpus
        )
        scores[budget] = (report["goodput"]["requests_per_s"] or 0.0, -(report["ttft_ms"]["mean"] or np.inf))
    best = max(scores, key=lambda budget: scores[budget])
    goodput = {budget: score[0] for budget, score in scores.items()}
    return Tuned(trial.plan.with_colocated_budget(best), best, small.num_gpus, goodput)
