"""What a profile misses on one machine, from the first requests of a measured run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.units import MICRO
from kvsim.validate.accuracy import Floats, percent_off
from kvsim.validate.measured_run import MeasuredRun
from kvsim.validate.predict_run import load_run, metrics_of, predict_run
from kvsim.workload.workload import Workload

FACTORS = (0.5, 2.0)
MOST_HOST_S = 0.1
SPREAD = 0.05
"""What the spread over requests weighs beside the error of the mean, which is what two numbers can mend."""
WEIGHTS = {"ttft": 0.02, "tpot": 1.0, "e2e": 1.0}
"""TTFT of a busy engine is mostly a queue's: it says less of the steps."""


@dataclass(frozen=True)
class Residual:
    """Every step takes ``factor`` times what the profile says, after ``host_s`` more of the host's time."""

    factor: float
    host_s: float
    keys: dict[str, float]
    """kvsim's, that say so to a run of the profile it was fitted to."""
    fitted_on: int
    errors_pct: dict[str, float]
    """Mean errors on the requests it was fitted on."""
    held_out_pct: dict[str, float]
    """On those it was not; empty where it was fitted on all."""


def fit_residual(
    run: MeasuredRun, workload: Workload, profile: Path, model_config: Path | None, first: int | None
) -> Residual:
    """Least squares over errors of the first requests, relative to their means. Raises ``ConfigError`` for too few.

    All of the run is simulated: the first requests are served beside those that follow.
    """
    from scipy.optimize import minimize

    total = run.num_requests
    count = total if first is None else first
    if not 10 <= count <= total:
        raise ConfigError(f"{run.name}: a fit takes 10 requests or more, at most the {total} of the run, not {count}")
    measured = metrics_of(run.requests)

    def predicted(factor: float, host_s: float) -> dict[str, Floats]:
        sets = [f"{key}={value!r}" for key, value in residual_keys(profile, factor, host_s).items()]
        loaded = load_run(run, profile, model_config, sets)
        return metrics_of(predict_run(run, workload, loaded).requests)

    def misfit(place: Floats) -> float:
        factor, host_s = float(place[0]), float(place[1]) * _HOST_SCALE_S
        if not (FACTORS[0] <= factor <= FACTORS[1] and 0 <= host_s <= MOST_HOST_S):
            return 1e6
        ours, found = predicted(factor, host_s), 0.0
        for name, weight in WEIGHTS.items():
            # Not relative to each: a TTFT of 50 ms that is 20 ms off says next to nothing of the steps.
            off = (ours[name][:count] - measured[name][:count]) / np.nanmean(measured[name][:count])
            found += weight * float(np.nanmean(off) ** 2 + SPREAD * np.nanmean(off**2))
        return found

    best = minimize(misfit, (1.0, 0.5), method="Nelder-Mead", options={"maxfev": 90, "xatol": 1e-3, "fatol": 1e-9})
    factor, host_s = float(best.x[0]), float(best.x[1]) * _HOST_SCALE_S
    ours = predicted(factor, host_s)

    def means(rows: slice) -> dict[str, float]:
        return {name: _percent(ours[name][rows], measured[name][rows]) for name in WEIGHTS}

    held_out = means(slice(count, None)) if count < total else {}
    keys = residual_keys(profile, factor, host_s)
    return Residual(factor, host_s, keys, count, means(slice(0, count)), held_out)


def _percent(ours: Floats, measured: Floats) -> float:
    return percent_off(float(np.nanmean(ours)), float(np.nanmean(measured)))


_HOST_SCALE_S = 1e-3
"""The search moves in milliseconds, so that both of its directions are of the order of one."""


def residual_keys(profile: Path, factor: float, host_s: float) -> dict[str, float]:
    """What brings a profile's step times to ``factor x (time + host)``."""
    steptime = load_config(overlay=profile).config.steptime
    found = {"pd_separation.compute.overhead_factor": factor}
    if steptime.coefficients is not None and steptime.method == "fitted":
        return found | {"steptime.coefficients.const_s": steptime.coefficients.const_s + host_s}
    return found | {"steptime.step_overhead_us": steptime.step_overhead_us + host_s / MICRO}
