"""Rules that decide how many instances there are, by numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from kvsim.errors import ConfigError
from kvsim.policy.scaling import SCALERS, ScalingSettings, Seen, Steadied, SteadySettings, make_scaling

BOUNDS = SteadySettings(1, 100, 0.0, 0.0, 0.0, None, None)


def settings(**changes: object) -> ScalingSettings:
    found = ScalingSettings(
        role="colocated",
        metric="utilisation",
        target=0.5,
        tolerance=0.1,
        target_load=0.5,
        instance_requests_per_s=4.0,
        interval_s=10.0,
        cold_start_s=25.0,
        horizon_s=30.0,
        forecast="trace",
        level_smoothing=0.5,
        trend_smoothing=0.5,
        noise_cv=0.0,
        schedule=(),
        rate_ahead=lambda start_s, end_s: end_s,
        load_ahead=lambda start_s, end_s: end_s / 10,
        random=np.random.default_rng(1),
    )
    return replace(found, **changes)


def seen(**changes: object) -> Seen:
    found = Seen(100.0, 4, 0, 1, 100, 0.0, 0.0, 0.0, math.nan, 0.0)
    return replace(found, **changes)


@pytest.mark.parametrize(
    ("used", "coming", "wanted"),
    [
        (2.0, 0, None),  # at the target
        (2.2, 0, None),  # 10% above it is tolerated
        (2.21, 0, 5),  # 2.21 / 0.5 = 4.42
        (4.0, 0, 8),  # twice the target
        (2.21, 1, 5),  # the one more comes already
        (4.0, 2, 8),
        (2.6, 1, None),  # one that comes is going to take its share: 2.6 / 2.5
        (0.9, 0, 2),
        (0.0, 0, 0),
    ],
)
def test_the_rule_of_the_horizontal_pod_autoscaler(used: float, coming: int, wanted: int | None) -> None:
    policy = make_scaling("reactive", settings())
    assert policy.wanted(seen(utilisation=used, coming=coming)) == wanted


@pytest.mark.parametrize(
    ("ttft_s", "coming", "wanted"), [(math.nan, 0, None), (0.5, 0, None), (1.0, 0, 8), (0.6, 3, 7), (0.1, 0, 1)]
)
def test_a_mean_is_no_sum(ttft_s: float, coming: int, wanted: int | None) -> None:
    policy = make_scaling("reactive", settings(metric="ttft"))
    assert policy.wanted(seen(ttft_s=ttft_s, coming=coming)) == wanted


def test_sums_that_differ_by_their_rounding_want_the_same() -> None:
    policy = make_scaling("reactive", settings(target=0.1))
    assert policy.wanted(seen(utilisation=0.1 + 0.2 + 0.3)) == policy.wanted(seen(utilisation=0.3 + 0.2 + 0.1)) == 6


def test_the_schedule() -> None:
    policy = make_scaling("scheduled", settings(schedule=((50.0, 3), (100.0, 7))))
    assert policy.first() is None
    assert [policy.wanted(seen(now_s=now_s)) for now_s in (49.0, 50.0, 99.0, 100.0, 1e6)] == [None, 3, 3, 7, 7]


def test_forecasts() -> None:
    rates = [4.0, 8.0, 8.0]
    wanted = {}
    for forecast in ("last", "ewma", "holt"):
        policy = make_scaling("predictive", settings(forecast=forecast))
        wanted[forecast] = [policy.wanted(seen(requests_per_s=rate)) for rate in rates]
    assert wanted["last"] == [2, 4, 4]
    assert wanted["ewma"] == [2, 3, 4]  # levels 4, 6, 7
    # Levels 4, 6, 7.5 and trends 0, 1, 1.25 a look, three looks ahead: 4, 9, 11.25.
    assert wanted["holt"] == [2, 5, 6]


def test_the_trace_itself_with_and_without_error() -> None:
    policy = make_scaling("predictive", settings())
    assert policy.first() == math.ceil(30 / 2)
    assert policy.wanted(seen()) == math.ceil(130 / 2)
    noisy = make_scaling("predictive", settings(noise_cv=0.3))
    drawn = [noisy.wanted(seen()) or 0 for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(65.5, rel=0.03)
    assert np.std(drawn) == pytest.approx(0.3 * 65, rel=0.1)


def test_who_knows_all_orders_a_cold_start_ahead() -> None:
    policy = make_scaling("omniscient", settings())
    assert policy.wanted(seen(now_s=0.0)) == 8  # the load up to 40 s: 25 s in whole looks, and a look


def test_the_window_counts_the_most_of_it() -> None:
    steadied = Steadied(replace(BOUNDS, stabilisation_s=30.0))
    looks = [(0.0, 8), (10.0, 3), (20.0, 5), (30.0, 3), (31.0, 3), (50.0, 3), (51.0, 2)]
    found, current = [], 8
    for now_s, wanted in looks:
        current = steadied.decided(now_s, wanted, current, is_steadied=True)
        found.append(current)
    assert found == [8, 8, 8, 8, 5, 5, 3]
    assert Steadied(replace(BOUNDS, stabilisation_s=30.0)).decided(0, 2, 8, is_steadied=False) == 2


def test_cooldowns_steps_and_bounds() -> None:
    steadied = Steadied(replace(BOUNDS, cooldown_up_s=10, cooldown_down_s=20, max_step_up=2, max_step_down=1))
    given = [(0.0, 9, 4), (5.0, 9, 6), (10.0, 9, 6), (15.0, 1, 8), (30.0, 1, 8), (50.0, 1, 7)]
    assert [steadied.decided(*each, is_steadied=True) for each in given] == [6, 6, 8, 8, 7, 6]
    bounded = Steadied(replace(BOUNDS, minimum=2, maximum=5))
    assert [bounded.decided(0.0, wanted, 3, is_steadied=True) for wanted in (0, 4, 99, None)] == [2, 4, 5, 3]


def test_unknown_policies_are_named() -> None:
    with pytest.raises(ConfigError, match=r"autoscale\.policy: unknown policy 'reaktive'; did you mean 'reactive'\?"):
        make_scaling("reaktive", settings())
    assert set(SCALERS) == {"none", "reactive", "scheduled", "predictive", "omniscient"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [("-1", "wanted returned -1"), ("2.5", "wanted returned 2.5"), ("1 / 0", "wanted raised ZeroDivisionError")],
)
def test_a_class_of_a_users_own_is_checked(answer: str, said: str, tmp_path, monkeypatch) -> None:
    name = f"own_scaling_{abs(hash(answer))}"
    text = f"""
from kvsim.policy.scaling import ScalingPolicy

class Mine(ScalingPolicy):
    name = "mine"
    is_steadied = False

    def wanted(self, seen):
        return 3 if seen.now_s < 100 else {answer}
"""
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    policy = make_scaling(f"{name}:Mine", settings())
    assert not policy.is_steadied
    assert policy.wanted(seen(now_s=1.0)) == 3
    with pytest.raises(ConfigError, match=rf"autoscale\.policy '{name}:Mine': {said}"):
        policy.wanted(seen())
