"""In which type a checkpoint has its weights: what its ``quantization_config`` means.

Source: vLLM 0.32's quantisation methods (``vllm/model_executor/layers/quantization``), by ``quant_method``.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvsim.spec.config_keys import ConfigKeys

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "bf16", "float": "bf16"}
"""``torch_dtype`` as vLLM runs it: 32 bits are brought to 16."""
_BY_METHOD = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "modelopt_fp4": "nvfp4", "nvfp4": "nvfp4",
    "awq": "int4", "awq_marlin": "int4", "gptq": "int4", "gptq_marlin": "int4", "auto-round": "int4",
    "bitsandbytes": "int4", "int8": "int8", "experts_int8": "int8",
}  # fmt: skip
_BITS_KEYS = ("bits", "w_bit", "wbits")
METHODS = (*_BY_METHOD, "compressed-tensors", "modelopt", "quark")


@dataclass(frozen=True, slots=True)
class Stored:
    """How weights are stored."""

    dtype: str
    """Type of what is not quantised: ``bf16`` or ``fp16``."""
    quantised: str | None
    """Type of the rest, a name of ``WEIGHT_BYTES``; ``None``: nothing is quantised."""
    kept: tuple[str, ...] = ()
    """Names and patterns of modules that are not."""

    def keeps(self, module: str) -> bool:
        """Whether the module of that name is among those that are not quantised."""
        return any(_matches(pattern, module) for pattern in self.kept)


def stored_as(keys: ConfigKeys, torch_dtype: str) -> Stored:
    """What the quantisation among ``keys`` says. Raises ``ConfigError`` for a method or a type that is not known."""
    dtype = DTYPES.get(torch_dtype.removeprefix("torch."), "bf16")
    given = keys.table("quantization_config") or keys.table("compression_config")
    if not given:
        return Stored(dtype, None)
    given = _modelopt(given)
    method = str(given.get("quant_method", "")).lower().replace("_tensors", "-tensors")
    quantised = _by_groups(keys, given) if "config_groups" in given else _by_method(keys, given, method)
    ignored = [given.get(key) for key in ("ignore", "modules_to_not_convert", "exclude_modules", "exclude")]
    kept = [str(name) for names in ignored if isinstance(names, list) for name in names]
    return Stored(dtype, quantised, tuple(kept))


def _modelopt(given: dict[str, Any]) -> dict[str, Any]:
    """ModelOpt's older files have their settings one level down."""
    inner = given.get("quantization")
    return {**given, **inner} if isinstance(inner, dict) else given


def _by_method(keys: ConfigKeys, given: dict[str, Any], method: str) -> str:
    algorithm = str(given.get("quant_algo", "")).upper()
    if "FP8" in algorithm:
        return "fp8"
    if "NVFP4" in algorithm:
        return "nvfp4"
    if method not in _BY_METHOD:
        raise keys.error("quantization_config.quant_method", method, f"one of {', '.join(METHODS)}")
    bits = next((given[key] for key in _BITS_KEYS if given.get(key) is not None), None)
    if given.get("load_in_8bit") is True or bits == 8:
        return "int8" if _BY_METHOD[method] == "int4" else _BY_METHOD[method]
    if bits not in (None, 4):
        raise keys.error("quantization_config bits", bits, "4 or 8")
    return _BY_METHOD[method]


def _by_groups(keys: ConfigKeys, given: dict[str, Any]) -> str:
    """Compressed tensors: the type of each group's weights, the smallest where they differ."""
    groups = given["config_groups"]
    weights = (
        [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        if isinstance(groups, dict)
        else []
    )
    found = [_group_type(keys, weight) for weight in weights if isinstance(weight, dict)]
    if not found:
        raise keys.error("quantization_config.config_groups", groups, "groups with the type of their weights")
    return min(found, key=("int4", "int4_g32", "mxfp4", "nvfp4", "fp8", "int8").index)


def _group_type(keys: ConfigKeys, weights: dict[str, Any]) -> str:
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if (kind, bits) == ("float", 4):
        return "mxfp4" if size == 32 else "nvfp4"
    if (kind, bits) == ("int", 4):
        return "int4_g32" if size == 32 else "int4"
    if bits == 8 and kind in ("float", "int"):
        return "fp8" if kind == "float" else "int8"
    raise keys.error("quantization_config weights", f"{bits} bits of {kind}", "8 or 4 bits of float or int")


def _matches(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], module) is not None
        except re.error:
            return False
    if "*" in pattern:
        return fnmatch.fnmatchcase(module, pattern) or fnmatch.fnmatchcase(module, f"{pattern}.*")
    return (
        module == pattern
        or module.startswith(f"{pattern}.")
        or module.endswith(f".{pattern}")
        or f".{pattern}." in module
    )


def kept_share(stored: Stored, modules: Sequence[str]) -> float:
    """Share of ``modules``, one a layer, that is not quantised."""
    if stored.quantised is None or not modules or not stored.kept:
        return 0.0
    return sum(stored.keeps(module) for module in modules) / len(modules)
