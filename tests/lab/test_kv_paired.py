"""Paired differences of the KV lab: by hand, how often intervals cover, and what cannot be told."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from kv_trials import trials
from scipy.special import stdtrit

from kvsim.errors import ConfigError
from kvsim.lab.kv.analysis.analysis import Analysis, analyse
from kvsim.lab.kv.analysis.bootstrap import student, studentised
from kvsim.lab.kv.analysis.paired import OVER_CONTROL, Effect
from kvsim.lab.kv.trial import PhaseRow, Trials

T_4 = 2.7764451051977987
"""Student's quantile of 97.5% with four degrees of freedom, from a table."""


def effect(found: Analysis, metric: str = "ttft_mean_ms", phase: str = "cache", point: int = 0) -> Effect:
    (one,) = [e for e in found.effects if (e.metric, e.phase, e.point) == (metric, phase, point)]
    return one


def with_ttft(found: Trials, values: dict[tuple[int, str], float | None]) -> Trials:
    """Rows whose TTFT is given by repeat and phase."""
    rows = [replace(row, ttft_mean_ms=values.get((row.repeat, row.phase), row.ttft_mean_ms)) for row in found.phases]
    return replace(found, phases=tuple(rows))


def test_the_interval_by_hand() -> None:
    apart = [-10.0, -12.0, -8.0, -11.0, -9.0]
    values: dict[tuple[int, str], float | None] = {(n, "cold"): 50.0 + n for n in range(5)}
    values |= {(n, "cache"): 50.0 + n + apart[n] for n in range(5)}
    one = effect(analyse(with_ttft(trials(), values)))
    half = T_4 * np.sqrt(2.5) / np.sqrt(5)
    assert one.difference == pytest.approx(-10.0) and (one.pairs, one.lacking, one.verdict) == (5, 0, "lower")
    assert (one.low, one.high) == (pytest.approx(-10 - half), pytest.approx(-10 + half))
    assert (one.base_mean, one.phase_mean) == (pytest.approx(52.0), pytest.approx(42.0))


def test_a_profile_is_a_difference_of_differences() -> None:
    values: dict[tuple[int, str], float | None] = {}
    for n in range(3):
        values |= {(n, "cold"): 50.0, (n, "cache"): 30.0 + n, (n, "control_cold"): 40.0, (n, "control_cache"): 35.0}
    found = analyse(with_ttft(trials(repeats=range(3), compare="profile", control="other"), values))
    one = effect(found, phase=OVER_CONTROL)
    # -20, -19 and -18 less -5 each.
    assert one.difference == pytest.approx(-14.0) and one.verdict == "lower"
    assert one.high is not None and one.high - one.low == pytest.approx(2 * 4.302652729911275 / np.sqrt(3))  # type: ignore[operator]


def test_a_repeat_without_the_metric_is_left_out_and_counted() -> None:
    one = effect(analyse(with_ttft(trials(), {(2, "cache"): None})))
    assert (one.pairs, one.lacking) == (4, 1)
    gone = effect(analyse(with_ttft(trials(repeats=range(2)), {(0, "cache"): None, (1, "cold"): None})))
    assert (gone.pairs, gone.difference, gone.verdict) == (0, None, "unknown")
    down = [replace(row, started=row.repeat > 0) for row in trials().phases]
    assert effect(analyse(replace(trials(), phases=tuple(down)))).pairs == 4


def test_rows_in_any_order_are_the_same() -> None:
    for found in (trials(order="alternate", repeats=range(6)), trials(repeats=[3], requests=20)):
        phases, requests = list(found.phases), list(found.requests)
        random.Random(3).shuffle(phases)
        random.Random(4).shuffle(requests)
        mixed = replace(found, phases=tuple(phases), requests=tuple(requests))
        assert analyse(mixed).effects == analyse(found).effects
        assert list(analyse(mixed).key_results()) == list(analyse(found).key_results())


def test_one_repeat_is_told_by_its_requests_alone() -> None:
    found = analyse(trials(repeats=[4], requests=20))
    one, rate = effect(found), effect(found, "output_tokens_per_s")
    assert (one.unit, one.pairs, one.verdict) == ("requests", 20, "lower")
    assert (rate.unit, rate.pairs, rate.low, rate.verdict) == ("repeats", 1, None, "unknown")
    said = list(found.intervals())
    assert "this one repeat alone" in said[0] and any(
        "cannot be told, one pair has no interval" in line for line in said
    )


def test_equal_phases_are_no_difference_in_any_repeat() -> None:
    values: dict[tuple[int, str], float | None] = {(n, p): 40.0 + n for n in range(5) for p in ("first", "second")}
    found = analyse(with_ttft(trials(0.0, compare="itself"), values))
    assert effect(found, phase="second").verdict == "same"
    assert any(
        "mean TTFT, second less first: no difference in any of 5 repeats" in line for line in found.key_results()
    )


def test_the_order_of_phases_matters_where_it_does() -> None:
    """Whatever comes second is 10 ms slower."""
    found = trials(order="alternate", repeats=range(8), noise=0.01)

    def slower(row: PhaseRow) -> PhaseRow:
        assert row.ttft_mean_ms is not None
        return replace(row, ttft_mean_ms=row.ttft_mean_ms + 10 * row.order)

    shifted = analyse(replace(found, phases=tuple(slower(row) for row in found.phases)))
    one = next(each for each in shifted.order if each.metric == "ttft_mean_ms")
    assert (one.base_first, one.phase_first) == (4, 4)
    assert one.difference == pytest.approx(20.0, abs=1.5) and one.half_width is not None and one.half_width < 2
    assert any("the order matters" in line for line in shifted.key_results())
    assert not analyse(trials()).order and any(
        "'alternate' is wanted" in line for line in analyse(trials()).conclusion()
    )
    few = analyse(trials(order="alternate", repeats=range(3)))
    assert few.order[0].half_width is None and "cannot be told, 1 repeat in one" in list(few.intervals())[-1]


@pytest.mark.parametrize("repeats", [5, 10, 20])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_intervals_over_repeats_cover_as_often_as_they_say(repeats: int, share: float) -> None:
    """Means of 16 skewed requests in 1,000 designs, with and without an effect."""
    draws = np.random.default_rng([repeats, round(100 * share)])
    machine = draws.lognormal(0, 0.1, (2, 1_000, repeats))[0]
    cold, other = (
        f * machine * draws.lognormal(-0.125, 0.5, (16, 1_000, repeats)).mean(axis=0) for f in (100.0, 100 * share)
    )
    true = 100 * (share - 1) * np.exp(0.005)
    covered = 0
    for row in other - cold:
        bounds = student(row, 0.95)
        assert bounds is not None
        covered += bounds[0] <= true <= bounds[1]
    assert 930 <= covered <= 970


def test_pairs_of_requests_are_covered_better_by_resampling() -> None:
    """Differences as skewed as what takes time by its prompt's length, 16 pairs each."""
    draws = np.random.default_rng(7)
    true, covered, by_student = -50 * np.exp(0.5), 0, 0
    for run in range(100):
        values = list(-50 * draws.lognormal(0, 1.0, 16))
        bounds, plain = studentised(values, 0.95, (1, run)), student(values, 0.95)
        assert bounds is not None and plain is not None
        covered += bounds[0] <= true <= bounds[1]
        by_student += plain[0] <= true <= plain[1]
    assert covered > by_student and covered >= 86


def test_values_that_cannot_be_resampled_get_students_interval() -> None:
    few = [1.0, 2.0, 4.0]
    assert studentised(few, 0.95, (1,)) == student(few, 0.95)
    assert studentised([2.0] * 9, 0.95, (1,)) == (2.0, 2.0)
    one_off = [0.0] * 19 + [1.0]
    assert studentised(one_off, 0.95, (1,)) == student(one_off, 0.95)
    assert student([1.0], 0.95) is None and student([], 0.95) is None and student(few, 1.0) is None
    assert student([0.0, 2.0], 0.9) == (pytest.approx(1 - stdtrit(1, 0.95)), pytest.approx(1 + stdtrit(1, 0.95)))


def test_drift_is_found_and_steadiness_is_not() -> None:
    rising = analyse(with_ttft(trials(repeats=range(6)), {(n, "cold"): 50.0 + n for n in range(6)}))
    one = next(e for e in rising.stability if (e.phase, e.metric) == ("cold", "ttft_mean_ms"))
    # Of 720 orders two are so far from chance.
    assert (one.drift, one.drift_p) == (pytest.approx(1.0), pytest.approx(2 / 720)) and (
        one.lowest_repeat,
        one.highest_repeat,
    ) == (0, 5)
    assert one.variation == pytest.approx(np.std(range(6), ddof=1) / 52.5)
    few = analyse(trials(repeats=range(3)))
    assert all(each.drift_p is None for each in few.stability)
    assert any("repeats that differ are wanted" in line for line in few.key_results())


def test_bad_designs_are_one_line() -> None:
    with pytest.raises(ConfigError, match="compare"):
        analyse(replace(trials(), design={**trials().design, "compare": "nonsense"}))
    with pytest.raises(ConfigError, match="has no rows"):
        analyse(replace(trials(), phases=()))
