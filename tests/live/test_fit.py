"""Known step times are found again, and the error that is told is that of requests which nothing was fitted on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from simulated_server import FRONT_END_S, LINE, TRUE, Noise, measured, plan_of, traffic

from kvsim.errors import ConfigError
from kvsim.launch import read_launch_line
from kvsim.live.calibrated import first_part
from kvsim.live.deployment import described
from kvsim.live.fit import FEWEST, Fitted, fit
from kvsim.live.forms import WholeSteps
from kvsim.live.from_tokens import first_values
from kvsim.live.robust import robust
from kvsim.live.rows import served_of
from kvsim.live.served import Served, metrics_of
from kvsim.live.validated import validate

COUNT = 120


def run_of(noise: Noise | None = None, slower: tuple[int, float] | None = None, seed: int = 1) -> Served:
    return served_of(measured(traffic(COUNT, 3.0, seed), noise=noise, slower=slower, seed=seed), "run")


@cache
def clean() -> Fitted:
    run = run_of()
    return fit([run], WholeSteps(plan_of()), [first_part(run, 0.5)])


def test_step_times_without_noise_are_found_again() -> None:
    assert clean().values[:3] == pytest.approx(TRUE[:3], rel=0.05)
    assert clean().front_end_s == pytest.approx(FRONT_END_S, abs=1e-3)
    # Those of attention are a small part of short steps.
    assert clean().values[3:] == pytest.approx(TRUE[3:], rel=0.3)


def test_the_first_guess_needs_no_simulation_and_is_near() -> None:
    run = run_of()
    found = first_values([run], [first_part(run, 1.0)], np.array([1e-6, 0.0, 0.0, 0.0, 0.0]))
    assert found[0] == pytest.approx(TRUE[0], rel=0.2)
    assert found[1] == pytest.approx(TRUE[1], rel=0.6)


def test_the_requests_that_are_not_learned_from_decide_nothing() -> None:
    run = run_of()
    learned = first_part(run, 0.5)
    spoilt = {
        name: np.where(learned, run.requests[name], run.requests[name] * 3) for name in ("first_token_s", "finish_s")
    }
    # Their own tokens are told later; the requests before them saw what they saw.
    other = replace(run, requests=run.requests | spoilt)
    again = fit([other], WholeSteps(plan_of()), [learned])
    assert again.values == pytest.approx(clean().values, rel=0.15)


def test_the_error_told_is_that_of_the_second_part() -> None:
    """From the middle on answers take 1.4 times as long: the fit cannot know, and the error must show it."""
    half = COUNT // 2
    run = run_of(Noise(0.02, 0.0005), slower=(half, 1.4))
    server = described(None, read_launch_line(LINE), None, gpu=None, profile=None, sets=())
    found = validate([run], server, 0.5)
    fitted, judged = found.best.parts[1:]
    assert (fitted.requests, judged.requests) == (half, COUNT - half)
    assert abs(fitted.metrics["e2e"].errors.mean_pct or 0.0) < 2.0
    ours, theirs = metrics_of(found.best.predictions[0].requests)["e2e"], metrics_of(run.requests)["e2e"]
    by_hand = 100 * (ours[half:].mean() / theirs[half:].mean() - 1)
    assert judged.metrics["e2e"].errors.mean_pct == pytest.approx(by_hand)
    assert by_hand < -15.0
    dumped = found.dump([measured(traffic(COUNT, 3.0, 1))])
    assert dumped["compared"]["parts"]["not_fitted_on"]["metrics"]["e2e"]["errors"]["mean_pct"] == pytest.approx(
        by_hand
    )
    assert dumped["calibration"]["fitted_on"] == half


def test_too_few_requests_are_refused() -> None:
    run = run_of()
    with pytest.raises(ConfigError, match=rf"a fit takes {FEWEST} answered requests or more, not 12"):
        fit([run], WholeSteps(plan_of()), [first_part(run, 0.1)])


def test_least_squares_with_a_least_and_an_outlier() -> None:
    random = np.random.default_rng(3)
    rows = random.uniform(0.0, 1.0, (200, 3))
    true = np.array([2.0, 0.0, 5.0])
    seconds = rows @ true + random.normal(0.0, 0.01, 200)
    seconds[::10] += 10.0
    found = robust(rows, seconds, np.ones(200), np.array([0.0, 0.0, 0.0]))
    assert found == pytest.approx(true, abs=0.05)
    held = robust(rows, seconds, np.ones(200), np.array([0.0, 0.5, 0.0]))
    assert held[1] == pytest.approx(0.5)
