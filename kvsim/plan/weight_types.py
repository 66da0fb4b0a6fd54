"""What vLLM makes of the type that weights are to have: refused beside a checkpoint, or run without units for it."""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.plan.vllm import QUANTISED
from kvsim.spec import InstanceSpec, ModelSpec, computed_in, is_quantised

_OF_METHODS = (
    ("modelopt", ("fp8", "nvfp4")),
    ("awq", ("int4", "int4_g32")),
    ("gptq", ("int4", "int4_g32", "int8_wo")),
    ("bitsandbytes", ("int4", "int8_wo")),
    ("moe_wna16", ("int4", "int4_g32", "int8_wo")),
)
"""Methods, by a part of their name, whose checkpoints say the type; of all others there is one."""
ONLINE = {"int8_wo": "int8_per_channel_weight_only", "int4": "bitsandbytes", "nvfp4": "nvfp4_per_token"}
"""Besides fp8, types that vLLM brings 16-bit weights to as it loads them, and by which method."""
BLACKWELL = (10, 0)


def configured_type(arguments: Fields, model: ModelSpec, given: str) -> str:
    """Type of the weights of a server: its checkpoint's where that is quantised, else ``given`` by its arguments.

    Raises ``ConfigError`` where vLLM would: the method asked for is not that of a quantised checkpoint
    (``ModelConfig._verify_quantization``).
    """
    stored = {model.weight_dtype, model.expert_dtype(model.weight_dtype)}
    quantised = {dtype for dtype in stored if is_quantised(dtype)}
    if not quantised:
        return given
    method = arguments.get("quantization")
    if isinstance(method, str) and not quantised & set(_types_of(method)):
        raise _refusal(arguments, model)
    return model.weight_dtype


def _types_of(method: str) -> tuple[str, ...]:
    found = next((types for part, types in _OF_METHODS if part in method), None)
    return found or (QUANTISED.get(method, ""),)


def _refusal(arguments: Fields, model: ModelSpec) -> ConfigError:
    return arguments.error(
        "quantization",
        f"vLLM refuses another method than the checkpoint's: {model.hf_id or model.name} is stored as "
        f"{model.stored_as(model.weight_dtype)}; leave it out",
    )


def said_of_types(spec: InstanceSpec, name: str) -> Iterator[str]:
    """Sentences on weights that are simulated in another type than ``name``'s are stored in, and on units that the GPU
    lacks."""
    gpu, dtypes = spec.gpu, dict.fromkeys((spec.weight_dtype, spec.model.expert_dtype(spec.weight_dtype)))
    for dtype in dtypes:
        unit = computed_in(dtype, gpu.capability)
        if dtype in ("fp8", "nvfp4") and unit == "bf16":
            how = "" if gpu.is_amd else " (Marlin)"
            yield (
                f"{gpu.name} has no {dtype.removeprefix('nv')} units: vLLM brings {dtype} weights to 16 bits{how}, so "
                "that they are read faster and computed no faster; so it is here"
            )
        if dtype == "int8" and gpu.capability >= BLACKWELL:
            yield (
                f'vLLM\'s int8 kernels refuse a {gpu.name} ("Int8 not supported", use fp8): such a server does not '
                "start; here it runs as fast as its data sheet says"
            )
    stored, dtype = spec.model.weight_dtype, spec.weight_dtype
    if stored == dtype or (not is_quantised(stored) and not is_quantised(dtype)):
        return
    named = name.rpartition("/")[2]
    how = "" if is_quantised(stored) or dtype == "fp8" else _made_of_16_bits(dtype)
    yield (
        f"{named}: its weights are stored as {spec.model.stored_as(stored)}; model.weight_dtype = {dtype} is what was "
        f"simulated{how}"
    )


def _made_of_16_bits(dtype: str) -> str:
    method = ONLINE.get(dtype)
    if method is None:
        return ", as of a checkpoint stored so: vLLM makes none of this one"
    return f", as of a checkpoint stored so: of this one vLLM makes it only by --quantization {method}"
