"""Successive halving: short runs of all, longer ones of the better, and in the end replications of the last few.

All meet the same requests, in every round and replication (common random numbers).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from kvsim.recommend.candidates import Candidate
from kvsim.recommend.course import Course
from kvsim.recommend.slo import GOOD, USE
from kvsim.study.intervals import Interval, interval
from kvsim.study.replication import SIGN, Apart, Budget, Figures, Goal, Replicated, replicate

FEWEST = 3
"""Candidates of a round, at the least: the best three are what is told apart."""
LAST = 8
"""Candidates that are replicated, at the most."""
_PLACES = 3


def order(found: Mapping[Candidate, Figures]) -> list[Candidate]:
    """The candidates, those that take the least of the limits first; of equals the engine's larger limits first."""
    return sorted(found, key=lambda one: (round(found[one][USE], 2), -found[one][GOOD], *_plainer(one)))


def _plainer(one: Candidate) -> tuple[int, int, Candidate]:
    """What is nearer to an engine's defaults comes first, which allow more than what is tried beside them."""
    return -one.arguments.max_num_seqs, -one.arguments.max_num_batched_tokens, one


def mean_figures(runs: Sequence[Figures]) -> Figures:
    """The mean of each figure over some runs."""
    return {name: math.fsum(run[name] for run in runs) / len(runs) for name in runs[0]}


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
    """Who ran in the last round, and the mean of what all rounds showed."""
    seen: dict[Candidate, Figures]
    """The longest run of every candidate that ran."""
    same: int
    """Candidates whose run was that of another."""


def narrowed(
    course: Course, candidates: Sequence[Candidate], rate_per_s: float, hopeless: float = math.inf
) -> Narrowed:
    """Run all for ``recommend.screening_share`` of a whole run, then the better ones for twice as long each round, each
    time on other requests.

    ``recommend.keep_share`` of a round goes on, three at the least, by what it took of the limits in all rounds.
    ``LAST`` run whole. Where the best takes more than ``hopeless`` times the limits, nobody runs on, and that round is
    the last.
    """
    settings, share = course.settings, course.settings.screening_share
    running, seen, same = list(candidates), dict[Candidate, Figures](), 0
    runs: dict[Candidate, list[Figures]] = {one: [] for one in running}
    for replication in count():
        is_last = share >= 1 or len(running) <= FEWEST
        requests = (
            course.requests if is_last else course.short if not replication else math.ceil(share * course.requests)
        )
        found = course.run(running, rate_per_s, requests, replication)
        seen |= found
        for one in running:
            runs[one].append(found[one])
        different = unlike(found, running)
        same += len(running) - len(different)
        means = {one: mean_figures(runs[one]) for one in different}
        places = order(means)
        if is_last or not places or means[places[0]][USE] > hopeless:
            return Narrowed(means, seen, same)
        keep = max(FEWEST, math.ceil(settings.keep_share * len(different)))
        share = min(2 * share, 1.0)
        running = places[: min(keep, LAST) if share >= 1 else keep]
    raise AssertionError("a race has a last round")


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
        places = placed(found, course.slo.share)
        place = places.index(candidate)
        return places[max(min(place, _PLACES) - 1, 0)]

    runs = replicate(list(candidates), base_of, measure, goal, budget)
    return Ranked(tuple(placed(runs.figures, course.slo.share)), runs)


def placed(found: Mapping[Candidate, Sequence[Figures]], wanted: float) -> list[Candidate]:
    """The candidates over the replications that all of them ran: those first that keep the SLO in the mean, and by what
    they take of the limits; of equals the engine's larger limits first.
    """
    common = max(min(map(len, found.values())), 1)
    means = {one: mean_figures(runs[:common]) for one, runs in found.items()}
    return sorted(found, key=lambda one: (means[one][GOOD] < wanted, round(means[one][USE], 3), *_plainer(one)))
