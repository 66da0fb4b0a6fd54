"""Errors of a leaderboard's predictions, and who came how near: over the same windows for both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kvsim.errors import KvsimError
from kvsim.validate.accuracy import percent_off
from kvsim.validate.leaderboard.forecast import Forecast, forecast
from kvsim.validate.leaderboard.recorded import ALL, FIRST_300, METRICS, Figures, RecordedRun


@dataclass(frozen=True)
class Scored:
    """One run with what kvsim says of it; ``refusal``: why it says nothing."""

    run: RecordedRun
    forecast: Forecast | None
    refusal: str | None = None

    def errors(self, window: str) -> dict[str, float]:
        """kvsim's, by metric."""
        return (
            {} if self.forecast is None else errors_pct(self.forecast.windows.get(window, {}), self._measured(window))
        )

    def errors_of(self, peer: str, window: str) -> dict[str, float]:
        """Another simulator's, by metric."""
        return errors_pct(self.run.peers.get(peer, {}).get(window, {}), self._measured(window))

    def _measured(self, window: str) -> Figures:
        return self.run.measured.get(window, {})


@dataclass(frozen=True)
class Spread:
    """Absolute errors of one metric over windows, percent."""

    median_pct: float
    mean_pct: float
    worst_pct: float
    windows: int


def score(run: RecordedRun) -> Scored:
    """Predict ``run``. A run that cannot be read or predicted costs itself alone."""
    if run.broken is not None:
        return Scored(run, None, run.broken)
    try:
        return Scored(run, forecast(run))
    except KvsimError as error:
        return Scored(run, None, str(error))


def errors_pct(predicted: Figures, measured: Figures) -> dict[str, float]:
    """Signed errors of what both have, by metric."""
    return {
        metric: percent_off(predicted[metric], measured[metric])
        for metric in METRICS
        if metric in predicted and measured.get(metric, 0.0) > 0
    }


def stages(scored: Iterable[Scored], *, saturated: bool) -> list[tuple[Scored, str]]:
    """The stages that queued throughout, or the others."""
    return [
        (one, window)
        for one in scored
        for window in one.run.windows
        if window != ALL and window in one.run.measured and one.run.saturated(window) == saturated
    ]


def spreads(errors: Iterable[Mapping[str, float]]) -> dict[str, Spread]:
    """By metric, over windows; a metric that none has is left out."""
    listed = list(errors)
    values = {metric: [abs(one[metric]) for one in listed if metric in one] for metric in METRICS}
    return {
        metric: Spread(float(np.median(found)), float(np.mean(found)), max(found), len(found))
        for metric, found in values.items()
        if found
    }


def beside(scored: list[Scored]) -> Iterator[tuple[str, str, dict[str, Spread], dict[str, Spread]]]:
    """By peer: its name, which windows, kvsim's errors and its own over those unsaturated ones that both predicted.

    A peer that was only run on a run's first requests is compared on those.
    """
    for peer in sorted({name for one in scored for name in one.run.peers}):
        places, what = stages(scored, saturated=False), "stages"
        if not any(one.run.peers.get(peer, {}).get(window) for one, window in places):
            first = [one for one in scored if not one.run.saturated(one.run.windows[0])]
            places, what = [(one, FIRST_300) for one in first], "first 300 requests"
        pairs = [(one.errors(window), one.errors_of(peer, window)) for one, window in places]
        shared = [({key: ours[key] for key in theirs if key in ours}, theirs) for ours, theirs in pairs]
        shared = [(ours, {key: theirs[key] for key in ours}) for ours, theirs in shared if ours]
        if shared:
            yield peer, what, spreads(ours for ours, _ in shared), spreads(theirs for _, theirs in shared)


def dump(scored: list[Scored]) -> dict[str, Any]:
    """The whole as JSON takes it."""
    runs = {one.run.name: _dumped(one) for one in scored}
    return {"runs": runs, "summary": summary(scored)}


def _dumped(one: Scored) -> dict[str, Any]:
    if one.forecast is None:
        return {"error": one.refusal}
    windows = {
        window: {"predicted": dict(figures), "error_pct": one.errors(window), "saturated": one.run.saturated(window)}
        for window, figures in one.forecast.windows.items()
    }
    found = one.forecast
    return {"windows": windows, "cpu_s": found.cpu_s, "calibration": found.calibration, "level": found.level}


def summary(scored: list[Scored]) -> dict[str, Any]:
    """Medians and means of the absolute errors: of stages that did and did not queue throughout, and beside peers."""
    found: dict[str, Any] = {
        name: _spread_dump(spreads(one.errors(window) for one, window in stages(scored, saturated=saturated)))
        for name, saturated in (("unsaturated", False), ("saturated", True))
    }
    found["peers"] = {
        peer: {"over": what, "kvsim": _spread_dump(ours), "peer": _spread_dump(theirs)}
        for peer, what, ours, theirs in beside(scored)
    }
    found["cpu_s"] = sum(one.forecast.cpu_s for one in scored if one.forecast is not None)
    found["not_predicted"] = {one.run.name: one.refusal for one in scored if one.forecast is None}
    return found


def _spread_dump(by_metric: dict[str, Spread]) -> dict[str, Any]:
    return {metric: asdict(found) for metric, found in by_metric.items()}
