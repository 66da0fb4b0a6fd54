"""How the step times of a model are known on each GPU, by degree and type of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kvsim.config import load_config
from kvsim.errors import CapacityError
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.instance import spec_of
from kvsim.plan.measured_profiles import DIFFERENCES, measured_profiles
from kvsim.plan.nearest_profile import nearest_profile
from kvsim.plan.scaling_error import ScalingError, roofline_error, scaling_error
from kvsim.spec import GPUS, ModelSpec, find_gpu

DEGREES = (1, 2, 4, 8)
UNFIT = "unfit"


@dataclass(frozen=True, kw_only=True)
class Known:
    """One instance, and how its step times are known."""

    model: str
    gpu: str
    tensor_parallel_size: int
    weight_dtype: str
    level: str
    """``measured``, ``scaled``, ``roofline``, or ``unfit``: its weights leave no room for KV."""
    profile: str | None
    differences: tuple[str, ...]
    """In what it differs from the profile's instance."""


def known_levels(model: ModelSpec, gpus: Sequence[str] = tuple(GPUS), dtypes: Sequence[str] = ()) -> Iterator[Known]:
    """For every GPU, type of weights (by default the checkpoint's, those that were measured of such a model, and fp8
    unless its experts have a type of their own) and degree."""
    config = load_config(sets=["engine.num_gpu_blocks_override=1000"], mode="instance").config
    like = spec_of(config)
    measured = [one.weight_dtype for one in measured_profiles() if one.model.name == model.name]
    others = () if model.expert_weight_dtype else ("fp8", *measured)
    for name in gpus:
        for dtype in dtypes or dict.fromkeys((model.weight_dtype, *others)):
            for degree in DEGREES:
                spec = replace(like, model=model, gpu=find_gpu(name), tensor_parallel=degree, weight_dtype=dtype)
                try:
                    fits = replace(spec, num_blocks_override=None).num_blocks > 0
                except CapacityError:
                    fits = False
                nearest = nearest_profile(config, spec) if fits else None
                profile = None if nearest is None else nearest.profile
                yield Known(
                    model=model.name,
                    gpu=name,
                    tensor_parallel_size=degree,
                    weight_dtype=dtype,
                    level=UNFIT if nearest is None else nearest.level,
                    profile=None if profile is None else profile.name,
                    differences=() if profile is None else profile.differences(spec),
                )


def scaling_errors() -> dict[str, ScalingError | None]:
    """How far off measured instances are that differ in one thing, scaled to each other; and the roofline."""
    config = load_config(mode="instance").config
    spec = spec_of(config)
    efficiencies = efficiencies_of(config, spec)
    found = {f"another {name}": scaling_error((name,), spec, efficiencies) for name in DIFFERENCES}
    return found | {"roofline": roofline_error(spec, efficiencies)}
