"""The fewest GPUs that keep the SLO at a rate, and the largest rate that given GPUs keep it at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvsim.recommend.bisect import FoundRate, Precision, bisect_rate
from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.course import Course
from kvsim.recommend.prune import Pruner, splits_of
from kvsim.recommend.race import LAST, Narrowed, Ranked, mean_figures, narrowed, order, ranked
from kvsim.recommend.slo import GOOD, USE
from kvsim.study.replication import Figures

_SPLITS, _KEPT_SPLITS = 6, 2
"""Splits of a family's GPUs into prefill and decode that are run with the engine's own arguments, and how many of these
go on with all arguments."""
_FAR = 3.0
"""A structure that takes so many times as much of the limits as the best one goes on with no other arguments."""
_HOPELESS = 3.0
"""On fewer GPUs nobody runs on where half a run takes so many times the limits: it grows with the run."""
_NEAR = 1.25
"""Who takes up to so many times the limits in a few runs may keep them in the mean of more."""
_RATE_ROUNDS = 4


@dataclass(frozen=True)
class Searched:
    """Who won, by how much, and what was seen on the way."""

    rate_per_s: float
    """At which all figures are."""
    ranked: Ranked
    seen: dict[Candidate, Figures]
    """The longest run of every candidate at that rate."""
    below: dict[Candidate, Figures]
    """Candidates on fewer GPUs than the winner's that ran whole, and missed the SLO."""
    same: int
    found: FoundRate | None
    """The largest rate of the winner; ``None`` where it was not looked for."""
    keeps: bool
    """Whether the winner keeps the SLO, in the mean over its runs."""


class Search:
    """Finds a deployment on up to so many GPUs."""

    def __init__(self, course: Course, pruner: Pruner, routes: bool, searches_rate: bool = True) -> None:
        """``routes``: whether routing by prefix can matter; ``searches_rate``: whether the winner's largest rate is
        looked for where nothing else needs it.
        """
        self._course, self._pruner, self._routes, self._searches_rate = course, pruner, routes, searches_rate
        self._space = course.space
        self._seen: dict[Candidate, Figures] = {}
        self._same = 0
        self._own: dict[Family, list[Arguments]] = {}
        self.placed: tuple[Candidate, ...] = ()
        """The last candidates, in their order."""

    @property
    def families(self) -> list[Family]:
        return list(self._own)

    def open_families(self) -> list[Family]:
        """Families of which some arguments may keep the SLO at some rate; the engine's own first."""
        for family in self._space.families:
            possible = [
                arguments
                for arguments in self._space.arguments(family, self._routes)
                if self._pruner.why(family, arguments) is None
            ]
            if possible:
                self._own[family] = possible
        return self.families

    def fewest(self, rate_per_s: float) -> Searched:
        """On the fewest GPUs that keep the SLO at the rate, the best; where none do, the best on the most."""
        total = self._first_guess(rate_per_s)
        below: dict[Candidate, Figures] = {}
        missed: set[int] = set()
        while True:
            smaller = self._race(self._below(total), rate_per_s)
            keeping = [one for one in self._surely(smaller, rate_per_s) if one.gpus not in missed]
            if keeping:
                total = min(one.gpus for one in keeping)
                continue
            below |= smaller.last
            candidates = self._arenas(self._arena(total), rate_per_s)
            larger = [one for one in self._totals() if one > total]
            if not candidates and not larger:
                # Nothing of that size may serve the rate: what is smaller comes nearest.
                best = ranked(self._course, order(below)[:LAST], rate_per_s)
                return self._searched(rate_per_s, best, below)
            found = self._narrowed(candidates, rate_per_s, _HOPELESS if larger else math.inf)
            below |= found.last
            if candidates and (not larger or found.last[order(found.last)[0]][USE] <= _NEAR):
                best = ranked(self._course, order(found.last)[:LAST], rate_per_s)
                if self._keeps(best) or not larger:
                    return self._searched(rate_per_s, best, below)
                below |= {one: mean_figures(best.runs.figures[one]) for one in best.places}
            missed.add(total)
            total = larger[0]

    def nearest(self, rate_per_s: float) -> Searched:
        """On as many GPUs as each family can use, the one that takes the least of the limits at the rate."""
        places = [(family, total) for family in self.families for total in self._last(family)]
        return self._searched(rate_per_s, self._best(self._arenas(places, rate_per_s), rate_per_s), {})

    def largest_rate(self, start_per_s: float) -> Searched:
        """On as many GPUs as each family can use, the one that keeps the SLO at the largest rate.

        Candidates race at the largest rate that the best so far is found to keep, until the best stays the best there.
        """
        places, course = [(family, total) for family in self.families for total in self._last(family)], self._course
        rate_per_s = self._start(places, start_per_s)
        wanted = math.ceil(course.requests * rate_per_s / start_per_s)
        course.requests = min(max(wanted, course.settings.fewest_requests), course.settings.most_requests)
        candidates = self._arenas(places, rate_per_s)
        best = self._best(candidates, rate_per_s)
        for _ in range(_RATE_ROUNDS):
            winner = best.places[0]
            found = self.rate_of(winner, rate_per_s)
            rate_per_s = found.requests_per_s or rate_per_s
            best = ranked(self._course, best.places, rate_per_s)
            if best.places[0] == winner:
                return self._searched(rate_per_s, best, {}, found)
        return self._searched(rate_per_s, best, {}, self.rate_of(best.places[0], rate_per_s))

    def rate_of(self, candidate: Candidate, start_per_s: float) -> FoundRate:
        """The largest rate at which a candidate keeps the SLO."""
        course, settings = self._course, self._course.settings

        def measure(rate_per_s: float, replications: Sequence[int]) -> list[float]:
            return [
                course.run([candidate], rate_per_s, course.requests, replication)[candidate][GOOD]
                for replication in replications
            ]

        confidence = self._space.loaded.config.studies.confidence
        precision = Precision(
            resolution=settings.resolution, replications=settings.bisection_replications, confidence=confidence
        )
        return bisect_rate(measure, course.slo.share, start_per_s, precision)

    def _searched(
        self, rate_per_s: float, best: Ranked, below: dict[Candidate, Figures], found: FoundRate | None = None
    ) -> Searched:
        winner, self.placed = best.places[0], best.places
        keeps = (found is not None and found.requests_per_s > 0) or self._keeps(best)
        if found is None and self._searches_rate:
            found = self.rate_of(winner, rate_per_s)
        smaller = {one: figures for one, figures in below.items() if one.gpus < winner.gpus}
        return Searched(rate_per_s, best, self._seen, smaller, self._same, found, keeps)

    def _keeps(self, best: Ranked) -> bool:
        return best.mean(best.places[0], GOOD).mean >= self._course.slo.share

    def _totals(self) -> list[int]:
        """Every number of GPUs that some family uses up."""
        most = self._space.most_gpus
        return sorted({total for family in self.families for total in family.totals(most)})

    def _last(self, family: Family) -> list[int]:
        return family.totals(self._space.most_gpus)[-1:]

    def _first_guess(self, rate_per_s: float) -> int:
        """The fewest GPUs on which some family keeps the SLO in a short run with its own arguments, by bisection; the
        most there are where none does."""
        totals = self._totals()
        low, high = 0, len(totals) - 1
        while low < high:
            middle = (low + high) // 2
            if self._may_keep(totals[middle], rate_per_s):
                high = middle
            else:
                low = middle + 1
        return totals[low]

    def _may_keep(self, total: int, rate_per_s: float) -> bool:
        largest = [(family, family.totals(total)[-1:]) for family in self.families]
        candidates = [
            one
            for family, found in largest
            for size in found
            for one in self._structures(family, size, rate_per_s, _KEPT_SPLITS)
        ]
        found = self._run_short(candidates, rate_per_s)
        return any(figures[USE] <= 1 for figures in found.values())

    def _run_short(self, candidates: Sequence[Candidate], rate_per_s: float) -> dict[Candidate, Figures]:
        return self._course.run(candidates, rate_per_s, self._course.short, 0)

    def _below(self, total: int) -> list[tuple[Family, int]]:
        """The largest size of each family that has fewer GPUs."""
        return [(family, size) for family in self.families for size in family.totals(total - 1)[-1:]]

    def _arena(self, total: int) -> list[tuple[Family, int]]:
        return [(family, total) for family in self.families if total in family.totals(total)]

    def _race(self, places: Sequence[tuple[Family, int]], rate_per_s: float) -> Narrowed:
        return self._narrowed(self._arenas(places, rate_per_s), rate_per_s, _HOPELESS)

    def _narrowed(self, candidates: Sequence[Candidate], rate_per_s: float, hopeless: float = math.inf) -> Narrowed:
        if not candidates:
            return Narrowed({}, {}, 0)
        found = narrowed(self._course, candidates, rate_per_s, hopeless)
        self._seen |= found.seen
        self._same += found.same
        return found

    def _surely(self, found: Narrowed, rate_per_s: float) -> list[Candidate]:
        """Who keeps the SLO in the mean over some replications, of those whose last run did."""
        near = [one for one in order(found.last) if found.last[one][USE] <= _NEAR]
        if not near:
            return []
        again = ranked(self._course, near[:LAST], rate_per_s)
        found.last.update({one: mean_figures(again.runs.figures[one]) for one in again.places})
        return [one for one in again.places if again.mean(one, GOOD).mean >= self._course.slo.share]

    def _best(self, candidates: Sequence[Candidate], rate_per_s: float) -> Ranked:
        found = self._narrowed(candidates, rate_per_s)
        return ranked(self._course, order(found.last)[:LAST], rate_per_s)

    def _arenas(self, places: Sequence[tuple[Family, int]], rate_per_s: float) -> list[Candidate]:
        """The candidates of these sizes: of each family the better splits, found in short runs, with all arguments."""
        structures = [one for place in places for one in self._structures(*place, rate_per_s, _SPLITS)]
        found = self._run_short(structures, rate_per_s)
        self._seen |= {one: figures for one, figures in found.items() if one not in self._seen}
        ranking = order(found)
        kept: list[Candidate] = []
        for candidate in ranking:
            of_family = sum(one.family == candidate.family for one in kept)
            near = found[candidate][USE] <= _FAR * max(found[ranking[0]][USE], 1.0)
            if of_family < _KEPT_SPLITS and near:
                kept.append(candidate)
        return [other for one in kept for other in self._expanded(one, rate_per_s)]

    def _structures(self, family: Family, total: int, rate_per_s: float, most: int) -> list[Candidate]:
        """The splits of so many GPUs that may serve the rate, with the first arguments that they may do so with."""
        for arguments in self._own[family]:
            found = splits_of(self._pruner, family, arguments, total, rate_per_s, most)
            if found:
                return [Candidate(family, counts, arguments) for counts in found]
        return []

    def _expanded(self, structure: Candidate, rate_per_s: float) -> list[Candidate]:
        """A structure with all arguments that arithmetic leaves."""
        return [
            candidate
            for candidate in self._space.candidates(structure.family, structure.counts, self._routes)
            if self._pruner.why(structure.family, candidate.arguments) is None
            and self._pruner.too_slow(candidate, rate_per_s) is None
        ]

    def _start(self, places: Sequence[tuple[Family, int]], start_per_s: float) -> float:
        """A rate that the best structures just keep in short runs with their own arguments."""
        rate_per_s, low, high = start_per_s, 0.0, math.inf
        for _ in range(6):
            structures = [one for place in places for one in self._structures(*place, rate_per_s, _KEPT_SPLITS)]
            found = self._run_short(structures, rate_per_s)
            if any(figures[USE] <= 1 for figures in found.values()):
                low = rate_per_s
            else:
                high = rate_per_s
            rate_per_s = math.sqrt(low * high) if low and math.isfinite(high) else 2 * low if low else high / 2
        return low or rate_per_s
