"""The answer of ``validate live``: a server's runs beside what is predicted for them, before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kvsim.config.disturbed import disturbances
from kvsim.live.calibrated import Calibration, calibrate, profile_of
from kvsim.live.compare import Comparison, Part, compare
from kvsim.live.deployment import Deployment, Described, deployment_of
from kvsim.live.served import Served, predict
from kvsim.measure.result import MeasuredRun
from kvsim.record.plain import plain
from kvsim.validate.calibrate.profile import Profile
from kvsim.validate.caveats import nearest_caveats, profile_caveats, version_caveats


@dataclass(frozen=True, eq=False)
class Validated:
    """Runs of a server, compared."""

    deployment: Deployment
    """As it is described; before calibration."""
    plain: Comparison | None
    """With the step times that are known of the machine; ``None`` where none are and they are fitted."""
    calibration: Calibration | None
    calibrated: Comparison | None
    """With the fitted step times; ``None`` without ``--calibrate``."""
    warnings: tuple[str, ...]

    @property
    def best(self) -> Comparison:
        """The comparison that counts: the calibrated one where there is one."""
        found = self.calibrated or self.plain
        assert found is not None  # one of them is made
        return found

    @property
    def judged(self) -> Part:
        """Figures of the requests that nothing was fitted on."""
        return self.best.parts[-1]

    def dump(self, measured: Sequence[MeasuredRun]) -> dict[str, Any]:
        """As JSON has it. ``measured``: what the runs were made of."""
        found = self.deployment.described
        return {
            "server": {
                "url": next((run.url for run in measured if run.url), None),
                "model": found.model,
                "vllm_version": found.version or None,
                "arguments": plain(found.arguments),
                "told_by": list(found.sources),
                "kv_blocks": self.deployment.plan.colocated_settings.num_blocks + 1,
            },
            "step_times": None if self.calibration is not None and self.calibration.is_whole else self._step_times,
            "runs": [_about(run, served) for run, served in zip(measured, self.best.runs, strict=True)],
            "compared": _compared(self.best),
            "before_calibration": None if self.plain is None or self.calibrated is None else _compared(self.plain),
            "calibration": self._calibration(),
            "warnings": list(self.warnings),
        }

    @property
    def _step_times(self) -> str:
        return self.deployment.step_times

    def _calibration(self) -> dict[str, Any] | None:
        found = self.calibration
        if found is None:
            return None
        return {
            "fitted": "step times, whole" if found.is_whole else "what a profile misses",
            "values": found.values,
            "front_end_s": found.fitted.front_end_s,
            "fitted_on": int(sum(chosen.sum() for chosen in found.learned)),
            "not_fitted_on": int(sum((~chosen).sum() for chosen in found.learned)),
        }

    def profile(self, name: str, measured: Sequence[MeasuredRun]) -> Profile:
        """The overlay of the fitted step times."""
        assert self.calibration is not None and self.calibrated is not None  # only then it is asked for
        fitted, judged = self.calibrated.parts[1:]
        errors = {
            "fitted_on_first": fitted.requests,
            "mean_error_pct": _mean_errors(fitted),
            "held_out_mean_error_pct": _mean_errors(judged),
        }
        return profile_of(self.calibration, self.deployment, name, _sources(measured), errors)


def validate(runs: Sequence[Served], found: Described, share: float | None) -> Validated:
    """``share``: of each run, by which step times are fitted; ``None``: as they are known.

    Raises ``ConfigError`` or ``CapacityError``.
    """
    base = deployment_of(found)
    calibration = None if share is None else calibrate(runs, found, share)
    known, calibrated = None, None
    if calibration is None or not calibration.is_whole:
        predictions = [predict(run, base.plan, base.front_end_s) for run in runs]
        learned = None if calibration is None else calibration.learned
        known = compare(runs, predictions, base.front_end_s, learned)
    if calibration is not None:
        fitted = calibration.fitted
        calibrated = compare(runs, fitted.predictions, fitted.front_end_s, calibration.learned)
    result = Validated(base, known, calibration, calibrated, ())
    return replace(result, warnings=tuple(_warnings(result, runs)))


def _warnings(found: Validated, runs: Sequence[Served]) -> list[str]:
    described, loaded = found.deployment.described, found.deployment.loaded
    said = list(described.warnings)
    for run in runs:
        said += [f"{run.name}: {note}" if len(runs) > 1 else note for note in run.notes]
        if run.failures:
            kinds = ", ".join(f"{kind} {count}" for kind, count in run.failures.items())
            said.append(f"{run.name}: requests without an answer are left out ({kinds})")
    if "max_num_batched_tokens" not in described.arguments:
        said.append("nobody says how many tokens a step has: vLLM's defaults are taken; give the server's --line")
    said += version_caveats("the server", described.version) if not described.version else []
    if found.calibration is None or not found.calibration.is_whole:
        if not described.knows_machine:
            used = loaded.config.hardware.gpu
            said.append(f"nobody says on what it runs: predicted is {used}; see --gpu, --profile and --calibrate")
        nearest = found.deployment.plan.colocated.nearest
        said += profile_caveats(loaded) if nearest is None else nearest_caveats(nearest, loaded.config)
    unserved = int(sum(np.isnan(each.requests["finish_s"]).sum() for each in found.best.predictions))
    if unserved:
        disturbed = disturbances(loaded.config)
        others = f", to be given up or to have none left ({', '.join(disturbed)})" if disturbed else ""
        said.append(f"{unserved} requests are predicted to fit no engine{others}: they are in no figure")
    return list(dict.fromkeys(said))


def _about(run: MeasuredRun, served: Served) -> dict[str, Any]:
    return {
        "name": served.name,
        "workload": run.workload,
        "seed": run.seed,
        "started_at": run.started_at,
        "duration_s": run.duration_s,
        "requests": len(run.rows),
        "answered": len(served),
        "failures": dict(served.failures),
        "client_saturated": run.is_saturated,
        "client": plain(run.client),
    }


def _compared(found: Comparison) -> dict[str, Any]:
    return {
        "front_end_s": found.front_end_s,
        "parts": {part.name.replace(" ", "_"): plain(part) for part in found.parts},
        "counters": plain(list(found.counters)),
    }


def _mean_errors(part: Part) -> dict[str, float]:
    errors = {name: metric.errors.mean_pct for name, metric in part.metrics.items()}
    return {name: round(value, 2) for name, value in errors.items() if value is not None}


def _sources(measured: Sequence[MeasuredRun]) -> Mapping[str, Any]:
    first = measured[0]
    return {
        "measured": first.made_by,
        "url": first.url or None,
        "server": plain(first.server) or None,
        "workload": first.workload or None,
        "runs": [
            {"seed": run.seed, "started_at": run.started_at or None, "requests": len(run.rows)} for run in measured
        ],
    }
