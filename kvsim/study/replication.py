"""Replications until a study's sentence can be said, or its budget is spent.

Runs of an arm are paired with those of the arm it is compared with: they meet the same requests. An arm whose question
is answered is run no more. Stopping asks for an interval that is narrow against the difference itself, not for one that
just leaves zero out: looking again and again at the latter would find differences that are none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from kvsim.record.plain import spliced
from kvsim.study.intervals import Interval, Verdict, difference, interval

Figures = dict[str, float]
Arm = TypeVar("Arm")
SHARES = frozenset(
    {
        "good_share",
        "hit_rate",
        "single_turn_hit_rate",
        "multi_turn_hit_rate",
        "prefix_hit_rate",
        "hidden_share",
        "growing_share",
    }
)
"""Figures between 0 and 1."""
SIGN = 0.5
"""Precision of a difference of which a sentence says only which way it goes."""


@dataclass(frozen=True)
class Budget:
    """How often a study may run."""

    fewest: int
    """Replications of every arm, whatever they cost."""
    most: int
    requests: int
    """Requests of all runs together, beyond which no further replication begins."""
    is_spent: Callable[[], bool] = lambda: False
    """Whether something else is used up, beyond which none begins either."""

    def ends(self, requests: int, next_requests: int, done: int) -> bool:
        """Whether after ``done`` replications of so many requests one of ``next_requests`` does not begin any more."""
        return done >= self.fewest and (requests + next_requests > self.requests or self.is_spent())


@dataclass(frozen=True)
class Goal:
    """When the difference of two arms is known well enough."""

    metrics: tuple[str, ...]
    precision: float
    """Half width of the interval over the difference."""
    tie_share: float
    """Share of the figure compared with, or of one where figures are ``SHARES``: what is surely below is a tie."""
    confidence: float
    level: float | None = None
    """Half width over the mean of what arms are compared with, where a sentence gives that figure too."""

    def margin(self, metric: str, base: Sequence[float]) -> float:
        """The largest difference to ``base`` that does not matter."""
        return self.tie_share if metric in SHARES else self.tie_share * abs(sum(base) / len(base))

    def is_met(self, figures: Sequence[Figures], base: Sequence[Figures]) -> bool:
        """Whether ``figures`` are known well enough against ``base``."""
        return all(self._is_known(figures, base, metric) for metric in self.metrics)

    def is_level_met(self, base: Sequence[Figures]) -> bool:
        """Whether ``base`` itself is."""
        if self.level is None:
            return True
        around = [interval([one[metric] for one in base], self.confidence) for metric in self.metrics]
        return all(math.isnan(found.mean) or found.is_within(self.level) for found in around)

    def _is_known(self, figures: Sequence[Figures], base: Sequence[Figures], metric: str) -> bool:
        ours, theirs = [one[metric] for one in figures], [one[metric] for one in base]
        apart = difference(ours, theirs, self.confidence)
        ties = apart.verdict(self.margin(metric, theirs)) in ("same", "tie")
        return math.isnan(apart.mean) or ties or apart.is_within(self.precision)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """How often a study ran, and what may be said of a difference between such runs."""

    replications: int
    """Runs of the arm that ran most often."""
    fewest_replications: int
    confidence: float
    """Share of intervals that hold what they are of."""
    tie_share: float
    """Differences that are surely below this share of a figure are ties."""
    precision: float
    """Half width over the difference that was wanted."""
    simulated_requests: int
    """Requests of all runs together."""
    within_budget: bool
    """Each difference was known well enough before the budget was spent."""


@dataclass(frozen=True)
class Replicated(Generic[Arm]):
    """What every arm was measured to be, one entry a replication, and which questions stayed open."""

    figures: dict[Arm, list[Figures]]
    bases: dict[Arm, Arm]
    """What each was compared with."""
    open: frozenset[Arm]
    """Not known well enough when the budget was spent."""
    requests: int
    """Requests of all runs together."""
    goal: Goal

    @property
    def requests_a_run(self) -> int:
        """The mean, rounded."""
        return round(self.requests / sum(len(found) for found in self.figures.values()))

    @property
    def replications(self) -> int:
        return max(len(found) for found in self.figures.values())

    @property
    def runs(self) -> Runs:
        counts = [len(found) for found in self.figures.values()]
        return Runs(
            replications=max(counts),
            fewest_replications=min(counts),
            confidence=self.goal.confidence,
            tie_share=self.goal.tie_share,
            precision=self.goal.precision,
            simulated_requests=self.requests,
            within_budget=not self.open,
        )

    def means(self, arm: Arm, metrics: Iterable[str] | None = None) -> dict[str, Interval]:
        """Interval of each metric."""
        found = self.figures[arm]
        chosen = found[0] if metrics is None else metrics
        around = {metric: interval([one[metric] for one in found], self.goal.confidence) for metric in chosen}
        return {name: replace(one, mean=self._mean(arm, name)) for name, one in around.items()}

    def _mean(self, arm: Arm, metric: str) -> float:
        """The mean of the base, and of the differences to it: arms with fewer runs stand beside those with more.

        A single run stands for itself. Figures that are not compared, parts of others among them, keep their ratio to
        the base, so that none is below nothing.
        """
        base, ours = self.bases[arm], self.figures[arm]
        theirs = self.figures[base][: len(ours)]
        own = math.fsum(one[metric] for one in ours) / len(ours)
        if base == arm or len(ours) in (1, len(self.figures[base])) or any(metric not in one for one in theirs):
            return own
        theirs_mean = math.fsum(one[metric] for one in theirs) / len(theirs)
        if metric in SHARES:
            return min(max(self._mean(base, metric) + own - theirs_mean, 0.0), 1.0)
        if metric in self.goal.metrics:
            return self._mean(base, metric) + own - theirs_mean
        return own * self._mean(base, metric) / theirs_mean if theirs_mean else own

    def apart(self, arm: Arm, base: Arm, metric: str) -> Apart:
        """``arm`` less ``base``, over the replications that both were run in."""
        ours, theirs = ([one[metric] for one in self.figures[which]] for which in (arm, base))
        found = difference(ours[: len(theirs)], theirs, self.goal.confidence)
        verdict = found.verdict(self.goal.margin(metric, theirs))
        tie = verdict in ("same", "tie")
        return Apart(found, verdict, tie=tie, precise=found.is_within(self.goal.precision) or tie)


@dataclass(frozen=True)
class Apart:
    """A difference, and what may be said of it."""

    interval: Interval = field(metadata=spliced())
    verdict: Verdict
    tie: bool
    """The verdict is ``same`` or ``tie``."""
    precise: bool
    """Known as narrowly as was wanted; a tie is."""

    @property
    def mean(self) -> float:
        return self.interval.mean

    @property
    def half_width(self) -> float:
        return self.interval.half_width

    def scaled(self, factor: float) -> Apart:
        """The difference in another unit, such as points where figures are shares."""
        return replace(self, interval=Interval(factor * self.mean, factor * self.half_width))


def replicate(
    arms: Sequence[Arm],
    base_of: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], Arm],
    measure: Callable[[Sequence[int], Sequence[Arm]], list[tuple[dict[Arm, Figures], int]]],
    goal: Goal,
    budget: Budget,
    is_out: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], bool] | None = None,
) -> Replicated[Arm]:
    """``measure(replications, arms)`` gives, for each of these replications, the figures of each arm on the same
    requests, and how many were simulated. Those that are sure to be wanted are asked for at once.

    ``base_of(arm, found)`` is what an arm is compared with, itself where nothing is asked of it; it may change as more
    is found, among the arms that are still run. ``is_out(arm, found)``: its first run suffices.
    """
    found: dict[Arm, list[Figures]] = {arm: [] for arm in arms}
    running, requests, cost, done = list(arms), 0, 0, 0
    while done < budget.most:
        if budget.ends(requests, cost, done):
            break
        sure = 1 if done == 0 and is_out is not None else max(1, min(budget.fewest, budget.most) - done)
        for figures, cost in measure(range(done, done + sure), running):
            requests += cost
            for arm, measured in figures.items():
                found[arm].append(measured)
        if done == 0 and is_out is not None:
            running = [arm for arm in running if not is_out(arm, found)]
        done += sure
        if done >= budget.fewest:
            still = _still_asked(running, base_of, found, goal)
            if not still:
                running = []
                break
            cost = cost * len(still) // len(running)
            running = [arm for arm in running if arm in still]
    bases = {arm: base_of(arm, found) for arm in arms}
    return Replicated(found, bases, frozenset(_asked(running, base_of, found, goal)), requests, goal)


def _still_asked(
    running: Sequence[Arm],
    base_of: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], Arm],
    found: Mapping[Arm, Sequence[Figures]],
    goal: Goal,
) -> set[Arm]:
    """The arms whose difference is not known yet, and those they are compared with, which may be compared with others:
    whoever is compared with has run as often.
    """
    still = reached = _asked(running, base_of, found, goal)
    while reached:
        reached = {base_of(arm, found) for arm in reached} - still
        still = still | reached
    return still


def _asked(
    running: Sequence[Arm],
    base_of: Callable[[Arm, Mapping[Arm, Sequence[Figures]]], Arm],
    found: Mapping[Arm, Sequence[Figures]],
    goal: Goal,
) -> set[Arm]:
    """The arms whose difference is not known yet, or whose own figure is not where others are compared with it."""
    bases = {arm: base_of(arm, found) for arm in running}
    unknown = {arm for arm, base in bases.items() if arm != base and not goal.is_met(found[arm], found[base])}
    return unknown | {base for base in set(bases.values()) if not goal.is_level_met(found[base])}
