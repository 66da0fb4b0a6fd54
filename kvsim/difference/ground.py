"""The requests that all that is compared serves, run after run, and the systems that serve them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kvsim.capacity.sources import Source, WordSource, source_of
from kvsim.config.schema import Config
from kvsim.difference.asked import AskedCase
from kvsim.errors import CapacityError, ConfigError
from kvsim.failures import Failures
from kvsim.modes.experiment import ExperimentSpec, prepared
from kvsim.plan.mode import Mode
from kvsim.plan.plan import Plan
from kvsim.record.labels import system_label
from kvsim.record.result import SystemResult
from kvsim.record.windows import overload_words
from kvsim.sim.executor import Executor, whole
from kvsim.sim.run import Case
from kvsim.sim.systems.given import GivenHeads
from kvsim.study.measures import lost
from kvsim.workload.traffic import TraceSource
from kvsim.workload.word_kinds import Trace
from kvsim.workload.workload import Workload

_ROWS_AT_ONCE = 1_000_000
"""Requests of runs whose results are kept at a time."""


@dataclass(frozen=True)
class Arm:
    """A system that serves the requests: of a side, or one with something taken away."""

    label: str
    name: str
    system: str
    plan: Plan
    given: GivenHeads | None = None
    requests: Callable[[Workload], Workload] | None = None
    """Makes of the run's requests those that this arm serves: as many, at the same times, as long."""


@dataclass(frozen=True)
class Ground:
    """Where everything is run: run 0 serves what the case itself did, each other run other requests of the kind."""

    mode: Mode
    config: Config
    """What the first side has: what is warm-up, what is good, how sure one is to be."""
    spec: ExperimentSpec
    plan: Plan
    source: Source
    served: Workload
    rate_per_s: float
    """As was asked for, or at which the requests came."""
    seed: int
    """What the systems draw from in run 0."""
    seeds: tuple[int, ...]
    """One a further run, for its requests and its systems."""
    notes: tuple[str, ...]

    @property
    def runs(self) -> int:
        return 1 + len(self.seeds)

    @property
    def warmup(self) -> int:
        return self.mode.warmup(self.config, len(self.served))

    def workload(self, run: int) -> Workload:
        """The requests of a run."""
        if run == 0:
            return self.served
        seed, given, count = self.seeds[run - 1], self.spec.trace, len(self.served)
        if isinstance(given, WordSource) and given.concurrency is not None:
            plan = replace(self.plan, config=self.plan.config.model_copy(update={"seed": seed}))
            found = source_of(self.mode, plan, replace(given, num_requests=count), None, seed).own()
            assert found is not None
            return found
        traffic = self.source.traffic
        return traffic.part(self.rate_per_s, count, traffic.copies_at(self.rate_per_s), seed)

    def case(self, arm: Arm, run: int, workload: Workload) -> Case:
        """One arm's run."""
        seed = self.seed if run == 0 else self.seeds[run - 1]
        requests = workload if arm.requests is None else arm.requests(workload)
        return Case(
            arm.name,
            arm.system,
            arm.plan,
            requests,
            seed,
            self.warmup,
            f"{arm.label}, run {run + 1}",
            given=arm.given,
        )

    def results(self, arms: Sequence[Arm], executor: Executor) -> Iterator[list[SystemResult]]:
        """What comes of every arm, run after run. Raises ``CapacityError`` where one completes nothing that counts,
        ``KeyboardInterrupt`` where it was interrupted."""
        at_once = max(1, _ROWS_AT_ONCE // max(1, len(self.served) * len(arms)))
        for first in range(0, self.runs, at_once):
            batch = range(first, min(first + at_once, self.runs))
            workloads = [self.workload(run) for run in batch]
            cases = [
                self.case(arm, run, requests) for run, requests in zip(batch, workloads, strict=True) for arm in arms
            ]
            found = whole(executor.run(cases))
            for place in range(len(batch)):
                yield [measured(one) for one in found[place * len(arms) : (place + 1) * len(arms)]]


def measured(result: SystemResult) -> SystemResult:
    """``result``; raises ``CapacityError`` where no request of it counts."""
    if not result.measured.any():
        raise CapacityError(
            f"{result.name} completes no request that counts: {result.misfits:,} do not fit{lost(result)}"
        )
    return result


def ground_of(
    asked: AskedCase, replications: int, seed: int | None, executor: Executor
) -> tuple[Ground, list[Plan], Failures]:
    """What ``asked`` is run on, and the plan of each of its systems.

    ``seed``: of the further runs; ``None``: as configured. Raises a ``KvsimError`` for what cannot be built or read.
    """
    spec, failures = asked.spec, Failures()
    found = prepared(spec, failures, executor)
    offered, config = found.offered, asked.config
    asked.check_trace(offered.workload.info)
    rate_per_s = offered.workload.mean_rate_per_s
    if offered.load is not None:
        rate_per_s = offered.load.requests_per_s
    elif spec.rate_per_s is not None or found.source.own_per_s is not None:
        rate_per_s = spec.rate_per_s or found.source.own_per_s or rate_per_s
    why_once = _why_once(spec, offered.workload)
    count = 1 if why_once else replications
    children = np.random.SeedSequence([config.seed if seed is None else seed, 1]).spawn(max(count - 1, 0))
    ground = Ground(
        mode=spec.mode,
        config=config,
        spec=spec,
        plan=found.plans[0],
        source=found.source,
        served=offered.workload,
        rate_per_s=rate_per_s,
        seed=found.seeds[3],
        seeds=tuple(int(child.generate_state(1)[0]) for child in children),
        notes=(*([why_once] if why_once else [_how(spec)] if count > 1 else []), *offered.notes),
    )
    return ground, found.plans, failures


def plans_on(asked: AskedCase, ground: Ground, first: AskedCase, failures: Failures, executor: Executor) -> list[Plan]:
    """The plans of another side's systems, each as it would be for the requests of ``ground``, those of ``first``."""
    rate_per_s = ground.rate_per_s if math.isfinite(ground.rate_per_s) and not ground.served.holds_back else None
    return prepared(asked.serving(first, rate_per_s).spec, failures, executor).plans


def _why_once(spec: ExperimentSpec, workload: Workload) -> str | None:
    """Why no other requests of the kind can be served."""
    given = spec.trace
    if isinstance(given, WordSource) and given.concurrency is not None:
        if isinstance(given.word, Trace):
            return "one run: users that send a trace's requests in their order send the same ones in every run"
        return None
    if workload.max_concurrency is not None:
        return "one run: a trace with a number of requests in flight has no parts that could stand for it"
    if not math.isfinite(workload.mean_rate_per_s):
        return f"one run: {workload.without_rate}"
    return None


def _how(spec: ExperimentSpec) -> str:
    """Where the further runs have their requests from."""
    is_trace = isinstance(spec.trace, TraceSource) or isinstance(getattr(spec.trace, "word", None), Trace)
    if is_trace:
        part = "each other run a part of the trace of as many requests from a random moment on"
        return f"run 1 serves the requests as they come in the case, {part}, laid end to end where that is too short"
    return "run 1 serves the requests of the case itself, each other run as many drawn anew"


def overloads(label: str, results: Sequence[SystemResult]) -> list[str]:
    """Where times would be longer in a longer run, so that differences would be, too."""
    return [
        f"{label}: {system_label(each.name)} is {overload_words(each.pace)}: times grow with the length of the run"
        for each in results
        if each.pace is not None and each.pace.overloaded
    ]


def check_replications(count: int) -> None:
    """Raise ``ConfigError`` where nothing would be run."""
    if count < 1:
        raise ConfigError(f"replications is {count}; allowed: 1 or more")
