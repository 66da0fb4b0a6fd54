"""Scaling by a forecast of the rate of arrivals, as far ahead as an instance takes to come."""

from __future__ import annotations

import math

from kvsim.policy.scaling.base import ScalingPolicy, ScalingSettings, Seen


class Predictive(ScalingPolicy):
    """Instances that serve the forecast rate at a target load each.

    ``trace``: the highest rate that really comes up to the horizon, with an error of which the coefficient of variation
    is given. ``last``: the rate since the last look goes on. ``ewma``: an exponentially weighted mean of such rates
    does. ``holt``: Holt's linear method (1957), level and trend. NVIDIA Dynamo's planner forecasts rates in this way to
    choose prefill and decode instances, by a constant, ARIMA, Kalman or Prophet predictor.
    """

    name = "predictive"

    def __init__(self, settings: ScalingSettings) -> None:
        super().__init__(settings)
        self._level, self._trend, self._looks = 0.0, 0.0, 0
        variance = math.log1p(settings.noise_cv**2)
        self._noise = (-variance / 2, math.sqrt(variance))

    def first(self) -> int | None:
        return self._instances(self._ahead(0.0)) if self.settings.forecast == "trace" else None

    def wanted(self, seen: Seen) -> int | None:
        if self.settings.forecast == "trace":
            return self._instances(self._ahead(seen.now_s))
        self._learn(seen.requests_per_s)
        steps = self.settings.horizon_s / self.settings.interval_s
        return self._instances(max(self._level + self._trend * steps, 0.0))

    def _ahead(self, now_s: float) -> float:
        return self.settings.rate_ahead(now_s, now_s + self.settings.horizon_s)

    def _learn(self, rate_per_s: float) -> None:
        settings, before = self.settings, self._level
        weight = 1.0 if settings.forecast == "last" or not self._looks else settings.level_smoothing
        self._level = weight * rate_per_s + (1 - weight) * (before + self._trend)
        if settings.forecast == "holt" and self._looks:
            change = self._level - before
            self._trend += settings.trend_smoothing * (change - self._trend)
        self._looks += 1

    def _instances(self, rate_per_s: float) -> int:
        settings, (mean, sigma) = self.settings, self._noise
        if sigma:
            rate_per_s *= float(settings.random.lognormal(mean, sigma))
        return math.ceil(round(rate_per_s / (settings.instance_requests_per_s * settings.target_load), 9))
