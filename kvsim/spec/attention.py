"""Attention of a ``config.json``: its matrices, its norms, and how far back its layers look."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec.config_keys import ConfigKeys
from kvsim.spec.families import LAYER_KINDS, Family
from kvsim.spec.model import ModelSpec


@dataclass(frozen=True, slots=True)
class Window:
    """Layers that look back no further than so many tokens."""

    tokens: int | None = None
    layers: int = 0
    is_chunk: bool = False


def window_of(keys: ConfigKeys, family: Family, layers: int) -> Window:
    """Which layers have a window. Raises ``ConfigError`` for kinds of layers that are not known."""
    chunk = keys.count("attention_chunk_size", 0, least=0)
    if chunk:
        return Window(chunk, _chunked_layers(keys, layers), is_chunk=True)
    tokens = keys.count("sliding_window", 0, least=0)
    if not tokens or not keys.flag("use_sliding_window", True):
        return Window()
    kinds = _kinds(keys, layers)
    if kinds:
        count = sum(kind == "window" for kind in kinds)
    elif family.full_every:
        every = keys.count("sliding_window_pattern", family.full_every)
        count = layers - layers // every
    elif keys.values.get("max_window_layers") is not None:
        count = max(0, layers - keys.count("max_window_layers", least=0))
    else:
        count = layers
    return Window(tokens, count) if count else Window()


def _chunked_layers(keys: ConfigKeys, layers: int) -> int:
    """Layers with rotary embeddings (Llama 4): ``no_rope_layers`` is 1 there; else all but every fourth."""
    kinds = _kinds(keys, layers)
    if kinds:
        return sum(kind == "chunk" for kind in kinds)
    rotary = keys.items("no_rope_layers")
    if rotary:
        return sum(bool(flag) for flag in keys.items("no_rope_layers", layers))
    return layers - layers // keys.count("no_rope_layer_interval", 4)


def _kinds(keys: ConfigKeys, layers: int) -> list[str]:
    given = keys.items("layer_types", layers) if keys.items("layer_types") else []
    for kind in given:
        if kind not in LAYER_KINDS:
            raise keys.error("layer_types", kind, f"one of {', '.join(LAYER_KINDS)}; other layers are not modelled")
    return [LAYER_KINDS[kind] for kind in given]


def head_dim_of(keys: ConfigKeys, hidden: int, heads: int) -> int:
    """Width of a head's query, key and value. Latent attention has several: what of a key is not rotated, which is as
    wide as a value, stands for them; the rotated part is one for all heads, and left out of what attention computes.
    """
    own = keys.count("head_dim", 0, least=0) or max(1, hidden // heads)
    if keys.count("kv_lora_rank", 0):
        return keys.count("v_head_dim", keys.count("qk_nope_head_dim", own))
    return own


def attention_params(keys: ConfigKeys, family: Family, model: ModelSpec) -> tuple[int, int]:
    """Parameters of one layer's attention: of its matrices, and of its biases and norms."""
    if model.is_mla:
        return _latent(keys, model)
    hidden, heads, kv_heads, width = model.hidden_size, model.num_heads, model.num_kv_heads, model.head_dim
    matrices = hidden * 2 * (heads + kv_heads) * width
    small = 0
    if family.says(family.qkv_bias, keys.values):
        small += (heads + 2 * kv_heads) * width
    if family.says(family.out_bias, keys.values):
        small += hidden
    if family.has_qk_norm(keys.values):
        small += 2 * width if family.qk_norm == "head" else (heads + kv_heads) * width
    return matrices, small


def _latent(keys: ConfigKeys, model: ModelSpec) -> tuple[int, int]:
    """Queries, with a latent of their own or without; keys and values down to theirs and up again; the output
    (DeepSeek-V2, section 2.1). Each latent has a norm."""
    hidden, heads = model.hidden_size, model.num_heads
    nope, value = keys.count("qk_nope_head_dim", model.head_dim), keys.count("v_head_dim", model.head_dim)
    query_width, query_rank = heads * (nope + model.rope_head_dim), keys.count("q_lora_rank", 0)
    queries = query_rank * (hidden + query_width) if query_rank else hidden * query_width
    down = hidden * (model.kv_lora_rank + model.rope_head_dim)
    matrices = queries + down + model.kv_lora_rank * heads * (nope + value) + heads * value * hidden
    return matrices, query_rank + model.kv_lora_rank
