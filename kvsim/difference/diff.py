"""What two cases differ in, on the same requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvsim._version import __version__
from kvsim.config import Config
from kvsim.difference.asked import AskedCase, pairs
from kvsim.difference.figures import (
    LATENCIES,
    PARTS,
    QUANTILES,
    RATES,
    SHARES,
    FigureDifference,
    Figures,
    alike,
    differences,
    figures_of,
    of_kind,
)
from kvsim.difference.ground import Arm, Ground, check_replications, ground_of, overloads, plans_on
from kvsim.difference.keys import KeyDifference, differing_keys
from kvsim.difference.requests import RequestsApart, apart, is_same
from kvsim.difference.usual import ROWS, RUNS
from kvsim.failures import FailedPart
from kvsim.plan.plan import Plan
from kvsim.record.labels import number, system_label
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, ttft_s
from kvsim.sim.executor import Executor

FIGURES = (*(f"{latency}_{quantile}_ms" for latency in LATENCIES for quantile in QUANTILES), *RATES, *SHARES)
TTFT = "ttft_mean_ms"


@dataclass(frozen=True, kw_only=True)
class SystemDifference:
    """One system of a side beside one of the other."""

    a: str
    b: str
    identical: bool
    """In every run, every request has the same record."""
    gpus_a: int
    gpus_b: int
    figures: tuple[FigureDifference, ...]
    parts: tuple[FigureDifference, ...]
    """Parts of the mean TTFT; their differences sum to that of ``ttft_mean_ms``."""
    requests: RequestsApart
    """In run 1, which is that of the case itself."""

    def figure(self, name: str) -> FigureDifference | None:
        return next((each for each in self.figures if each.figure == name), None)


@dataclass(frozen=True, kw_only=True)
class DiffAnswer:
    """Everything that ``kvsim diff`` tells."""

    version: str
    mode: str
    seed: int
    a: str
    b: str
    requests: int
    """Each run serves so many."""
    source: str
    requests_per_s: float
    """At which they come; ``None`` in JSON where they have no rate."""
    runs: int
    confidence: float
    """With which all intervals together hold what they are of."""
    tie_share: float
    identical: bool
    keys: tuple[KeyDifference, ...]
    systems: tuple[SystemDifference, ...]
    notes: tuple[str, ...]
    failures: tuple[FailedPart, ...]


@dataclass(frozen=True)
class DiffSpec:
    """What is asked of a difference."""

    a: AskedCase
    b: AskedCase
    systems: list[str] | None = None
    """By name; ``None``: as :func:`kvsim.difference.asked.pairs` says."""
    replications: int = RUNS
    seed: int | None = None
    """For all runs but the first; ``None``: as ``a`` has it."""
    most_requests: int = ROWS
    """Requests that are told of that moved most."""


def run_diff(spec: DiffSpec, executor: Executor) -> DiffAnswer:
    """Serve the requests of ``spec.a`` with the systems of both sides, as often as asked.

    Raises a ``KvsimError`` for what cannot be built or read, and ``KeyboardInterrupt`` where it was interrupted.
    """
    check_replications(spec.replications)
    a, b = pairs(spec.a, spec.b, spec.systems)
    ground, own, failures = ground_of(a, spec.replications, spec.seed, executor)
    others = plans_on(b, ground, a, failures, executor)
    two = [_Pair(ground, *arms) for arms in zip(_arms("A", a, own), _arms("B", b, others), strict=True)]
    notes = list(ground.notes)
    for run, results in enumerate(ground.results([*(pair.a for pair in two), *(pair.b for pair in two)], executor)):
        mine, theirs = results[: len(two)], results[len(two) :]
        if run == 0:
            notes += retold(a, mine)
        for pair, left, right in zip(two, mine, theirs, strict=True):
            pair.add(left, right, spec.most_requests)
    settings = ground.config.studies
    return DiffAnswer(
        version=__version__,
        mode=ground.mode.name,
        seed=ground.config.seed if spec.seed is None else spec.seed,
        a=a.label,
        b=b.label,
        requests=len(ground.served),
        source=ground.served.info.source,
        requests_per_s=ground.rate_per_s,
        runs=ground.runs,
        confidence=settings.confidence,
        tie_share=settings.tie_share,
        identical=all(pair.identical for pair in two),
        keys=differing_keys(_ran(a, own), _ran(b, others)),
        systems=tuple(pair.found(len(two)) for pair in two),
        notes=(*notes, *(said for pair in two for said in pair.notes)),
        failures=tuple(failure.told for failure in failures.found),
    )


class _Pair:
    """A system of either side, run after run."""

    def __init__(self, ground: Ground, a: Arm, b: Arm) -> None:
        self._ground, self.a, self.b = ground, a, b
        self._a: list[Figures] = []
        self._b: list[Figures] = []
        self.identical = True
        self._requests: RequestsApart | None = None
        self.notes = _budgets(a, b)

    def add(self, a: SystemResult, b: SystemResult, most_requests: int) -> None:
        """What came of a run."""
        config = self._ground.config
        a, b = alike([a, b], config)
        self.identical = self.identical and is_same(a, b)
        self._a.append(figures_of(a, config, self.a.plan.num_gpus))
        self._b.append(figures_of(b, config, self.b.plan.num_gpus))
        if self._requests is None:
            self._requests = apart(a, b, most_requests)
            self.notes += [*overloads("A", [a]), *overloads("B", [b])]

    def found(self, pairs: int) -> SystemDifference:
        """What may be said of it, beside so many ``pairs`` in all."""
        settings = self._ground.config.studies
        found = differences(self._a, self._b, settings.confidence, settings.tie_share, pairs)
        assert self._requests is not None
        return SystemDifference(
            a=self.a.name,
            b=self.b.name,
            identical=self.identical,
            gpus_a=self.a.plan.num_gpus,
            gpus_b=self.b.plan.num_gpus,
            figures=of_kind(found, FIGURES),
            parts=of_kind(found, PARTS),
            requests=self._requests,
        )


def _ran(asked: AskedCase, plans: Sequence[Plan]) -> Config:
    """The configuration, with the prefill:decode ratio that was found to be balanced where nobody said one."""
    if not asked.spec.balances:
        return asked.config
    return asked.config.model_copy(update={"pd_separation": plans[0].config.pd_separation})


def _budgets(a: Arm, b: Arm) -> list[str]:
    """Token budgets of unified instances that were tuned, and came out otherwise."""
    mine, theirs = (arm.plan.colocated_settings.max_num_batched_tokens for arm in (a, b))
    tuned = any(arm.plan.config.engine.tune_colocated_budget for arm in (a, b))
    if mine == theirs or not tuned or "unified" not in (a.system, b.system):
        return []
    return [f"unified instances take {mine:,} tokens a step in A and {theirs:,} in B: each side's budget is tuned"]


def _arms(side: str, asked: AskedCase, plans: Sequence[Plan]) -> list[Arm]:
    return [
        Arm(f"{side}: {variant.name}", variant.name, variant.system, plan)
        for variant, plan in zip(asked.spec.variants, plans, strict=True)
    ]


def retold(asked: AskedCase, results: Sequence[SystemResult]) -> list[str]:
    """Where a report's run came out otherwise than its report says: a learned policy that was trained in it, say."""
    said = []
    for result in results:
        before = asked.reported_ttft_ms.get(result.name)
        now = float(ttft_s(rows_of(result, result.measured)).mean()) * 1e3
        if before is not None and not math.isclose(now, before, rel_tol=1e-9):
            said.append(
                f"{asked.label}: {system_label(result.name)} has a mean TTFT of {number(before)} ms in the report and "
                f"of {number(now)} ms when run again: not all that made the report is in it"
            )
    return said
