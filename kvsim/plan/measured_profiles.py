"""The shipped profiles whose step times were fitted to measurements of one engine: what each holds for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import log2

from kvsim.config.overlay import read_shipped, shipped_profiles
from kvsim.spec import GpuSpec, InstanceSpec, ModelSpec, find_gpu, find_model
from kvsim.steptime import Coefficients

_ROUNDED = 1e-3
"""Relative difference of two counts of a model's parameters, one of which was published with three digits."""
REFERENCE = "reference"
"""Profiles so named are set to published points by hand; they are no measurement to scale from."""


@dataclass(frozen=True)
class MeasuredProfile:
    """Step times of one instance, and what was measured."""

    name: str
    model: ModelSpec
    gpu: GpuSpec
    tensor_parallel: int
    weight_dtype: str
    kv_dtype: str
    coefficients: Coefficients
    facts: dict[str, object]
    """What the file says of itself: ``sources``, ``validity``, ``fit_error`` and so on."""

    def spec(self, like: InstanceSpec) -> InstanceSpec:
        """The instance that was measured; what does not bear on step times is as in ``like``."""
        return replace(
            like,
            model=self.model,
            gpu=self.gpu,
            tensor_parallel=self.tensor_parallel,
            weight_dtype=self.weight_dtype,
            kv_dtype=self.kv_dtype,
            kv_bytes_per_token_override=None,
        )

    def differences(self, spec: InstanceSpec) -> tuple[str, ...]:
        """In what ``spec`` is another instance, of ``DIFFERENCES``; nothing: it is the one that was measured."""
        different = {
            "degree": self.tensor_parallel != spec.tensor_parallel,
            "weight type": self.weight_dtype != spec.weight_dtype,
            "KV type": self.kv_dtype != spec.kv_dtype,
            "KV size": _is_resized(spec),
            "GPU": _speed(self.gpu) != _speed(spec.gpu),
            "model": not _alike(self.model, spec.model),
        }
        return tuple(name for name in DIFFERENCES if different[name])

    def distance(self, spec: InstanceSpec) -> float:
        """0 for the same; a degree is nearer than a data type, that than a GPU, that than a model.

        GPUs of one architecture are nearest to each other: they run the same kernels. Next are those that agree in
        whether they have NVLink: those without are built for graphics.
        """
        differs = self.differences(spec)
        found = abs(log2(self.tensor_parallel / spec.tensor_parallel))
        found += ("KV type" in differs) + ("KV size" in differs) + 4 * ("weight type" in differs)
        if "GPU" in differs:
            found += 10 + abs(log2(self.gpu.hbm_bytes_per_s / spec.gpu.hbm_bytes_per_s))
            found += 4 * (self.gpu.has_nvlink != spec.gpu.has_nvlink) + 5 * (self.gpu.capability != spec.gpu.capability)
        if "model" in differs:
            found += 30 + 10 * abs(log2(self.model.params / spec.model.params))
        return found


DIFFERENCES = ("degree", "KV type", "KV size", "weight type", "GPU", "model")
"""In what two instances can differ, the least first."""


def _is_resized(spec: InstanceSpec) -> bool:
    """Whether its KV was given another size than its model has."""
    given = spec.kv_bytes_per_token_override
    return given is not None and given != replace(spec, kv_bytes_per_token_override=None).kv_bytes_per_token


def _alike(model: ModelSpec, other: ModelSpec) -> bool:
    """Whether steps of both take as long: of the same shapes, and but for how a count is rounded as large."""
    return _shape(model) == _shape(other) and abs(model.params / other.params - 1) < _ROUNDED


@cache
def _shape(model: ModelSpec) -> ModelSpec:
    """A model as its steps know it: one of other weights, or under another name, takes as long."""
    bare = replace(model, name="", hf_id="", weight_dtype="", note="", extra_params=0.0, params=0.0)
    return replace(bare, max_position_embeddings=0, longest_tokens=0)


def _speed(gpu: GpuSpec) -> tuple[float, ...]:
    """What of a GPU bears on step times."""
    return gpu.hbm_bytes_per_s, gpu.bf16_flops, gpu.fp8_flops, gpu.interconnect_bytes_per_s, gpu.num_sms


@cache
def measured_profiles() -> tuple[MeasuredProfile, ...]:
    """The profiles that come with kvsim, by name; a file without what identifies its instance is left out."""
    found = (_measured(name) for name in shipped_profiles() if REFERENCE not in name)
    return tuple(profile for profile in found if profile is not None)


def _measured(name: str) -> MeasuredProfile | None:
    facts, overrides = read_shipped(name)
    validity, steptime = facts.get("validity"), overrides.get("steptime", {})
    if not isinstance(validity, dict) or not steptime.get("coefficients"):
        return None
    model, gpu, degree = (validity.get(key) for key in ("model", "gpu", "tensor_parallel_size"))
    if not (isinstance(model, str) and isinstance(gpu, str) and isinstance(degree, int)):
        return None
    given = dict(steptime["coefficients"])
    given["dense_knots"] = tuple((float(place), float(time_s)) for place, time_s in given.get("dense_knots", ()))
    return MeasuredProfile(
        name=name,
        model=find_model(model),
        gpu=find_gpu(gpu),
        tensor_parallel=degree,
        weight_dtype=str(validity.get("weight_dtype", "bf16")),
        kv_dtype=str(validity.get("kv_dtype", "bf16")),
        coefficients=Coefficients(**given),
        facts=facts,
    )
