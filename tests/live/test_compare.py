"""Figures, errors and intervals of runs beside their predictions, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from simulated_server import Noise, measured, plan_of, traffic

from kvsim.live.compare import compare
from kvsim.live.rows import served_of
from kvsim.live.served import Predicted, Served, predict
from kvsim.live.words import over_runs


def pair(seed: int = 1) -> tuple[Served, Predicted]:
    run = served_of(measured(traffic(30, 3.0, seed), seed=seed), f"run {seed}")
    return run, predict(run, plan_of(), 0.004)


def later(found: Predicted, factor: float) -> Predicted:
    """Every answer takes ``factor`` times as long, from sending on."""
    requests = dict(found.requests)
    for name in ("first_token_s", "finish_s"):
        requests[name] = requests["arrival_s"] + factor * (requests[name] - requests["arrival_s"])
    return replace(found, requests=requests)


def test_the_same_step_times_predict_the_run() -> None:
    run, found = pair()
    part = compare([run], [found], 0.004).parts[0]
    for metric in part.metrics.values():
        assert metric.errors.mean_pct == pytest.approx(0.0, abs=1e-3)
        assert metric.errors.mape_pct == pytest.approx(0.0, abs=1e-3)
    assert part.hits is not None
    assert part.hits.equal_share == 1.0
    assert part.hits.measured_tokens == part.hits.predicted_tokens > 0
    counters = compare([run], [found], 0.004).counters
    assert {each.name for each in counters} == {"prefix_queries", "prefix_hits", "preemptions"}
    assert all(each.measured == each.predicted for each in counters)


def test_intervals_are_students_over_runs() -> None:
    """Two runs that are 10 and 20% off: t(0.975, 1) = 12.706, times the standard error of 5 points."""
    (one, first), (two, second) = pair(1), pair(2)
    part = compare([one, two], [later(first, 1.1), later(second, 1.2)], 0.004).parts[0]
    found = part.metrics["e2e"].error_pct
    assert found.mean == pytest.approx(15.0, abs=0.01)
    assert found.half_width == pytest.approx(12.706 * 5.0, rel=1e-3)
    assert over_runs(part) is not None


def test_one_run_has_no_interval() -> None:
    run, found = pair()
    part = compare([run], [later(found, 1.1)], 0.004).parts[0]
    assert math.isinf(part.metrics["e2e"].error_pct.half_width)
    assert over_runs(part) is None


def test_parts_are_of_their_own_requests() -> None:
    run, found = pair()
    learned = np.arange(30) < 10
    requests = {
        name: np.where(learned, values, later(found, 1.5).requests[name]) for name, values in found.requests.items()
    }
    parts = compare([run], [replace(found, requests=requests)], 0.004, [learned]).parts
    assert [part.name for part in parts] == ["whole", "fitted on", "not fitted on"]
    assert [part.requests for part in parts] == [30, 10, 20]
    assert parts[1].metrics["e2e"].errors.mean_pct == pytest.approx(0.0, abs=1e-3)
    assert parts[2].metrics["e2e"].errors.mean_pct == pytest.approx(50.0, abs=0.01)


def test_hits_count_requests_that_agree() -> None:
    run, found = pair()
    hits = found.requests["hit_tokens"].copy()
    hits[4] += 16
    part = compare([run], [replace(found, requests=found.requests | {"hit_tokens": hits})], 0.004).parts[0]
    assert part.hits is not None
    assert part.hits.equal_share == pytest.approx(29 / 30)
    assert part.hits.predicted_tokens == part.hits.measured_tokens + 16


def test_noise_is_in_the_error_of_each_request_and_hardly_in_the_mean() -> None:
    run = served_of(measured(traffic(60, 3.0, 5), noise=Noise(relative=0.1), seed=5), "run")
    metric = compare([run], [predict(run, plan_of(), 0.004)], 0.004).parts[0].metrics["tpot"]
    assert metric.errors.mape_pct == pytest.approx(8.0, abs=3.0)
    assert abs(metric.errors.mean_pct or 0.0) < 4.0
