"""In which type a checkpoint has its weights: what its ``quantization_config`` means.

Source: vLLM 0.32's quantisation methods (``vllm/model_executor/layers/quantization``), by ``quant_method``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvsim.spec.config_keys import ConfigKeys
from kvsim.spec.weight_types import WEIGHT_BYTES

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "bf16", "float": "bf16"}
"""``torch_dtype`` as vLLM runs it: 32 bits are brought to 16."""
_BY_METHOD = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "modelopt_fp4": "nvfp4", "nvfp4": "nvfp4",
    "awq": "int4", "awq_marlin": "int4", "gptq": "int4", "gptq_marlin": "int4", "auto-round": "int4",
    "bitsandbytes": "int4", "int8": "int8", "experts_int8": "int8_wo",
}  # fmt: skip
_BITS_KEYS = ("bits", "w_bit", "wbits")
PARTS = {
    "attention": ("self_attn.q_proj", "self_attn.q_a_proj", "self_attn.qkv_proj"),
    "dense": ("mlp.gate_proj", "mlp.up_proj", "feed_forward.gate_proj"),
    "shared": (
        "mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj", "feed_forward.shared_expert.gate_proj",
    ),
    "experts": ("mlp.experts.0.gate_proj", "feed_forward.experts.0.gate_proj", "block_sparse_moe.experts.0.w1"),
}  # fmt: skip
"""Modules of a layer that stand for a part of it, by all that they are called."""
METHODS = (*_BY_METHOD, "compressed-tensors", "modelopt", "quark")


@dataclass(frozen=True, slots=True)
class Stored:
    """How weights are stored."""

    dtype: str
    """Type of what is not quantised: ``bf16`` or ``fp16``."""
    quantised: str | None
    """Type of the rest, a name of ``WEIGHT_BYTES``; ``None``: nothing is quantised."""
    kept: re.Pattern[str] | None = None
    """What the names of modules match that are not."""
    kv_dtype: str | None = None
    """Type of KV, where the checkpoint asks for another than ``dtype``."""

    def kept_share(self, part: str, layers: int) -> float:
        """Share of the layers whose ``part``, one of ``PARTS``, is not quantised."""
        if self.quantised is None or self.kept is None:
            return 0.0
        found = sum(
            any(self.kept.fullmatch(f"model.layers.{layer}.{name}") for name in PARTS[part]) for layer in range(layers)
        )
        return found / layers


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
    names = [str(name) for names in ignored if isinstance(names, list) for name in names]
    return Stored(dtype, quantised, _pattern(keys, names), _kv_dtype(given, method))


def _kv_dtype(given: dict[str, Any], method: str) -> str | None:
    """What vLLM makes of ``kv_cache_dtype`` auto: ModelOpt's checkpoints say it, others are not asked."""
    producer = given.get("producer")
    is_modelopt = isinstance(producer, dict) and producer.get("name") == "modelopt"
    if not (is_modelopt or method.startswith("modelopt")):
        return None
    scheme = given.get("kv_cache_scheme") or given.get("kv_cache_quant_algo")
    if isinstance(scheme, dict):
        return "fp8" if (scheme.get("type"), scheme.get("num_bits")) == ("float", 8) else None
    return "fp8" if str(scheme).lower() == "fp8" else None


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
        return "int8_wo" if _BY_METHOD[method] == "int4" else _BY_METHOD[method]
    if bits not in (None, 4):
        raise keys.error("quantization_config bits", bits, "4 or 8")
    return _BY_METHOD[method]


def _by_groups(keys: ConfigKeys, given: dict[str, Any]) -> str:
    """Compressed tensors: the type of each group's weights, the smallest where they differ."""
    groups = given["config_groups"]
    every = [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    found = [_group_type(keys, group["weights"], group) for group in every if isinstance(group.get("weights"), dict)]
    if not found:
        raise keys.error("quantization_config.config_groups", groups, "groups with the type of their weights")
    return min(found, key=WEIGHT_BYTES.__getitem__)


def _group_type(keys: ConfigKeys, weights: dict[str, Any], group: dict[str, Any]) -> str:
    """Beside weights of 8-bit integers, activations are as well where the file does not say that they are not."""
    bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    if (kind, bits) == ("float", 4):
        return "mxfp4" if size == 32 else "nvfp4"
    if (kind, bits) == ("int", 4):
        return "int4_g32" if size == 32 else "int4"
    if bits == 8 and kind in ("float", "int"):
        return "fp8" if kind == "float" else "int8" if group.get("input_activations", {}) is not None else "int8_wo"
    raise keys.error("quantization_config weights", f"{bits} bits of {kind}", "8 or 4 bits of float or int")


def _pattern(keys: ConfigKeys, names: Sequence[str]) -> re.Pattern[str] | None:
    """One expression for ``names`` of modules: expressions themselves, with stars, or whole parts of a name."""
    every = []
    for given in names:
        name = given.removeprefix("language_model.")
        if name.startswith("re:"):
            every.append(f"(?:{name[3:]}).*")
        elif "*" in name:
            every.append(rf"{re.escape(name).replace(chr(92) + '*', '.*')}(?:\..*)?")
        else:
            every.append(rf"(?:.*\.)?{re.escape(name)}(?:\..*)?")
    try:
        return re.compile("|".join(every)) if every else None
    except re.error as error:
        raise keys.error("quantization_config ignore", str(error), "names, or expressions behind 're:'") from None
