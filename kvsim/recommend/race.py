"""Successive halving: short runs of all, longer ones of the better, and in the end replications of the last few.

All meet the same requests, in every round and replication (common random numbers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kvsim.recommend.candidates import Candidate
from kvsim.recommend.course import Course
from kvsim.recommend.slo import GOOD, USE
from kvsim.study.intervals import Interval, interval
from kvsim.study.replication import SIGN, Apart, Budget, Figures, Goal, Replicated, replicate

FEWEST = 3
"""Candidates of a round, at the least: the best three are what is told apart."""
LAST = 4
"""Candidates that are replicated, at the most."""
_PLACES = 3


def order(found: Mapping[Candidate, Figures]) -> list[Candidate]:
    """The candidates, those that take the least of the limits first; ties in the order of their names."""
    return sorted(found, key=lambda one: (found[one][USE], -found[one][GOOD], one))


def unlike(found: Mapping[Candidate, Figures], tried: Sequence[Candidate]) -> list[Candidate]:
    """``tried`` without those whose run was that of an earlier one, figure by figure: what differs did not matter."""
    kept: dict[tuple[object, ...], Candidate] = {}
    for candidate in tried:
        figures = found[candidate]
        kept.setdefault((candidate.family, candidate.counts, *figures.values()), candidate)
    return list(kept.values())


@dataclass(frozen=True)
class Narrowed:
    """What a race of rounds left."""

    last: dict[Candidate, Figures]
    """Who ran in the last round, and what that run showed."""
    seen: dict[Candidate, Figures]
    """The longest run of every candidate that ran."""
    same: int
    """Candidates whose run was that of another."""

    @property
    def keeping(self) -> list[Candidate]:
        """Who kept the SLO in the last round, in order."""
        return [one for one in order(self.last) if self.last[one][USE] <= 1]


def narrowed(
    course: Course, candidates: Sequence[Candidate], rate_per_s: float, hopeless: float = math.inf
) -> Narrowed:
    """Run all for ``recommend.screening_share`` of a whole run, then the better ones for twice as long each round.

    ``recommend.keep_share`` of a round goes on, three at the least; ``LAST`` run whole. Where the best of a round takes
    more than ``hopeless`` times the limits, nobody runs on, and that round is the last.
    """
    settings, share = course.settings, course.settings.screening_share
    running, seen, same = list(candidates), dict[Candidate, Figures](), 0
    while True:
        is_last = share >= 1 or len(running) <= FEWEST
        requests = course.requests if is_last else max(math.ceil(share * course.requests), 1)
        found = course.run(running, rate_per_s, requests, 0)
        seen |= found
        different = unlike(found, running)
        same += len(running) - len(different)
        if is_last or found[order(found)[0]][USE] > hopeless:
            return Narrowed({one: found[one] for one in different}, seen, same)
        keep = max(FEWEST, math.ceil(settings.keep_share * len(different)))
        ranked = order({one: found[one] for one in different})[:keep]
        share = min(2 * share, 1.0)
        running = ranked[:LAST] if share >= 1 else ranked


@dataclass(frozen=True)
class Ranked:
    """The last candidates in their order, and how sure it is."""

    places: tuple[Candidate, ...]
    runs: Replicated[Candidate]

    def mean(self, candidate: Candidate, figure: str) -> Interval:
        values = [one[figure] for one in self.runs.figures[candidate]]
        return interval(values, self.runs.goal.confidence)

    def behind(self, place: int) -> Apart:
        """Who takes a place, less who is before; more than one place on, less the third."""
        base = self.places[min(place, _PLACES) - 1]
        return self.runs.apart(self.places[place], base, USE)

    @property
    def is_certain(self) -> bool:
        """Whether the order of the first three is told apart, ties included."""
        behind = [self.behind(place) for place in range(1, min(_PLACES, len(self.places)))]
        return all(one.precise for one in behind)


def ranked(course: Course, candidates: Sequence[Candidate], rate_per_s: float) -> Ranked:
    """Whole runs with the same requests for all, replication after replication, until the order of the best three is
    known, or the budget is spent.
    """
    settings, studies = course.settings, course.space.loaded.config.studies
    goal = Goal((USE,), SIGN, settings.tie_share, studies.confidence)
    budget = Budget(settings.replications, settings.most_replications, settings.budget_requests)

    def measure(
        replications: Sequence[int], running: Sequence[Candidate]
    ) -> list[tuple[dict[Candidate, Figures], int]]:
        found = []
        for replication in replications:
            before = course.simulated_requests
            figures = course.run(running, rate_per_s, course.requests, replication)
            found.append((figures, course.simulated_requests - before))
        return found

    def base_of(candidate: Candidate, found: Mapping[Candidate, Sequence[Figures]]) -> Candidate:
        places = placed(found)
        place = places.index(candidate)
        return places[max(min(place, _PLACES) - 1, 0)]

    runs = replicate(list(candidates), base_of, measure, goal, budget)
    return Ranked(tuple(placed(runs.figures)), runs)


def placed(found: Mapping[Candidate, Sequence[Figures]]) -> list[Candidate]:
    """The candidates by what they take of the limits, over the replications that all of them ran."""
    common = min(map(len, found.values()))
    means = {one: math.fsum(run[USE] for run in runs[:common]) / max(common, 1) for one, runs in found.items()}
    return sorted(found, key=lambda one: (means[one], one))
