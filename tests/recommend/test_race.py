"""Rounds that narrow, and replications until the order is told apart; on candidates whose figures are known."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from kvsim.config import load_config
from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.race import FEWEST, LAST, narrowed, order, placed, ranked, unlike
from kvsim.recommend.slo import GOOD, USE
from kvsim.study.replication import Figures

FAMILY = Family("unified", 1, 1)


def candidate(seats: int) -> Candidate:
    return Candidate(FAMILY, (2, 0), Arguments(2048, seats, "affinity"))


class Known:
    """A course on which a candidate takes ``uses[seats]`` of the limits, and noise that all share or each has alone."""

    def __init__(self, uses: dict[int, float], shared: float = 0.0, own: float = 0.0, short: float = 0.0) -> None:
        config = load_config().config
        self.settings, self.requests = config.recommend, 1000
        self.slo = SimpleNamespace(share=0.5)
        self.space: Any = SimpleNamespace(loaded=SimpleNamespace(config=config))
        self.short = 500
        self.simulated_requests = 0
        self.ran: list[tuple[int, int, int]] = []
        self._uses, self._shared, self._own, self._short = uses, shared, own, short

    def run(
        self, candidates: Sequence[Candidate], rate: float, requests: int, replication: int
    ) -> dict[Candidate, Figures]:
        self.ran.append((len(candidates), requests, replication))
        self.simulated_requests += len(candidates) * requests
        return {one: self._figures(one, requests, replication) for one in candidates}

    def _figures(self, one: Candidate, requests: int, replication: int) -> Figures:
        seats = one.arguments.max_num_seqs
        use = self._uses[seats] + self._shared * np.random.default_rng(replication).normal()
        use += self._own * np.random.default_rng((replication, seats)).normal()
        if requests < self.requests:
            use += self._short * np.random.default_rng((7, seats)).normal()
        return {USE: use, GOOD: float(use <= 1)}


def race(course: Known, uses: dict[int, float]) -> Any:
    return narrowed(course, [candidate(seats) for seats in uses], 1.0)  # type: ignore[arg-type]


def test_rounds_are_twice_as_long_with_fewer_and_the_best_runs_whole() -> None:
    uses = {seats: 0.5 + 0.02 * seats for seats in range(1, 41)}
    course = Known(uses, short=0.01)
    found = race(course, uses)
    counts, lengths, replications = zip(*course.ran, strict=True)
    assert (
        counts[0] == 40 and lengths[0] == 500 and counts[-1] <= LAST and lengths[-1] == 1000 and replications == (0, 1)
    )
    assert order(found.last)[0] == candidate(1) and len(found.seen) == 40
    assert counts == (40, LAST)


def test_few_candidates_run_whole_at_once() -> None:
    uses = {1: 0.5, 2: 0.6, 3: 1.2}
    course = Known(uses)
    assert order(race(course, uses).last) == [candidate(1), candidate(2), candidate(3)]
    assert course.ran == [(FEWEST, 1000, 0)]


def test_a_hopeless_round_is_the_last() -> None:
    uses = {seats: 5.0 + seats for seats in range(10)}
    course = Known(uses)
    found = narrowed(course, [candidate(seats) for seats in uses], 1.0, hopeless=3.0)  # type: ignore[arg-type]
    assert len(course.ran) == 1 and len(found.last) == 10


def test_candidates_with_the_same_run_are_one() -> None:
    found = {
        candidate(1): {USE: 0.5, GOOD: 1.0},
        candidate(2): {USE: 0.5, GOOD: 1.0},
        candidate(3): {USE: 0.6, GOOD: 1.0},
    }
    assert unlike(found, list(found)) == [candidate(1), candidate(3)]


def test_what_the_requests_have_in_common_does_not_hide_a_difference() -> None:
    """Noise of 20% that all share, differences of 5%: few replications tell, as all meet the same requests."""
    uses = {1: 0.80, 2: 0.85, 3: 0.90, 4: 1.1}
    course = Known(uses, shared=0.2, own=0.002)
    found = ranked(course, [candidate(seats) for seats in uses], 1.0)  # type: ignore[arg-type]
    assert [one.arguments.max_num_seqs for one in found.places] == [1, 2, 3, 4]
    assert found.is_certain and found.runs.replications == course.settings.replications
    assert [found.behind(place).verdict for place in (1, 2, 3)] == ["higher"] * 3


def test_equals_are_ties_and_noise_leaves_the_order_open() -> None:
    uses = {1: 0.80, 2: 0.801, 3: 0.802}
    found = ranked(Known(uses, shared=0.2, own=0.001), [candidate(seats) for seats in uses], 1.0)  # type: ignore[arg-type]
    assert found.is_certain and all(found.behind(place).tie for place in (1, 2))
    noisy = Known({1: 0.80, 2: 0.82, 3: 0.84}, own=0.3)
    found = ranked(noisy, [candidate(seats) for seats in (1, 2, 3)], 1.0)  # type: ignore[arg-type]
    assert not found.is_certain and found.runs.replications == noisy.settings.most_replications


def test_who_is_named_better_is_better_in_95_of_100() -> None:
    """Over 100 seeds a pair that is told apart is told apart the right way; equal ones are hardly ever."""
    wrong = said = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        draws = {seats: random.normal(0, 0.05, 12) for seats in (1, 2)}

        class Drawn(Known):
            def _figures(self, one: Candidate, requests: int, replication: int, draws: Any = draws) -> Figures:
                use = 0.8 + draws[one.arguments.max_num_seqs][replication]
                return {USE: use, GOOD: 1.0}

        found = ranked(Drawn({}), [candidate(1), candidate(2)], 1.0)  # type: ignore[arg-type]
        verdict = found.behind(1)
        wrong += verdict.precise and not verdict.tie
        said += verdict.precise
    assert wrong <= 10


def test_places_compare_the_replications_that_all_ran() -> None:
    found = {candidate(1): [{USE: 1.0, GOOD: 1.0}, {USE: 0.0, GOOD: 1.0}], candidate(2): [{USE: 0.9, GOOD: 1.0}]}
    assert placed(found, 0.99) == [candidate(2), candidate(1)]


def test_who_keeps_the_slo_is_before_who_takes_less_of_it() -> None:
    """A few runs with late requests cost a deployment that is else far from the limits its place."""
    steady, bursty = [{USE: 0.9, GOOD: 1.0}] * 2, [{USE: 0.2, GOOD: 1.0}, {USE: 1.2, GOOD: 0.9}]
    assert placed({candidate(1): bursty, candidate(2): steady}, 0.99) == [candidate(2), candidate(1)]
    assert placed({candidate(1): bursty, candidate(2): steady}, 0.9) == [candidate(1), candidate(2)]


def test_equals_are_in_the_order_of_what_they_allow() -> None:
    found = {
        candidate(64): {USE: 0.5, GOOD: 1.0},
        candidate(512): {USE: 0.501, GOOD: 1.0},
        candidate(8): {USE: 0.4, GOOD: 1.0},
    }
    assert order(found) == [candidate(8), candidate(512), candidate(64)]
