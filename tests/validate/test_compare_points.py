"""Medians over a table of points, by hand; and what a point's JSON holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvsim.plan.measured_profiles import measured_profiles
from kvsim.plan.nearest_profile import NearestProfile
from kvsim.validate.compare_points import PointComparison, PointsSummary, summary_of
from kvsim.validate.operating_points import OperatingPoint
from kvsim.validate.predict_point import PointPrediction


def compared(measured_s: tuple[float | None, float | None], predicted_s: tuple[float, float | None]) -> PointComparison:
    point = OperatingPoint(2, "llama-3.1-8b", "h100-sxm", "0.19.0", "bf16", False, 1, 1000, 50, 1, *measured_s)
    measured = replace(measured_profiles()[0], name="profile")
    profile = NearestProfile(measured.coefficients, "scaled", measured, "scaled")
    return PointComparison(point, PointPrediction(*predicted_s, predicted_s[0] > 2, 3.0, profile, 99))


def test_medians_are_of_unsaturated_points_and_of_saturated_ones_apart() -> None:
    found = summary_of(
        [
            compared((1.0, 0.010), (1.1, 0.012)),
            compared((1.0, 0.010), (0.7, 0.010)),
            compared((1.0, 0.010), (3.0, None)),
            compared((4.0, 0.010), (8.0, 0.015)),
            compared((None, 0.010), (1.0, 0.011)),
        ]
    )
    expected = PointsSummary(ttft=30.0, tpot=10.0, tpot_saturated=50.0, saturation_recognised_pct=75.0)
    assert vars(found) == pytest.approx(vars(expected))
    assert summary_of([compared((None, None), (1.0, 0.1))]) == PointsSummary(None, None, None, None)


def test_a_point_has_its_own_fields_and_the_comparison_s_on_one_level() -> None:
    found = compared((0.5, None), (0.6, 0.02)).dump()
    assert (found["concurrency"], found["client"], found["kv_blocks"]) == (1, "exact_lengths", 99)
    assert (found["profile"], found["warning"]) == ("profile", "scaled")
    assert found["measured"] == {"ttft_ms": 500.0, "tpot_ms": None}
    assert found["predicted"] == {"ttft_ms": 600.0, "tpot_ms": 20.0}
    assert found["error_pct"] == {"ttft": pytest.approx(20.0), "tpot": None}
    assert "ttft_s" not in found
