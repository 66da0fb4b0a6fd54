"""Who is beaten by nobody."""

from __future__ import annotations

from kvsim.recommend.candidates import Arguments, Candidate, Family
from kvsim.recommend.pareto import front, picture, points_of
from kvsim.recommend.slo import THROUGHPUT, USE, Slo

SLO = Slo(ttft_ms=1000.0, tpot_ms=50.0, share=0.99)


def test_the_front_has_what_no_other_beats_in_both() -> None:
    assert front([4, 3, 3, 2, 1], [9, 5, 4, 7, 1]) == {0, 2, 4}
    assert front([1, 1], [2, 2]) == {0} and front([], []) == set()


def test_overloaded_deployments_are_in_no_front() -> None:
    def of(count: int) -> Candidate:
        return Candidate(Family("unified", 1, 1), (count, 0), Arguments(512, 64, "affinity"))

    seen = {
        of(1): {USE: 9.0, THROUGHPUT: 900.0, "tpot_mean_ms": 20.0, "use_TTFT": 9.0},
        of(2): {USE: 0.8, THROUGHPUT: 1000.0, "tpot_mean_ms": 30.0, "use_TTFT": 0.5},
        of(4): {USE: 0.4, THROUGHPUT: 1000.0, "tpot_mean_ms": 15.0, "use_TTFT": 0.6},
    }
    points = points_of(seen, SLO)
    assert [point.gpus for point in points] == [1, 2, 4]
    assert [point.on_tpot_front for point in points] == [False, True, True]
    assert [point.on_ttft_front for point in points] == [False, True, False]
    assert [point.keeps for point in points] == [False, True, True]
    assert len(picture(points, "model", "what", SLO).axes) == 2
