"""The step times that are known of an instance: measured, or of the nearest that was, or by the data sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kvsim.config import Config
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.measured_profiles import MeasuredProfile, measured_profiles
from kvsim.plan.scaling_error import roofline_error, scaling_error
from kvsim.spec import InstanceSpec
from kvsim.steptime import Coefficients, Efficiencies, roofline
from kvsim.steptime.sibling import scaled_to

Level = Literal["measured", "scaled", "roofline"]


@dataclass(frozen=True)
class NearestProfile:
    """Step times of an instance, and how they are known."""

    coefficients: Coefficients
    level: Level
    profile: MeasuredProfile | None
    """``None``: the roofline's."""
    warning: str | None
    """How far the instance is from what was measured; ``None``: it was."""

    @property
    def name(self) -> str | None:
        return None if self.profile is None else self.profile.name


def nearest_profile(config: Config, spec: InstanceSpec) -> NearestProfile:
    """A profile of the very instance; else the nearest sibling, scaled by the parts' specifications; else roofline.

    A mixture of experts is never scaled to or from another model: its experts' times are like nothing that a dense
    model was measured on.
    """
    efficiencies = efficiencies_of(config, spec)
    nearest = min(measured_profiles(), key=lambda profile: profile.distance(spec), default=None)
    if nearest is None:
        return _roofline(spec, efficiencies, "no instance was measured")
    differs = nearest.differences(spec)
    if not differs:
        return NearestProfile(nearest.coefficients, "measured", nearest, None)
    if "model" in differs and (spec.model.is_moe or nearest.model.is_moe):
        return _roofline(spec, efficiencies, "it was never measured, nor anything like it")
    sibling = nearest.spec(spec)
    scaled = scaled_to(nearest.coefficients, sibling, spec, efficiencies)
    words = f"{named(spec)} was not measured: step times of {named(sibling)}, scaled by the specifications"
    return NearestProfile(scaled, "scaled", nearest, f"{words}; {_scaling(differs, spec, efficiencies)}")


def sharing(nearest: NearestProfile, spec: InstanceSpec) -> NearestProfile:
    """How step times are known of engines that share the experts which ``nearest`` holds all of."""
    over = f"experts are split over {spec.expert_parallel} GPUs"
    split = f"{over} and tokens exchanged by arithmetic, which was never held against a run"
    if nearest.warning is not None:
        return replace(nearest, warning=f"{nearest.warning}; {split}")
    words = f"{named(spec)} was measured with all experts on {_gpus(spec.tensor_parallel)}: {split}"
    return replace(nearest, level="scaled", warning=words)


def _gpus(count: int) -> str:
    return "one GPU" if count == 1 else f"{count} GPUs"


def _scaling(differs: Sequence[str], spec: InstanceSpec, efficiencies: Efficiencies) -> str:
    """What is known of such scaling."""
    parts = " and ".join(differs)
    known = scaling_error(differs, spec, efficiencies)
    if known is not None:
        return f"measured instances that differ in {parts}, scaled so, are off by {known.words()}"
    alone = [(part, scaling_error((part,), spec, efficiencies)) for part in differs]
    found = [f"{part} alone is off by {error.words()}" for part, error in alone if error is not None]
    unknown = [part for part, error in alone if error is None]
    if unknown:
        found.append(f"how far a different {' or '.join(unknown)} is off is not known")
    return "; ".join(found)


def _roofline(spec: InstanceSpec, efficiencies: Efficiencies, why: str) -> NearestProfile:
    words = f"{named(spec)}: {why}; data-sheet arithmetic, which may be far off"
    error = None if spec.model.is_moe else roofline_error(spec, efficiencies)
    if error is not None:
        words += f": of the measured instances it is off by {error.words()}"
    return NearestProfile(roofline(spec, efficiencies), "roofline", None, words)


def named(spec: InstanceSpec) -> str:
    """An instance in a sentence: ``llama-3.1-8b bf16 on 1 x h100-sxm``."""
    dtype = spec.model.stored_as(spec.weight_dtype)
    if spec.kv_dtype not in ("bf16", "fp16"):
        dtype += f" (KV {spec.kv_dtype})"
    return f"{spec.model.name} {dtype} on {spec.gpus_in_words}"
