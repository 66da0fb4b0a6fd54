"""Brought to a measured server on the first part of its runs, judged on the rest, and kept as a profile."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.config.overlay import read_overlay
from kvsim.config.tree import Tree, put
from kvsim.live.deployment import FRONT_END, Deployment, Described, deployment_of
from kvsim.live.fit import Fitted, fit
from kvsim.live.forms import Form, Residual, WholeSteps, coefficient_keys
from kvsim.live.served import Chosen, Served
from kvsim.plan.plan import Plan
from kvsim.spec import known_model
from kvsim.units import MICRO, MILLI
from kvsim.validate.calibrate.profile import Profile, rounded


@dataclass(frozen=True, eq=False)
class Calibration:
    """Step times that were fitted to the first part of each run."""

    form: Form
    fitted: Fitted
    learned: tuple[Chosen, ...]
    is_whole: bool
    """Nothing was known of the machine: the time of a step was fitted whole."""

    @property
    def values(self) -> dict[str, float]:
        """The numbers by name."""
        return dict(zip(self.form.names, map(float, self.fitted.values), strict=True))


def calibrate(runs: Sequence[Served], found: Described, share: float) -> Calibration:
    """Fit on the first ``share`` of each run by the time of sending. Raises ``ConfigError`` for too few requests."""
    learned = tuple(first_part(run, share) for run in runs)
    is_whole = not found.knows_machine
    form: Form = WholeSteps(deployment_of(found).plan) if is_whole else _residual(found)
    return Calibration(form, fit(runs, form, learned), learned, is_whole)


def first_part(run: Served, share: float) -> Chosen:
    """The first ``share`` of the requests, in the order of sending."""
    return np.arange(len(run)) < round(share * len(run))


def _residual(found: Described) -> Residual:
    """The deployment's own step times, scaled and with a host's time more."""
    base = deployment_of(found)
    config, nearest = base.loaded.config, base.plan.colocated.nearest
    factor = config.pd_separation.compute.overhead_factor
    own: dict[str, Any] = {}
    if nearest is not None:
        own = {"steptime.method": "fitted"} | coefficient_keys(nearest.coefficients)
        const_s: float | None = nearest.coefficients.const_s
    else:
        is_formula = config.steptime.method == "fitted" and config.steptime.coefficients is not None
        const_s = config.steptime.coefficients.const_s if is_formula and config.steptime.coefficients else None

    def keys_of(times: float, host_s: float) -> dict[str, Any]:
        host = (
            {"steptime.step_overhead_us": config.steptime.step_overhead_us + host_s / MICRO}
            if const_s is None
            else {"steptime.coefficients.const_s": const_s + host_s}
        )
        return own | host | {"pd_separation.compute.overhead_factor": factor * times}

    def load(keys: dict[str, Any]) -> Plan:
        return deployment_of(found, keys).plan

    return Residual(load, keys_of)


def profile_of(found: Calibration, base: Deployment, name: str, measured: Mapping[str, Any], errors: Tree) -> Profile:
    """The fitted step times as an overlay. ``measured``: what was measured, for its sources; ``errors``: how far off
    it is on which requests."""
    overrides: Tree = {} if found.is_whole else _own_layer(base)
    for key, value in found.form.keys(found.fitted.values).items():
        overrides = put(overrides, key, rounded(value) if isinstance(value, float) else value)
    model = known_model(base.described.model)
    said = base.loaded.provenance.validity
    validity: Tree = {} if found.is_whole or not isinstance(said, dict) else dict(said)
    if found.is_whole:
        validity |= {} if model is None else {"model": model}
        validity |= _ranges(found.fitted)
    what = "step times fitted whole" if found.is_whole else f"{base.step_times}, scaled and with the host's time"
    return Profile(
        name=name,
        description=f"{base.described.model.rpartition('/')[2]} as a running server serves it: {what}.",
        sources=dict(measured),
        provenance={
            "method": "fitted to what a client measured, through the simulated schedule",
            FRONT_END: rounded(found.fitted.front_end_s / MILLI),
        },
        validity=validity or None,
        fit_error=errors,
        overrides=overrides,
    )


def _own_layer(base: Deployment) -> Tree:
    """What the profile says that was started from."""
    path = base.loaded.provenance.path
    return {} if path is None else copy.deepcopy(read_overlay(path).layer.tree)


def _ranges(found: Fitted) -> Tree:
    """The steps that were run while it was measured."""
    steps = [each.detail.steps for each in found.predictions]
    tokens = np.concatenate([each["prefill_tokens"] + each["decode_seqs"] for each in steps])
    return {
        "tokens_per_step": [int(tokens.min()), int(tokens.max())],
        "decodes_per_step": [1, max(1, *(int(each["decode_seqs"].max()) for each in steps))],
    }
