"""Models as their ``config.json`` describes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError
from kvsim.spec.model import ModelSpec

_MOST = 1 << 24
"""No size of a model is larger."""
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "bf16", "fp8": "fp8", "compressed-tensors": None}


def read_model_config(path: Path) -> ModelSpec:
    """The model that a Hugging Face ``config.json`` describes.

    Parameters are counted from the shapes: embedding and output projection, per layer the attention's matrices and the
    MLP's three, norms left out. Raises ``ConfigError`` (file, key, value, what is allowed).
    """
    keys = _Keys(path)
    heads, hidden = keys.count("num_attention_heads"), keys.count("hidden_size")
    experts = keys.any_count(("num_local_experts", "num_experts", "n_routed_experts"))
    layers = keys.count("num_hidden_layers")
    intermediate = keys.count("intermediate_size")
    expert_size = keys.count("moe_intermediate_size", intermediate) if experts else 0
    window = _window(keys, layers)
    kv_heads = keys.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise keys.error("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads, {heads}")
    model = ModelSpec(
        name=keys.name(),
        params=1.0,
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=_head_dim(keys, hidden, heads),
        intermediate_size=intermediate,
        vocab_size=keys.count("vocab_size"),
        qk_norm=str(keys.values.get("model_type", "")).startswith("qwen3"),
        num_experts=experts,
        experts_per_token=keys.any_count(("num_experts_per_tok", "experts_per_token")) if experts else 0,
        expert_intermediate_size=expert_size,
        num_shared_experts=keys.count("n_shared_experts", 0) if experts else 0,
        num_dense_layers=keys.count("first_k_dense_replace", 0) if experts else 0,
        sliding_window_tokens=window[0],
        num_window_layers=window[1],
        kv_lora_rank=keys.count("kv_lora_rank", 0),
        rope_head_dim=keys.count("qk_rope_head_dim", 0),
    )
    if experts and not 1 <= model.experts_per_token <= experts:
        raise keys.error("num_experts_per_tok", model.experts_per_token, f"1 to {experts}, the experts of a layer")
    attention = _latent_attention(keys, model) if model.is_mla else _attention(model)
    return _with_params(model, attention, tied=bool(keys.values.get("tie_word_embeddings", False)))


def model_dtype(path: Path) -> str | None:
    """kvsim's name of the weights' type, where the file says it."""
    values = _Keys(path).values
    quantised = values.get("quantization_config")
    if isinstance(quantised, dict):
        method = str(quantised.get("quant_method", ""))
        if method in ("awq", "gptq"):
            return "int4"
        return "fp8" if "fp8" in method or "fp8" in json.dumps(quantised).lower() else None
    return _DTYPES.get(str(values.get("torch_dtype", values.get("dtype"))))


def _head_dim(keys: _Keys, hidden: int, heads: int) -> int:
    """Width of a head's query, key and value. Latent attention has several: what of a key is not rotated, which is as
    wide as a value, stands for them; the rotated part is one for all heads, and left out of what attention computes.
    """
    if keys.count("kv_lora_rank", 0):
        return keys.count("v_head_dim", keys.count("qk_nope_head_dim", keys.count("head_dim", max(1, hidden // heads))))
    return keys.count("head_dim", max(1, hidden // heads))


def _attention(model: ModelSpec) -> int:
    """Parameters of a layer's four matrices."""
    return model.hidden_size * 2 * (model.num_heads + model.num_kv_heads) * model.head_dim


def _latent_attention(keys: _Keys, model: ModelSpec) -> int:
    """Parameters of a layer's latent attention: queries, with a latent of their own or without; keys and values down to
    theirs and up again; the output (DeepSeek-V2, section 2.1)."""
    hidden, heads = model.hidden_size, model.num_heads
    nope, value = keys.count("qk_nope_head_dim", model.head_dim), keys.count("v_head_dim", model.head_dim)
    query_width, query_rank = heads * (nope + model.rope_head_dim), keys.count("q_lora_rank", 0)
    queries = query_rank * (hidden + query_width) if query_rank else hidden * query_width
    down = hidden * (model.kv_lora_rank + model.rope_head_dim)
    return queries + down + model.kv_lora_rank * heads * (nope + value) + heads * value * hidden


def _with_params(model: ModelSpec, attention: int, *, tied: bool) -> ModelSpec:
    """``attention``: parameters of one layer's."""
    hidden = model.hidden_size
    moe_layers = model.num_layers - model.num_dense_layers if model.is_moe else 0
    dense_layers = model.num_layers - moe_layers
    shared = 3 * model.num_shared_experts * hidden * model.expert_intermediate_size + hidden * model.num_experts
    total = (
        hidden * model.vocab_size * (1 if tied else 2)
        + model.num_layers * attention
        + dense_layers * 3 * hidden * model.intermediate_size
        + moe_layers * shared
        + model.expert_params
    )
    return replace(model, params=float(total))


def _window(keys: _Keys, layers: int) -> tuple[int | None, int]:
    """Tokens of the sliding window, and how many layers have it."""
    tokens = keys.values.get("sliding_window")
    if tokens is None or keys.values.get("use_sliding_window") is False:
        return None, 0
    kinds = keys.values.get("layer_types")
    own = sum(kind == "sliding_attention" for kind in kinds) if isinstance(kinds, list) else layers
    return keys.count("sliding_window"), own


class _Keys:
    """The keys of one file, each checked when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: not readable: {error.strerror}") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ConfigError(f"{path}: not JSON: {str(error).splitlines()[0]}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: holds no object; a model's config.json is wanted")
        self.values: dict[str, Any] = values

    def name(self) -> str:
        given = self.values.get("_name_or_path")
        return given if isinstance(given, str) and given else self.path.stem

    def count(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise ConfigError(f"{self.path.name}: no key '{key}'; a model's config.json has it")
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST:
            if value == 0 and default == 0:
                return 0
            raise self.error(key, value, f"a whole number from 1 to {_MOST}")
        return value

    def any_count(self, keys: tuple[str, ...]) -> int:
        """The first of them that is there, else 0."""
        return next((self.count(key, 0) for key in keys if self.values.get(key) is not None), 0)

    def error(self, key: str, value: object, allowed: str) -> ConfigError:
        return ConfigError(f"{self.path.name}: {key} = {value!r}: must be {allowed}")
