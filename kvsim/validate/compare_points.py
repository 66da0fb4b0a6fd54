"""Measured operating points beside what is predicted for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from kvsim.units import MILLI
from kvsim.validate.accuracy import percent_off
from kvsim.validate.operating_points import OperatingPoint
from kvsim.validate.predict_point import PointPrediction, predict_point

Metric = Literal["ttft", "tpot"]


@dataclass(frozen=True)
class Latency:
    """Means in milliseconds or, of an error, in percent; ``None`` where there is none."""

    ttft: float | None
    tpot: float | None


@dataclass(frozen=True)
class PointComparison:
    """One point, measured and predicted."""

    point: OperatingPoint
    prediction: PointPrediction

    @property
    def measured_ms(self) -> Latency:
        return Latency(_ms(self.point.ttft_s), _ms(self.point.tpot_s))

    @property
    def predicted_ms(self) -> Latency:
        return Latency(_ms(self.prediction.ttft_s), _ms(self.prediction.tpot_s))

    @property
    def error_pct(self) -> Latency:
        point, found = self.point, self.prediction
        return Latency(_error(found.ttft_s, point.ttft_s), _error(found.tpot_s, point.tpot_s))

    def dump(self) -> dict[str, Any]:
        """The comparison as JSON has it: the point's own fields and the comparison's on one level."""
        predicted, measured, found = self.predicted_ms, self.measured_ms, self.prediction
        return {
            **{key: value for key, value in asdict(self.point).items() if key not in ("ttft_s", "tpot_s")},
            "saturated": found.saturated,
            "measured_saturated": self.point.saturated,
            "predicted": {"ttft_ms": predicted.ttft, "tpot_ms": predicted.tpot},
            "measured": {"ttft_ms": measured.ttft, "tpot_ms": measured.tpot},
            "error_pct": asdict(self.error_pct),
            "profile": found.profile.name,
            "warning": found.profile.warning,
            "requests_per_s": found.requests_per_s,
            "kv_blocks": found.kv_blocks,
        }


@dataclass(frozen=True)
class PointsSummary:
    """Median absolute errors, in percent: of points that were measured unsaturated, and of TPOT in saturated ones.

    ``None`` where there is no such point.
    """

    ttft: float | None
    tpot: float | None
    tpot_saturated: float | None
    saturation_recognised_pct: float | None
    """Share of the points with a measured TTFT, those that are saturated in both or in neither."""


def compare_point(point: OperatingPoint, sets: tuple[str, ...] = ()) -> PointComparison:
    """Predicts it; raises as ``predict_point`` does."""
    return PointComparison(point, predict_point(point, sets))


def summary_of(comparisons: Sequence[PointComparison]) -> PointsSummary:
    """The summary of a whole table."""
    known = [found for found in comparisons if found.point.saturated is not None]
    agreeing = [found.prediction.saturated == found.point.saturated for found in known]
    return PointsSummary(
        _median(comparisons, "ttft", saturated=False),
        _median(comparisons, "tpot", saturated=False),
        _median(comparisons, "tpot", saturated=True),
        100.0 * sum(agreeing) / len(agreeing) if agreeing else None,
    )


def _median(comparisons: Sequence[PointComparison], metric: Metric, *, saturated: bool) -> float | None:
    """A point whose TTFT was not measured counts as unsaturated."""
    errors = [getattr(found.error_pct, metric) for found in comparisons if bool(found.point.saturated) == saturated]
    known = [abs(error) for error in errors if error is not None]
    return float(np.median(known)) if known else None


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else value_s / MILLI


def _error(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else percent_off(ours, theirs)
