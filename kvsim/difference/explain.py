"""What the time to first token of one system consists of, and what each cause of it is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvsim._version import __version__
from kvsim.difference.asked import AskedCase
from kvsim.difference.diff import retold
from kvsim.difference.figures import PARTS, FigureDifference, Figures, alike, differences, figures_of
from kvsim.difference.ground import Arm, Ground, check_replications, ground_of, measured, overloads
from kvsim.difference.removals import CAUSES, DOUBLINGS, Cause, first_copies, waits, why_not, without
from kvsim.difference.tail import Band, Tail, bands, tail_of
from kvsim.difference.usual import ROWS, RUNS
from kvsim.failures import FailedPart
from kvsim.record.result import SystemResult
from kvsim.sim.executor import Executor, whole
from kvsim.sim.run import Case
from kvsim.study.intervals import interval
from kvsim.workload.workload import Workload

TTFT = ("ttft_mean_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms")
_OTHERS = (*PARTS, "prefix_hit_rate")


@dataclass(frozen=True, kw_only=True)
class Removal:
    """One cause taken away: what becomes of the same requests."""

    name: str
    label: str
    what: str
    leaves: str
    impossible: str | None
    """Why it was not simulated; then there are no figures."""
    instances: int | None
    """Unified or, of a PD system, prefill and decode ones, in run 1."""
    ttft: tuple[FigureDifference, ...]
    """At the mean, p50, p90 and p99."""
    parts: tuple[FigureDifference, ...]
    """Parts of the mean TTFT: their differences sum to that of the mean."""
    hit_rate: FigureDifference | None
    left_ms: float | None
    """Mean TTFT that is still of the cause's own parts: what the simulator could not take away."""


@dataclass(frozen=True, kw_only=True)
class Interplay:
    """What causes do to each other: removed all together, less what each alone removes, summed."""

    figure: str
    alone_sum: float
    together: float
    difference: float
    """Above 0: they overlap, and together take away less than the sum."""
    half_width: float | None


@dataclass(frozen=True, kw_only=True)
class ExplainAnswer:
    """Everything that ``kvsim explain`` tells."""

    version: str
    mode: str
    seed: int
    case: str
    system: str
    requests: int
    source: str
    requests_per_s: float
    runs: int
    confidence: float
    tie_share: float
    waterfall: tuple[Band, ...]
    """In run 1, which is that of the case itself."""
    tail: Tail | None
    ttft: Mapping[str, float]
    """Means over the runs."""
    removals: tuple[Removal, ...]
    together: Removal
    """All of those that are possible."""
    interplay: tuple[Interplay, ...]
    notes: tuple[str, ...]
    failures: tuple[FailedPart, ...]


@dataclass(frozen=True)
class ExplainSpec:
    """What is asked of an explanation."""

    case: AskedCase
    system: str | None = None
    """``None``: PD where it was run, else the first."""
    replications: int = RUNS
    seed: int | None = None
    most_requests: int = ROWS


def run_explain(spec: ExplainSpec, executor: Executor) -> ExplainAnswer:
    """Serve the case's requests as it does, and without each cause and all of them, as often as asked.

    Raises a ``KvsimError`` for what cannot be built or read, and ``KeyboardInterrupt`` where it was interrupted.
    """
    check_replications(spec.replications)
    name = spec.system or ("pd" if "pd" in spec.case.names else spec.case.names[0])
    asked = spec.case.only([name])
    ground, (plan,), failures = ground_of(asked, spec.replications, spec.seed, executor)
    told = _Told(ground, Arm("as it is", name, asked.spec.variants[0].system, plan), executor)
    for run in range(ground.runs):
        told.add(run)
    settings, first = ground.config.studies, told.first
    removals = tuple(told.removal(cause) for cause in CAUSES)
    return ExplainAnswer(
        version=__version__,
        mode=ground.mode.name,
        seed=ground.config.seed if spec.seed is None else spec.seed,
        case=asked.label,
        system=name,
        requests=len(ground.served),
        source=ground.served.info.source,
        requests_per_s=ground.rate_per_s,
        runs=ground.runs,
        confidence=settings.confidence,
        tie_share=settings.tie_share,
        waterfall=bands(first),
        tail=tail_of(first, spec.most_requests),
        ttft={figure: _mean(told.figures[()], figure) for figure in TTFT},
        removals=removals,
        together=told.together,
        interplay=told.interplay(),
        notes=(*ground.notes, *retold(asked, [first]), *overloads(asked.label, alike([first], ground.config))),
        failures=tuple(failure.told for failure in failures.found),
    )


Names = tuple[str, ...]
"""Causes that are gone."""


class _Told:
    """The system as it is and without causes, run after run."""

    def __init__(self, ground: Ground, arm: Arm, executor: Executor) -> None:
        self._ground, self._arm, self._executor = ground, arm, executor
        self._possible = [cause for cause in CAUSES if why_not(cause, arm.plan, arm.system) is None]
        self.all: Names = tuple(cause.name for cause in self._possible)
        asked = [(), *((name,) for name in self.all), self.all]
        self.figures: dict[Names, list[Figures]] = {names: [] for names in asked}
        self._instances: dict[Names, int] = {}
        self._first: SystemResult | None = None

    @property
    def first(self) -> SystemResult:
        """What came of the case itself."""
        assert self._first is not None
        return self._first

    def add(self, run: int) -> None:
        """One run of each."""
        ground, workload = self._ground, self._ground.workload(run)
        (base,) = whole(self._executor.run([ground.case(self._arm, run, workload)]))
        measured(base)
        if self._first is None:
            self._first = base
        self._note((), base)
        copies = first_copies(self._arm.plan, self._arm.system, base)
        names = [each for each in self.figures if each]
        cases = [self._case(each, run, workload, base, copies) for each in names]
        for each, case, found in zip(names, cases, whole(self._executor.run(cases)), strict=True):
            if "queue" in each:
                case, found = self._until_nobody_waits(each, run, workload, base, copies, case, found)
            self._instances.setdefault(each, _instances(case))
            self._note(each, measured(found))

    def _until_nobody_waits(
        self,
        names: Names,
        run: int,
        workload: Workload,
        base: SystemResult,
        copies: int,
        case: Case,
        found: SystemResult,
    ) -> tuple[Case, SystemResult]:
        """With twice as many instances, and again, while somebody waits."""
        for _ in range(DOUBLINGS):
            if not waits(found):
                break
            copies *= 2
            case = self._case(names, run, workload, base, copies)
            (found,) = whole(self._executor.run([case]))
        return case, found

    def _case(self, names: Names, run: int, workload: Workload, base: SystemResult, copies: int) -> Case:
        arm = self._arm
        altered = without(frozenset(names), arm.plan, arm.system, workload, base, copies)
        label = f"without {', '.join(names)}"
        return self._ground.case(Arm(label, arm.name, arm.system, altered.plan, altered.given), run, altered.workload)

    def _note(self, names: Names, result: SystemResult) -> None:
        found = figures_of(result, self._ground.config, self._arm.plan.num_gpus)
        self.figures[names].append({name: found[name] for name in (*TTFT, *_OTHERS)})

    def removal(self, cause: Cause) -> Removal:
        """What taking one cause away gives."""
        why = why_not(cause, self._arm.plan, self._arm.system)
        return self._removal((cause.name,), cause, why)

    @property
    def together(self) -> Removal:
        """What taking all of them away gives."""
        labels = ", ".join(cause.label for cause in self._possible)
        parts = tuple(part for cause in self._possible for part in cause.parts)
        return self._removal(self.all, Cause("all", "all of these", parts, f"together: {labels}", ""), None)

    def _removal(self, names: Names, cause: Cause, impossible: str | None) -> Removal:
        found: dict[str, FigureDifference] = {}
        if impossible is None and names:
            found = self._apart(names, TTFT) | self._apart(names, _OTHERS)
        return Removal(
            name=cause.name,
            label=cause.label,
            what=cause.what,
            leaves=cause.leaves,
            impossible=impossible,
            instances=self._instances.get(names),
            ttft=tuple(found[each] for each in TTFT if each in found),
            parts=tuple(found[each] for each in PARTS if each in found),
            hit_rate=found.get("prefix_hit_rate"),
            left_ms=math.fsum(found[part].b or 0.0 for part in cause.parts) if found else None,
        )

    def _apart(self, names: Names, figures: Sequence[str]) -> dict[str, FigureDifference]:
        """Without these causes, less as it is; of ``figures``, whose intervals hold together for all removals, and with
        what they do to each other."""
        settings = self._ground.config.studies
        base, others = ([{name: run[name] for name in figures} for run in self.figures[which]] for which in ((), names))
        return differences(base, others, settings.confidence, settings.tie_share, len(self.figures))

    def interplay(self) -> tuple[Interplay, ...]:
        """At the mean, p50, p90 and p99."""
        return tuple(self._interplay(figure) for figure in TTFT)

    def _interplay(self, figure: str) -> Interplay:
        base = self.figures[()]
        alone = [
            math.fsum(self.figures[(name,)][run][figure] - base[run][figure] for name in self.all)
            for run in range(len(base))
        ]
        together = [self.figures[self.all][run][figure] - base[run][figure] for run in range(len(base))]
        apart = [all_ - sum_ for all_, sum_ in zip(together, alone, strict=True)]
        confidence = 1 - (1 - self._ground.config.studies.confidence) / (len(TTFT) * len(self.figures))
        around = interval(apart, confidence)
        return Interplay(
            figure=figure,
            alone_sum=math.fsum(alone) / len(alone),
            together=math.fsum(together) / len(together),
            difference=around.mean,
            half_width=around.half_width if math.isfinite(around.half_width) else None,
        )


def _instances(case: Case) -> int:
    plan = case.plan
    return plan.num_prefill + plan.num_decode if case.system == "pd" else plan.num_instances


def _mean(figures: Sequence[Figures], name: str) -> float:
    return math.fsum(each[name] for each in figures) / len(figures)
