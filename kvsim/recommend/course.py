"""The course that candidates run: requests at a rate, as many as a round takes, the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kvsim.capacity.cost import mean_gpu_power_w
from kvsim.capacity.demand import demand_of
from kvsim.capacity.steady import unified_residence
from kvsim.config.schema import Recommend
from kvsim.plan.plan import Plan
from kvsim.recommend.candidates import Candidate
from kvsim.recommend.slo import POWER, Slo
from kvsim.recommend.space import Space
from kvsim.sim.executor import Executor, whole
from kvsim.sim.gc_pause import gc_paused
from kvsim.sim.run import Case
from kvsim.study.replication import Figures
from kvsim.units import MILLI
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

_TTFTS = 5.0
"""Limits of TTFT in a life, at the least: asked for 5% more than it can serve, a server takes twenty to miss one."""
_AT_ONCE = 16
"""Runs whose results are held at a time."""


@dataclass
class Course:
    """Runs of candidates, each judged by the SLO; counts what it simulates."""

    space: Space
    traffic: Traffic
    slo: Slo
    executor: Executor
    seed: int
    requests: int = 0
    """How many a whole run has; 0: not known yet."""
    runs: int = field(default=0, init=False)
    simulated_requests: int = field(default=0, init=False)
    _workloads: dict[tuple[float, int, int], Workload] = field(default_factory=dict, init=False)
    _known: dict[tuple[Candidate, float, int, int], Figures] = field(default_factory=dict, init=False)

    @property
    def settings(self) -> Recommend:
        return self.space.settings

    def workload(self, rate_per_s: float, requests: int, replication: int) -> Workload:
        """The requests of a replication at a rate: others for every replication, the same for every candidate."""
        key = rate_per_s, requests, replication
        if key not in self._workloads:
            if len(self._workloads) > self.settings.most_replications:
                self._workloads.clear()
            self._workloads[key] = self.traffic.part(rate_per_s, requests, None, self._seeds(replication))
        return self._workloads[key]

    def run(
        self, candidates: Sequence[Candidate], rate_per_s: float, requests: int, replication: int
    ) -> dict[Candidate, Figures]:
        """What each shows with the requests of a replication; nothing is run twice.

        An interrupt goes on as ``KeyboardInterrupt``.
        """
        missing = [one for one in candidates if (one, rate_per_s, requests, replication) not in self._known]
        with gc_paused():
            for start in range(0, len(missing), _AT_ONCE):
                workload = self.workload(rate_per_s, requests, replication)
                part = missing[start : start + _AT_ONCE]
                cases = [self._case(candidate, workload, replication) for candidate in part]
                for candidate, result in zip(part, whole(self.executor.run(cases)), strict=True):
                    watts = mean_gpu_power_w(result, self.space.plan(candidate))
                    figures = self.slo.judge(result) | ({} if watts is None else {POWER: watts})
                    self._known[candidate, rate_per_s, requests, replication] = figures
                self.runs += len(part)
                self.simulated_requests += len(part) * len(workload)
        return {one: self._known[one, rate_per_s, requests, replication] for one in candidates}

    @property
    def short(self) -> int:
        """Requests of a run of the first round."""
        return max(math.ceil(self.settings.screening_share * self.requests), 1)

    def ran(self, rate_per_s: float, requests: int, replication: int) -> list[Candidate]:
        """Who has run so many requests of a replication, in the order of their names."""
        asked = rate_per_s, requests, replication
        return sorted(one for one, *how in self._known if tuple(how) == asked)

    def _case(self, candidate: Candidate, workload: Workload, replication: int) -> Case:
        system, seed = candidate.family.system, self._seeds(replication)
        warmup = int(len(workload) * self.settings.warmup_share)
        plan = self.space.plan(candidate).undisturbed()
        return Case(system, system, plan, workload, seed, warmup, candidate.structure)

    def _seeds(self, replication: int) -> int:
        return int(np.random.SeedSequence((self.seed, replication)).generate_state(1)[0])

    def length(self, plans: Sequence[Plan], rate_per_s: float) -> int:
        """Requests of a whole run: those that are wanted, within what the settings allow."""
        settings, wanted = self.settings, self.wanted(plans, rate_per_s)
        return math.ceil(min(max(wanted, settings.fewest_requests), settings.most_requests))

    def wanted(self, plans: Sequence[Plan], rate_per_s: float) -> float:
        """Requests that a whole run wants: ``recommend.lives`` times late E2E without queues, behind the warm-up.

        ``plans`` are of unified systems as large as there are; late E2E is the median of theirs, and at most what an
        answer takes that just keeps the limits. Of short answers it is so long that a queue which grows shows: it is
        not less than some limits of TTFT.
        """
        settings, population = self.settings, self.traffic.population()
        late_s = [unified_residence(plan, demand_of(population, plan), rate_per_s).late_s for plan in plans]
        longest = float(np.percentile(population.output_tokens, 95))
        most_s = (self.slo.ttft_ms + longest * self.slo.tpot_ms) * MILLI
        life_s = max(min(float(np.median(late_s)), most_s), _TTFTS * self.slo.ttft_ms * MILLI)
        return settings.lives * life_s * rate_per_s / (1 - settings.warmup_share)
