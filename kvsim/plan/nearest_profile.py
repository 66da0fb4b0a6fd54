"""The shipped profile that comes nearest to an instance, and its step times brought to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import log2
from typing import Any

from kvsim.config import Config, load_config
from kvsim.config.overlay import read_overlay, shipped_profiles
from kvsim.content import content_path
from kvsim.plan.build_step_time import efficiencies_of
from kvsim.spec import InstanceSpec, find_gpu, find_model
from kvsim.steptime import Coefficients, roofline
from kvsim.steptime.sibling import scaled_to

IDENTITY = ("model", "gpu", "tensor_parallel_size", "weight_dtype")
REFERENCE = "reference"
"""Profiles so named are set to published points by hand; they are no measurement to scale from."""


@dataclass(frozen=True)
class NearestProfile:
    """Step times of an instance, and how they are known."""

    coefficients: Coefficients
    name: str | None
    """``None``: the roofline's."""
    warning: str | None


def nearest_profile(config: Config, spec: InstanceSpec) -> NearestProfile:
    """A profile of the very instance; else the nearest sibling, scaled by the parts' specifications; else roofline."""
    efficiencies = efficiencies_of(config, spec)
    profiles = _profiles()
    if not profiles:
        words = f"{_named(spec)}: no profile at all; data-sheet arithmetic"
        return NearestProfile(roofline(spec, efficiencies), None, words)
    name, (validity, coefficients) = min(profiles.items(), key=lambda item: _distance(item[1][0], spec))
    sibling = _spec_of(validity, spec)
    if _distance(validity, spec) == 0:
        return NearestProfile(coefficients, name, None)
    if validity["model"] != spec.model.name and (spec.model.is_moe or find_model(validity["model"]).is_moe):
        words = f"{_named(spec)}: never measured and like nothing that was; data-sheet arithmetic, which may be far off"
        return NearestProfile(roofline(spec, efficiencies), None, words)
    scaled = scaled_to(coefficients, sibling, spec, efficiencies)
    words = f"{_named(spec)}: never measured; scaled from {_named(sibling)} by their specifications"
    return NearestProfile(scaled, name, words)


@cache
def _profiles() -> dict[str, tuple[dict[str, Any], Coefficients]]:
    """Fitted profiles that say what they hold for."""
    found = {}
    for name in shipped_profiles():
        if REFERENCE in name:
            continue
        path = content_path("profiles", f"{name}.yaml")
        validity = read_overlay(path).metadata.get("validity")
        if isinstance(validity, dict) and set(IDENTITY) <= set(validity):
            given = load_config(overlay=path).config.steptime.coefficients
            if given is not None:
                found[name] = validity, Coefficients(**given.model_dump())
    return found


def _distance(validity: dict[str, Any], spec: InstanceSpec) -> float:
    """0 for the same; a degree is nearer than a data type, that than a GPU, that than a model."""
    model, gpu = find_model(validity["model"]), find_gpu(validity["gpu"])
    found = abs(log2(validity["tensor_parallel_size"] / spec.tensor_parallel))
    if validity["weight_dtype"] != spec.weight_dtype:
        found += 4
    if gpu.name != spec.gpu.name:
        found += 10 + abs(log2(gpu.hbm_bytes_per_s / spec.gpu.hbm_bytes_per_s))
    if model.name != spec.model.name:
        found += 30 + 10 * abs(log2(model.params / spec.model.params))
    return found


def _spec_of(validity: dict[str, Any], like: InstanceSpec) -> InstanceSpec:
    return replace(
        like,
        model=find_model(validity["model"]),
        gpu=find_gpu(validity["gpu"]),
        tensor_parallel=validity["tensor_parallel_size"],
        weight_dtype=validity["weight_dtype"],
    )


def _named(spec: InstanceSpec) -> str:
    return f"{spec.model.name} {spec.weight_dtype} on {spec.tensor_parallel} x {spec.gpu.name}"
