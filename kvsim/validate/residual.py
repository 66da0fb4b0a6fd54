"""What a profile misses on one machine, from the first requests of a measured run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.units import MICRO
from kvsim.validate.errors import Floats, percent
from kvsim.validate.predict import configured, measured_metrics, predict
from kvsim.validate.run import MeasuredRun
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

    total = len(run.requests.arrival_s)
    count = total if first is None else first
    if not 10 <= count <= total:
        raise ConfigError(f"{run.name}: a fit takes 10 requests or more, at most the {total} of the run, not {count}")
    measured = measured_metrics(run)

    def errors(factor: float, host_s: float) -> dict[str, Floats]:
        loaded = configured(run, profile, model_config, residual_sets(profile, factor, host_s))
        ours = predict(run, workload, loaded).metrics()
        # Not relative to each: a TTFT of 50 ms that is 20 ms off says next to nothing of the steps.
        return {name: (ours[name] - measured[name]) / np.nanmean(measured[name][:count]) for name in WEIGHTS}

    def badness(place: Floats) -> float:
        factor, host_s = float(place[0]), float(place[1]) * _HOST_SCALE_S
        if not (FACTORS[0] <= factor <= FACTORS[1] and 0 <= host_s <= MOST_HOST_S):
            return 1e6
        found = errors(factor, host_s)
        kept = {name: found[name][:count] for name in WEIGHTS}
        return float(
            sum(
                weight * (np.nanmean(kept[name]) ** 2 + SPREAD * np.nanmean(kept[name] ** 2))
                for name, weight in WEIGHTS.items()
            )
        )

    best = minimize(badness, (1.0, 0.5), method="Nelder-Mead", options={"maxfev": 90, "xatol": 1e-3, "fatol": 1e-9})
    factor, host_s = float(best.x[0]), float(best.x[1]) * _HOST_SCALE_S
    ours = predict(
        run, workload, configured(run, profile, model_config, residual_sets(profile, factor, host_s))
    ).metrics()

    def means(rows: slice) -> dict[str, float]:
        return {name: _percent(ours[name][rows], measured[name][rows]) for name in WEIGHTS}

    held_out = means(slice(count, None)) if count < total else {}
    return Residual(factor, host_s, count, means(slice(0, count)), held_out)


def _percent(ours: Floats, measured: Floats) -> float:
    return percent(float(np.nanmean(ours)), float(np.nanmean(measured)))


_HOST_SCALE_S = 1e-3
"""The search moves in milliseconds, so that both of its directions are of the order of one."""


def residual_sets(profile: Path, factor: float, host_s: float) -> list[str]:
    """What brings a profile's step times to ``factor x (time + host)``."""
    steptime = load_config(overlay=profile).config.steptime
    if steptime.coefficients is not None and steptime.method == "fitted":
        host = f"steptime.coefficients.const_s={steptime.coefficients.const_s + host_s!r}"
    else:
        host = f"steptime.step_overhead_us={steptime.step_overhead_us + host_s / MICRO!r}"
    return [f"pd_separation.compute.overhead_factor={factor!r}", host]
