"""Where a study that stands alone runs: its configuration, its plan, and requests at a load or of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kvsim.capacity.demand import demand_of
from kvsim.capacity.load_search import LoadSearch, LoadTarget, Offered
from kvsim.capacity.sources import WordSource, source_of
from kvsim.config import Config, LoadedConfig
from kvsim.config.load import changed
from kvsim.errors import CapacityError
from kvsim.failures import Failures
from kvsim.modes.experiment import ExperimentSpec, Variant, pd_variants, run_experiment
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.sim.executor import Executor
from kvsim.sim.routing import check_policies
from kvsim.sim.run import SYSTEMS, SystemName
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.workload.traffic import TraceSource, Traffic
from kvsim.workload.workload import Workload

_POPULATION = 2_000


@dataclass(frozen=True)
class DrawnTraffic:
    """Requests that a study draws itself."""

    draw: Callable[[float, int, int], Workload]
    """What makes requests of a rate in requests/s, a number of them and a seed."""
    seed: int

    @property
    def most_requests(self) -> int | None:
        return None

    def population(self) -> Workload:
        """Requests enough to know what they ask for."""
        return self.draw(1.0, _POPULATION, self.seed)

    def copies_at(self, requests_per_s: float) -> int | None:
        """None: they are drawn at any rate."""
        return None

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        """So many requests at a rate."""
        return self.draw(requests_per_s, num_requests, seed)

    part = sample


@dataclass(frozen=True)
class Bench:
    """What is known before anything is simulated."""

    mode: Mode
    loaded: LoadedConfig
    executor: Executor
    trace: TraceSource | WordSource | None = None
    """Requests in place of the mode's own."""

    @property
    def config(self) -> Config:
        return self.loaded.config

    @cached_property
    def plan(self) -> Plan:
        check_policies(self.config)
        return self.mode.plan(self.config)

    def plan_with(self, values: Mapping[str, object], where: str) -> Plan:
        """The plan of a configuration with other values at dotted keys. Raises a ``KvsimError``, as ``where`` says."""
        return self.mode.plan(changed(self.config, values, where, self.mode.name))

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds of the requests, the pilots, the tuning, one unused, and the study."""
        children = np.random.SeedSequence(self.config.seed).spawn(5)
        return [int(child.generate_state(1)[0]) for child in children]

    def loaded_context(self, system: SystemName, *, at_load: bool = False) -> StudyContext:
        """Requests of the mode, or those given, at ``load.rho`` of the maximum rate of ``system``; nothing is tuned.

        A trace comes at its own rate, unless ``at_load``.
        """
        source = source_of(self.mode, self.plan, self.trace, None, self.seeds[0])
        search = LoadSearch(self.plan, source, (self.seeds[1], self.seeds[2]), Failures(), self.executor, tunes=False)
        own = source.own() if isinstance(self.trace, TraceSource) and not at_load else None
        offered: Offered = (
            search.at_load(LoadTarget(self.config.load.rho, system)) if own is None else search.at_own_rate(own)
        )
        return self._context(offered.plan, offered.workload, source.traffic)

    def context(self, plan: Plan, draw: Callable[[float, int, int], Workload]) -> StudyContext:
        """Requests that the study draws itself: ``draw(requests_per_s, num_requests, seed)``."""
        traffic = DrawnTraffic(draw, self.seeds[0])
        return self._context(plan, traffic.population(), traffic)

    def _context(self, plan: Plan, served: Workload, traffic: Traffic) -> StudyContext:
        return StudyContext(
            mode=self.mode,
            plan=plan,
            served=served,
            traffic=traffic,
            demand=demand_of(served, plan),
            seed=self.seeds[4],
            executor=self.executor,
        )

    def asked_after_a_run(self, study: Study[Any]) -> Any:
        """The answer to a question that needs the mode's run before it. Raises a ``KvsimError`` where there is none."""
        check_policies(self.config)
        variants = (
            pd_variants(self.config, [name for name in SYSTEMS if name in study.systems])
            if self.mode.is_pd
            else [Variant("configured", "unified", self.config)]
        )
        spec = ExperimentSpec(mode=self.mode, variants=variants, trace=self.trace, studies=(study.name,))
        experiment = run_experiment(spec, self.executor)
        answer = (experiment.studies or {}).get(study.key)
        if answer is not None:
            return answer
        if experiment.failures:
            raise CapacityError(f"study {study.name}: {experiment.failures[0].why}")
        if experiment.incomplete:
            raise KeyboardInterrupt
        why = [text for text in experiment.warnings if text.startswith("studies left out: ")]
        raise CapacityError(f"study {study.name}: {why[0].partition(': ')[2] if why else 'nothing was found'}")
